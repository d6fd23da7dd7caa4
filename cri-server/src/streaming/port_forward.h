// Port-forward: many pairs of streams over one connection, each to a port inside a pod's network.
#pragma once

#include "linnet/pods/stream_targets.h"

#include "connection.h"

namespace linnet::cri::streaming {

enum class Framing : std::uint8_t {
  kPlain,      // SPDY over the connection
  kWebSocket,  // SPDY within binary messages
};

// Returns when the client has gone. `early`: what came behind the head of the request.
Result<void> RunPortForward(Connection& connection, Framing framing, const std::string& pod_id,
                            pods::StreamTargets& pods, std::string early);

}  // namespace linnet::cri::streaming
