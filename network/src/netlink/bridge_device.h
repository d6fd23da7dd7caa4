// The bridge of a network: made when the first pod needs it, never removed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

#include "netlink/route_socket.h"

namespace linnet::network {

struct BridgeSpec {
  std::string name;
  std::uint32_t mtu = 0;  // of a new bridge; 0: the kernel's default
  bool promiscuous = false;
  bool vlan_filtering = false;  // of a new bridge
  bool force_address = false;   // other addresses of the same kind give way
  bool routed = false;          // the default network: see decision "routed over its bridge"
  std::vector<Cidr> gateways;   // addresses that it must have
  bool operator==(const BridgeSpec&) const = default;
};

struct BridgeState {
  std::uint32_t index = 0, mtu = 0;
  MacAddress mac{{}};
  // It got an IPv6 address a moment ago: nobody can find that before the bridge has a carrier, and
  // the kernel a quiet moment.
  bool settling = false;
  std::uint16_t default_pvid = 1;  // the VLAN that the kernel puts new ports into; 0: none
};

// Errors: kFailedPrecondition a link of this name is no bridge, or the bridge has another address
// and force_address is off.
Result<BridgeState> MakeBridge(RouteSocket& socket, const BridgeSpec& spec);

// The gateway of a VLAN: "<bridge>.<vid>", a veth whose other end is a port of the bridge in that
// VLAN. `spec.name` is the bridge's, `spec.gateways` are what the link must have.
std::string VlanGatewayName(const std::string& bridge, std::uint16_t vid);
struct VlanGatewaySpec {
  BridgeSpec bridge;
  BridgeState state;
  std::uint16_t vid = 0;
  bool preserve_default_vlan = false;
};
Result<BridgeState> MakeVlanGateway(RouteSocket& socket, const VlanGatewaySpec& spec);

// What upstream's bridge plugin refuses: another IPv4 address, or an overlapping IPv6 one. On a
// routed bridge the subnets of pods that came before a change of the pod CIDR live on: nothing is
// in the way there.
bool InTheWay(const Cidr& present, const Cidr& wanted);

}  // namespace linnet::network
