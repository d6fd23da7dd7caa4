#include "plugins/bridge_plan.h"

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::network {
namespace {

struct Parsed {
  Json json;
  PluginRequest request;
};
Result<BridgeConf> Parse(const std::string& text, const std::string& args = {}) {
  const Json json = LN_TRY(ParseJson(text));
  PluginRequest request;
  request.conf = &json;
  request.args = args;
  return ParseBridgeConf(request);
}

BridgeConf Conf(const std::string& text) {
  auto conf = Parse(text);
  EXPECT_TRUE(conf) << conf.error().message();
  return conf ? *conf : BridgeConf();
}

cni::AddResult Lease(bool gateway = true) {
  cni::AddResult lease;
  lease.ips = {{.address = *Cidr::Parse("10.1.0.5/24")}, {.address = *Cidr::Parse("fd00::5/64")}};
  if (gateway) {
    lease.ips[0].gateway = *IpAddress::Parse("10.1.0.1");
    lease.ips[1].gateway = *IpAddress::Parse("fd00::1");
  }
  lease.routes = {{.dst = *Cidr::Parse("0.0.0.0/0")}};
  lease.dns.nameservers = {"192.0.2.53"};
  return lease;
}

TEST(BridgeConf, HasUpstreamsDefaults) {
  const BridgeConf conf = Conf("{}");
  EXPECT_EQ(conf.bridge, "cni0");
  EXPECT_FALSE(conf.is_gateway || conf.ip_masq || conf.hairpin || conf.force_address ||
               conf.mac_spoof_check || conf.routed);
  EXPECT_TRUE(conf.ipam_type.empty());
  EXPECT_FALSE(conf.dns);
}

TEST(BridgeConf, MatchesKeysWithoutCase) {
  const BridgeConf conf = Conf(
      R"({"Bridge":"br1","IPMASQ":true,"isdefaultgateway":true,"ipam":{"Type":"host-local"}})");
  EXPECT_EQ(conf.bridge, "br1");
  EXPECT_TRUE(conf.ip_masq);
  EXPECT_TRUE(conf.is_gateway) << "isDefaultGateway implies it";
  EXPECT_EQ(conf.ipam_type, "host-local");
}

TEST(BridgeConf, RefusesWhatUpstreamRefuses) {
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {R"({"hairpinMode":true,"promiscMode":true})",
            "cannot set hairpin mode and promiscuous mode at the same time"},
           {R"({"disableContainerInterface":true,"ipam":{"type":"x"}})",
            "cannot use IPAM when DisableContainerInterface flag is set"},
           {R"({"vlan":4095})", "invalid VLAN ID 4095 (must be between 0 and 4094)"},
           {R"({"vlan":-1})", "invalid VLAN ID -1"},
           {R"({"vlanTrunk":[{"minID":5}]})", "minID and maxID"},
           {R"({"vlanTrunk":[{"minID":5,"maxID":4}]})", "minID is greater"},
           {R"({"ipMasqBackend":"x"})", "unknown ipmasq backend"},
           {R"({"bridge":"a-name-that-is-too-long"})", "is no link name"},
           {R"({"mtu":"1500"})", "mtu"},
           {R"({"linnetRouted":true})", "needs an ipam section"}}) {
    LN_EXPECT_ERROR(Parse(text), Code::kInvalidArgument, message);
  }
}

TEST(BridgeConf, TakesTheMacFromThreePlaces) {
  const std::string args = R"("args":{"cni":{"mac":"02:00:00:00:00:02"}})";
  const std::string runtime = R"("runtimeConfig":{"mac":"02:00:00:00:00:01"})";
  const auto mac = [](const Result<BridgeConf>& conf) {
    return conf && conf->mac ? conf->mac->str() : std::string("none");
  };
  const std::string environment = "IgnoreUnknown=1;MAC=02:00:00:00:00:03";
  EXPECT_EQ(mac(Parse("{" + runtime + "," + args + "}", environment)), "02:00:00:00:00:01");
  EXPECT_EQ(mac(Parse("{" + args + "}", environment)), "02:00:00:00:00:02");
  EXPECT_EQ(mac(Parse("{}", environment)), "02:00:00:00:00:03");
  EXPECT_EQ(mac(Parse("{}")), "none");
  EXPECT_FALSE(Parse(R"({"runtimeConfig":{"mac":"nonsense"}})"));
}

