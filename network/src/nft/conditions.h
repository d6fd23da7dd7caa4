// Conditions of host ports (portmap's conditionsV4, conditionsV6), as iptables or nft say them.
// Pure.
//
// Mappings with conditions live in maps of their own, whose names say the conditions: the table can
// be built again from its elements alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

namespace linnet::network {

class RuleBuilder;

struct Condition {
  enum class Kind : std::uint8_t { kSource, kDestination, kInterface };
  Kind kind = Kind::kSource;
  bool negated = false;
  Cidr subnet = Cidr(IpAddress::V4(0), 0);  // of kSource and kDestination
  std::string interface;                    // of kInterface: what the packet came in by
  bool operator==(const Condition&) const = default;
};
using Conditions = std::vector<Condition>;

// iptables: [!] -s SUBNET, [!] -d SUBNET, [!] -i NAME, and their long names. nft: "ip saddr [!=]
// SUBNET", "ip daddr …", "ip6 …", "iifname [!=] NAME". Errors: kInvalidArgument another family;
// kUnimplemented what else there is.
Result<Conditions> ParseConditions(const std::vector<std::string>& words, Family family);

// "_.sy192.0.2.0/24_.dn10.0.0.0/8_.iyeth0": for the end of a map's name. Errors: kInvalidArgument
// they do not fit into a name.
Result<std::string> NameOf(const Conditions& conditions);
// The inverse; nullopt: no conditions.
std::optional<Conditions> ConditionsOf(std::string_view name);

void AddTo(RuleBuilder& rule, const Conditions& conditions);

}  // namespace linnet::network
