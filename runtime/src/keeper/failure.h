// Failures of a keeper's commands as texts (daemon side).
#pragma once

#include <string>
#include <string_view>

#include "linnet/base/result.h"

#include "keeper/protocol.h"

namespace linnet::runtime::keeper {

// "mount", "cgroup", …
std::string_view StageName(Stage stage);
// "mount proc on /proc: Permission denied"; of kExec the detail alone.
Error ToError(const Failed& failed);

}  // namespace linnet::runtime::keeper
