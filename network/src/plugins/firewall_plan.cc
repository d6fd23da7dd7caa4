#include "plugins/firewall_plan.h"

#include <algorithm>

namespace linnet::network {

Result<FirewallConf> ParseFirewallConf(const JsonView& conf) {
  FirewallConf out;
  const std::string backend = LN_TRY(conf.Optional<std::string>("backend", ""));
  if (backend == "iptables") out.backend = FirewallConf::Backend::kIptables;
  if (backend == "firewalld") out.backend = FirewallConf::Backend::kFirewalld;
  if (const auto chain = LN_TRY(conf.Optional<std::string>("iptablesAdminChainName", ""));
      !chain.empty()) {
    out.admin_chain = chain;
  }
  if (const auto zone = LN_TRY(conf.Optional<std::string>("firewalldZone", "")); !zone.empty())
    out.zone = zone;
  const std::string policy = LN_TRY(conf.Optional<std::string>("ingressPolicy", ""));
  if (policy == "same-bridge") {
    out.policy = BridgePolicy::kSameBridge;
  } else if (policy == "isolated") {
    out.policy = BridgePolicy::kClosed;
  } else if (!policy.empty() && policy != "open") {
    return InvalidArgument("unknown ingress policy: \"" + policy + "\"");
  }
  return out;
}

std::vector<IpAddress> PodsOf(const cni::AddResult& result) {
  std::vector<IpAddress> out;
  for (const cni::IpConfig& ip : result.ips) {
    const IpAddress& address = ip.address.address();
    if (std::find(out.begin(), out.end(), address) == out.end()) out.push_back(address);
  }
  return out;
}

std::string NameOf(BridgePolicy policy) {
  return policy == BridgePolicy::kClosed ? "isolated" : "same-bridge";
}

Result<std::string> PolicyBridge(const cni::AddResult& result, const std::string& policy_name) {
  if (result.interfaces.empty()) {
    return FailedPrecondition("interface needs to be set for ingress policy \"" + policy_name +
                              "\", make sure to chain \"firewall\" plugin with \"bridge\"");
  }
  if (result.interfaces.front().name.empty()) return FailedPrecondition("got empty bridge name");
  return result.interfaces.front().name;
}

}  // namespace linnet::network
