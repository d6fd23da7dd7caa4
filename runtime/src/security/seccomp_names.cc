#include "security/seccomp_names.h"

#include <algorithm>
#include <array>

namespace linnet::runtime {
namespace {

template <class T>
struct Named {
  std::string_view name;
  T value;
};

template <class T, std::size_t N>
std::optional<T> Find(const std::array<Named<T>, N>& table, std::string_view name) {
  const auto* it =
      std::find_if(table.begin(), table.end(), [&](const Named<T>& n) { return n.name == name; });
  return it == table.end() ? std::nullopt : std::optional<T>(it->value);
}

using enum SeccompAction;
constexpr std::array<Named<SeccompAction>, 9> kActions = {{
    {"SCMP_ACT_KILL", kKillThread},
    {"SCMP_ACT_KILL_THREAD", kKillThread},
    {"SCMP_ACT_KILL_PROCESS", kKillProcess},
    {"SCMP_ACT_TRAP", kTrap},
    {"SCMP_ACT_ERRNO", kErrno},
    {"SCMP_ACT_TRACE", kTrace},
    {"SCMP_ACT_ALLOW", kAllow},
    {"SCMP_ACT_LOG", kLog},
    {"SCMP_ACT_NOTIFY", kNotify},
}};

constexpr std::array<Named<scmp_compare>, 7> kOperators = {{
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
}};

constexpr std::array<Named<std::uint32_t>, 18> kArches = {{
    {"SCMP_ARCH_X86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
    {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_S390", SCMP_ARCH_S390},
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
    {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
    {"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},
}};

struct GoArch {
  std::uint32_t arch;
  const char* name;
};
constexpr std::array<GoArch, 10> kGoArches = {{
    {SCMP_ARCH_X86_64, "amd64"},
    {SCMP_ARCH_X86, "386"},
    {SCMP_ARCH_AARCH64, "arm64"},
    {SCMP_ARCH_ARM, "arm"},
    {SCMP_ARCH_RISCV64, "riscv64"},
    {SCMP_ARCH_PPC64LE, "ppc64le"},
    {SCMP_ARCH_S390X, "s390x"},
    {SCMP_ARCH_MIPS64, "mips64"},
    {SCMP_ARCH_MIPSEL64, "mips64le"},
    {SCMP_ARCH_S390, "s390"},
}};

}  // namespace

std::optional<SeccompAction> FindSeccompAction(std::string_view name) {
  return Find(kActions, name);
}
std::optional<scmp_compare> FindSeccompOperator(std::string_view name) {
  return Find(kOperators, name);
}
std::optional<std::uint32_t> FindSeccompArch(std::string_view name) { return Find(kArches, name); }

bool KnownSeccompArch(std::string_view name) {
  // Newer than libseccomp 2.5.4.
  constexpr std::array<std::string_view, 5> kOthers = {"SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",
                                                       "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
                                                       "SCMP_ARCH_PARISC64"};
  return FindSeccompArch(name).has_value() ||
         std::find(kOthers.begin(), kOthers.end(), name) != kOthers.end();
}

std::string NativeSeccompArch() {
  const std::uint32_t native = seccomp_arch_native();
  const auto* it = std::find_if(kArches.begin(), kArches.end(),
                                [&](const auto& a) { return a.value == native; });
  return it == kArches.end() ? std::string() : std::string(it->name);
}

std::string NativeGoArch() {
  const std::uint32_t native = seccomp_arch_native();
  const auto* it = std::find_if(kGoArches.begin(), kGoArches.end(),
                                [&](const GoArch& a) { return a.arch == native; });
  return it == kGoArches.end() ? std::string() : std::string(it->name);
}

}  // namespace linnet::runtime
