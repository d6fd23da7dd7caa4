// Configurations and plans of firewall, ptp and portmap's conditions; the D-Bus format.
#include <linux/rtnetlink.h>

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/text.h"
#include "linnet/testing/result.h"

#include "dbus/system_bus.h"
#include "nft/conditions.h"
#include "nft/schema.h"
#include "plugins/firewall_plan.h"
#include "plugins/portmap_plan.h"
#include "plugins/ptp_plan.h"

namespace linnet::network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

IpAddress Ip(const char* text) { return *IpAddress::Parse(text); }

// --- conditions

TEST(Conditions, BothWaysOfSayingIt) {
  const auto theirs = LN_ASSERT_OK(
      ParseConditions({"!", "-d", "192.0.2.0/24", "-s", "10.0.0.1", "-i", "eth0"}, Family::kV4));
  const auto ours = LN_ASSERT_OK(ParseConditions(
      {"ip", "daddr", "!=", "192.0.2.0/24", "ip saddr 10.0.0.1/32", "iifname \"eth0\""},
      Family::kV4));
  EXPECT_EQ(theirs, ours);
  ASSERT_EQ(theirs.size(), 3U);
  EXPECT_TRUE(theirs[0].negated);
  EXPECT_EQ(theirs[1].subnet.str(), "10.0.0.1/32");
  EXPECT_EQ(theirs[2].interface, "eth0");
}

TEST(Conditions, WhatIsNotPossibleIsNamed) {
  const auto message = [](const std::vector<std::string>& words, Family family = Family::kV4) {
    auto out = ParseConditions(words, family);
    return out ? std::string() : out.error().message();
  };
  EXPECT_THAT(message({"-m", "comment"}), HasSubstr("\"-m\""));
  EXPECT_THAT(message({"tcp", "sport", "1"}), HasSubstr("prefer_external"));
  EXPECT_THAT(message({"-s"}), HasSubstr("ends early"));
  EXPECT_THAT(message({"-s", "fd00::/8"}), HasSubstr("other family"));
  EXPECT_THAT(message({"ip", "saddr", "10.0.0.0/8"}, Family::kV6), HasSubstr("\"ip saddr\""));
  EXPECT_THAT(message({"-i", "eth+"}), HasSubstr("eth+"));
}

TEST(Conditions, NamesReadBack) {
  for (const auto& [words, family] :
       {std::pair(std::vector<std::string>{"-s", "10.0.0.0/8"}, Family::kV4),
        std::pair(std::vector<std::string>{"!", "-s", "fd00:1::/32", "-d", "2001:db8::1"},
                  Family::kV6),
        std::pair(std::vector<std::string>{"-i", "a_b_.c", "!", "-i", "_u"}, Family::kV4)}) {
    const Conditions conditions = LN_ASSERT_OK(ParseConditions(words, family));
    const std::string name = LN_ASSERT_OK(NameOf(conditions));
    EXPECT_EQ(ConditionsOf("hostport4" + name), conditions) << name;
    EXPECT_TRUE(IsMadeOnDemand("hostport4" + name));
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789/\\-_."),
              std::string::npos)
        << "nft(8) must be able to read it";
  }
  EXPECT_EQ(ConditionsOf("hostport4"), std::nullopt);
  EXPECT_EQ(ConditionsOf("masq_10.0.0.0/8"), std::nullopt);
  EXPECT_FALSE(FindSet(NftFamily::kInet, "bridges_.sy10.0.0.0/8")) << "no map of host ports";
  std::vector<std::string> many;
  for (int i = 0; i < 30; ++i) many.insert(many.end(), {"-s", "10.0.0.0/8"});
  EXPECT_FALSE(NameOf(LN_ASSERT_OK(ParseConditions(many, Family::kV4))));
}

Result<PortmapConf> ParsePortmap(const std::string& text) {
  const Json json = LN_TRY(ParseJson(text));
  return ParsePortmapConf(JsonView(json, "$", KeyMatch::kIgnoreCase));
}

