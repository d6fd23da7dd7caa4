// One daemon per directory.
#pragma once

#include <string>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::cri {

// Locks <directory>/linnetd.lock (the directory is made), and notes this process's id in it. Held
// until the descriptor is closed. A holder gets a second to end. Errors: kAlreadyExists names the
// process that holds it.
Result<UniqueFd> LockDirectory(const std::string& directory, mode_t mode);

}  // namespace linnet::cri
