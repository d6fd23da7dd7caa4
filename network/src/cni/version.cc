#include "cni/version.h"

#include <algorithm>
#include <array>

#include "linnet/base/text.h"

namespace linnet::network::cni {
namespace {

constexpr std::array<std::string_view, 7> kVersions = {"0.1.0", "0.2.0", "0.3.0", "0.3.1",
                                                       "0.4.0", "1.0.0", "1.1.0"};

}  // namespace

Result<Version> ParseVersion(std::string_view text) {
  if (text.empty()) return Version{0, 1, 0};
  const std::vector<std::string> parts = Split(text, '.');
  if (parts.size() > 3)
    return InvalidArgument("version \"" + std::string(text) + "\" has more than three parts");
  std::array<int, 3> numbers{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto number = ParseNumber<std::uint16_t>(parts[i]);
    if (!number)
      return InvalidArgument("version \"" + std::string(text) + "\" is not MAJOR.MINOR.PATCH");
    numbers[i] = *number;
  }
  return Version{numbers[0], numbers[1], numbers[2]};
}

std::span<const std::string_view> SupportedVersions() { return kVersions; }

bool IsSupported(std::string_view version) {
  return version.empty() ||
         std::find(kVersions.begin(), kVersions.end(), version) != kVersions.end();
}

bool AtLeast(std::string_view version, std::string_view least) {
  const auto a = ParseVersion(version);
  const auto b = ParseVersion(least);
  return a && b && *a >= *b;
}

}  // namespace linnet::network::cni
