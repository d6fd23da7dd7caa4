#include "netlink/link_messages.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/veth.h>
#include <net/if.h>

namespace linnet::network {
namespace {

std::uint8_t FamilyOf(const IpAddress& ip) { return ip.is_v4() ? AF_INET : AF_INET6; }

ifinfomsg& BeginLink(RouteBatch& batch, std::uint16_t flags, std::string what) {
  batch.Begin(RTM_NEWLINK, flags, std::move(what));
  return batch.Extra<ifinfomsg>();
}

void PutPortData(RouteBatch& batch, const std::function<void()>& fill) {
  batch.Nest(IFLA_LINKINFO, [&] {
    batch.PutText(IFLA_INFO_SLAVE_KIND, "bridge");
    batch.Nest(IFLA_INFO_SLAVE_DATA, fill);
  });
}

void SetInetConf(RouteBatch& batch, std::uint32_t index, std::uint16_t setting, const char* what) {
  BeginLink(batch, 0, what).ifi_index = static_cast<int>(index);
  batch.Nest(IFLA_AF_SPEC, [&] {
    batch.Nest(AF_INET, [&] { batch.Nest(IFLA_INET_CONF, [&] { batch.PutU32(setting, 1); }); });
  });
}

void PutVlan(RouteBatch& batch, std::uint16_t flags, std::uint16_t vid) {
  const bridge_vlan_info info{.flags = flags, .vid = vid};
  batch.Put(IFLA_BRIDGE_VLAN_INFO, {reinterpret_cast<const std::uint8_t*>(&info), sizeof(info)});
}

void BeginVlan(RouteBatch& batch, std::uint16_t type, std::uint32_t index, std::string what) {
  batch.Begin(type, 0, std::move(what));
  auto& header = batch.Extra<ifinfomsg>();
  header.ifi_family = AF_BRIDGE;
  header.ifi_index = static_cast<int>(index);
}

void PutAddress(RouteBatch& batch, std::uint32_t index, const Cidr& address) {
  auto& header = batch.Extra<ifaddrmsg>();
  header.ifa_family = FamilyOf(address.address());
  header.ifa_prefixlen = static_cast<std::uint8_t>(address.prefix());
  header.ifa_index = index;
  batch.Put(IFA_LOCAL, address.address().bytes());
  batch.Put(IFA_ADDRESS, address.address().bytes());
}

}  // namespace

void AddVeth(RouteBatch& batch, const VethSpec& spec) {
  BeginLink(batch, NLM_F_CREATE | NLM_F_EXCL,
            "create veth " + spec.host_name + " with " + spec.pod_name +
                (spec.pod_netns.valid() ? " in the pod" : ""));
  batch.PutText(IFLA_IFNAME, spec.host_name);
  batch.Put(IFLA_ADDRESS, spec.host_mac.bytes());
  if (spec.mtu != 0) batch.PutU32(IFLA_MTU, spec.mtu);
  if (spec.master != 0) batch.PutU32(IFLA_MASTER, spec.master);
  batch.Nest(IFLA_LINKINFO, [&] {
    batch.PutText(IFLA_INFO_KIND, "veth");
    batch.Nest(IFLA_INFO_DATA, [&] {
      batch.Nest(VETH_INFO_PEER, [&] {
        batch.Inner<ifinfomsg>();
        batch.PutText(IFLA_IFNAME, spec.pod_name);
        batch.Put(IFLA_ADDRESS, spec.pod_mac.bytes());
        if (spec.mtu != 0) batch.PutU32(IFLA_MTU, spec.mtu);
        if (spec.pod_netns.valid())
          batch.PutU32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(spec.pod_netns.get()));
      });
    });
  });
}

void AddPortUp(RouteBatch& batch, const PortSpec& spec) {
  // IFF_UP in the creating message fails with ENOTCONN: the peer is not linked yet
  // (drivers/net/veth.c, veth_open).
  auto& header = BeginLink(batch, 0, "set up link " + spec.name);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  batch.PutText(IFLA_IFNAME, spec.name);
  if (!spec.alias.empty()) {
    batch.Put(IFLA_IFALIAS,
              {reinterpret_cast<const std::uint8_t*>(spec.alias.data()), spec.alias.size()});
  }
  if (spec.hairpin || spec.isolated) {
    PutPortData(batch, [&] {
      if (spec.hairpin) batch.PutU8(IFLA_BRPORT_MODE, 1);
      if (spec.isolated) batch.PutU8(IFLA_BRPORT_ISOLATED, 1);
    });
  }
}

