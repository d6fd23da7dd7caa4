#include "nft/schema.h"

// Before linux/in.h, which steps back for it (linux/libc-compat.h); not the other way round.
// clang-format off
#include <netinet/in.h>
// clang-format on

#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <array>

#include "nft/conditions.h"
#include "nft/rule_builder.h"

namespace linnet::network {
namespace {

constexpr std::uint32_t Concat(std::initializer_list<std::uint32_t> types) {
  std::uint32_t out = 0;
  for (const std::uint32_t type : types) out = (out << 6U) | type;
  return out;
}

constexpr std::uint32_t kBridgePreRouting = 0;  // NF_BR_PRE_ROUTING
constexpr std::string_view kMasqPrefix = "masq_";

using Match = RuleBuilder::Match;
constexpr std::uint32_t kNetwork = NFT_PAYLOAD_NETWORK_HEADER;
constexpr std::uint32_t kLink = NFT_PAYLOAD_LL_HEADER;
constexpr std::uint32_t kTransport = NFT_PAYLOAD_TRANSPORT_HEADER;
// Offsets in headers.
constexpr std::uint32_t kIp4Source = 12, kIp4Destination = 16, kIp6Source = 8, kIp6Destination = 24;
constexpr std::uint32_t kEtherDestination = 0, kEtherSource = 6, kArpSenderMac = 8,
                        kArpSenderIp = 14, kNdTarget = 8;
constexpr std::uint32_t kIfnameWords = 4;  // 16 bytes

constexpr std::string_view kGroupBit("\x01\0\0\0\0\0", 6);
constexpr std::string_view kNoMac("\0\0\0\0\0\0", 6);
constexpr std::string_view kLoopbackMask("\xff\0\0\0", 4), kLoopback("\x7f\0\0\0", 4);
constexpr std::string_view kLinkLocalMask("\xff\xc0", 2), kLinkLocal("\xfe\x80", 2);
constexpr std::string_view kMulticastMask("\xf0\0\0\0", 4), kMulticast("\xe0\0\0\0", 4);

// The rules of one table, in order.
class Rules {
 public:
  Rules(NftBatch& batch, const NftTableName& table) : batch_(batch), table_(table) {}
  template <class Build>
  void Add(const std::string& chain, const std::string& what, Build build) {
    RuleBuilder rule(table_.family, chain, what);
    build(rule);
    batch_.AddRule(table_, rule.get(), what);
  }

