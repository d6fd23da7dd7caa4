#include "plugins/portmap_plan.h"

#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "linnet/base/text.h"

#include "nft/conditions.h"

namespace linnet::network {
namespace {

constexpr std::int64_t kMaxPort = 65535;

Result<std::uint16_t> Port(const JsonView& item, const char* key, const char* name) {
  const auto value = LN_TRY(item.Optional<std::int64_t>(key, 0));
  if (value <= 0 || value > kMaxPort)
    return InvalidArgument(std::string("Invalid ") + name +
                           " port number: " + std::to_string(value));
  return static_cast<std::uint16_t>(value);
}

Result<std::uint8_t> Protocol(const std::string& text) {
  const std::string name = ToLower(text);
  if (name == "tcp" || name.empty()) return static_cast<std::uint8_t>(IPPROTO_TCP);
  if (name == "udp") return static_cast<std::uint8_t>(IPPROTO_UDP);
  if (name == "sctp") return static_cast<std::uint8_t>(IPPROTO_SCTP);
  return InvalidArgument("Invalid protocol \"" + text + "\"");
}

Result<PortMap> ParseMapping(const JsonView& item) {
  PortMap map;
  map.host_port = LN_TRY(Port(item, "hostPort", "host"));
  map.container_port = LN_TRY(Port(item, "containerPort", "container"));
  const std::string protocol = LN_TRY(item.Optional<std::string>("protocol", ""));
  map.protocol = LN_TRY(Protocol(protocol));
  const std::string ip = LN_TRY(item.Optional<std::string>("hostIP", ""));
  if (!ip.empty()) map.host_ip = LN_TRY_CTX(IpAddress::Parse(ip), "hostIP");
  return map;
}

// "iptables" or "nftables": whose words the conditions are; empty: there are none.
std::string BackendOf(const std::vector<std::string>& conditions) {
  if (conditions.empty() || conditions.front().empty()) return {};
  const char first = conditions.front().front();
  return first == '-' || first == '!' ? "iptables" : "nftables";
}

Result<void> ReadBackend(const JsonView& view, PortmapConf& conf) {
  const auto chain = LN_TRY(view.Maybe<std::string>("externalSetMarkChain"));
  const auto bit = LN_TRY(view.Maybe<std::int64_t>("markMasqBit"));
  if (chain && bit) return InvalidArgument("Cannot specify externalSetMarkChain and markMasqBit");
  if (bit && (*bit < 0 || *bit > 31))
    return InvalidArgument("MasqMarkBit must be between 0 and 31");
  std::map<std::string, std::vector<std::string>> specific;
  if (chain) specific["iptables"].emplace_back("externalSetMarkChain");
  for (const auto& [key, family, name] :
       {std::tuple("conditionsV4", Family::kV4, &conf.conditions_v4),
        std::tuple("conditionsV6", Family::kV6, &conf.conditions_v6)}) {
    const auto words = LN_TRY(view.Strings(key));
    const std::string backend = BackendOf(words);
    if (backend.empty()) continue;
    specific[backend].emplace_back(key);
    const Conditions conditions =
        LN_TRY_CTX(ParseConditions(words, family), std::string("$.") + key);
    *name = LN_TRY_CTX(NameOf(conditions), std::string("$.") + key);
  }
  const auto backend = LN_TRY(view.Maybe<std::string>("backend"));
  if (backend && *backend != "iptables" && *backend != "nftables")
    return InvalidArgument("unrecognized backend \"" + *backend + "\"");
  // Where none is asked for, either's words will do.
  if (!backend) return Ok();
  const std::string wrong = *backend == "iptables" ? "nftables" : "iptables";
  if (specific[wrong].empty()) return Ok();
  return InvalidArgument(*backend + " backend was requested but configuration contains " + wrong +
                         "-specific options [" + Join(specific[wrong], " ") + "]");
}

}  // namespace

Result<PortmapConf> ParsePortmapConf(const JsonView& view) {
  PortmapConf conf;
  LN_TRY(ReadBackend(view, conf));
  conf.snat = LN_TRY(view.Optional<bool>("snat", true));
  conf.masq_all = LN_TRY(view.Optional<bool>("masqAll", false));
  const auto runtime = LN_TRY(view.Find("runtimeConfig"));
  if (!runtime) return conf;
  for (const JsonView& item : LN_TRY(runtime->Array("portMappings"))) {
    conf.mappings.push_back(LN_TRY(ParseMapping(item)));
  }
  return conf;
}

PodAddresses AddressesOf(const cni::AddResult& result, const std::string& ifname) {
  PodAddresses out;
  for (const cni::IpConfig& ip : result.ips) {
    if (ip.interface) {
      if (*ip.interface < 0 || static_cast<std::size_t>(*ip.interface) >= result.interfaces.size())
        continue;
      const cni::Interface& interface = result.interfaces[static_cast<std::size_t>(*ip.interface)];
      if (interface.name != ifname || interface.sandbox.empty()) continue;
    }
    auto& slot = ip.address.family() == Family::kV4 ? out.v4 : out.v6;
    if (!slot) slot = ip.address.address();
  }
  return out;
}

Result<PortmapPlan> PlanPortmap(const PortmapConf& conf, const PodAddresses& pod) {
  PortmapPlan plan;
  for (const auto& address : {pod.v4, pod.v6}) {
    if (!address) continue;
    bool any = false;
    for (const PortMap& map : conf.mappings) {
      if (map.host_ip && map.host_ip->family() != address->family()) continue;
      HostPort port{.protocol = map.protocol,
                    .port = map.host_port,
                    .pod = *address,
                    .pod_port = map.container_port,
                    .conditions = address->is_v4() ? conf.conditions_v4 : conf.conditions_v6};
      if (map.host_ip && !map.host_ip->IsUnspecified()) port.host_ip = map.host_ip;
      NftElement element = HostPortElement(port);
      const auto same = std::find_if(
          plan.elements.begin(), plan.elements.end(),
          [&](const NftElement& e) { return e.set == element.set && e.key == element.key; });
      any = true;
      if (same != plan.elements.end()) {
        if (same->data != element.data) return InvalidArgument(Describe(port) + " is mapped twice");
        continue;
      }
      plan.elements.push_back(std::move(element));
      plan.ports.push_back(port);
    }
    if (any && conf.snat) plan.elements.push_back(HairpinElement(*address));
    if (any && conf.masq_all) plan.elements.push_back(MasqAllElement(*address));
  }
  return plan;
}

}  // namespace linnet::network