void AddPortVlan(RouteBatch& batch, std::uint32_t index, std::uint16_t vid, bool untagged) {
  BeginVlan(batch, RTM_SETLINK, index, "put a bridge port into VLAN " + std::to_string(vid));
  const int flags = untagged ? BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED : 0;
  batch.Nest(IFLA_AF_SPEC, [&] { PutVlan(batch, static_cast<std::uint16_t>(flags), vid); });
}

Error ExplainVlanError(Error error) {
  return std::move(error).With("VLANs need a kernel with CONFIG_BRIDGE_VLAN_FILTERING");
}

void AddPortVlanTrunk(RouteBatch& batch, std::uint32_t index, VlanRange range) {
  BeginVlan(batch, RTM_SETLINK, index,
            "put a bridge port into VLANs " + std::to_string(range.first) + "–" +
                std::to_string(range.last));
  batch.Nest(IFLA_AF_SPEC, [&] {
    if (range.first == range.last) return PutVlan(batch, 0, range.first);
    PutVlan(batch, BRIDGE_VLAN_INFO_RANGE_BEGIN, range.first);
    PutVlan(batch, BRIDGE_VLAN_INFO_RANGE_END, range.last);
  });
}

void DelPortVlan(RouteBatch& batch, std::uint32_t index, std::uint16_t vid) {
  BeginVlan(batch, RTM_DELLINK, index, "take a bridge port out of VLAN " + std::to_string(vid));
  batch.Nest(IFLA_AF_SPEC, [&] { PutVlan(batch, 0, vid); });
}

void SetPortFlags(RouteBatch& batch, const std::string& name, const PortFlags& flags) {
  BeginLink(batch, 0, "set flags of bridge port " + name);
  batch.PutText(IFLA_IFNAME, name);
  PutPortData(batch, [&] {
    if (flags.hairpin) batch.PutU8(IFLA_BRPORT_MODE, *flags.hairpin ? 1 : 0);
    if (flags.isolated) batch.PutU8(IFLA_BRPORT_ISOLATED, *flags.isolated ? 1 : 0);
    if (flags.state) batch.PutU8(IFLA_BRPORT_STATE, *flags.state);
  });
}

void AddBridge(RouteBatch& batch, const BridgeLinkSpec& spec) {
  BeginLink(batch, NLM_F_CREATE | NLM_F_EXCL, "create bridge " + spec.name);
  batch.PutText(IFLA_IFNAME, spec.name);
  // A given address sticks: else the bridge's follows the lowest of its ports, and changes as pods
  // come and go.
  batch.Put(IFLA_ADDRESS, spec.mac.bytes());
  if (spec.mtu != 0) batch.PutU32(IFLA_MTU, spec.mtu);
  batch.Nest(IFLA_LINKINFO, [&] {
    batch.PutText(IFLA_INFO_KIND, "bridge");
    if (spec.vlan_filtering)
      batch.Nest(IFLA_INFO_DATA, [&] { batch.PutU8(IFLA_BR_VLAN_FILTERING, 1); });
  });
}

void AddIfb(RouteBatch& batch, const std::string& name, std::uint32_t mtu) {
  BeginLink(batch, NLM_F_CREATE | NLM_F_EXCL, "create ifb " + name);
  batch.PutText(IFLA_IFNAME, name);
  if (mtu != 0) batch.PutU32(IFLA_MTU, mtu);
  batch.PutU32(IFLA_TXQLEN, 0);
  batch.Nest(IFLA_LINKINFO, [&] { batch.PutText(IFLA_INFO_KIND, "ifb"); });
}

void SetAlias(RouteBatch& batch, const std::string& name, const std::string& alias) {
  BeginLink(batch, 0, "mark link " + name);
  batch.PutText(IFLA_IFNAME, name);
  batch.Put(IFLA_IFALIAS, {reinterpret_cast<const std::uint8_t*>(alias.data()), alias.size()});
}

void SetUp(RouteBatch& batch, const std::string& name, std::uint32_t index, bool up) {
  auto& header = BeginLink(batch, 0, std::string("set link ") + name + (up ? " up" : " down"));
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = up ? IFF_UP : 0;
  header.ifi_change = IFF_UP;
  if (index == 0) batch.PutText(IFLA_IFNAME, name);
}

void SetMaster(RouteBatch& batch, const std::string& name, std::uint32_t master) {
  BeginLink(batch, 0, "make link " + name + " a port of the bridge");
  batch.PutText(IFLA_IFNAME, name);
  batch.PutU32(IFLA_MASTER, master);
}

