#include "security/seccomp_prologue.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

namespace linnet::runtime {
namespace {

// x32 shares AUDIT_ARCH_X86_64 and sets this bit in the number (asm/unistd.h __X32_SYSCALL_BIT).
constexpr std::uint32_t kX32Bit = 0x40000000;
constexpr std::uint32_t kEnosys = SECCOMP_RET_ERRNO | ENOSYS;

struct Recent {
  std::string_view name;
  std::uint32_t number;
};
// In the order of numbers; the same on every architecture.
constexpr std::array<Recent, 20> kRecent = {{
    {"set_mempolicy_home_node", 450},
    {"cachestat", 451},
    {"fchmodat2", 452},
    {"map_shadow_stack", 453},
    {"futex_wake", 454},
    {"futex_wait", 455},
    {"futex_requeue", 456},
    {"statmount", 457},
    {"listmount", 458},
    {"lsm_get_self_attr", 459},
    {"lsm_set_self_attr", 460},
    {"lsm_list_modules", 461},
    {"mseal", 462},
    {"setxattrat", 463},
    {"getxattrat", 464},
    {"listxattrat", 465},
    {"removexattrat", 466},
    {"open_tree_attr", 467},
    {"file_getattr", 468},
    {"file_setattr", 469},
}};

sock_filter Statement(std::uint16_t code, std::uint32_t k) { return {code, 0, 0, k}; }

// `yes` and `no` count instructions to skip, at most 255: a block here has fewer than 140.
sock_filter Jump(std::uint16_t op, std::uint32_t k, std::size_t yes, std::size_t no) {
  return {static_cast<std::uint16_t>(BPF_JMP | op | BPF_K), static_cast<std::uint8_t>(yes),
          static_cast<std::uint8_t>(no), k};
}

struct Range {
  std::uint32_t low = 0, high = 0, action = 0;
};

std::vector<Range> Ranges(const std::map<std::uint32_t, std::uint32_t>& numbers) {
  std::vector<Range> out;
  for (const auto& [number, action] : numbers) {
    if (!out.empty() && out.back().high + 1 == number && out.back().action == action) {
      out.back().high = number;
    } else {
      out.push_back({number, number, action});
    }
  }
  return out;
}

// What is done for one architecture with the call's number in the accumulator; falls off its end
// where it decides nothing. Ranges ascend, so that an old number (nearly every call) leaves after
// one comparison.
std::vector<sock_filter> Decide(const ArchPrologue& arch, std::uint32_t bit) {
  const std::vector<Range> ranges = Ranges(arch.recent);
  const std::size_t total = ranges.size() * 3 + (arch.last ? 2 : 0);
  std::vector<sock_filter> out;
  for (const Range& range : ranges) {
    out.push_back(Jump(BPF_JGE, range.low | bit, 0, total - out.size() - 1));
    out.push_back(Jump(BPF_JGT, range.high | bit, 1, 0));
    out.push_back(Statement(BPF_RET | BPF_K, range.action));
  }
  if (arch.last) {
    out.push_back(Jump(BPF_JGT, *arch.last | bit, 0, 1));
    out.push_back(Statement(BPF_RET | BPF_K, kEnosys));
  }
  return out;
}

}  // namespace

std::optional<std::uint32_t> RecentSyscall(std::string_view name, std::uint32_t arch) {
  if (name == "uretprobe")
    return arch == SCMP_ARCH_X86_64 ? std::optional<std::uint32_t>(335) : std::nullopt;
  if (name == "riscv_hwprobe")
    return arch == SCMP_ARCH_RISCV64 ? std::optional<std::uint32_t>(258) : std::nullopt;
  const auto* it =
      std::find_if(kRecent.begin(), kRecent.end(), [&](const Recent& r) { return r.name == name; });
  if (it == kRecent.end()) return std::nullopt;
  // MIPS counts from 4000 (o32), 5000 (n64) and 6000 (n32).
  std::uint32_t base = 0;
  if (arch == SCMP_ARCH_MIPS || arch == SCMP_ARCH_MIPSEL) base = 4000;
  if (arch == SCMP_ARCH_MIPS64 || arch == SCMP_ARCH_MIPSEL64) base = 5000;
  if (arch == SCMP_ARCH_MIPS64N32 || arch == SCMP_ARCH_MIPSEL64N32) base = 6000;
  return base + it->number;
}

std::vector<sock_filter> BuildPrologue(const std::vector<ArchPrologue>& arches) {
  std::vector<sock_filter> body;
  for (const ArchPrologue& arch : arches) {
    if (arch.arch == SCMP_ARCH_X32) continue;  // with x86_64, whose audit architecture it shares
    std::vector<sock_filter> block;
    if (arch.arch == SCMP_ARCH_X86_64) {
      const auto x32 = std::find_if(arches.begin(), arches.end(),
                                    [](const ArchPrologue& a) { return a.arch == SCMP_ARCH_X32; });
      const std::vector<sock_filter> own = Decide(arch, 0);
      const std::vector<sock_filter> other =
          x32 == arches.end() ? std::vector<sock_filter>() : Decide(*x32, kX32Bit);
      if (own.empty() && other.empty()) continue;
      // JGE: x32, with its block after ours; ours ends with a jump over it. libseccomp treats -1
      // (0xffffffff, what a tracer writes to skip a call) as no x32 call; with the highest numbers
      // it is ENOSYS here either way.
      block.push_back(Jump(BPF_JGE, kX32Bit, own.size() + 1, 0));
      block.insert(block.end(), own.begin(), own.end());
      block.push_back(Statement(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(other.size())));
      block.insert(block.end(), other.begin(), other.end());
    } else {
      block = Decide(arch, 0);
      if (block.empty()) continue;
    }
    // The accumulator holds the architecture: load the number for the block, and leave after it.
    body.push_back(Jump(BPF_JEQ, arch.arch, 0, block.size() + 2));
    body.push_back(Statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    body.insert(body.end(), block.begin(), block.end());
    body.push_back(Statement(BPF_JMP | BPF_JA, 0));  // patched below: to the end
  }
  if (body.empty()) return body;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const bool leaves = body[i].code == (BPF_JMP | BPF_JA) && body[i].k == 0;
    if (leaves) body[i].k = static_cast<std::uint32_t>(body.size() - i - 1);
  }
  body.insert(body.begin(), Statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  return body;
}

}  // namespace linnet::runtime
