#include "cgroup/usage.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

using Number = std::optional<std::uint64_t>;

// v1 says "no limit" with the greatest multiple of the page size that a signed number holds.
constexpr std::uint64_t kNoLimitV1 = 0x7000'0000'0000'0000;

// One file of a cgroup, whole: memory.stat, the longest, has some 2 KB.
class SmallFile {
 public:
  // False: there is no such file, or it says that it is not supported (PSI switched off).
  Result<bool> Read(FdRef dir, const char* name) {
    size_ = 0;
    const UniqueFd fd(::openat(dir.get(), name, O_RDONLY | O_CLOEXEC));
    if (!fd) return Refused(errno, name);
    ssize_t n = 0;
    do {
      n = ::read(fd.get(), buffer_.data(), buffer_.size());
    } while (n < 0 && errno == EINTR);
    if (n < 0) return Refused(errno, name);
    size_ = static_cast<std::size_t>(n);
    return true;
  }
  std::string_view text() const { return {buffer_.data(), size_}; }

 private:
  static Result<bool> Refused(int err, const char* name) {
    if (err == ENOENT || err == EOPNOTSUPP) return false;
    // The group was removed after its directory was opened.
    if (err == ENODEV) return NotFound(std::string("read ") + name + ": the cgroup is gone");
    return Error::FromErrno(err, std::string("read ") + name);
  }
  std::array<char, 16384> buffer_;
  std::size_t size_ = 0;
};

std::string_view NextLine(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

Result<Number> ReadNumber(SmallFile& file, FdRef dir, const char* name) {
  if (!dir.valid() || !LN_TRY(file.Read(dir, name))) return Number();
  const std::string_view text = Trim(file.text());
  if (text == "max") return Number();
  return Number(LN_TRY_CTX(ParseNumber<std::uint64_t>(text), name));
}

// `use(key, value)` for each "key value" line.
template <class Use>
void ForEachStat(std::string_view text, Use use) {
  while (!text.empty()) {
    const std::string_view line = NextLine(text);
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos) continue;
    std::uint64_t value = 0;
    const char* end = line.data() + line.size();
    if (std::from_chars(line.data() + blank + 1, end, value).ec != std::errc()) continue;
    use(line.substr(0, blank), value);
  }
}

