#include "cni/names.h"

#include <algorithm>

#include "cni/result.h"

namespace linnet::network::cni {
namespace {

bool IsAlnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool IsName(std::string_view text) {
  const auto allowed = [](char c) { return IsAlnum(c) || c == '_' || c == '.' || c == '-'; };
  return !text.empty() && IsAlnum(text.front()) && std::all_of(text.begin(), text.end(), allowed);
}

}  // namespace

Result<void> CheckNetworkName(std::string_view name) {
  if (name.empty()) return CniError(ErrorCode::kInvalidConfig, "missing network name");
  if (!IsName(name)) {
    return CniError(ErrorCode::kInvalidConfig,
                    "invalid characters found in network name; " + std::string(name));
  }
  return Ok();
}

Result<void> CheckContainerId(std::string_view id) {
  if (id.empty()) return CniError(ErrorCode::kInvalidEnvironment, "missing containerID");
  if (!IsName(id))
    return CniError(ErrorCode::kInvalidEnvironment,
                    "invalid characters in containerID; " + std::string(id));
  return Ok();
}

Result<void> CheckInterfaceName(std::string_view name) {
  const auto fail = [&](std::string_view why) {
    return CniError(ErrorCode::kInvalidEnvironment, std::string(why) + "; " + std::string(name));
  };
  if (name.empty()) return CniError(ErrorCode::kInvalidEnvironment, "interface name is empty");
  if (name.size() > 15) return fail("interface name is too long");
  if (name == "." || name == "..") return fail("interface name is . or ..");
  const auto bad = [](char c) {
    return c == '/' || c == ':' || static_cast<unsigned char>(c) <= ' ' || c == 0x7f;
  };
  if (std::any_of(name.begin(), name.end(), bad))
    return fail("interface name contains / or : or whitespace characters");
  return Ok();
}

Result<void> CheckPluginType(std::string_view type) {
  if (type.empty()) return CniError(ErrorCode::kInvalidConfig, "no plugin name provided");
  if (type.front() == '.' || type.find('/') != std::string_view::npos ||
      type.find('\0') != std::string_view::npos) {
    return CniError(ErrorCode::kInvalidConfig, "invalid plugin name: " + std::string(type));
  }
  return Ok();
}

}  // namespace linnet::network::cni
