// Forgetting connections: UDP flows that were under way when a host port changes hands would go on
// to the old place.
#pragma once

#include <cstdint>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

namespace linnet::network {

// Deletes the host's connections of `family` and `protocol` (IPPROTO_…) whose first packet went to
// `port`. Success where there are none, or where the kernel tracks no connections.
Result<void> ForgetConnections(Family family, std::uint8_t protocol, std::uint16_t port);

}  // namespace linnet::network
