// CHECK of the bridge plugin: the kernel still has what the result says.
#pragma once

#include "plugins/bridge_conf.h"

namespace linnet::network {

class HostNetwork;

// Errors: kFailedPrecondition, with what differs.
Result<void> CheckBridge(HostNetwork& host, const BridgeConf& conf, const PluginRequest& request);

}  // namespace linnet::network