TEST(PortmapConditions, MappingsGoToMapsOfTheirOwn) {
  const auto conf = LN_ASSERT_OK(ParsePortmap(
      R"({"conditionsV4":["-s","192.0.2.0/24"],"runtimeConfig":{"portMappings":[
          {"hostPort":80,"containerPort":8080,"protocol":"tcp"},
          {"hostPort":81,"containerPort":8080,"protocol":"tcp","hostIP":"198.51.100.1"}]}})"));
  const auto plan = LN_ASSERT_OK(PlanPortmap(conf, {Ip("10.0.0.5"), Ip("fd00::5")}));
  std::vector<std::string> sets;
  for (const NftElement& e : plan.elements) sets.push_back(e.set);
  EXPECT_THAT(sets, ElementsAre("hostport4_.sy192.0.2.0/24", "hostipport4_.sy192.0.2.0/24",
                                "hairpin4", "hostport6", "hairpin6"));
  for (const NftElement& e : plan.elements) {
    if (!e.set.starts_with("host")) continue;
    const auto port = ParseHostPort(e);
    ASSERT_TRUE(port) << e.set;
    EXPECT_EQ(HostPortElement(*port), e) << "reads back";
  }
}

TEST(PortmapConditions, TheWrongBackendsWordsAreRefused) {
  const auto message = [](const std::string& text) {
    auto out = ParsePortmap(text);
    return out ? std::string() : out.error().message();
  };
  EXPECT_EQ(message(R"({"backend":"nftables","conditionsV4":["-s","1.2.3.4"]})"),
            "nftables backend was requested but configuration contains iptables-specific options "
            "[conditionsV4]");
  EXPECT_EQ(message(R"({"backend":"iptables","conditionsV4":["ip saddr 1.2.3.4"],
                        "conditionsV6":["ip6 saddr fd00::1"]})"),
            "iptables backend was requested but configuration contains nftables-specific options "
            "[conditionsV4 conditionsV6]");
  EXPECT_EQ(message(R"({"conditionsV4":["ip saddr 1.2.3.4"]})"), "");
  EXPECT_EQ(message(R"({"conditionsV4":[],"conditionsV6":null})"), "");
}

// --- firewall

Result<FirewallConf> ParseFirewall(const std::string& text) {
  const Json json = LN_TRY(ParseJson(text));
  return ParseFirewallConf(JsonView(json, "$", KeyMatch::kIgnoreCase));
}

TEST(FirewallConf, DefaultsAndKeys) {
  const auto none = LN_ASSERT_OK(ParseFirewall("{}"));
  EXPECT_EQ(none.backend, FirewallConf::Backend::kAuto);
  EXPECT_EQ(none.admin_chain, "CNI-ADMIN");
  EXPECT_EQ(none.zone, "trusted");
  EXPECT_FALSE(none.policy);
  const auto all = LN_ASSERT_OK(ParseFirewall(
      R"({"backend":"iptables","iptablesAdminChainName":"MINE","firewalldZone":"home","IngressPolicy":"isolated"})"));
  EXPECT_EQ(all.backend, FirewallConf::Backend::kIptables);
  EXPECT_EQ(all.admin_chain, "MINE");
  EXPECT_EQ(all.zone, "home");
  EXPECT_EQ(all.policy, BridgePolicy::kClosed);
  EXPECT_FALSE(LN_ASSERT_OK(ParseFirewall(R"({"ingressPolicy":"open"})")).policy);
  LN_EXPECT_ERROR(ParseFirewall(R"({"ingressPolicy":"x"})"), Code::kInvalidArgument,
                  "unknown ingress policy: \"x\"");
}

