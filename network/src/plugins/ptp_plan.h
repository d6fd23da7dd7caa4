// What the ptp plugin is going to do, decided before anything is done. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

#include "cni/result.h"
#include "netlink/link_messages.h"
#include "nft/nft_batch.h"
#include "plugins/bridge_plan.h"

namespace linnet::network {

struct PtpConf {
  bool ip_masq = false;
  std::uint32_t mtu = 0;
  std::optional<cni::Dns> dns;  // set: in place of the IPAM plugin's
  std::string ipam_type;
  std::optional<bool> anti_spoof;  // linnet's own; unset: in the daemon
};
// Keys match without regard to case. Errors: kInvalidArgument with the path.
Result<PtpConf> ParsePtpConf(const Json& conf);

// A veth cannot be a point-to-point link. So the pod holds its address with the subnet's prefix but
// without the kernel's route to it; the gateway is on the link, the subnet and the rest are behind
// the gateway. The host's end of every pod has the gateway's address, and a route to the pod.
struct PtpPlan {
  std::vector<Cidr> pod_addresses, host_addresses;
  std::vector<RouteSpec> pod_routes, host_routes;  // in this order
  std::vector<NftElement> masquerade;
  MacAddress pod_mac{{}};
  bool guarded = false;
  cni::AddResult result;  // without interfaces
  bool has(Family family) const;
  std::vector<IpAddress> addresses() const;
};
// Errors: kFailedPrecondition the IPAM plugin gave no address, or one without a gateway.
Result<PtpPlan> PlanPtp(const PtpConf& conf, const cni::AddResult& ipam,
                        const std::string& mac_seed, Setting setting);

}  // namespace linnet::network
