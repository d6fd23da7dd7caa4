// The rtnetlink requests that the plugins send, one function each. Pure: they only add to a batch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "linnet/base/ip.h"
#include "linnet/base/unique_fd.h"

#include "netlink/route_socket.h"

namespace linnet::network {

// A veth whose peer is born inside the pod's namespace, with its final name and address; the host's
// end is a port of `master` from the start.
struct VethSpec {
  std::string host_name;
  MacAddress host_mac;  // given, so that udev's MACAddressPolicy leaves it alone
  std::uint32_t master = 0;
  FdRef pod_netns{-1};  // none: both ends stay in the socket's namespace
  std::string pod_name;
  MacAddress pod_mac;
  std::uint32_t mtu = 0;  // 0: the kernel's default
};
void AddVeth(RouteBatch& batch, const VethSpec& spec);

// What cannot be said in the creating message: owner, port flags, up. One message, by name.
struct PortSpec {
  std::string name;
  std::string alias;
  bool hairpin = false, isolated = false;
};
void AddPortUp(RouteBatch& batch, const PortSpec& spec);
// VLANs of a port: `vid` untagged in both directions; the default VLAN 1 goes unless it is kept.
struct VlanRange {
  std::uint16_t first, last;
};
void AddPortVlan(RouteBatch& batch, std::uint32_t index, std::uint16_t vid, bool untagged);
// Instead of a kernel without VLAN filtering's "operation not supported".
Error ExplainVlanError(Error error);
void AddPortVlanTrunk(RouteBatch& batch, std::uint32_t index, VlanRange range);
void DelPortVlan(RouteBatch& batch, std::uint32_t index, std::uint16_t vid);
// Port flags of an existing port; absent ones stay.
struct PortFlags {
  std::optional<bool> hairpin, isolated;
  std::optional<std::uint8_t> state;  // BR_STATE_…
};
void SetPortFlags(RouteBatch& batch, const std::string& name, const PortFlags& flags);

struct BridgeLinkSpec {
  std::string name;
  MacAddress mac;
  std::uint32_t mtu = 0;
  bool vlan_filtering = false;
};
void AddBridge(RouteBatch& batch, const BridgeLinkSpec& spec);

// An intermediate functional block: what is redirected to it can be shaped like what leaves a link.
void AddIfb(RouteBatch& batch, const std::string& name, std::uint32_t mtu);
void SetAlias(RouteBatch& batch, const std::string& name, const std::string& alias);

void SetUp(RouteBatch& batch, const std::string& name, std::uint32_t index, bool up);
void SetMaster(RouteBatch& batch, const std::string& name, std::uint32_t master);
void SetPromiscuous(RouteBatch& batch, std::uint32_t index);
// Attributes of a link; absent ones stay. One message.
struct LinkAttributes {
  std::optional<MacAddress> mac;
  std::optional<std::uint32_t> mtu, tx_queue_length;
  std::optional<bool> promiscuous, all_multicast;
  bool empty() const { return !mac && !mtu && !tx_queue_length && !promiscuous && !all_multicast; }
};
void SetAttributes(RouteBatch& batch, const std::string& name, const LinkAttributes& attributes);
// Gratuitous ARP when the link comes up; IPv6 link-local address as usual.
void SetArpNotify(RouteBatch& batch, std::uint32_t index);
void SetRouteLocalnet(RouteBatch& batch, std::uint32_t index);
void DelLink(RouteBatch& batch, const std::string& name);

// Without duplicate address detection for IPv6, unless asked for.
enum class Dad : std::uint8_t { kNo, kYes };
enum class SubnetRoute : std::uint8_t { kYes, kNo };  // the kernel's own, to the address's subnet
void AddAddress(RouteBatch& batch, std::uint32_t index, const Cidr& address, Dad dad = Dad::kNo,
                SubnetRoute route = SubnetRoute::kYes);
void DelAddress(RouteBatch& batch, std::uint32_t index, const Cidr& address);

struct RouteSpec {
  Cidr dst;
  std::optional<IpAddress> gw;
  bool onlink = false;  // the gateway needs no route of its own
  std::uint32_t mtu = 0, adv_mss = 0, priority = 0;
  std::optional<std::uint32_t> table, scope;
  std::optional<IpAddress> source;  // preferred, of what the host itself sends
};
void AddRoute(RouteBatch& batch, std::uint32_t index, const RouteSpec& spec);

}  // namespace linnet::network
