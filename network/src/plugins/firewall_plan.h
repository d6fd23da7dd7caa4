// The firewall plugin's configuration and plan. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

#include "cni/result.h"
#include "nft/elements.h"

namespace linnet::network {

struct FirewallConf {
  enum class Backend : std::uint8_t { kAuto, kIptables, kFirewalld };
  Backend backend = Backend::kAuto;  // kAuto: firewalld where it runs
  std::string admin_chain = "CNI-ADMIN";
  std::string zone = "trusted";        // of firewalld
  std::optional<BridgePolicy> policy;  // absent: "open"
};
// Keys match without regard to case. Errors: kInvalidArgument "unknown ingress policy: …".
Result<FirewallConf> ParseFirewallConf(const JsonView& conf);

// Every address of the result, as upstream: once each.
std::vector<IpAddress> PodsOf(const cni::AddResult& result);
// The bridge that a policy is about: the result's first interface. Errors: kFailedPrecondition.
Result<std::string> PolicyBridge(const cni::AddResult& result, const std::string& policy_name);
std::string NameOf(BridgePolicy policy);

}  // namespace linnet::network
