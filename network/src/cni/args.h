// CNI_ARGS: "K=V;K2=V2".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::network::cni {

using Args = std::vector<std::pair<std::string, std::string>>;

// Errors: kInvalidArgument a key or value holds ";", "=" or a control character.
Result<std::string> DumpArgs(const Args& args);
// Errors: "ARGS: invalid pair …".
Result<Args> ParseArgs(std::string_view text);
// The value of the last pair with this key (case matters, as in the reference implementation).
std::optional<std::string> FindArg(const Args& args, std::string_view key);

}  // namespace linnet::network::cni
