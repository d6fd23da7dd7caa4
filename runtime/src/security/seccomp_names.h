// The names of the runtime specification and what they stand for.
#pragma once

#include <seccomp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace linnet::runtime {

enum class SeccompAction : std::uint8_t {
  kKillThread,
  kKillProcess,
  kTrap,
  kErrno,
  kTrace,
  kAllow,
  kLog,
  kNotify
};

std::optional<SeccompAction> FindSeccompAction(std::string_view name);   // "SCMP_ACT_ALLOW", …
std::optional<scmp_compare> FindSeccompOperator(std::string_view name);  // "SCMP_CMP_EQ", …
std::optional<std::uint32_t> FindSeccompArch(std::string_view name);     // "SCMP_ARCH_X86_64", …
// Named by the specification, whether or not the library can filter for it.
bool KnownSeccompArch(std::string_view name);
// The spec's name of this machine's architecture, and Go's ("amd64"), which docker's profiles use.
std::string NativeSeccompArch();
std::string NativeGoArch();

}  // namespace linnet::runtime
