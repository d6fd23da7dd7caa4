// Instructions put before libseccomp's program: what its tables are too old for, and ENOSYS for
// calls from the future.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace linnet::runtime {

// The number of a system call that came after libseccomp 2.5.4's tables (Linux 5.17; 6.7 in
// Debian's build). From 424 on every architecture uses the same numbers; the few exceptions name
// their architecture. Source: the kernel's scripts/syscall.tbl. `arch` is an SCMP_ARCH_… token.
// nullopt: not one of these, or not on this architecture.
std::optional<std::uint32_t> RecentSyscall(std::string_view name, std::uint32_t arch);

struct ArchPrologue {
  std::uint32_t arch = 0;  // SCMP_ARCH_… token
  std::map<std::uint32_t, std::uint32_t>
      recent;                         // number → SECCOMP_RET_… (number without the x32 bit)
  std::optional<std::uint32_t> last;  // numbers beyond it get ENOSYS
};

// Falls through to what comes after it for every call that it does not decide.
std::vector<sock_filter> BuildPrologue(const std::vector<ArchPrologue>& arches);

}  // namespace linnet::runtime
