#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/unique_fd.h"

#include "security/seccomp.h"
#include "security/seccomp_names.h"
#include "security/seccomp_prologue.h"

namespace linnet::runtime {
namespace {

constexpr std::uint32_t kMaxErrno = 4095;
constexpr std::uint32_t kMaxArgs = 6;
// Below that a linear program is as fast and smaller; runc draws the line at the same place.
constexpr std::size_t kLinearRules = 32;

struct FilterDeleter {
  void operator()(void* ctx) const { seccomp_release(ctx); }
};
using Filter = std::unique_ptr<void, FilterDeleter>;

// Errors of libseccomp are negative errno values.
Error FromSeccomp(int rc, std::string_view what) { return Error::FromErrno(-rc, what); }

struct Action {
  std::uint32_t scmp = 0;    // SCMP_ACT_…, for libseccomp
  std::uint32_t kernel = 0;  // SECCOMP_RET_…, for our own instructions
  bool operator==(const Action&) const = default;
};

Result<Action> ToAction(const std::string& name, std::optional<std::uint32_t> errno_ret) {
  if (errno_ret && *errno_ret > kMaxErrno) {
    return InvalidArgument("seccomp: errnoRet " + std::to_string(*errno_ret) +
                           " is out of range (0…4095)");
  }
  const std::uint32_t data = errno_ret.value_or(EPERM);
  const std::optional<SeccompAction> action = FindSeccompAction(name);
  if (!action) return InvalidArgument("seccomp: unknown action \"" + name + "\"");
  switch (*action) {
    case SeccompAction::kKillThread:
      return Action{SCMP_ACT_KILL_THREAD, SECCOMP_RET_KILL_THREAD};
    case SeccompAction::kKillProcess:
      return Action{SCMP_ACT_KILL_PROCESS, SECCOMP_RET_KILL_PROCESS};
    case SeccompAction::kTrap:
      return Action{SCMP_ACT_TRAP, SECCOMP_RET_TRAP};
    case SeccompAction::kErrno:
      return Action{SCMP_ACT_ERRNO(data), SECCOMP_RET_ERRNO | data};
    case SeccompAction::kTrace:
      return Action{SCMP_ACT_TRACE(data), SECCOMP_RET_TRACE | data};
    case SeccompAction::kAllow:
      return Action{SCMP_ACT_ALLOW, SECCOMP_RET_ALLOW};
    case SeccompAction::kLog:
      return Action{SCMP_ACT_LOG, SECCOMP_RET_LOG};
    case SeccompAction::kNotify:
      break;
  }
  return Error(Code::kUnimplemented,
               "seccomp: SCMP_ACT_NOTIFY needs a listener, which is not supported");
}

// Whether calls of the future had better be refused with ENOSYS. With these three the profile lets
// unknown calls through (a tracer answers them itself).
bool Refuses(const Action& action) {
  return action.kernel != SECCOMP_RET_ALLOW && action.kernel != SECCOMP_RET_LOG &&
         (action.kernel & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_TRACE &&
         action.kernel != (SECCOMP_RET_ERRNO | ENOSYS);
}

Result<scmp_arg_cmp> ToCompare(const oci::SeccompArg& arg) {
  if (arg.index >= kMaxArgs)
    return InvalidArgument("seccomp: argument index " + std::to_string(arg.index) + " is above 5");
  const std::optional<scmp_compare> op = FindSeccompOperator(arg.op);
  if (!op) return InvalidArgument("seccomp: unknown operator \"" + arg.op + "\"");
  // For MASKED_EQ: datum_a is the mask, datum_b what is compared with; else datum_a is the value
  // and datum_b unused.
  return scmp_arg_cmp{arg.index, *op, arg.value, arg.value_two};
}

bool NamesAnArgumentTwice(const std::vector<scmp_arg_cmp>& conditions) {
  std::array<int, kMaxArgs> seen{};
  return std::any_of(conditions.begin(), conditions.end(),
                     [&](const scmp_arg_cmp& c) { return ++seen[c.arg] > 1; });
}

class Compiler {
 public:
  explicit Compiler(const oci::Seccomp& profile) : profile_(profile) {}

  Result<std::string> Run() {
    LN_TRY(Start());
    for (const oci::SeccompSyscall& call : profile_.syscalls) LN_TRY(AddCall(call));
    if (rules_ > kLinearRules) {
      // Failing costs speed only.
      (void)seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    if (!skipped_.empty() && log::Enabled(log::Level::kDebug)) {
      log::Debug("seccomp: unknown system calls skipped", {{"names", skipped_}});
    }
    return Export();
  }

 private:
  Result<void> Start() {
    default_ = LN_TRY(ToAction(profile_.default_action, profile_.default_errno_ret));
    filter_.reset(seccomp_init(default_.scmp));
    if (!filter_) return Internal("seccomp_init");
    // Whether no_new_privs is set is the container's business, not the filter's.
    int rc = seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_NNP, 0);
    if (rc < 0) return FromSeccomp(rc, "seccomp: attribute NNP");
    arches_.push_back({.arch = seccomp_arch_native()});
    for (const std::string& name : profile_.architectures) {
      const std::optional<std::uint32_t> arch = FindSeccompArch(name);
      if (!arch && KnownSeccompArch(name)) continue;  // no program of it runs here
      if (!arch) return InvalidArgument("seccomp: unknown architecture \"" + name + "\"");
      rc = seccomp_arch_add(filter_.get(), *arch);
      if (rc == -EEXIST) continue;  // the native one, or one named twice
      if (rc == -EDOM) continue;    // of the other byte order: no program of it runs here
      if (rc < 0) return FromSeccomp(rc, "seccomp: architecture " + name);
      arches_.push_back({.arch = *arch});
    }
    return Ok();
  }

  Result<void> AddCall(const oci::SeccompSyscall& call) {
    const Action action = LN_TRY(ToAction(call.action, call.errno_ret));
    std::vector<scmp_arg_cmp> conditions;
    for (const oci::SeccompArg& arg : call.args) conditions.push_back(LN_TRY(ToCompare(arg)));
    const bool any = NamesAnArgumentTwice(conditions);
    for (const std::string& name : call.names) {
      NoteNumbers(name, action, conditions.empty());
      const int number = seccomp_syscall_resolve_name(name.c_str());
      if (number == __NR_SCMP_ERROR) continue;
      if (action == default_) continue;  // libseccomp refuses a rule that changes nothing
      if (!any) {
        LN_TRY(AddRule(name, number, action, conditions));
        continue;
      }
      for (const scmp_arg_cmp& condition : conditions)
        LN_TRY(AddRule(name, number, action, {condition}));
    }
    return Ok();
  }

  Result<void> AddRule(const std::string& name, int number, const Action& action,
                       const std::vector<scmp_arg_cmp>& conditions) {
    ++rules_;
    const int rc = seccomp_rule_add_array(filter_.get(), action.scmp, number,
                                          static_cast<unsigned>(conditions.size()),
                                          conditions.empty() ? nullptr : conditions.data());
    if (rc == -EEXIST) return Ok();  // said twice
    if (rc < 0) return FromSeccomp(rc, "seccomp: rule for " + name);
    return Ok();
  }

  // The call's numbers on each architecture: the highest ends what the profile's author knew of;
  // those that libseccomp does not know are decided by our own instructions.
  void NoteNumbers(const std::string& name, const Action& action, bool unconditional) {
    bool known = false;
    for (ArchPrologue& arch : arches_) {
      const int resolved = seccomp_syscall_resolve_name_arch(arch.arch, name.c_str());
      if (resolved != __NR_SCMP_ERROR) {
        known = true;
        // Negative: not on this architecture. Above 0xf0000: private calls of 32-bit ARM, not in
        // the sequence.
        const std::uint32_t number = static_cast<std::uint32_t>(resolved) & ~kX32Bit;
        if (resolved >= 0 && number < kPrivateCalls) RaiseLast(arch, number);
        continue;
      }
      const std::optional<std::uint32_t> recent = RecentSyscall(name, arch.arch);
      if (!recent) continue;
      known = true;
      RaiseLast(arch, *recent);
      // A rule with conditions for so new a call: left to the default action, the safe side for a
      // list of what is allowed.
      if (unconditional) arch.recent.emplace(*recent, action.kernel);
    }
    if (!known) skipped_ += (skipped_.empty() ? "" : " ") + name;
  }

  static void RaiseLast(ArchPrologue& arch, std::uint32_t number) {
    arch.last = std::max(arch.last.value_or(0), number);
  }

  Result<std::string> Export() {
    if (!Refuses(default_)) {
      for (ArchPrologue& arch : arches_) arch.last.reset();
    }
    const std::vector<sock_filter> prologue = BuildPrologue(arches_);
    std::string out(reinterpret_cast<const char*>(prologue.data()),
                    prologue.size() * sizeof(sock_filter));
    const UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
    if (!file) return Error::FromErrno(errno, "memfd_create");
    const int rc = seccomp_export_bpf(filter_.get(), file.get());
    if (rc < 0) return FromSeccomp(rc, "seccomp_export_bpf");
    if (::lseek(file.get(), 0, SEEK_SET) < 0) return Error::FromErrno(errno, "lseek");
    out += LN_TRY(ReadAll(file));
    const std::size_t count = out.size() / sizeof(sock_filter);
    if (count == 0 || out.size() % sizeof(sock_filter) != 0)
      return Internal("seccomp: libseccomp wrote half an instruction");
    if (count > BPF_MAXINSNS) {
      return InvalidArgument("seccomp: the profile needs " + std::to_string(count) +
                             " instructions, the kernel takes 4096");
    }
    return out;
  }

  static constexpr std::uint32_t kX32Bit = 0x40000000;
  static constexpr std::uint32_t kPrivateCalls = 0xf0000;
  const oci::Seccomp& profile_;
  Filter filter_;
  Action default_;
  std::vector<ArchPrologue> arches_;
  std::size_t rules_ = 0;
  std::string skipped_;
};

}  // namespace

Result<std::string> CompileSeccomp(const oci::Seccomp& profile) { return Compiler(profile).Run(); }

Result<std::uint32_t> SeccompFilterFlags(const oci::Seccomp& profile) {
  std::uint32_t out = 0;
  for (const std::string& flag : profile.flags) {
    if (flag == "SECCOMP_FILTER_FLAG_TSYNC") continue;  // the process that loads it has one thread
    if (flag == "SECCOMP_FILTER_FLAG_LOG") {
      out |= SECCOMP_FILTER_FLAG_LOG;
    } else if (flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") {
      out |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    } else {
      return InvalidArgument("seccomp: unknown flag \"" + flag + "\"");
    }
  }
  return out;
}

}  // namespace linnet::runtime
