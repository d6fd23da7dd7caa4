// The constant part of linnet's tables: chains, sets and rules. Pods only add and delete elements.
//
// clang-format off
// table inet <name>
//   hostport4/6      protocol . port : pod . port            host ports of every address
//   hostipport4/6    address . protocol . port : pod . port  host ports with a hostIP
//   hostport4_.…     the same, on conditions that the name says (nft/conditions.h)
//   hairpin4/6       pod . pod          a pod that reaches itself through its host port
//   masqall4/6       pod                portmap's masqAll
//   masq_<subnet>    pod                ipMasq: leaves as the host, except to <subnet> and multicast
//   bridges          ifname             bridges of linnet's networks: no way from one to another
//   samebridge       ifname . ifname
//   hairpinbridge    ifname . ifname    layer 2 bridges: host ports of neighbours need masquerading
//   localnet         ifname             where route_localnet is on: guarded
//   routed           ifname             bridges of routed networks: no ICMP redirects to pods
//   port_source      ifname             links to pods without a bridge (ptp): sources are checked
//   source4/6        ifname . address
//   admitted4/6      pod                whom the firewall plugin lets iptables or firewalld admit
//   apart            ifname             bridges with an ingressPolicy: no way from one to another
//   apartsame        ifname . ifname
//   closed           ifname . ifname    … "isolated": nor from pod to pod
// table bridge <name>
//   port_mac         ifname             ports whose MAC alone is checked (macspoofchk)
//   port_full        ifname             … and addresses: IPv4, IPv6, ARP, ND; no RA, no DHCP server
//   port_routed      ifname             … and frames go to the gateway only
//   mac              ifname . MAC
//   address4/6       ifname . address
//   gateways         MAC                of the bridges of routed networks
// clang-format on
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/ip.h"

#include "nft/nft_batch.h"

namespace linnet::network {

// libnftables' numbers of data types (include/datatype.h of nftables); concatenations: 6 bits each.
inline constexpr std::uint32_t kTypeIpv4 = 7, kTypeIpv6 = 8, kTypeEther = 9, kTypeProto = 12,
                               kTypeService = 13, kTypeIfname = 41;

struct NftSchemaOptions {
  bool isolate_networks = true;  // kExec: other runtimes expect upstream's behaviour
};

// Sets that every table of the family has.
std::span<const NftSetSpec> FixedSets(NftFamily family);
// "masq_10.83.0.0/16"; both ways.
std::string MasqueradeSet(const Cidr& subnet);
std::optional<Cidr> SubnetOfSet(std::string_view set);
// Any set's specification by its name; nullopt: not one of linnet's.
std::optional<NftSetSpec> FindSet(NftFamily family, std::string_view set);

// Adds table, chains, fixed sets and rules.
void AddSchema(NftBatch& batch, const NftTableName& table, const NftSchemaOptions& options);
// Sets that come with their rule when the first element needs them: one for each masqueraded subnet
// ("masq_10.83.0.0/16") and for each set of conditions of host ports ("hostport4_.sy192.0.2.0/24").
bool IsMadeOnDemand(std::string_view set);
// Set and rule, in a table that has the rest.
void AddSetOnDemand(NftBatch& batch, const NftTableName& table, const std::string& set);

}  // namespace linnet::network
