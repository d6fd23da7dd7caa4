// Elements of linnet's sets in words, as `nft list` would print them. Pure.
#pragma once

#include <string>

#include "nft/nft_batch.h"

namespace linnet::network {

// "tcp . 8080 : 10.83.0.2 . 80", "\"lnabc\" . 02:00:5e:00:53:01"; hexadecimal digits where the set
// is not one of linnet's.
std::string DescribeElement(const NftElement& element);

}  // namespace linnet::network
