// ptp, and portmap's conditions: packets.
#include <gmock/gmock.h>

#include "linnet/testing/result.h"

#include "plugins_fixture.h"

namespace linnet::network {
namespace {

using Kind = Server::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kPtp =
    R"({"type":"ptp","ipMasq":true,"mtu":1450,"ipam":{"type":"host-local"}})";

class Ptp : public PluginsTest, public ::testing::WithParamInterface<int> {
 protected:
  // 4: IPv4, 6: IPv6, 46: both.
  void SetUp() override {
    PluginsTest::SetUp();
    ipam_.v4 = GetParam() != 6;
    ipam_.v6 = GetParam() != 4;
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Ptp, ::testing::Values(4, 6, 46));

TEST_P(Ptp, PodsReachEachOtherTheHostAndBeyond) {
  MakeOutside();
  Pod a = AddOwn("pod-a", "ptp", kPtp);
  Pod b = AddOwn("pod-b", "ptp", kPtp);
  ASSERT_EQ(a.result.interfaces.size(), 2U);
  EXPECT_EQ(a.result.interfaces[0].name, host_->LinkName("pod-a", "eth0"));
  EXPECT_EQ(a.result.interfaces[1].name, "eth0");
  EXPECT_THAT(In(a, "ip link show eth0"), HasSubstr("mtu 1450"));
  if (ipam_.v4) {
    EXPECT_TRUE(Ping(a.ns(), b.v4));
    EXPECT_TRUE(Ping(a.ns(), "10.83.0.1"));
    EXPECT_TRUE(Ping(kHost, b.v4));
    const Server server(Kind::kTcp, outside_, "0.0.0.0", 80);
    EXPECT_EQ(AskTcp(a.ns(), "198.51.100.2", 80), "198.51.100.1");
    const Server direct(Kind::kTcp, b.ns(), "0.0.0.0", 80);
    EXPECT_EQ(AskTcp(a.ns(), b.v4, 80), a.v4);
  }
  if (ipam_.v6) {
    EXPECT_TRUE(PingSoon(a.ns(), b.v6));
    EXPECT_TRUE(PingSoon(a.ns(), "fd00:83::1"));
    EXPECT_TRUE(PingSoon(kHost, b.v6));
    const Server server(Kind::kTcp, outside_, "::", 81);
    EXPECT_EQ(AskTcp(a.ns(), "2001:db8:100::2", 81), "2001:db8:100::1");
  }
  LN_EXPECT_OK(CheckOf(a, "ptp"));
  const std::string link = host_->LinkName("pod-a", "eth0");
  if (ipam_.v4) {
    Sh("ip route del " + a.v4 + " dev " + link);
    LN_EXPECT_ERROR(CheckOf(a, "ptp"), Code::kFailedPrecondition, "is missing on the host");
  }
  for (Pod* pod : {&a, &b}) {
    LN_EXPECT_OK(DelOf(*pod, "ptp"));
    LN_EXPECT_OK(DelOf(*pod, "ptp", false));
  }
  host_->DrainRetired();
  EXPECT_THAT(Sh("ip -o link show type veth | grep ln || true"), IsEmpty());
  EXPECT_TRUE(ipam_.leases.empty());
  EXPECT_THAT(ShAny("nft list ruleset"), Not(HasSubstr("pod-a")));
}

TEST_P(Ptp, NobodyElsesAddress) {
  MakeOutside();
  Pod a = AddOwn("pod-a", "ptp", kPtp);
  Pod b = AddOwn("pod-b", "ptp", kPtp);
  if (ipam_.v4) {
    const Server server(Kind::kUdp, kHost, "198.51.100.1", 99);
    EXPECT_TRUE(AskUdp(a.ns(), "198.51.100.1", 99));
    In(a, "ip addr add 10.83.9.9/32 dev eth0");
    In(a, "ip route change default via 10.83.0.1 src 10.83.9.9");
    Sh("nft add table inet watch; nft add chain inet watch in "
       "'{ type filter hook prerouting priority -150; }';"
       "nft add rule inet watch in ip saddr 10.83.9.9 counter");
    EXPECT_FALSE(AskUdp(a.ns(), "198.51.100.1", 99));
    EXPECT_THAT(Sh("nft list chain inet watch in"), HasSubstr("packets 0"))
        << "dropped, not only unanswered";
  }
  if (ipam_.v6) {
    EXPECT_TRUE(PingSoon(a.ns(), "2001:db8:100::1"));
    In(a, "ip addr add fd00:83::9:9/128 dev eth0 nodad");
    In(a, "ip -6 route change default via fd00:83::1 dev eth0 src fd00:83::9:9");
    EXPECT_FALSE(Ping(a.ns(), "2001:db8:100::1"));
  }
}

TEST_P(Ptp, GcAndErrors) {
  Pod a = AddOwn("pod-a", "ptp", kPtp);
  Pod b = AddOwn("pod-b", "ptp", kPtp);
  LN_EXPECT_OK(GcOf("ptp", kPtp, {"pod-b"}));
  EXPECT_THAT(Sh("ip -o link show type veth"), Not(HasSubstr(host_->LinkName("pod-a", "eth0"))));
  LN_EXPECT_OK(CheckOf(b, "ptp"));
  LN_EXPECT_OK(StatusOf("ptp", kPtp));
  ipam_.fail = true;
  auto netns = NewNetns();
  ASSERT_TRUE(netns);
  const Json conf = *ParseJson(kPtp);
  auto context = Context();
  PluginRequest request = RequestFor("pod-c", *netns, conf);
  LN_EXPECT_ERROR(Find("ptp").Add(context, request), Code::kResourceExhausted, "no IP addresses");
  ipam_.fail = false;
  // The interface exists already: the address comes back.
  ASSERT_TRUE(Pin("/run/netns/pod-c", *netns));
  Sh("ip -n pod-c link add eth0 type bridge");
  LN_EXPECT_ERROR(Find("ptp").Add(context, request), Code::kAlreadyExists, "already exists");
  EXPECT_FALSE(ipam_.leases.contains("pod-c"));
}

// --- portmap's conditions

class PortConditions : public PluginsTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    PluginsTest::SetUp();
    for (const char* name : {"iptables", "ip6tables"}) {
      Sh(std::string("echo ") + (GetParam() ? "1" : "0") +
         " >/proc/sys/net/bridge/bridge-nf-call-" + name);
    }
  }
  static std::string Conf(const std::string& conditions) {
    return R"({"type":"portmap",)" + conditions +
           R"(,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}})";
  }
};
INSTANTIATE_TEST_SUITE_P(BridgeNf, PortConditions, ::testing::Bool());

TEST_P(PortConditions, DecideWhoIsSentOn) {
  MakeOutside();
  Sh("ip -n outside addr add 198.51.100.3/24 dev eth0");
  Pod a = Add("pod-a", Layer2Conf());
  Pod b = Add("pod-b", Layer2Conf());
  const Server at_a(Kind::kTcp, a.ns(), "::", 80, "a ");
  const Server at_b(Kind::kTcp, b.ns(), "::", 80, "b ");
  LN_EXPECT_OK(AddTo(a, "portmap", Conf(R"("conditionsV4":["-s","198.51.100.2/32"],
                                           "conditionsV6":["!","-s","2001:db8:100::/64"])")));
  LN_EXPECT_OK(AddTo(b, "portmap", Conf(R"("conditionsV4":["ip saddr != 198.51.100.2",
                                                           "iifname outside0"])")));
  LN_EXPECT_OK(CheckOf(a, "portmap"));
  LN_EXPECT_OK(CheckOf(b, "portmap"));
  const auto ask = [&](const char* source) {
    return Ask(Kind::kTcp, outside_, "198.51.100.1", 8080, std::chrono::milliseconds(700), source)
        .value_or("nobody")
        .substr(0, 2);
  };
  EXPECT_EQ(ask("198.51.100.2"), "a ");
  EXPECT_EQ(ask("198.51.100.3"), "b ") << "the same host port, other conditions";
  EXPECT_FALSE(AskTcp(kHost, "198.51.100.1", 8080)) << "not from outside0";
  EXPECT_EQ(AskTcp(outside_, "2001:db8:100::1", 8080).value_or("").substr(0, 2), "b ")
      << "b has none for IPv6";
  EXPECT_THAT(ShAny("nft list table inet linnet"), HasSubstr("hostport4_.sy198.51.100.2/32"));
  // The same conditions and port: taken.
  Pod c = Add("pod-c", Layer2Conf());
  LN_EXPECT_ERROR(AddTo(c, "portmap", Conf(R"("conditionsV4":["-s","198.51.100.2"])")),
                  Code::kAlreadyExists, "host port 8080/tcp is in use by pod-a");
  // Heals like the rest.
  Sh("nft flush ruleset");
  LN_EXPECT_OK(host_->Heal());
  EXPECT_EQ(ask("198.51.100.2"), "a ");
  LN_EXPECT_OK(DelOf(a, "portmap", false));
  EXPECT_EQ(ask("198.51.100.2"), "no");
  EXPECT_EQ(ask("198.51.100.3"), "b ");
}

// The executables build the same from nothing, and an older table of theirs again with what it has.
TEST_P(PortConditions, ByTheExecutablesToo) {
  MakeOutside();
  Sh("ip -n outside addr add 198.51.100.3/24 dev eth0");
  StartHost(NftMode::kExec);
  Pod a = Add("pod-a", Layer2Conf());
  const Server at_a(Kind::kTcp, a.ns(), "::", 80, "a ");
  LN_EXPECT_OK(AddTo(a, "portmap", Conf(R"("conditionsV4":["-s","198.51.100.2/32"])")));
  const auto ask = [&](const char* source) {
    return Ask(Kind::kTcp, outside_, "198.51.100.1", 8080, std::chrono::milliseconds(700), source);
  };
  EXPECT_TRUE(ask("198.51.100.2"));
  EXPECT_FALSE(ask("198.51.100.3"));
  // As an earlier version left it: without a set that is needed now.
  Sh("nft delete rule inet linnet-cni forward handle $(nft -a list chain inet linnet-cni forward | "
     "sed -n 's/.*@closed.*handle //p'); nft delete set inet linnet-cni closed");
  Pod b = Add("pod-b", Layer2Conf());
  LN_EXPECT_OK(AddTo(b, "portmap", R"({"runtimeConfig":{"portMappings":[{"hostPort":8081,
      "containerPort":80,"protocol":"tcp"}]}})"));
  EXPECT_THAT(Sh("nft list table inet linnet-cni"), HasSubstr("set closed"));
  EXPECT_TRUE(ask("198.51.100.2")) << "what was in the table is in the new one";
  LN_EXPECT_OK(CheckOf(a, "portmap"));
}

}  // namespace
}  // namespace linnet::network
