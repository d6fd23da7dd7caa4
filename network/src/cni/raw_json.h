// The pieces of a JSON text as they were written: what is passed on to a plugin keeps its bytes
// (2^53+1, 1.0, "<&>").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::network::cni {

struct RawMember {
  std::string key;         // decoded
  std::string_view value;  // as written, without white space around
};

// `text` must be a JSON object that ParseJson accepts. Order is kept; repeated keys stay.
Result<std::vector<RawMember>> RawMembers(std::string_view text);
// The elements of a JSON array.
Result<std::vector<std::string_view>> RawElements(std::string_view text);

// `"key":` with the key quoted.
std::string QuotedKey(std::string_view key);

}  // namespace linnet::network::cni
