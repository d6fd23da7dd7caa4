// Sockets inside a pod's network, for the daemon to speak with what runs there.
#pragma once

#include "linnet/base/ip.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::network {

// A TCP socket, not connected, non-blocking, that belongs to this network namespace from any
// thread.
Result<UniqueFd> OpenTcpSocket(FdRef netns, Family family);

}  // namespace linnet::network
