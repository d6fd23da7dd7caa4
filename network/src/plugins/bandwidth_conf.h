// The bandwidth plugin's configuration. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

namespace linnet::network {

// Bits, bits a second; as the pod sees it: ingress is what it receives. 0: no limit.
struct Bandwidth {
  std::uint64_t ingress_rate = 0, ingress_burst = 0, egress_rate = 0, egress_burst = 0;
  bool empty() const { return ingress_rate == 0 && egress_rate == 0; }
};

// The configuration's own values win over runtimeConfig.bandwidth. Keys match without regard to
// case. Errors: kInvalidArgument, in the words of the bandwidth plugin of containernetworking.
Result<Bandwidth> ParseBandwidth(const JsonView& conf);

// "bwp" and 12 digits, as containernetworking's plugin names the ifb of a container: DEL of either
// finds what the other one made.
std::string IfbName(const std::string& network, const std::string& container_id);
// That of a second interface of the same container in the same network, which upstream cannot have.
std::string IfbName(const std::string& network, const std::string& container_id,
                    const std::string& ifname);

}  // namespace linnet::network
