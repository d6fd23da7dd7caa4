#include "plugins/bridge_plan.h"

#include <algorithm>

#include "netlink/names.h"

namespace linnet::network {
namespace {

constexpr int kContainerInterface = 2;  // bridge, host's end, container's end

Cidr DefaultRoute(Family family) {
  return family == Family::kV4 ? Cidr(IpAddress::V4(0), 0) : Cidr(IpAddress::V6({}), 0);
}

bool Contains(const std::vector<RouteSpec>& routes, const RouteSpec& route) {
  return std::any_of(routes.begin(), routes.end(), [&](const RouteSpec& r) {
    return r.dst.Network() == route.dst.Network() && r.gw == route.gw &&
           r.priority == route.priority && r.table.value_or(254) == route.table.value_or(254);
  });
}

void AddDefaultRoute(cni::AddResult& result, const IpAddress& gateway) {
  const Cidr dst = DefaultRoute(gateway.family());
  const bool present = std::any_of(result.routes.begin(), result.routes.end(),
                                   [&](const cni::Route& r) { return r.dst.Network() == dst; });
  if (!present) result.routes.push_back({.dst = dst, .gw = gateway});
}

// A route without a gateway takes the first of its family that the addresses name.
std::optional<IpAddress> GatewayFor(const cni::AddResult& result, const cni::Route& route) {
  if (route.gw) return route.gw;
  for (const cni::IpConfig& ip : result.ips) {
    if (ip.gateway && ip.gateway->family() == route.dst.family()) return ip.gateway;
  }
  return std::nullopt;
}

Guard ChooseGuard(const BridgeConf& conf, bool has_addresses, Setting setting) {
  if (conf.routed) return conf.anti_spoof.value_or(true) ? Guard::kRouted : Guard::kNone;
  // Trunks and promiscuous bridges carry what belongs to others.
  const bool plain = conf.trunk.empty() && !conf.promiscuous;
  const bool full = conf.anti_spoof.value_or(setting == Setting::kDaemon && plain);
  if (full && has_addresses) return Guard::kFull;
  return conf.mac_spoof_check ? Guard::kMac : Guard::kNone;
}

Result<void> PlanAddress(BridgePlan& plan, const BridgeConf& conf, cni::IpConfig& ip) {
  const Cidr subnet = ip.address.Network();
  if (conf.is_gateway && !ip.gateway) ip.gateway = subnet.First().Next();
  if (conf.routed && !ip.gateway) return InvalidArgument("no gateway for " + ip.address.str());
  if (conf.is_gateway && ip.gateway) {
    plan.gateways.emplace_back(*ip.gateway, subnet.prefix());
    if (conf.is_default_gateway) AddDefaultRoute(plan.result, *ip.gateway);
  }
  if (conf.ip_masq) plan.masquerade.push_back(MasqueradeElement(subnet, ip.address.address()));
  if (conf.routed) ip.address = Cidr(ip.address.address(), ip.address.address().bits());
  ip.interface = kContainerInterface;
  plan.pod_addresses.push_back(ip.address);
  return Ok();
}

void PlanRoutes(BridgePlan& plan, const BridgeConf& conf) {
  for (const cni::Route& route : plan.result.routes) {
    RouteSpec spec{.dst = route.dst,
                   .gw = GatewayFor(plan.result, route),
                   .onlink = conf.routed,
                   .mtu = route.mtu,
                   .adv_mss = route.adv_mss,
                   .priority = route.priority,
                   .table = route.table,
                   .scope = route.scope};
    // Equal routes are one (isDefaultGateway beside a default route of the IPAM plugin).
    if (!Contains(plan.pod_routes, spec)) plan.pod_routes.push_back(std::move(spec));
  }
}

}  // namespace

bool BridgePlan::has_v6() const {
  return std::any_of(pod_addresses.begin(), pod_addresses.end(),
                     [](const Cidr& c) { return c.family() == Family::kV6; });
}

std::vector<IpAddress> BridgePlan::addresses() const {
  std::vector<IpAddress> out;
  for (const Cidr& c : pod_addresses) out.push_back(c.address());
  return out;
}

Result<BridgePlan> PlanBridge(const BridgeConf& conf, const std::optional<cni::AddResult>& ipam,
                              const std::string& mac_seed, Setting setting) {
  BridgePlan plan;
  if (ipam) {
    plan.result.ips = ipam->ips;
    plan.result.routes = ipam->routes;
    plan.result.dns = ipam->dns;
    if (plan.result.ips.empty())
      return FailedPrecondition("IPAM plugin returned missing IP config");
    for (cni::IpConfig& ip : plan.result.ips) LN_TRY(PlanAddress(plan, conf, ip));
    PlanRoutes(plan, conf);
  }
  if (conf.dns) plan.result.dns = *conf.dns;
  plan.pod_mac = conf.mac ? *conf.mac
                 : plan.pod_addresses.empty()
                     ? MacAddress::Random()
                     : StableMac(mac_seed + " " + plan.pod_addresses.front().address().str());
  plan.isolated = conf.port_isolation || conf.routed;
  plan.guard = ChooseGuard(conf, !plan.pod_addresses.empty(), setting);
  return plan;
}

std::optional<Cidr> SubnetOf(const Json& conf, const IpAddress& address) {
  const JsonView view(conf, "$", KeyMatch::kIgnoreCase);
  const auto ipam = view.Find("ipam");
  if (!ipam || !*ipam) return std::nullopt;
  std::vector<JsonView> ranges{**ipam};
  const auto sets = (*ipam)->Array("ranges");
  for (const JsonView& set : sets ? *sets : std::vector<JsonView>()) {
    const auto elements = set.Elements();
    if (elements) ranges.insert(ranges.end(), elements->begin(), elements->end());
  }
  for (const JsonView& range : ranges) {
    const auto text = range.Optional<std::string>("subnet", "");
    if (!text || text->empty()) continue;
    const auto subnet = Cidr::Parse(*text);
    if (subnet && subnet->Contains(address)) return subnet->Network();
  }
  return std::nullopt;
}

Result<BridgePlan> PlanFromResult(const BridgeConf& conf, const Json& raw_conf,
                                  const cni::AddResult& result, const std::string& ifname,
                                  const std::string& mac_seed, Setting setting) {
  std::optional<cni::AddResult> ipam;
  std::optional<MacAddress> mac;
  const auto ours = [&](const std::optional<int>& index) {
    if (!index || *index < 0 || static_cast<std::size_t>(*index) >= result.interfaces.size())
      return !index;
    const cni::Interface& interface = result.interfaces[static_cast<std::size_t>(*index)];
    return interface.name == ifname && !interface.sandbox.empty();
  };
  for (const cni::IpConfig& ip : result.ips) {
    if (!ours(ip.interface)) continue;
    if (!ipam) ipam = cni::AddResult{.routes = result.routes, .dns = result.dns};
    ipam->ips.push_back(ip);
    if (!conf.routed) continue;
    const auto subnet = SubnetOf(raw_conf, ip.address.address());
    ipam->ips.back().address =
        Cidr(ip.address.address(), subnet ? subnet->prefix() : ip.address.prefix());
  }
  for (const cni::Interface& interface : result.interfaces) {
    if (interface.name != ifname || interface.sandbox.empty()) continue;
    // A later plugin of the chain may have changed it (tuning).
    if (const auto parsed = MacAddress::Parse(interface.mac)) mac = *parsed;
  }
  BridgePlan plan = LN_TRY(PlanBridge(conf, ipam, mac_seed, setting));
  if (mac) plan.pod_mac = *mac;
  return plan;
}

}  // namespace linnet::network
