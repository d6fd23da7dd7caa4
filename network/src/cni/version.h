// Versions of the CNI specification.
#pragma once

#include <compare>
#include <span>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::network::cni {

inline constexpr std::string_view kNewestVersion = "1.1.0";

struct Version {
  int major = 0, minor = 0, patch = 0;
  auto operator<=>(const Version&) const = default;
};

// "1", "1.0" and "1.0.0" are one version; "" is 0.1.0, as the specification has it. Suffixes are
// errors.
Result<Version> ParseVersion(std::string_view text);

// "0.1.0" … "1.1.0", oldest first.
std::span<const std::string_view> SupportedVersions();
bool IsSupported(std::string_view version);  // "" is 0.1.0

// False where either text is no version.
bool AtLeast(std::string_view version, std::string_view least);

}  // namespace linnet::network::cni