 private:
  NftBatch& batch_;
  const NftTableName& table_;
};

struct FamilyParts {
  std::uint8_t nfproto;
  std::uint32_t length, source, destination;
  const char* digit;
};
constexpr std::array<FamilyParts, 2> kFamilies{
    {{NFPROTO_IPV4, 4, kIp4Source, kIp4Destination, "4"},
     {NFPROTO_IPV6, 16, kIp6Source, kIp6Destination, "6"}}};

void AddHostportRules(Rules& rules) {
  rules.Add("hostports", "::1 cannot be forwarded", [](RuleBuilder& r) {
    const std::string one = std::string(15, '\0') + '\x01';
    r.NfProto(NFPROTO_IPV6)
        .LoadPayload(kNetwork, kIp6Destination, 16)
        .Compare(one)
        .Verdict(NFT_RETURN);
  });
  rules.Add("hostports", "host ports on conditions",
            [](RuleBuilder& r) { r.Verdict(NFT_JUMP, "hostports_if"); });
  for (const FamilyParts& f : kFamilies) {
    const std::uint32_t words = f.length / 4;
    rules.Add("hostports", "host ports of one address", [&](RuleBuilder& r) {
      r.NfProto(f.nfproto)
          .LoadPayload(kNetwork, f.destination, f.length)
          .LoadMeta(NFT_META_L4PROTO, words)
          .LoadPayload(kTransport, 2, 2, words + 1)
          .MapTo(std::string("hostipport") + f.digit)
          .Dnat(f.nfproto, 0, words);
    });
    rules.Add("hostports", "host ports", [&](RuleBuilder& r) {
      r.NfProto(f.nfproto)
          .LoadMeta(NFT_META_L4PROTO)
          .LoadPayload(kTransport, 2, 2, 1)
          .MapTo(std::string("hostport") + f.digit)
          .Dnat(f.nfproto, 0, words);
    });
  }
  for (const char* chain : {"prerouting", "output"}) {
    rules.Add(chain, "to the host itself",
              [](RuleBuilder& r) { r.DestinationIsLocal().Verdict(NFT_JUMP, "hostports"); });
  }
}

void AddPostroutingRules(Rules& rules) {
  rules.Add("postrouting", "connections to host ports", [](RuleBuilder& r) {
    r.CtStatus(IPS_DST_NAT, Match::kUnequal).Verdict(NFT_JUMP, "hostport_sources");
  });
  rules.Add("postrouting", "no masquerading of multicast", [](RuleBuilder& r) {
    r.NfProto(NFPROTO_IPV4)
        .LoadPayload(kNetwork, kIp4Destination, 4)
        .Mask(kMulticastMask)
        .Compare(kMulticast)
        .Verdict(NFT_RETURN);
  });
  rules.Add("postrouting", "no masquerading of multicast", [](RuleBuilder& r) {
    r.NfProto(NFPROTO_IPV6)
        .LoadPayload(kNetwork, kIp6Destination, 1)
        .Compare("\xff")
        .Verdict(NFT_RETURN);
  });
  // A peer on the same layer 2 would answer the client directly: the answer has to come back
  // through the host.
  rules.Add("hostport_sources", "same bridge", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadMeta(NFT_META_OIFNAME, kIfnameWords)
        .InSet("hairpinbridge")
        .Masquerade(false);
  });
  rules.Add("hostport_sources", "127.0.0.1 cannot leave", [](RuleBuilder& r) {
    r.NfProto(NFPROTO_IPV4)
        .LoadPayload(kNetwork, kIp4Source, 4)
        .Mask(kLoopbackMask)
        .Compare(kLoopback)
        .LoadMeta(NFT_META_OIFNAME)
        .InSet("localnet")
        .Masquerade(false);
  });
  for (const FamilyParts& f : kFamilies) {
    rules.Add("hostport_sources", "a pod's own host port", [&](RuleBuilder& r) {
      r.NfProto(f.nfproto)
          .LoadPayload(kNetwork, f.source, f.length)
          .LoadPayload(kNetwork, f.destination, f.length, f.length / 4)
          .InSet(std::string("hairpin") + f.digit)
          .Masquerade(false);
    });
    rules.Add("hostport_sources", "masqAll", [&](RuleBuilder& r) {
      r.NfProto(f.nfproto)
          .LoadPayload(kNetwork, f.destination, f.length)
          .InSet(std::string("masqall") + f.digit)
          .Masquerade(false);
    });
  }
}

// Links of pods without a bridge (ptp): their own addresses and, of IPv6, link-local ones.
void AddSourceRules(Rules& rules) {
  rules.Add("raw", "the link's IPv4 addresses", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .InSet("port_source")
        .NfProto(NFPROTO_IPV4)
        .LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kNetwork, kIp4Source, 4, kIfnameWords)
        .InSet("source4", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("raw", "the link's IPv6 addresses", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .InSet("port_source")
        .NfProto(NFPROTO_IPV6)
        .LoadPayload(kNetwork, kIp6Source, 2)
        .Mask(kLinkLocalMask)
        .Compare(kLinkLocal, Match::kUnequal)
        .LoadPayload(kNetwork, kIp6Source, 16)
        .Compare(std::string(16, '\0'), Match::kUnequal)
        .LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kNetwork, kIp6Source, 16, kIfnameWords)
        .InSet("source6", Match::kUnequal)
        .Verdict(NF_DROP);
  });
}

// The firewall plugin's ingressPolicy.
void AddPolicyRules(Rules& rules) {
  rules.Add("forward", "pods of an isolated bridge are apart", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadMeta(NFT_META_OIFNAME, kIfnameWords)
        .InSet("closed")
        .Verdict(NF_DROP);
  });
  rules.Add("forward", "bridges with a policy are apart", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .InSet("apart")
        .LoadMeta(NFT_META_OIFNAME)
        .InSet("apart")
        .LoadMeta(NFT_META_IIFNAME)
        .LoadMeta(NFT_META_OIFNAME, kIfnameWords)
        .InSet("apartsame", Match::kUnequal)
        .Verdict(NF_DROP);
  });
}