std::uint64_t Minus(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

Result<std::optional<Pressure>> ReadPressure(SmallFile& file, FdRef dir, const char* name) {
  if (!LN_TRY(file.Read(dir, name))) return std::optional<Pressure>();
  return std::optional<Pressure>(ParsePressure(file.text()));
}

Result<void> AddPressure(SmallFile& file, FdRef dir, CgroupUsage& out) {
  if (!dir.valid()) return Ok();
  out.cpu_pressure = LN_TRY(ReadPressure(file, dir, "cpu.pressure"));
  if (!out.cpu_pressure) return Ok();  // none of the three then
  out.memory_pressure = LN_TRY(ReadPressure(file, dir, "memory.pressure"));
  out.io_pressure = LN_TRY(ReadPressure(file, dir, "io.pressure"));
  return Ok();
}

Result<void> AddMemoryV1(SmallFile& file, FdRef dir, CgroupUsage& out) {
  const Number usage = LN_TRY(ReadNumber(file, dir, "memory.usage_in_bytes"));
  if (!usage) return Ok();
  CgroupUsage::Memory memory{.usage_bytes = *usage, .limit_bytes = {}};
  const Number limit = LN_TRY(ReadNumber(file, dir, "memory.limit_in_bytes"));
  if (limit && *limit < kNoLimitV1) memory.limit_bytes = limit;
  std::uint64_t inactive_file = 0;
  Number with_swap_limit;
  if (LN_TRY(file.Read(dir, "memory.stat"))) {
    ForEachStat(file.text(), [&](std::string_view key, std::uint64_t value) {
      if (key == "total_inactive_file") inactive_file = value;
      if (key == "total_rss") memory.rss_bytes = value;
      if (key == "total_pgfault") memory.page_faults = value;
      if (key == "total_pgmajfault") memory.major_page_faults = value;
      if (key == "total_swap") out.swap_bytes = value;
      if (key == "hierarchical_memsw_limit" && value < kNoLimitV1) with_swap_limit = value;
    });
  }
  memory.working_set_bytes = Minus(memory.usage_bytes, inactive_file);
  if (out.swap_bytes && with_swap_limit && memory.limit_bytes) {
    out.swap_limit_bytes = Minus(*with_swap_limit, *memory.limit_bytes);
  }
  out.memory = memory;
  return Ok();
}

Result<void> AddMemoryV2(SmallFile& file, FdRef dir, CgroupUsage& out) {
  const Number usage = LN_TRY(ReadNumber(file, dir, "memory.current"));
  if (!usage) return Ok();
  CgroupUsage::Memory memory{.usage_bytes = *usage,
                             .limit_bytes = LN_TRY(ReadNumber(file, dir, "memory.max"))};
  std::uint64_t inactive_file = 0;
  if (LN_TRY(file.Read(dir, "memory.stat"))) {
    ForEachStat(file.text(), [&](std::string_view key, std::uint64_t value) {
      if (key == "inactive_file") inactive_file = value;
      if (key == "anon") memory.rss_bytes = value;
      if (key == "pgfault") memory.page_faults = value;
      if (key == "pgmajfault") memory.major_page_faults = value;
    });
  }
  memory.working_set_bytes = Minus(memory.usage_bytes, inactive_file);
  out.memory = memory;
  out.swap_bytes = LN_TRY(ReadNumber(file, dir, "memory.swap.current"));
  if (out.swap_bytes) out.swap_limit_bytes = LN_TRY(ReadNumber(file, dir, "memory.swap.max"));
  return Ok();
}

// "avg10=0.00"
template <class T>
void ReadField(std::string_view word, std::string_view key, T& value) {
  if (!word.starts_with(key)) return;
  word.remove_prefix(key.size());
  (void)std::from_chars(word.data(), word.data() + word.size(), value);  // garbage stays 0
}

}  // namespace

Pressure ParsePressure(std::string_view text) {
  Pressure out;
  while (!text.empty()) {
    const std::string_view line = NextLine(text);
    Pressure::Line* into = line.starts_with("some ")   ? &out.some
                           : line.starts_with("full ") ? &out.full
                                                       : nullptr;
    if (into == nullptr) continue;
    for (std::string_view rest = line.substr(5); !rest.empty();) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      const std::string_view word = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      ReadField(word, "avg10=", into->avg10);
      ReadField(word, "avg60=", into->avg60);
      ReadField(word, "avg300=", into->avg300);
      ReadField(word, "total=", into->total_us);
    }
  }
  return out;
}

Result<CgroupUsage> ReadUsageV1(const UsageDirsV1& dirs) {
  SmallFile file;
  CgroupUsage out;
  out.cpu_ns = LN_TRY(ReadNumber(file, dirs.cpuacct, "cpuacct.usage"));
  LN_TRY(AddMemoryV1(file, dirs.memory, out));
  out.pids = LN_TRY(ReadNumber(file, dirs.pids, "pids.current"));
  LN_TRY(AddPressure(file, dirs.pressure, out));
  return out;
}

Result<CgroupUsage> ReadUsageV2(FdRef dir) {
  SmallFile file;
  CgroupUsage out;
  if (LN_TRY(file.Read(dir, "cpu.stat"))) {
    ForEachStat(file.text(), [&](std::string_view key, std::uint64_t value) {
      if (key == "usage_usec") out.cpu_ns = value * 1000;
    });
  }
  LN_TRY(AddMemoryV2(file, dir, out));
  out.pids = LN_TRY(ReadNumber(file, dir, "pids.current"));
  LN_TRY(AddPressure(file, dir, out));
  return out;
}

}  // namespace linnet::runtime
