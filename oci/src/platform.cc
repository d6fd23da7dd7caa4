#include "platform.h"

#include <sys/utsname.h>

namespace linnet::oci {
namespace {

// "v7" → 7; anything else → -1 ("" → `fallback`).
int VariantNumber(std::string_view variant, int fallback) {
  if (variant.empty()) return fallback;
  if (variant.size() != 2 || variant[0] != 'v' || variant[1] < '0' || variant[1] > '9') return -1;
  return variant[1] - '0';
}

std::string_view Amd64Level() {
#if defined(__x86_64__)
  // The levels of the x86-64 psABI, by one feature of each that no processor below it has.
  __builtin_cpu_init();
  const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt") &&
                  __builtin_cpu_supports("ssse3");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (v4) return "v4";
  if (v3) return "v3";
  if (v2) return "v2";
#endif
  return "v1";
}

}  // namespace

bool IsAttestation(const Descriptor& entry) {
  return (entry.os == "unknown" && entry.architecture == "unknown") ||
         entry.annotations.contains("vnd.docker.reference.type");
}

std::string MachineVariantOf(std::string_view architecture) {
  if (architecture == "amd64") return std::string(Amd64Level());
  if (architecture == "arm64") return "v8";
  if (architecture != "arm") return "";
  utsname machine{};
  if (uname(&machine) == 0) {
    const std::string_view name = machine.machine;
    if (name.starts_with("armv6")) return "v6";
    if (name.starts_with("armv5")) return "v5";
  }
  return "v7";
}

int PlatformRank(const Descriptor& entry, std::string_view os, std::string_view architecture,
                 std::string_view variant) {
  constexpr int kUnnamed = 1;    // no platform given: perhaps
  constexpr int kOldCousin = 2;  // i386 on amd64
  constexpr int kSame = 10;
  if (entry.os.empty() && entry.architecture.empty()) return kUnnamed;
  if (entry.os != os) return 0;
  if (architecture == "amd64" && entry.architecture == "386") return kOldCousin;
  if (entry.architecture != architecture) return 0;
  if (architecture == "arm") {
    // What runs on v6 runs on v7, and is worse there. Without a variant it is v7, by convention.
    const int wanted = VariantNumber(variant, 7);
    const int has = VariantNumber(entry.variant, 7);
    return has < 0 || has > wanted ? 0 : kSame + has;
  }
  if (architecture == "amd64") {
    // The plain build first: levels above it are for those who have nothing else.
    const int has = VariantNumber(entry.variant, 1);
    return has < 0 || has > VariantNumber(variant, 1) ? 0 : kSame + 10 - has;
  }
  if (architecture == "arm64")
    return entry.variant.empty() || entry.variant == "v8" ? kSame + 1 : 0;
  return entry.variant == variant ? kSame + 1 : kSame;
}

std::string PlatformName(const Descriptor& entry) {
  if (entry.os.empty() && entry.architecture.empty()) return "an entry without a platform";
  std::string out = entry.os + "/" + entry.architecture;
  if (!entry.variant.empty()) out += "/" + entry.variant;
  return out;
}

}  // namespace linnet::oci