void AddFilterRules(Rules& rules, const NftSchemaOptions& options) {
  // route_localnet alone would let neighbours reach services on 127.0.0.1 (CVE-2020-8558).
  for (const std::uint32_t offset : {kIp4Destination, kIp4Source}) {
    rules.Add("raw", "127.0.0.0/8 stays inside", [&](RuleBuilder& r) {
      r.LoadMeta(NFT_META_IIFNAME)
          .InSet("localnet")
          .NfProto(NFPROTO_IPV4)
          .LoadPayload(kNetwork, offset, 4)
          .Mask(kLoopbackMask)
          .Compare(kLoopback)
          .Verdict(NF_DROP);
    });
  }
  AddSourceRules(rules);
  AddPolicyRules(rules);
  if (options.isolate_networks) {
    rules.Add("forward", "networks are apart", [](RuleBuilder& r) {
      r.LoadMeta(NFT_META_IIFNAME)
          .InSet("bridges")
          .LoadMeta(NFT_META_OIFNAME)
          .InSet("bridges")
          .LoadMeta(NFT_META_IIFNAME)
          .LoadMeta(NFT_META_OIFNAME, kIfnameWords)
          .InSet("samebridge", Match::kUnequal)
          .CtStatus(IPS_DST_NAT, Match::kEqual)
          .CtState(NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED),
                   Match::kEqual)
          .Verdict(NF_DROP);
    });
  }
  // Pods of a routed network reach each other through the gateway only; the kernel would tell them
  // a "better" way.
  rules.Add("redirects", "no redirects to routed pods", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_OIFNAME)
        .InSet("routed")
        .L4Proto(IPPROTO_ICMP)
        .ThByte(0, 5)
        .Verdict(NF_DROP);
  });
  rules.Add("redirects", "no redirects to routed pods", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_OIFNAME)
        .InSet("routed")
        .L4Proto(IPPROTO_ICMPV6)
        .ThByte(0, 137)
        .Verdict(NF_DROP);
  });
}

void AddInet(NftBatch& batch, const NftTableName& table, const NftSchemaOptions& options) {
  batch.AddChain(table, {"raw", "filter", NF_INET_PRE_ROUTING, -300});
  batch.AddChain(table, {"prerouting", "nat", NF_INET_PRE_ROUTING, -100});
  batch.AddChain(table, {"output", "nat", NF_INET_LOCAL_OUT, -100});
  batch.AddChain(table, {"forward", "filter", NF_INET_FORWARD, 0});
  batch.AddChain(table, {"redirects", "filter", NF_INET_LOCAL_OUT, 0});
  batch.AddChain(table, {"postrouting", "nat", NF_INET_POST_ROUTING, 100});
  batch.AddChain(table, {"hostports_if"});
  batch.AddChain(table, {"hostports"});
  batch.AddChain(table, {"hostport_sources"});
  for (const NftSetSpec& set : FixedSets(NftFamily::kInet)) batch.AddSet(table, set);
  Rules rules(batch, table);
  AddHostportRules(rules);
  AddPostroutingRules(rules);
  AddFilterRules(rules, options);
}

