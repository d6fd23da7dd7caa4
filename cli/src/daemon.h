// Starting a daemon for somebody who just wants a pod (decision 15 in
// contrib/docs/architecture.md).
#pragma once

#include <string>

#include "linnet/base/result.h"

namespace linnet::cli {

// Is somebody listening on this socket?
bool Listens(const std::string& socket);

// Starts one for the default socket and waits until it listens: through systemd where that runs,
// else in a session and cgroup of its own. Says so on standard error. Errors: kPermissionDenied for
// others than root; kUnavailable with the place of the log.
Result<void> StartDaemon(const std::string& socket);

}  // namespace linnet::cli
