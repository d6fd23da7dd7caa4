#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/oci/digest.h"

#include "security/seccomp.h"

namespace linnet::runtime {
namespace {

// Profiles in use on one node are few; a program is 4–12 KB.
constexpr std::size_t kMaxEntries = 64;
constexpr std::size_t kMaxFileBytes = 64U << 10;
// Goes into the key: raised when the compiler here changes what it makes of the same profile.
constexpr std::uint32_t kFormat = 1;

// A flat text in which no two profiles look alike: every string with its length before it.
class Canonical {
 public:
  Canonical& Add(std::string_view text) {
    out_ += std::to_string(text.size());
    out_ += ':';
    out_ += text;
    return *this;
  }
  Canonical& Add(std::uint64_t number) {
    out_ += std::to_string(number);
    out_ += ';';
    return *this;
  }
  Canonical& Add(const std::optional<std::uint32_t>& number) {
    out_ += number ? '+' : '-';
    return Add(std::uint64_t{number.value_or(0)});
  }
  Canonical& Add(const std::vector<std::string>& list) {
    Add(std::uint64_t{list.size()});
    for (const std::string& text : list) Add(std::string_view(text));
    return *this;
  }
  const std::string& str() const { return out_; }

 private:
  std::string out_;
};

std::string KeyOf(const oci::Seccomp& profile) {
  Canonical text;
  const scmp_version* version = seccomp_version();
  text.Add(std::uint64_t{kFormat}).Add(std::uint64_t{seccomp_arch_native()});
  text.Add(std::uint64_t{version->major})
      .Add(std::uint64_t{version->minor})
      .Add(std::uint64_t{version->micro});
  // Flags are no part of the program.
  text.Add(std::string_view(profile.default_action))
      .Add(profile.default_errno_ret)
      .Add(profile.architectures);
  text.Add(std::uint64_t{profile.syscalls.size()});
  for (const oci::SeccompSyscall& call : profile.syscalls) {
    text.Add(call.names)
        .Add(std::string_view(call.action))
        .Add(call.errno_ret)
        .Add(std::uint64_t{call.args.size()});
    for (const oci::SeccompArg& arg : call.args) {
      text.Add(std::uint64_t{arg.index})
          .Add(arg.value)
          .Add(arg.value_two)
          .Add(std::string_view(arg.op));
    }
  }
  return std::string(oci::Digest::Sha256Of(text.str()).hex());
}

// A file is the digest of the program (64 characters), a line end, the program.
constexpr std::size_t kHeaderBytes = 65;

std::string ToFile(const std::string& program) {
  return std::string(oci::Digest::Sha256Of(program).hex()) + "\n" + program;
}

std::optional<std::string> FromFile(const std::string& file) {
  if (file.size() <= kHeaderBytes || file[kHeaderBytes - 1] != '\n') return std::nullopt;
  std::string program = file.substr(kHeaderBytes);
  if (oci::Digest::Sha256Of(program).hex() != std::string_view(file).substr(0, kHeaderBytes - 1))
    return std::nullopt;
  return program;
}

}  // namespace

SeccompCache::SeccompCache(std::string directory) : directory_(std::move(directory)) {}

std::size_t SeccompCache::compiled() const {
  const MutexLock lock(mu_);
  return compiled_;
}

void SeccompCache::DropOldest() {
  while (entries_.size() > kMaxEntries) {
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->second.ready &&
          (oldest == entries_.end() || it->second.last_use < oldest->second.last_use))
        oldest = it;
    }
    if (oldest == entries_.end()) return;
    entries_.erase(oldest);
  }
}

Result<std::string> SeccompCache::Get(const oci::Seccomp& profile) {
  const std::string key = KeyOf(profile);
  {
    const MutexLock lock(mu_);
    for (;;) {
      const auto it = entries_.find(key);
      if (it == entries_.end()) break;
      if (it->second.ready) {
        it->second.last_use = ++uses_;
        return it->second.program;
      }
      changed_.Wait(mu_);
    }
    entries_.emplace(key, Entry{});
  }
  Result<std::string> program = LoadOrCompile(profile, key);
  const MutexLock lock(mu_);
  if (program) {
    entries_[key] = Entry{.ready = true, .last_use = ++uses_, .program = *program};
    DropOldest();
  } else {
    entries_.erase(key);
  }
  changed_.NotifyAll();
  return program;
}

Result<std::string> SeccompCache::LoadOrCompile(const oci::Seccomp& profile,
                                                const std::string& key) {
  const std::string path = directory_.empty() ? std::string() : JoinPath(directory_, key + ".bpf");
  if (!path.empty()) {
    const Result<std::string> file = ReadFile(path, kMaxFileBytes);
    if (file) {
      if (std::optional<std::string> program = FromFile(*file)) return *std::move(program);
      log::Debug("seccomp: cached program is damaged, compiling again", {{"path", path}});
    }
  }
  std::string program = LN_TRY(CompileSeccomp(profile));
  {
    const MutexLock lock(mu_);
    ++compiled_;
  }
  if (!path.empty()) {
    Result<void> written = MakeDirs(directory_);
    if (written) written = ReplaceFile(path, ToFile(program));
    if (!written) log::Debug("seccomp: program not stored, ignoring", {{"err", written.error()}});
  }
  return program;
}

}  // namespace linnet::runtime
