#include "plugins/bridge_check.h"

#include <algorithm>

#include "linnet/base/text.h"

#include "netlink/host_network.h"
#include "netlink/route_socket.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

Result<void> CheckHostSide(HostNetwork& host, const BridgeConf& conf,
                           const cni::AddResult& result) {
  return host.WithRoute([&](RouteSocket& socket) -> Result<void> {
    const auto bridge = LN_TRY(socket.FindLink(conf.bridge));
    if (!bridge) return FailedPrecondition("bridge " + conf.bridge + " is missing");
    if (bridge->kind != "bridge") return FailedPrecondition(conf.bridge + " is not a bridge");
    if (conf.promiscuous != bridge->promiscuous) {
      const auto text = [](bool value) { return value ? "true" : "false"; };
      return FailedPrecondition("Bridge interface " + conf.bridge + " configured Promisc Mode " +
                                text(conf.promiscuous) +
                                " doesn't match current state: " + text(bridge->promiscuous));
    }
    bool port_found = false;
    for (const cni::Interface& interface : result.interfaces) {
      if (!interface.sandbox.empty()) continue;
      if (interface.name == conf.bridge) {
        LN_TRY(CheckMac(interface.mac, *bridge));
        continue;
      }
      const auto port = LN_TRY(socket.FindLink(interface.name));
      if (!port || port->master != bridge->index || port->kind != "veth") continue;
      LN_TRY(CheckMac(interface.mac, *port));
      port_found = true;
    }
    return port_found
               ? Ok()
               : FailedPrecondition("no veth of the result is a port of bridge " + conf.bridge);
  });
}

}  // namespace

Result<void> CheckMac(const std::string& wanted, const Link& link) {
  if (wanted.empty() || !link.mac) return Ok();
  if (ToLower(wanted) == link.mac->str()) return Ok();
  return FailedPrecondition("interface " + link.name + " has MAC " + link.mac->str() + ", not " +
                            wanted);
}

Result<void> CheckPodSide(const PluginRequest& request, LinkState state) {
  const cni::AddResult& result = *request.prev_result;
  const auto interface = std::find_if(
      result.interfaces.begin(), result.interfaces.end(),
      [&](const cni::Interface& i) { return i.name == request.ifname && !i.sandbox.empty(); });
  if (interface == result.interfaces.end())
    return FailedPrecondition("the result has no interface " + request.ifname);
  PodSide own(request.netns);
  RouteSocket* socket = LN_TRY((request.pod_side != nullptr ? *request.pod_side : own).Route());
  const auto link = LN_TRY(socket->FindLink(request.ifname));
  if (!link) return FailedPrecondition("interface " + request.ifname + " is missing in the pod");
  if (link->kind != "veth")
    return FailedPrecondition("interface " + request.ifname + " is not a veth");
  if (state == LinkState::kUp && !link->up)
    return FailedPrecondition("interface " + request.ifname + " is down");
  LN_TRY(CheckMac(interface->mac, *link));
  const auto index = interface - result.interfaces.begin();
  const auto addresses = LN_TRY(socket->ListAddresses(link->index));
  for (const cni::IpConfig& ip : result.ips) {
    if (ip.interface && *ip.interface != index) continue;
    const auto same = [&](const LinkAddress& a) { return a.address == ip.address; };
    if (std::none_of(addresses.begin(), addresses.end(), same)) {
      return FailedPrecondition("address " + ip.address.str() + " is missing on " + request.ifname);
    }
  }
  const auto routes = LN_TRY(socket->ListRoutes(link->index));
  for (const cni::Route& route : result.routes) {
    const auto same = [&](const LinkRoute& r) {
      return r.dst.Network() == route.dst.Network() && (!route.gw || r.gw == route.gw);
    };
    if (std::none_of(routes.begin(), routes.end(), same)) {
      return FailedPrecondition("route to " + route.dst.str() + " is missing in the pod");
    }
  }
  return Ok();
}

Result<void> CheckBridge(HostNetwork& host, const BridgeConf& conf, const PluginRequest& request) {
  LN_TRY(CheckHostSide(host, conf, *request.prev_result));
  return CheckPodSide(request, conf.disable_container_interface ? LinkState::kAny : LinkState::kUp);
}

}  // namespace linnet::network
