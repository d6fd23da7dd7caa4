#include "linnet/network/counters.h"

#include "netlink/route_socket.h"
#include "netns.h"

namespace linnet::network {

Result<std::vector<InterfaceCounters>> ReadCounters(FdRef netns) {
  std::vector<InterfaceCounters> out;
  const auto read = [&out]() -> Result<void> {
    RouteSocket socket = LN_TRY(RouteSocket::Open());
    out = LN_TRY(socket.ListCounters());
    return Ok();
  };
  LN_TRY(VisitNetns(netns, read));
  return out;
}

}  // namespace linnet::network