TEST(FirewallPlan, BridgeAndPods) {
  cni::AddResult result;
  LN_EXPECT_ERROR(PolicyBridge(result, "isolated"), Code::kFailedPrecondition,
                  "interface needs to be set for ingress policy \"isolated\", make sure to chain "
                  "\"firewall\" plugin with \"bridge\"");
  result.interfaces = {{.name = "cni0"}, {.name = "veth0"}};
  EXPECT_EQ(LN_ASSERT_OK(PolicyBridge(result, "isolated")), "cni0");
  result.ips = {{.interface = {}, .address = *Cidr::Parse("10.0.0.5/24"), .gateway = {}},
                {.interface = {}, .address = *Cidr::Parse("fd00::5/64"), .gateway = {}},
                {.interface = {}, .address = *Cidr::Parse("10.0.0.5/24"), .gateway = {}}};
  EXPECT_THAT(PodsOf(result), ElementsAre(Ip("10.0.0.5"), Ip("fd00::5")));
  EXPECT_EQ(ParseAdmitted(AdmittedElement(Ip("fd00::5"))), Ip("fd00::5"));
  EXPECT_EQ(ParseAdmitted(MasqAllElement(Ip("10.0.0.5"))), std::nullopt);
}

// --- ptp

cni::AddResult Lease() {
  cni::AddResult out;
  out.ips = {{.interface = {}, .address = *Cidr::Parse("10.0.0.5/24"), .gateway = Ip("10.0.0.1")},
             {.interface = {}, .address = *Cidr::Parse("fd00::5/64"), .gateway = Ip("fd00::1")}};
  out.routes = {{.dst = *Cidr::Parse("0.0.0.0/0"), .gw = {}},
                {.dst = *Cidr::Parse("::/0"), .gw = {}}};
  return out;
}

std::string Text(const RouteSpec& r) {
  return r.dst.Network().str() + (r.gw ? " via " + r.gw->str() : "") +
         (r.source ? " src " + r.source->str() : "") +
         (r.scope ? " scope " + std::to_string(*r.scope) : "");
}

TEST(PlanPtp, GatewayOnTheLinkTheRestBehindIt) {
  const Json json = *ParseJson(R"({"ipMasq":true,"mtu":1400,"ipam":{"type":"host-local"}})");
  const PtpConf conf = LN_ASSERT_OK(ParsePtpConf(json));
  const PtpPlan plan = LN_ASSERT_OK(PlanPtp(conf, Lease(), "net", Setting::kDaemon));
  std::vector<std::string> pod;
  for (const RouteSpec& r : plan.pod_routes) pod.push_back(Text(r));
  EXPECT_THAT(
      pod,
      ElementsAre("10.0.0.1/32 src 10.0.0.5 scope 253", "10.0.0.0/24 via 10.0.0.1 src 10.0.0.5",
                  "fd00::1/128 src fd00::5 scope 253", "fd00::/64 via fd00::1 src fd00::5",
                  "0.0.0.0/0 via 10.0.0.1", "::/0 via fd00::1"));
  std::vector<std::string> host;
  for (const Cidr& c : plan.host_addresses) host.push_back(c.str());
  for (const RouteSpec& r : plan.host_routes) host.push_back(Text(r));
  EXPECT_THAT(host, ElementsAre("10.0.0.1/32", "fd00::1/128", "10.0.0.5/32 scope 254",
                                "fd00::5/128 scope 254"));
  EXPECT_EQ(plan.masquerade.size(), 2U);
  EXPECT_TRUE(plan.guarded);
  EXPECT_FALSE(LN_ASSERT_OK(PlanPtp(conf, Lease(), "net", Setting::kExec)).guarded);
  for (const cni::IpConfig& ip : plan.result.ips) EXPECT_EQ(ip.interface, 1);
}

