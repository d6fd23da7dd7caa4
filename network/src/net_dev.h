// /proc/net/dev: counters of interfaces, as text.
#pragma once

#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/network/counters.h"

namespace linnet::network {

// kDataLoss where a line has not the columns that the kernel writes.
Result<std::vector<InterfaceCounters>> ParseNetDev(std::string_view text);

}  // namespace linnet::network
