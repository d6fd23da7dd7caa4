// What the bridge plugin is going to do, decided before anything is done. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cni/result.h"
#include "netlink/link_messages.h"
#include "nft/elements.h"
#include "plugins/bridge_conf.h"

namespace linnet::network {

struct BridgePlan {
  std::vector<Cidr> gateways;  // the bridge's own addresses
  std::vector<Cidr> pod_addresses;
  std::vector<RouteSpec> pod_routes;
  MacAddress pod_mac{{}};
  bool isolated = false;
  Guard guard = Guard::kNone;
  std::vector<NftElement> masquerade;
  // Addresses, routes and DNS as the result will show them; interfaces are added with what the
  // kernel says.
  cni::AddResult result;
  bool has_v6() const;
  std::vector<IpAddress> addresses() const;
};

enum class Setting : std::uint8_t { kDaemon, kExec };

// `ipam`: what the IPAM plugin answered; absent: layer 2. `mac_seed`: makes MAC addresses of
// different networks differ.
Result<BridgePlan> PlanBridge(const BridgeConf& conf, const std::optional<cni::AddResult>& ipam,
                              const std::string& mac_seed, Setting setting);

// The subnet of an address of a routed network, whose result says /32 only: from host-local's
// configuration.
std::optional<Cidr> SubnetOf(const Json& conf, const IpAddress& address);
// The plan of an attachment that lives, from its configuration and final result.
Result<BridgePlan> PlanFromResult(const BridgeConf& conf, const Json& raw_conf,
                                  const cni::AddResult& result, const std::string& ifname,
                                  const std::string& mac_seed, Setting setting);

}  // namespace linnet::network