TEST(PlanPtp, WhatCannotWorkIsSaid) {
  const Json json = *ParseJson(R"({"ipam":{"type":"host-local"}})");
  const PtpConf conf = LN_ASSERT_OK(ParsePtpConf(json));
  cni::AddResult none;
  LN_EXPECT_ERROR(PlanPtp(conf, none, "net", Setting::kDaemon), Code::kFailedPrecondition,
                  "IPAM plugin returned missing IP config");
  cni::AddResult lease = Lease();
  lease.ips[0].gateway.reset();
  LN_EXPECT_ERROR(PlanPtp(conf, lease, "net", Setting::kDaemon), Code::kFailedPrecondition,
                  "no gateway for 10.0.0.5/24");
  LN_EXPECT_ERROR(ParsePtpConf(*ParseJson("{}")), Code::kInvalidArgument, "ipam");
  LN_EXPECT_ERROR(ParsePtpConf(*ParseJson(R"({"ipMasqBackend":"pf","ipam":{"type":"x"}})")),
                  Code::kInvalidArgument, "unknown ipmasq backend");
}

// --- D-Bus

std::string Message(std::uint8_t type, std::uint32_t reply_to, const std::string& signature,
                    const std::string& body) {
  std::string out = EncodeBusCall(
      {.destination = "a.b", .path = "/p", .interface = "i.j", .member = "m", .arguments = {}}, 7);
  // Fields of an answer: REPLY_SERIAL, SIGNATURE.
  std::string fields("\x05\x01u\0", 4);
  fields.append(reinterpret_cast<const char*>(&reply_to), 4);
  if (!signature.empty()) {
    fields += std::string("\x08\x01g\0", 4);
    fields += static_cast<char>(signature.size());
    fields += signature + '\0';
  }
  const auto length = static_cast<std::uint32_t>(fields.size());
  fields.resize((fields.size() + 7) / 8 * 8, '\0');
  out.resize(16);
  out[1] = static_cast<char>(type);
  const auto body_size = static_cast<std::uint32_t>(body.size());
  out.replace(4, 4, reinterpret_cast<const char*>(&body_size), 4);
  out.replace(12, 4, reinterpret_cast<const char*>(&length), 4);
  return out + fields + body;
}

TEST(BusMessage, CallsAreWholeAndAligned) {
  const std::string call = EncodeBusCall({.destination = "org.freedesktop.DBus",
                                          .path = "/org/freedesktop/DBus",
                                          .interface = "org.freedesktop.DBus",
                                          .member = "GetNameOwner",
                                          .arguments = {"x.y"}},
                                         3);
  EXPECT_EQ(BusMessageLength(call.substr(0, 16)), call.size());
  EXPECT_EQ(Hex(call.substr(0, 12)), "6c0100010800000003000000") << "body of 4 + 3 + 1 bytes";
  EXPECT_TRUE(call.ends_with(std::string("\x03\0\0\0x.y\0", 8)));
  EXPECT_EQ((call.size() - 8) % 8, 0U);
  LN_EXPECT_OK(DecodeBusMessage(call));
}

TEST(BusMessage, AnswersAreRead) {
  const auto text =
      LN_ASSERT_OK(DecodeBusMessage(Message(2, 9, "s", std::string("\x03\0\0\0abc\0", 8))));
  EXPECT_EQ(text.type, 2);
  EXPECT_EQ(text.reply_to, 9U);
  EXPECT_EQ(text.value, "abc");
  EXPECT_EQ(LN_ASSERT_OK(DecodeBusMessage(Message(2, 1, "b", std::string("\x01\0\0\0", 4)))).value,
            "true");
  EXPECT_EQ(LN_ASSERT_OK(DecodeBusMessage(Message(2, 1, "", ""))).value, "");
}

TEST(BusMessage, TornOnesAreRefused) {
  const std::string whole = Message(2, 9, "s", std::string("\x03\0\0\0abc\0", 8));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(DecodeBusMessage(whole.substr(0, size))) << size;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string wrong = whole;
    wrong[i] = '\xff';
    (void)DecodeBusMessage(wrong);  // must not read past the end (sanitizers look)
  }
  EXPECT_EQ(BusMessageLength("B"), 0U);
  EXPECT_EQ(BusMessageLength(std::string(16, '\xff')), 0U);
}

}  // namespace
}  // namespace linnet::network
