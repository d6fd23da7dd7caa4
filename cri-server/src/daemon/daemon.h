// linnetd: puts the parts together, in this order: lock, images, network, pods, recovery, service.
#pragma once

#include "config/config.h"

namespace linnet::cri {

// Until SIGTERM or SIGINT, which must be blocked in every thread. Pods go on without us.
Result<void> RunDaemon(const ConfigSources& sources, const LoadedConfig& loaded);

// Blocks the signals that RunDaemon waits for, ignores SIGPIPE, bounds malloc's arenas, raises the
// limit of descriptors. Call first of all.
void PrepareProcess();

}  // namespace linnet::cri