TEST(BridgeConf, DnsCountsWhenAnythingIsSet) {
  EXPECT_FALSE(Conf(R"({"dns":{}})").dns);
  ASSERT_TRUE(Conf(R"({"dns":{"nameservers":[]}})").dns)
      << "an empty list replaces the IPAM plugin's";
  EXPECT_EQ(Conf(R"({"dns":{"domain":"x"}})").dns->domain, "x");
}

TEST(PlanBridge, Layer2KeepsTheSubnet) {
  const auto plan =
      LN_ASSERT_OK(PlanBridge(Conf(R"({"isGateway":true,"ipMasq":true,"ipam":{"type":"i"}})"),
                              Lease(), "s", Setting::kDaemon));
  EXPECT_EQ(plan.pod_addresses,
            (std::vector{*Cidr::Parse("10.1.0.5/24"), *Cidr::Parse("fd00::5/64")}));
  EXPECT_EQ(plan.gateways, (std::vector{*Cidr::Parse("10.1.0.1/24"), *Cidr::Parse("fd00::1/64")}));
  ASSERT_EQ(plan.pod_routes.size(), 1U);
  EXPECT_EQ(plan.pod_routes[0].gw, IpAddress::Parse("10.1.0.1").value());
  EXPECT_FALSE(plan.pod_routes[0].onlink);
  EXPECT_FALSE(plan.isolated);
  EXPECT_EQ(plan.guard, Guard::kFull);
  ASSERT_EQ(plan.masquerade.size(), 2U);
  EXPECT_EQ(plan.masquerade[0].set, "masq_10.1.0.0/24");
  for (const auto& ip : plan.result.ips) EXPECT_EQ(ip.interface, 2);
  EXPECT_EQ(plan.result.dns.nameservers, std::vector<std::string>{"192.0.2.53"});
}

TEST(PlanBridge, RoutedPodsHoldSingleAddresses) {
  const auto plan =
      LN_ASSERT_OK(PlanBridge(Conf(R"({"linnetRouted":true,"ipMasq":true,"ipam":{"type":"i"}})"),
                              Lease(), "s", Setting::kDaemon));
  EXPECT_EQ(plan.pod_addresses,
            (std::vector{*Cidr::Parse("10.1.0.5/32"), *Cidr::Parse("fd00::5/128")}));
  EXPECT_EQ(plan.gateways[0], *Cidr::Parse("10.1.0.1/24")) << "the bridge has the subnet";
  EXPECT_EQ(plan.result.ips[0].address, *Cidr::Parse("10.1.0.5/32"));
  EXPECT_EQ(plan.masquerade[0].set, "masq_10.1.0.0/24");
  EXPECT_TRUE(plan.pod_routes[0].onlink);
  EXPECT_TRUE(plan.isolated);
  EXPECT_EQ(plan.guard, Guard::kRouted);
}

TEST(PlanBridge, GatewayIsTheFirstAddressWhereNoneIsGiven) {
  const auto plan = LN_ASSERT_OK(PlanBridge(Conf(R"({"isGateway":true,"ipam":{"type":"i"}})"),
                                            Lease(false), "s", Setting::kDaemon));
  EXPECT_EQ(plan.result.ips[0].gateway, IpAddress::Parse("10.1.0.1").value());
  EXPECT_EQ(plan.result.ips[1].gateway, IpAddress::Parse("fd00::1").value());
}

TEST(PlanBridge, DefaultGatewayBesideADefaultRouteIsOneRoute) {
  const auto plan = LN_ASSERT_OK(PlanBridge(
      Conf(R"({"isDefaultGateway":true,"ipam":{"type":"i"}})"), Lease(), "s", Setting::kDaemon));
  ASSERT_EQ(plan.pod_routes.size(), 2U);
  EXPECT_EQ(plan.pod_routes[0].dst.str(), "0.0.0.0/0");
  EXPECT_EQ(plan.pod_routes[1].dst.str(), "::/0");
  EXPECT_EQ(plan.pod_routes[1].gw, IpAddress::Parse("fd00::1").value());
}

