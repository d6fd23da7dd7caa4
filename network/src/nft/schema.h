// The constant part of linnet's tables: chains, sets and rules. Pods only add and delete elements.
//
//   table inet <name>
//     hostport4/6     protocol . port           : pod address . port     host ports on every
//     address hostipport4/6   address . protocol . port : pod address . port     host ports with a
//     hostIP hairpin4/6      pod . pod                 a pod that reaches itself through its host
//     port masqall4/6      pod                       portmap's masqAll masq_<subnet>   pod ipMasq:
//     leaves as the host, except to <subnet> and to multicast bridges         ifname bridges of
//     linnet's networks: packets do not pass from one to another samebridge      ifname . ifname
//     hairpinbridge   ifname . ifname           layer 2 bridges: host ports of neighbours need
//     masquerading localnet        ifname                    where route_localnet is on: guarded
//     routed          ifname                    bridges of routed networks: no ICMP redirects to
//     pods
//   table bridge <name>
//     port_mac        ifname                    ports whose MAC alone is checked (macspoofchk)
//     port_full       ifname                    … and addresses: IPv4, IPv6, ARP, ND; no RA, no
//     DHCP server port_routed     ifname                    … and frames go to the gateway only mac
//     ifname . MAC address4/6      ifname . address gateways        MAC                       of
//     the bridges of routed networks
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
// The set and the rule of one masqueraded subnet (in a table that has the rest).
void AddMasqueradeSet(NftBatch& batch, const NftTableName& table, const Cidr& subnet);

}  // namespace linnet::network
