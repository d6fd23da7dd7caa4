#include "netlink/bridge_device.h"

#include <algorithm>

#include "linnet/base/clock.h"

#include "netlink/link_messages.h"
#include "netlink/names.h"
#include "netlink/sysctl.h"

namespace linnet::network {
namespace {

bool IsLinkLocal(const IpAddress& ip) {
  return !ip.is_v4() && ip.bytes()[0] == 0xfe && (ip.bytes()[1] & 0xc0U) == 0x80;
}

Result<Link> FindOrCreate(RouteSocket& socket, const BridgeSpec& spec) {
  auto link = LN_TRY(socket.FindLink(spec.name));
  if (!link) {
    RouteBatch batch;
    // The same while the host is up: pods keep the right neighbour when somebody deletes the
    // bridge.
    const MacAddress mac = StableMac(BootId().value_or("") + " bridge " + spec.name);
    AddBridge(
        batch,
        {.name = spec.name, .mac = mac, .mtu = spec.mtu, .vlan_filtering = spec.vlan_filtering});
    auto created = socket.Run(batch);
    if (!created && spec.vlan_filtering && !created.error().IsErrno(EEXIST)) {
      return ExplainVlanError(std::move(created).error());
    }
    // EEXIST: another process was faster.
    if (!created && !created.error().IsErrno(EEXIST)) return std::move(created).error();
    link = LN_TRY(socket.FindLink(spec.name));
    if (!link) return Unavailable("bridge " + spec.name + " was deleted while it was set up");
    // Nothing else on the bridge may teach the host routes; its addresses are ours.
    LN_TRY(SetSysctl(LinkSysctl::kAcceptRa, spec.name, 0));
    LN_TRY(SetSysctl(LinkSysctl::kAcceptRedirects, spec.name, 0));
  }
  if (link->kind != "bridge")
    return FailedPrecondition("\"" + spec.name + "\" already exists but is not a bridge");
  if (!link->mac) return Internal("bridge " + spec.name + " has no MAC address");
  return *std::move(link);
}

// Says whether an IPv6 address is new.
Result<bool> PlanAddresses(RouteSocket& socket, RouteBatch& batch, std::uint32_t index,
                           const BridgeSpec& spec) {
  if (spec.gateways.empty()) return false;
  bool new_v6 = false;
  const auto present = LN_TRY(socket.ListAddresses(index));
  for (const Cidr& wanted : spec.gateways) {
    const auto same = [&](const LinkAddress& a) { return a.address == wanted; };
    if (std::any_of(present.begin(), present.end(), same)) continue;
    for (const LinkAddress& a : present) {
      const bool also_wanted =
          std::find(spec.gateways.begin(), spec.gateways.end(), a.address) != spec.gateways.end();
      if (also_wanted || IsLinkLocal(a.address.address()) || !InTheWay(a.address, wanted)) continue;
      // Routed: the gateway of an earlier pod CIDR stays, its pods go on using it. But IPv6 knows
      // an address once, whatever its prefix.
      const bool same_v6 =
          wanted.family() == Family::kV6 && a.address.address() == wanted.address();
      if (spec.routed && !same_v6) continue;
      if (!spec.force_address && !spec.routed) {
        return FailedPrecondition("\"" + spec.name +
                                  "\" already has an IP address different from " + wanted.str());
      }
      DelAddress(batch, index, a.address);
    }
    // accept_dad is 0: "tentative" only says that the kernel is not ready for the address yet.
    AddAddress(batch, index, wanted, Dad::kYes);
    new_v6 = new_v6 || wanted.family() == Family::kV6;
  }
  return new_v6;
}

}  // namespace

bool InTheWay(const Cidr& present, const Cidr& wanted) {
  if (present.family() != wanted.family()) return false;
  return wanted.family() == Family::kV4 || present.Overlaps(wanted);
}

Result<BridgeState> MakeBridge(RouteSocket& socket, const BridgeSpec& spec) {
  const Link link = LN_TRY(FindOrCreate(socket, spec));
  const bool v6 = std::any_of(spec.gateways.begin(), spec.gateways.end(),
                              [](const Cidr& c) { return c.family() == Family::kV6; });
  if (v6) {
    LN_TRY(SetSysctl(LinkSysctl::kDisableIpv6, spec.name, 0));
    LN_TRY(SetSysctl(LinkSysctl::kAcceptDad, spec.name, 0));
  }
  RouteBatch batch;
  const bool settling = LN_TRY(PlanAddresses(socket, batch, link.index, spec));
  if (spec.promiscuous) SetPromiscuous(batch, link.index);
  if (!link.up) SetUp(batch, spec.name, link.index, true);
  LN_TRY(socket.Run(batch));
  return BridgeState{.index = link.index,
                     .mtu = link.mtu,
                     .mac = *link.mac,
                     .settling = settling,
                     .default_pvid = link.default_pvid};
}

std::string VlanGatewayName(const std::string& bridge, std::uint16_t vid) {
  return bridge + "." + std::to_string(vid);
}

Result<BridgeState> MakeVlanGateway(RouteSocket& socket, const VlanGatewaySpec& spec) {
  constexpr std::size_t kMaxLinkName = 15;
  const std::string name = VlanGatewayName(spec.bridge.name, spec.vid);
  if (name.size() > kMaxLinkName) {
    return InvalidArgument("the gateway of VLAN " + std::to_string(spec.vid) + " would be \"" +
                           name + "\", longer than 15 characters: give the bridge a shorter name");
  }
  auto link = LN_TRY(socket.FindLink(name));
  if (!link) {
    const std::string port = "lng" + StableDigits(name, 12);
    RouteBatch batch;
    AddVeth(batch, {.host_name = port,
                    .host_mac = StableMac(port),
                    .master = spec.state.index,
                    .pod_name = name,
                    .pod_mac = StableMac(BootId().value_or("") + " bridge " + name),
                    .mtu = spec.state.mtu});
    AddPortUp(batch, {.name = port, .alias = {}});
    LN_TRY_CTX(socket.Run(batch), "failed to create vlan gateway \"" + name + "\"");
    RouteBatch vlans;
    const std::uint32_t index = socket.IndexOf(port);
    if (!spec.preserve_default_vlan && spec.state.default_pvid != 0)
      DelPortVlan(vlans, index, spec.state.default_pvid);
    AddPortVlan(vlans, index, spec.vid, true);
    if (auto done = socket.Run(vlans); !done) {
      RouteBatch undo;
      DelLink(undo, port);
      (void)socket.Run(undo);  // the first error says it all
      return ExplainVlanError(std::move(done).error());
    }
    LN_TRY(SetSysctl(LinkSysctl::kAcceptRa, name, 0));
    LN_TRY(SetSysctl(LinkSysctl::kAcceptRedirects, name, 0));
    link = LN_TRY(socket.FindLink(name));
    if (!link) return Unavailable("link " + name + " was deleted while it was set up");
  }
  if (!link->mac) return Internal("link " + name + " has no MAC address");
  BridgeSpec wanted = spec.bridge;
  wanted.name = name;
  const bool v6 = std::any_of(wanted.gateways.begin(), wanted.gateways.end(),
                              [](const Cidr& c) { return c.family() == Family::kV6; });
  if (v6) {
    LN_TRY(SetSysctl(LinkSysctl::kDisableIpv6, name, 0));
    LN_TRY(SetSysctl(LinkSysctl::kAcceptDad, name, 0));
  }
  RouteBatch batch;
  const bool settling = LN_TRY(PlanAddresses(socket, batch, link->index, wanted));
  if (!link->up) SetUp(batch, name, link->index, true);
  LN_TRY(socket.Run(batch));
  return BridgeState{
      .index = link->index, .mtu = link->mtu, .mac = *link->mac, .settling = settling};
}

}  // namespace linnet::network
