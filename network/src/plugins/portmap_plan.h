// The portmap plugin's configuration and plan. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"

#include "cni/result.h"
#include "nft/elements.h"
#include "plugins/plugin.h"

namespace linnet::network {

struct PortMap {
  std::uint16_t host_port = 0, container_port = 0;
  std::uint8_t protocol = 6;
  std::optional<IpAddress> host_ip;  // 0.0.0.0 and :: mean every address of their family
};

struct PortmapConf {
  bool snat =
      true;  // from 127.0.0.1 and from the pod itself, with the host's address as the source
  bool masq_all = false;
  // Of all mappings, by family; nftables' maps are named by them (nft/conditions.h).
  std::string conditions_v4, conditions_v6;
  std::vector<PortMap> mappings;
};

// Keys match without regard to case (go-cni sends "HostPort"). Either back end's options are
// understood, and the kernel's nftables do it all; marks, which iptables needs to masquerade, are
// checked and not used. Errors: kInvalidArgument; kUnimplemented a condition.
Result<PortmapConf> ParsePortmapConf(const JsonView& conf);

struct PodAddresses {
  std::optional<IpAddress> v4, v6;
};
// The first address of each family that belongs to `ifname` in the pod, or to no interface.
PodAddresses AddressesOf(const cni::AddResult& result, const std::string& ifname);

struct PortmapPlan {
  std::vector<HostPort> ports;
  std::vector<NftElement> elements;
};
// Errors: kInvalidArgument one host port is mapped to two places.
Result<PortmapPlan> PlanPortmap(const PortmapConf& conf, const PodAddresses& pod);

}  // namespace linnet::network
