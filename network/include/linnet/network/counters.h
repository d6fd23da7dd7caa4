// What has passed the interfaces of a network namespace.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::network {

struct InterfaceCounters {
  std::string name;
  std::uint64_t rx_bytes = 0, rx_packets = 0, rx_errors = 0, rx_dropped = 0;
  std::uint64_t tx_bytes = 0, tx_packets = 0, tx_errors = 0, tx_dropped = 0;
};

// Those of all interfaces, `lo` included, as the namespace sees them: rx is what its processes
// received.
Result<std::vector<InterfaceCounters>> ReadCounters(FdRef netns);
// Of many namespaces, in their order: much cheaper than one by one.
std::vector<Result<std::vector<InterfaceCounters>>> ReadCounters(std::span<const FdRef> all);

}  // namespace linnet::network