TEST(PlanBridge, LeaseWithoutAddressesIsRefused) {
  LN_EXPECT_ERROR(
      PlanBridge(Conf(R"({"ipam":{"type":"i"}})"), cni::AddResult(), "s", Setting::kDaemon),
      Code::kFailedPrecondition, "IPAM plugin returned missing IP config");
}

TEST(PlanBridge, GuardsAsTheSettingWants) {
  const auto guard = [](const std::string& more, bool lease, Setting setting) {
    const std::string text =
        std::string("{") + more + (lease ? R"("ipam":{"type":"i"}})" : R"("mtu":0})");
    const auto plan =
        PlanBridge(Conf(text), lease ? std::optional(Lease()) : std::nullopt, "s", setting);
    EXPECT_TRUE(plan);
    return plan->guard;
  };
  EXPECT_EQ(guard("", true, Setting::kDaemon), Guard::kFull);
  EXPECT_EQ(guard("", true, Setting::kExec), Guard::kNone) << "upstream's behaviour";
  EXPECT_EQ(guard(R"("macspoofchk":true,)", true, Setting::kExec), Guard::kMac);
  EXPECT_EQ(guard(R"("linnetAntiSpoof":true,)", true, Setting::kExec), Guard::kFull);
  EXPECT_EQ(guard(R"("linnetAntiSpoof":false,)", true, Setting::kDaemon), Guard::kNone);
  EXPECT_EQ(guard("", false, Setting::kDaemon), Guard::kNone) << "whose addresses nobody knows";
  EXPECT_EQ(guard(R"("macspoofchk":true,)", false, Setting::kDaemon), Guard::kMac);
  EXPECT_EQ(guard(R"("promiscMode":true,)", true, Setting::kDaemon), Guard::kNone);
}

TEST(PlanBridge, MacFollowsTheAddress) {
  const BridgeConf conf = Conf(R"({"ipam":{"type":"i"}})");
  const auto one = LN_ASSERT_OK(PlanBridge(conf, Lease(), "s", Setting::kDaemon));
  const auto two = LN_ASSERT_OK(PlanBridge(conf, Lease(), "s", Setting::kDaemon));
  const auto other = LN_ASSERT_OK(PlanBridge(conf, Lease(), "t", Setting::kDaemon));
  EXPECT_EQ(one.pod_mac, two.pod_mac);
  EXPECT_NE(one.pod_mac, other.pod_mac);
}

TEST(PlanFromResult, FindsTheSubnetOfARoutedPod) {
  const std::string text =
      R"({"linnetRouted":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[
    [{"subnet":"10.9.0.0/16"},{"subnet":"10.1.0.0/24"}],[{"Subnet":"fd00::/64"}]]}})";
  const Json json = LN_ASSERT_OK(ParseJson(text));
  const BridgeConf conf = Conf(text);
  const auto plan = LN_ASSERT_OK(PlanBridge(conf, Lease(), "s", Setting::kDaemon));
  cni::AddResult result = plan.result;
  result.interfaces = {{.name = "linnet0"},
                       {.name = "lnx"},
                       {.name = "eth0", .mac = "02:00:00:00:00:09", .sandbox = "/n"}};
  const auto again =
      LN_ASSERT_OK(PlanFromResult(conf, json, result, "eth0", "s", Setting::kDaemon));
  EXPECT_EQ(again.masquerade, plan.masquerade);
  EXPECT_EQ(again.gateways, plan.gateways);
  EXPECT_EQ(again.pod_addresses, plan.pod_addresses);
  EXPECT_EQ(again.pod_mac.str(), "02:00:00:00:00:09") << "as a later plugin left it";
  EXPECT_EQ(SubnetOf(json, *IpAddress::Parse("10.2.0.1")), std::nullopt);
}

}  // namespace
}  // namespace linnet::network
