#include "bandwidth.h"

#include <string_view>
#include <utility>

#include "linnet/base/text.h"

namespace linnet::pods {
namespace {

constexpr std::uint64_t kLeast = 1000;                  // 1k
constexpr std::uint64_t kMost = 1'000'000'000'000'000;  // 1P

// What a suffix multiplies with: 10^ten * 2^two.
struct Scale {
  int ten = 0, two = 0;
};

std::optional<Scale> ScaleOf(std::string_view suffix) {
  if (suffix.empty()) return Scale{};
  constexpr std::string_view kDecimal = "numkMGTPE";
  constexpr int kExponents[] = {-9, -6, -3, 3, 6, 9, 12, 15, 18};
  constexpr std::string_view kBinary = "KMGTPE";
  if (suffix.size() == 1) {
    const auto at = kDecimal.find(suffix[0]);
    if (at == std::string_view::npos) return std::nullopt;
    return Scale{.ten = kExponents[at], .two = 0};
  }
  if (suffix.size() == 2 && suffix[1] == 'i') {
    const auto at = kBinary.find(suffix[0]);
    if (at == std::string_view::npos) return std::nullopt;
    return Scale{.ten = 0, .two = 10 * (static_cast<int>(at) + 1)};
  }
  if (suffix[0] != 'e' && suffix[0] != 'E') return std::nullopt;
  suffix.remove_prefix(suffix[1] == '+' ? 2 : 1);
  const auto exponent = ParseNumber<std::int8_t>(suffix);
  if (!exponent || *exponent < -18 || *exponent > 18) return std::nullopt;
  return Scale{.ten = *exponent, .two = 0};
}

}  // namespace

Result<std::uint64_t> ParseQuantity(const std::string& text) {
  const auto wrong = [&] {
    return InvalidArgument("\"" + text + "\" is no quantity (such as 10M, 1.5Gi, 1e6)");
  };
  std::string_view rest = text;
  if (rest.starts_with('+')) rest.remove_prefix(1);
  const std::size_t end = std::min(rest.find_first_not_of("0123456789."), rest.size());
  std::string digits(rest.substr(0, end));
  const auto scale = ScaleOf(rest.substr(end));
  int ten = scale ? scale->ten : 0;
  if (const auto point = digits.find('.'); point != std::string::npos) {
    ten -= static_cast<int>(digits.size() - point - 1);
    digits.erase(point, 1);
  }
  if (!scale || digits.empty() || digits.find('.') != std::string::npos) return wrong();
  auto value = ParseNumber<std::uint64_t>(digits);
  if (!value) return wrong();
  const auto multiply = [&](std::uint64_t by) {
    return !__builtin_mul_overflow(*value, by, &*value);
  };
  const Error large = InvalidArgument("\"" + text + "\" is too large");
  if (!multiply(std::uint64_t{1} << scale->two)) return large;
  for (; ten > 0; --ten) {
    if (!multiply(10)) return large;
  }
  bool up = false;
  for (; ten < 0; ++ten) {
    up = up || *value % 10 != 0;
    *value /= 10;
  }
  return *value + (up ? 1 : 0);
}

Result<PodBandwidth> BandwidthOf(const StringMap& annotations) {
  PodBandwidth out;
  for (const auto& [name, field] : {std::pair("kubernetes.io/ingress-bandwidth", &out.ingress),
                                    std::pair("kubernetes.io/egress-bandwidth", &out.egress)}) {
    const auto it = annotations.find(name);
    if (it == annotations.end()) continue;
    const std::string field_name = std::string("annotations[\"") + name + "\"]";
    const std::uint64_t value = LN_TRY_CTX(ParseQuantity(it->second), field_name);
    if (value < kLeast)
      return InvalidArgument(field_name + ": resource is unreasonably small (< 1kbit)");
    if (value > kMost)
      return InvalidArgument(field_name + ": resource is unreasonably large (> 1Pbit)");
    *field = value;
  }
  return out;
}

}  // namespace linnet::pods
