// Exec and attach: between a client and a process, until one of them ends.
#pragma once

#include "linnet/pods/stream_targets.h"

#include "connection.h"
#include "remote.h"

namespace linnet::cri::streaming {

// Both return when everything was said, or the client has gone. Errors are for the log: the client
// was told what it can be. `early`: what came behind the head of the request.
Result<StreamStatus> RunExec(Connection& connection, Remote& remote, const StreamRequest& request,
                             pods::StreamTargets& pods, std::string early);
Result<StreamStatus> RunAttach(Connection& connection, Remote& remote, const StreamRequest& request,
                               pods::StreamTargets& pods, std::string early);

}  // namespace linnet::cri::streaming
