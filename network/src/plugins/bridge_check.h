// CHECK of the bridge plugin: the kernel still has what the result says.
#pragma once

#include "plugins/bridge_conf.h"

namespace linnet::network {

class HostNetwork;
struct Link;

// Errors: kFailedPrecondition, with what differs.
Result<void> CheckBridge(HostNetwork& host, const BridgeConf& conf, const PluginRequest& request);

// The pod's end of a veth, with the addresses and routes of the result.
enum class LinkState : std::uint8_t { kUp, kAny };
Result<void> CheckPodSide(const PluginRequest& request, LinkState state);
// The MAC address, where the result names one.
Result<void> CheckMac(const std::string& wanted, const Link& link);

}  // namespace linnet::network