void SetPromiscuous(RouteBatch& batch, std::uint32_t index) {
  auto& header = BeginLink(batch, 0, "set the bridge promiscuous");
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = IFF_PROMISC;
  header.ifi_change = IFF_PROMISC;
}

void SetAttributes(RouteBatch& batch, const std::string& name, const LinkAttributes& attributes) {
  auto& header = BeginLink(batch, 0, "set attributes of link " + name);
  const auto flag = [&](const std::optional<bool>& wanted, unsigned bit) {
    if (!wanted) return;
    header.ifi_change |= bit;
    if (*wanted) header.ifi_flags |= bit;
  };
  flag(attributes.promiscuous, IFF_PROMISC);
  flag(attributes.all_multicast, IFF_ALLMULTI);
  batch.PutText(IFLA_IFNAME, name);
  if (attributes.mac) batch.Put(IFLA_ADDRESS, attributes.mac->bytes());
  if (attributes.mtu) batch.PutU32(IFLA_MTU, *attributes.mtu);
  if (attributes.tx_queue_length) batch.PutU32(IFLA_TXQLEN, *attributes.tx_queue_length);
}

void SetArpNotify(RouteBatch& batch, std::uint32_t index) {
  SetInetConf(batch, index, IPV4_DEVCONF_ARP_NOTIFY, "announce addresses of the pod's interface");
}

void SetRouteLocalnet(RouteBatch& batch, std::uint32_t index) {
  SetInetConf(batch, index, IPV4_DEVCONF_ROUTE_LOCALNET, "let 127.0.0.1 reach host ports");
}

void DelLink(RouteBatch& batch, const std::string& name) {
  batch.Begin(RTM_DELLINK, 0, "delete link " + name);
  batch.Extra<ifinfomsg>();
  batch.PutText(IFLA_IFNAME, name);
}

void AddAddress(RouteBatch& batch, std::uint32_t index, const Cidr& address, Dad dad,
                SubnetRoute route) {
  batch.Begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add address " + address.str());
  PutAddress(batch, index, address);
  const bool v4 = address.family() == Family::kV4;
  if (v4 && address.prefix() <= 30) batch.Put(IFA_BROADCAST, address.Last().bytes());
  std::uint32_t flags = 0;
  if (!v4 && dad == Dad::kNo) flags |= IFA_F_NODAD;
  if (route == SubnetRoute::kNo) flags |= IFA_F_NOPREFIXROUTE;
  if (flags != 0) batch.PutU32(IFA_FLAGS, flags);
}

void DelAddress(RouteBatch& batch, std::uint32_t index, const Cidr& address) {
  batch.Begin(RTM_DELADDR, 0, "delete address " + address.str());
  PutAddress(batch, index, address);
}

void AddRoute(RouteBatch& batch, std::uint32_t index, const RouteSpec& spec) {
  const Cidr dst = spec.dst.Network();
  batch.Begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL,
              "add route " + dst.str() + (spec.gw ? " via " + spec.gw->str() : std::string()));
  auto& header = batch.Extra<rtmsg>();
  header.rtm_family = FamilyOf(dst.address());
  header.rtm_dst_len = static_cast<std::uint8_t>(dst.prefix());
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_type = RTN_UNICAST;
  header.rtm_scope = static_cast<std::uint8_t>(spec.scope.value_or(
      spec.gw || dst.family() == Family::kV6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK));
  const std::uint32_t table = spec.table.value_or(RT_TABLE_MAIN);
  header.rtm_table = static_cast<std::uint8_t>(table < 256 ? table : RT_TABLE_UNSPEC);
  if (spec.onlink && spec.gw) header.rtm_flags = RTNH_F_ONLINK;
  if (dst.prefix() > 0) batch.Put(RTA_DST, dst.address().bytes());
  batch.PutU32(RTA_OIF, index);
  if (spec.gw) batch.Put(RTA_GATEWAY, spec.gw->bytes());
  if (spec.source) batch.Put(RTA_PREFSRC, spec.source->bytes());
  if (table >= 256) batch.PutU32(RTA_TABLE, table);
  if (spec.priority != 0) batch.PutU32(RTA_PRIORITY, spec.priority);
  if (spec.mtu != 0 || spec.adv_mss != 0) {
    batch.Nest(RTA_METRICS, [&] {
      if (spec.mtu != 0) batch.PutU32(RTAX_MTU, spec.mtu);
      if (spec.adv_mss != 0) batch.PutU32(RTAX_ADVMSS, spec.adv_mss);
    });
  }
}

}  // namespace linnet::network
