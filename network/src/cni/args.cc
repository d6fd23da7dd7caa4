#include "cni/args.h"

#include <algorithm>

#include "linnet/base/text.h"

namespace linnet::network::cni {
namespace {

bool IsClean(std::string_view text, std::string_view separators) {
  return std::none_of(text.begin(), text.end(), [&](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == 0x7f ||
           separators.find(c) != std::string_view::npos;
  });
}

}  // namespace

Result<std::string> DumpArgs(const Args& args) {
  std::string out;
  for (const auto& [key, value] : args) {
    if (key.empty() || !IsClean(key, ";=") || !IsClean(value, ";=")) {
      return InvalidArgument("CNI argument \"" + key +
                             "\" holds a \";\", a \"=\" or a control character");
    }
    if (!out.empty()) out += ';';
    out += key + "=" + value;
  }
  return out;
}

Result<Args> ParseArgs(std::string_view text) {
  Args out;
  if (text.empty()) return out;
  for (const std::string& pair : Split(text, ';')) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || pair.find('=', equals + 1) != std::string::npos) {
      return InvalidArgument("ARGS: invalid pair \"" + pair + "\"");
    }
    out.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return out;
}

namespace {

Result<bool> Truth(const std::string& text) {
  const std::string lower = ToLower(text);
  if (lower == "1" || lower == "true") return true;
  if (lower == "0" || lower == "false") return false;
  return InvalidArgument("ARGS: error parsing value of pair \"IgnoreUnknown=" + text +
                         "\": boolean unmarshal error: invalid input " + text);
}

}  // namespace

Result<void> CheckArgs(std::string_view type, std::string_view text) {
  constexpr std::string_view kReaders[] = {"bridge", "ptp", "host-local", "static", "tuning"};
  constexpr std::string_view kKnown[] = {"IgnoreUnknown", "IP", "GATEWAY", "MAC"};
  if (std::find(std::begin(kReaders), std::end(kReaders), type) == std::end(kReaders)) return Ok();
  std::string unknown;
  bool ignore = false;
  for (const auto& [key, value] : LN_TRY(ParseArgs(text))) {
    if (key == "IgnoreUnknown") ignore = LN_TRY(Truth(value));
    if (std::find(std::begin(kKnown), std::end(kKnown), key) != std::end(kKnown)) continue;
    unknown += (unknown.empty() ? "\"" : " \"") + key + "=" + value + "\"";
  }
  if (unknown.empty() || ignore) return Ok();
  return Error(Code::kInternal, "ARGS: unknown args [" + unknown + "]");
}

std::optional<std::string> FindArg(const Args& args, std::string_view key) {
  for (auto it = args.rbegin(); it != args.rend(); ++it) {
    if (it->first == key) return it->second;
  }
  return std::nullopt;
}

}  // namespace linnet::network::cni