void AddPortRules(Rules& rules) {
  for (const char* set : {"port_routed", "port_full", "port_mac"}) {
    rules.Add("prerouting", set, [&](RuleBuilder& r) {
      r.LoadMeta(NFT_META_IIFNAME).InSet(set).Verdict(NFT_GOTO, set);
    });
  }
  rules.Add("port_mac", "the port's MAC", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kLink, kEtherSource, 6, kIfnameWords)
        .InSet("mac", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  // Frames for single stations: the gateway's. To groups: ARP, neighbour discovery and MLD.
  rules.Add("port_routed", "to the gateway", [](RuleBuilder& r) {
    r.LoadPayload(kLink, kEtherDestination, 6)
        .Mask(kGroupBit)
        .Compare(kNoMac)
        .LoadPayload(kLink, kEtherDestination, 6)
        .InSet("gateways", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("port_routed", "no IPv4 to groups", [](RuleBuilder& r) {
    r.LoadPayload(kLink, kEtherDestination, 6)
        .Mask(kGroupBit)
        .Compare(kNoMac, Match::kUnequal)
        .EtherType(ETH_P_IP)
        .Verdict(NF_DROP);
  });
  rules.Add("port_routed", "only ICMPv6 to groups", [](RuleBuilder& r) {
    r.LoadPayload(kLink, kEtherDestination, 6)
        .Mask(kGroupBit)
        .Compare(kNoMac, Match::kUnequal)
        .EtherType(ETH_P_IPV6)
        .L4Proto(IPPROTO_ICMPV6, Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("port_routed", "addresses", [](RuleBuilder& r) { r.Verdict(NFT_GOTO, "port_full"); });
  rules.Add("port_full", "the port's MAC", [](RuleBuilder& r) { r.Verdict(NFT_JUMP, "port_mac"); });
  rules.Add("port_full", "IPv4",
            [](RuleBuilder& r) { r.EtherType(ETH_P_IP).Verdict(NFT_GOTO, "ip4"); });
  rules.Add("port_full", "IPv6",
            [](RuleBuilder& r) { r.EtherType(ETH_P_IPV6).Verdict(NFT_GOTO, "ip6"); });
  rules.Add("port_full", "ARP",
            [](RuleBuilder& r) { r.EtherType(ETH_P_ARP).Verdict(NFT_GOTO, "arp"); });
  rules.Add("port_full", "nothing else", [](RuleBuilder& r) { r.Verdict(NF_DROP); });
}

void AddAddressRules(Rules& rules) {
  rules.Add("ip4", "source", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kNetwork, kIp4Source, 4, kIfnameWords)
        .InSet("address4", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("ip4", "no DHCP servers",
            [](RuleBuilder& r) { r.L4Proto(IPPROTO_UDP).ThWord(0, 67).Verdict(NF_DROP); });
  rules.Add("arp", "Ethernet and IPv4", [](RuleBuilder& r) {
    r.LoadPayload(kNetwork, 0, 6)
        .Compare(std::string_view("\0\x01\x08\0\x06\x04", 6), Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("arp", "sender's MAC", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kNetwork, kArpSenderMac, 6, kIfnameWords)
        .InSet("mac", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("arp", "sender's address", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kNetwork, kArpSenderIp, 4, kIfnameWords)
        .InSet("address4", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  constexpr std::uint8_t kRouterAdvertisement = 134, kSolicitation = 135, kAdvertisement = 136,
                         kRedirect = 137, kMld2 = 143;
  for (const std::uint8_t type : {kRouterAdvertisement, kRedirect}) {
    rules.Add("ip6", "no router's messages",
              [&](RuleBuilder& r) { r.L4Proto(IPPROTO_ICMPV6).ThByte(0, type).Verdict(NF_DROP); });
  }
  rules.Add("ip6", "no DHCP servers",
            [](RuleBuilder& r) { r.L4Proto(IPPROTO_UDP).ThWord(0, 547).Verdict(NF_DROP); });
  // Before it has an address, a station asks for duplicates and reports its groups. A probe for
  // another's address would keep that one from taking it.
  rules.Add("ip6", "probes for its own addresses", [&](RuleBuilder& r) {
    r.LoadPayload(kNetwork, kIp6Source, 16)
        .Compare(std::string(16, '\0'))
        .L4Proto(IPPROTO_ICMPV6)
        .ThByte(0, kSolicitation)
        .LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kTransport, kNdTarget, 16, kIfnameWords)
        .InSet("address6", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  for (const std::uint8_t type : {kSolicitation, kMld2}) {
    rules.Add("ip6", "from ::", [&](RuleBuilder& r) {
      r.LoadPayload(kNetwork, kIp6Source, 16)
          .Compare(std::string(16, '\0'))
          .L4Proto(IPPROTO_ICMPV6)
          .ThByte(0, type)
          .Verdict(NF_ACCEPT);
    });
  }
  rules.Add("ip6", "source", [](RuleBuilder& r) {
    r.LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kNetwork, kIp6Source, 16, kIfnameWords)
        .InSet("address6", Match::kUnequal)
        .Verdict(NF_DROP);
  });
  rules.Add("ip6", "advertised address", [&](RuleBuilder& r) {
    r.L4Proto(IPPROTO_ICMPV6)
        .ThByte(0, kAdvertisement)
        .LoadMeta(NFT_META_IIFNAME)
        .LoadPayload(kTransport, kNdTarget, 16, kIfnameWords)
        .InSet("address6", Match::kUnequal)
        .Verdict(NF_DROP);
  });
}

void AddBridgeTable(NftBatch& batch, const NftTableName& table) {
  batch.AddChain(table, {"prerouting", "filter", kBridgePreRouting, -300});
  for (const char* chain : {"port_mac", "port_full", "port_routed", "ip4", "ip6", "arp"})
    batch.AddChain(table, {chain});
  for (const NftSetSpec& set : FixedSets(NftFamily::kBridge)) batch.AddSet(table, set);
  Rules rules(batch, table);
  AddPortRules(rules);
  AddAddressRules(rules);
}

}  // namespace

std::span<const NftSetSpec> FixedSets(NftFamily family) {
  static const std::array kInetSets{
      NftSetSpec{"hostport4", Concat({kTypeProto, kTypeService}), 8,
                 Concat({kTypeIpv4, kTypeService}), 8},
      NftSetSpec{"hostipport4", Concat({kTypeIpv4, kTypeProto, kTypeService}), 12,
                 Concat({kTypeIpv4, kTypeService}), 8},
      NftSetSpec{"hostport6", Concat({kTypeProto, kTypeService}), 8,
                 Concat({kTypeIpv6, kTypeService}), 20},
      NftSetSpec{"hostipport6", Concat({kTypeIpv6, kTypeProto, kTypeService}), 24,
                 Concat({kTypeIpv6, kTypeService}), 20},
      NftSetSpec{"hairpin4", Concat({kTypeIpv4, kTypeIpv4}), 8},
      NftSetSpec{"hairpin6", Concat({kTypeIpv6, kTypeIpv6}), 32},
      NftSetSpec{"masqall4", kTypeIpv4, 4},
      NftSetSpec{"masqall6", kTypeIpv6, 16},
      NftSetSpec{"bridges", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"samebridge", Concat({kTypeIfname, kTypeIfname}), 32},
      NftSetSpec{"hairpinbridge", Concat({kTypeIfname, kTypeIfname}), 32},
      NftSetSpec{"localnet", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"routed", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"port_source", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"source4", Concat({kTypeIfname, kTypeIpv4}), 20},
      NftSetSpec{"source6", Concat({kTypeIfname, kTypeIpv6}), 32},
      NftSetSpec{"admitted4", kTypeIpv4, 4},
      NftSetSpec{"admitted6", kTypeIpv6, 16},
      NftSetSpec{"apart", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"apartsame", Concat({kTypeIfname, kTypeIfname}), 32},
      NftSetSpec{"closed", Concat({kTypeIfname, kTypeIfname}), 32},
  };
  static const std::array kBridgeSets{
      NftSetSpec{"port_mac", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"port_full", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"port_routed", kTypeIfname, 16, 0, 0, true},
      NftSetSpec{"mac", Concat({kTypeIfname, kTypeEther}), 24},
      NftSetSpec{"address4", Concat({kTypeIfname, kTypeIpv4}), 20},
      NftSetSpec{"address6", Concat({kTypeIfname, kTypeIpv6}), 32},
      NftSetSpec{"gateways", kTypeEther, 6},
  };
  if (family == NftFamily::kInet) return kInetSets;
  return kBridgeSets;
}

std::string MasqueradeSet(const Cidr& subnet) {
  std::string name = std::string(kMasqPrefix) + subnet.Network().str();
  std::replace(name.begin(), name.end(), ':', '-');  // a name may not hold colons
  return name;
}

std::optional<Cidr> SubnetOfSet(std::string_view set) {
  if (!set.starts_with(kMasqPrefix)) return std::nullopt;
  std::string text(set.substr(kMasqPrefix.size()));
  std::replace(text.begin(), text.end(), '-', ':');
  auto subnet = Cidr::Parse(text);
  if (!subnet) return std::nullopt;
  return *subnet;
}

std::optional<NftSetSpec> FindSet(NftFamily family, std::string_view set) {
  for (const NftSetSpec& spec : FixedSets(family)) {
    if (spec.name == set) return spec;
  }
  if (family != NftFamily::kInet) return std::nullopt;
  if (ConditionsOf(set)) {
    auto spec = FindSet(family, set.substr(0, set.find('_')));
    if (!spec || !spec->is_map()) return std::nullopt;
    spec->name = set;
    return spec;
  }
  const auto subnet = SubnetOfSet(set);
  if (!subnet) return std::nullopt;
  const bool v4 = subnet->family() == Family::kV4;
  return NftSetSpec{std::string(set), v4 ? kTypeIpv4 : kTypeIpv6, v4 ? 4U : 16U};
}

void AddSchema(NftBatch& batch, const NftTableName& table, const NftSchemaOptions& options) {
  batch.AddTable(table);
  if (table.family == NftFamily::kInet) {
    AddInet(batch, table, options);
  } else {
    AddBridgeTable(batch, table);
  }
}

namespace {

// The rule of a map of host ports with conditions.
void AddConditionalSet(NftBatch& batch, const NftTableName& table, const std::string& name,
                       const Conditions& conditions) {
  batch.AddSet(table, *FindSet(NftFamily::kInet, name));
  const std::string base = name.substr(0, name.find('_'));
  const FamilyParts& f = kFamilies[base.ends_with('4') ? 0 : 1];
  const std::uint32_t words = f.length / 4;
  Rules(batch, table).Add("hostports_if", "host ports on conditions", [&](RuleBuilder& r) {
    r.NfProto(f.nfproto);
    AddTo(r, conditions);
    if (base.starts_with("hostip")) {
      r.LoadPayload(kNetwork, f.destination, f.length)
          .LoadMeta(NFT_META_L4PROTO, words)
          .LoadPayload(kTransport, 2, 2, words + 1);
    } else {
      r.LoadMeta(NFT_META_L4PROTO).LoadPayload(kTransport, 2, 2, 1);
    }
    r.MapTo(name).Dnat(f.nfproto, 0, words);
  });
}

void AddMasqueradeSet(NftBatch& batch, const NftTableName& table, const Cidr& subnet) {
  const std::string name = MasqueradeSet(subnet);
  batch.AddSet(table, *FindSet(NftFamily::kInet, name));
  const FamilyParts& f = kFamilies[subnet.family() == Family::kV4 ? 0 : 1];
  std::string mask(f.length, '\0');
  for (int i = 0; i < subnet.prefix(); ++i) {
    auto& byte = mask[static_cast<std::size_t>(i / 8)];
    byte = static_cast<char>(static_cast<unsigned char>(byte) | (0x80U >> (i % 8)));
  }
  const Cidr network = subnet.Network();
  const auto bytes = network.address().bytes();
  const std::string value(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Rules(batch, table)
      .Add("postrouting", "masquerade what leaves " + network.str(), [&](RuleBuilder& r) {
        r.NfProto(f.nfproto)
            .LoadPayload(kNetwork, f.source, f.length)
            .InSet(name)
            .LoadPayload(kNetwork, f.destination, f.length)
            .Mask(mask)
            .Compare(value, Match::kUnequal)
            .Masquerade(true);
      });
}

}  // namespace

bool IsMadeOnDemand(std::string_view set) { return SubnetOfSet(set) || ConditionsOf(set); }

void AddSetOnDemand(NftBatch& batch, const NftTableName& table, const std::string& set) {
  if (const auto subnet = SubnetOfSet(set)) return AddMasqueradeSet(batch, table, *subnet);
  if (const auto conditions = ConditionsOf(set)) AddConditionalSet(batch, table, set, *conditions);
}

}  // namespace linnet::network
