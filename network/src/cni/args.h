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

// What the reference implementation says of CNI_ARGS before ADD and CHECK: a plugin that reads them
// refuses keys that it does not know, unless IgnoreUnknown is true. IP, GATEWAY and MAC are taken
// by all that read them: what one is told reaches the ones it delegates to. Errors: "ARGS: unknown
// args [\"K=V\"]"; "ARGS: invalid pair …".
Result<void> CheckArgs(std::string_view type, std::string_view text);

}  // namespace linnet::network::cni
