// Elements of linnet's sets and maps: what a pod, a host port, a bridge looks like to the kernel.
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/ip.h"

#include "nft/nft_batch.h"

namespace linnet::network {

struct HostPort {
  std::uint8_t protocol = 6;  // IPPROTO_…
  std::uint16_t port = 0;
  std::optional<IpAddress> host_ip;  // absent: every address of the family
  IpAddress pod = IpAddress::V4(0);
  std::uint16_t pod_port = 0;
  std::string conditions;  // NameOf(Conditions); empty: none
};

NftElement HostPortElement(const HostPort& port);
bool IsHostPort(const NftElement& element);
// The inverse of HostPortElement; nullopt: not such an element.
std::optional<HostPort> ParseHostPort(const NftElement& element);
// "host port 8080/tcp", "host port 53/udp of 192.0.2.1"
std::string Describe(const HostPort& port);
// The same port and protocol, the same family, and an address in common.
bool Overlap(const HostPort& a, const HostPort& b);

NftElement HairpinElement(const IpAddress& pod);
NftElement MasqAllElement(const IpAddress& pod);
// The pod leaves with the host's address except to `subnet`.
NftElement MasqueradeElement(const Cidr& subnet, const IpAddress& pod);

// Of a network's bridge; the owner is the bridge ("@linnet0").
enum class BridgeUse : std::uint8_t { kLayer2, kRouted };
std::vector<NftElement> BridgeElements(const std::string& bridge, const MacAddress& mac,
                                       BridgeUse use);
// Layer 2: pods on the bridge reach each other's host ports with the host's address.
NftElement HairpinBridgeElement(const std::string& bridge);
NftElement LocalnetElement(const std::string& link);

// Of a link to a pod without a bridge: what it may send from.
std::vector<NftElement> SourceElements(const std::string& link,
                                       const std::vector<IpAddress>& addresses);
// The firewall plugin lets iptables forward for this pod: kept for DEL and GC.
NftElement AdmittedElement(const IpAddress& pod);
std::optional<IpAddress> ParseAdmitted(const NftElement& element);
// The firewall plugin's ingressPolicy of a bridge: pods of other such bridges stay outside;
// kClosed: those of the same bridge, too.
enum class BridgePolicy : std::uint8_t { kSameBridge, kClosed };
std::vector<NftElement> PolicyElements(const std::string& bridge, BridgePolicy policy);

enum class Guard : std::uint8_t {
  kNone,
  kMac,     // source MAC
  kFull,    // … and addresses, ARP and ND
  kRouted,  // … and frames to the gateway only
};
std::vector<NftElement> GuardElements(Guard guard, const std::string& port, const MacAddress& mac,
                                      const std::vector<IpAddress>& addresses);
NftElement PortMacElement(const std::string& port, const MacAddress& mac);
NftElement PortAddressElement(const std::string& port, const IpAddress& ip);
// The port of an element whose key starts with one.
std::string PortOf(const NftElement& element);
// fe80::/64 with the modified EUI-64 of the MAC: what the kernel gives to the pod's interface.
IpAddress LinkLocal(const MacAddress& mac);

}  // namespace linnet::network
