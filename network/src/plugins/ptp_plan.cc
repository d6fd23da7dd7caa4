#include "plugins/ptp_plan.h"

#include <linux/rtnetlink.h>

#include <algorithm>

#include "netlink/names.h"
#include "nft/elements.h"
#include "plugins/veth.h"

namespace linnet::network {
namespace {

constexpr int kContainerInterface = 1;  // host's end, container's end

Cidr Alone(const IpAddress& ip) { return {ip, ip.bits()}; }

void AddOnce(std::vector<RouteSpec>& routes, RouteSpec route) {
  const bool present = std::any_of(routes.begin(), routes.end(), [&](const RouteSpec& r) {
    return r.dst.Network() == route.dst.Network() && r.gw == route.gw &&
           r.priority == route.priority && r.table.value_or(254) == route.table.value_or(254);
  });
  if (!present) routes.push_back(std::move(route));
}

// A route without a gateway takes the first of its family that the addresses name.
std::optional<IpAddress> GatewayFor(const cni::AddResult& result, const cni::Route& route) {
  if (route.gw) return route.gw;
  for (const cni::IpConfig& ip : result.ips) {
    if (ip.gateway && ip.gateway->family() == route.dst.family()) return ip.gateway;
  }
  return std::nullopt;
}

}  // namespace

bool PtpPlan::has(Family family) const {
  return std::any_of(pod_addresses.begin(), pod_addresses.end(),
                     [&](const Cidr& c) { return c.family() == family; });
}

std::vector<IpAddress> PtpPlan::addresses() const {
  std::vector<IpAddress> out;
  for (const Cidr& c : pod_addresses) out.push_back(c.address());
  return out;
}

Result<PtpConf> ParsePtpConf(const Json& json) {
  const JsonView v(json, "$", KeyMatch::kIgnoreCase);
  PtpConf conf;
  conf.ip_masq = LN_TRY(v.Optional<bool>("ipMasq", false));
  LN_TRY(CheckMasqueradeBackend(v));
  conf.mtu = LN_TRY(v.Optional<std::uint32_t>("mtu", 0));
  conf.dns = LN_TRY(ParseDns(v));
  conf.anti_spoof = LN_TRY(v.Maybe<bool>("linnetAntiSpoof"));
  if (const auto ipam = LN_TRY(v.Find("ipam")))
    conf.ipam_type = LN_TRY(ipam->Optional<std::string>("type", ""));
  if (conf.ipam_type.empty()) return InvalidArgument("ptp needs an ipam section with a type");
  return conf;
}

Result<PtpPlan> PlanPtp(const PtpConf& conf, const cni::AddResult& ipam,
                        const std::string& mac_seed, Setting setting) {
  PtpPlan plan;
  plan.result.ips = ipam.ips;
  plan.result.routes = ipam.routes;
  plan.result.dns = conf.dns ? *conf.dns : ipam.dns;
  if (plan.result.ips.empty()) return FailedPrecondition("IPAM plugin returned missing IP config");
  for (cni::IpConfig& ip : plan.result.ips) {
    if (!ip.gateway)
      return FailedPrecondition("the IPAM plugin gave no gateway for " + ip.address.str());
    ip.interface = kContainerInterface;
    const IpAddress& own = ip.address.address();
    plan.pod_addresses.push_back(ip.address);
    AddOnce(
        plan.pod_routes,
        {.dst = Alone(*ip.gateway), .gw = {}, .table = {}, .scope = RT_SCOPE_LINK, .source = own});
    if (ip.address.prefix() < own.bits()) {
      AddOnce(
          plan.pod_routes,
          {.dst = ip.address.Network(), .gw = ip.gateway, .table = {}, .scope = {}, .source = own});
    }
    const Cidr gateway = Alone(*ip.gateway);
    auto& host = plan.host_addresses;
    if (std::find(host.begin(), host.end(), gateway) == host.end()) host.push_back(gateway);
    plan.host_routes.push_back(
        {.dst = Alone(own), .gw = {}, .table = {}, .scope = RT_SCOPE_HOST, .source = {}});
    if (conf.ip_masq) plan.masquerade.push_back(MasqueradeElement(ip.address.Network(), own));
  }
  for (const cni::Route& route : plan.result.routes) {
    AddOnce(plan.pod_routes, {.dst = route.dst,
                              .gw = GatewayFor(plan.result, route),
                              .mtu = route.mtu,
                              .adv_mss = route.adv_mss,
                              .priority = route.priority,
                              .table = route.table,
                              .scope = route.scope,
                              .source = {}});
  }
  plan.pod_mac = StableMac(mac_seed + " " + plan.pod_addresses.front().address().str());
  plan.guarded = conf.anti_spoof.value_or(setting == Setting::kDaemon);
  return plan;
}

}  // namespace linnet::network
