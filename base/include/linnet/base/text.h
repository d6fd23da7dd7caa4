// Text from outside: numbers, sizes, splitting.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"

namespace linnet {

// The whole text must be the number (no sign for unsigned types, no blanks, no "+").
template <std::integral T>
Result<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc::result_out_of_range) {
    return InvalidArgument("number \"" + std::string(text) + "\" is out of range");
  }
  if (ec != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("\"" + std::string(text) + "\" is not a number");
  }
  return value;
}

std::vector<std::string> Split(std::string_view text, char separator);
std::vector<std::string> SplitFields(std::string_view text);  // by runs of blanks
std::string Join(const std::vector<std::string>& parts, std::string_view separator);
std::string_view Trim(std::string_view text);  // ASCII white space at both ends
std::string ToLower(std::string_view text);    // ASCII
std::string ToUpper(std::string_view text);    // ASCII
std::string Hex(std::string_view bytes);
std::string Base64Encode(std::string_view bytes);
Result<std::string> Base64Decode(std::string_view text);
// "12.3 MiB"
std::string FormatBytes(std::uint64_t bytes);

}  // namespace linnet
