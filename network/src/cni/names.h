// What the specification allows as names.
#pragma once

#include <string_view>

#include "linnet/base/result.h"

namespace linnet::network::cni {

// Letters, digits, "_", ".", "-", the first a letter or a digit. The errors are CNI errors as the
// reference plugin skeleton gives them (code 7 for the network, 4 for the others).
Result<void> CheckNetworkName(std::string_view name);
Result<void> CheckContainerId(std::string_view id);
// 1–15 bytes, not "." or "..", without "/", ":" and white space.
Result<void> CheckInterfaceName(std::string_view name);
// A plugin's type is a file name: not empty, without "/" and NUL, not starting with ".".
Result<void> CheckPluginType(std::string_view type);

}  // namespace linnet::network::cni
