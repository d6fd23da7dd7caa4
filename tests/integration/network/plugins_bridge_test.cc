// bridge: the keys that the other suites do not turn.
#include <gmock/gmock.h>

#include "linnet/testing/result.h"

#include "plugins_fixture.h"

namespace linnet::network {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class BridgeKeys : public PluginsTest {
 protected:
  static std::string Plain(const std::string& more, const std::string& name = "net") {
    return R"({"cniVersion":"1.1.0","name":")" + name + R"(","type":"bridge","bridge":"cni0",)" +
           more + "}";
  }
  static std::string Addressed(const std::string& more) {
    return Plain(more + R"(,"isGateway":true,"ipam":{"type":"host-local"})");
  }
};

TEST_F(BridgeKeys, PromiscMode) {
  Pod a = Add("pod-a", Addressed(R"("promiscMode":true)"));
  EXPECT_THAT(Sh("ip link show cni0"), HasSubstr("PROMISC"));
  LN_EXPECT_OK(Check(a));
  Sh("ip link set cni0 promisc off");
  LN_EXPECT_ERROR(Check(a), Code::kFailedPrecondition,
                  "Bridge interface cni0 configured Promisc Mode true doesn't match current "
                  "state: false");
  EXPECT_TRUE(PingSoon(a.ns(), "10.83.0.1"));
}

// As upstream, where another runtime calls: the MAC alone.
TEST_F(BridgeKeys, MacSpoofCheck) {
  StartHost(NftMode::kExec);
  Pod a = Add("pod-a", Addressed(R"("macspoofchk":true)"));
  Pod b = Add("pod-b", Addressed(R"("macspoofchk":false)"));
  for (const Pod* pod : {&a, &b}) {
    EXPECT_TRUE(PingSoon(pod->ns(), "10.83.0.1"));
    In(*pod, "ip addr add 10.83.9.9/16 dev eth0");
    In(*pod, "ip link set eth0 address 02:00:00:00:00:99");
    In(*pod, "ip neigh flush all");
    EXPECT_EQ(PingSoon(pod->ns(), "10.83.0.1"), pod == &b) << pod->id;
  }
  LN_EXPECT_OK(TryDel("pod-a", a.ns()));
  EXPECT_THAT(ShAny("nft list table bridge linnet-cni"), Not(HasSubstr("pod-a")));
}

TEST_F(BridgeKeys, DuplicateAddressDetection) {
  ipam_.v4 = false;
  Pod a = Add("pod-a", Addressed(R"("enabledad":true)"));
  EXPECT_EQ(In(a, "cat /proc/sys/net/ipv6/conf/eth0/accept_dad"), "1\n");
  EXPECT_EQ(In(a, "cat /proc/sys/net/ipv6/conf/eth0/enhanced_dad"), "1\n");
  EXPECT_THAT(In(a, "ip -6 addr show eth0"), Not(HasSubstr("tentative")));
  // The same address again: the second station hears of the first.
  ipam_.next = 2;
  StartHost(NftMode::kExec);  // no guard, which would keep the question from the first
  auto second = TryAdd("pod-b", Addressed(R"("enabledad":true)"));
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("fd00:83::2/64 is in use by another station"));
  EXPECT_FALSE(ipam_.leases.contains("pod-b")) << "the address is given back";
}

TEST_F(BridgeKeys, DisableContainerInterface) {
  Pod a = Add("pod-a", Plain(R"("disableContainerInterface":true)"));
  EXPECT_THAT(In(a, "ip -o link show eth0"), HasSubstr("state DOWN"));
  LN_EXPECT_OK(Check(a));
  auto refused = TryAdd("pod-b", Addressed(R"("disableContainerInterface":true)"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "cannot use IPAM when DisableContainerInterface flag is set");
}

TEST_F(BridgeKeys, MacOfTheRuntimeWinsAndIsGuarded) {
  Pod a = Add("pod-a", Addressed(R"("runtimeConfig":{"mac":"c2:00:00:00:00:01"},
      "args":{"cni":{"mac":"c2:00:00:00:00:02"}})"));
  EXPECT_EQ(a.result.interfaces[2].mac, "c2:00:00:00:00:01");
  EXPECT_THAT(In(a, "ip link show eth0"), HasSubstr("c2:00:00:00:00:01"));
  EXPECT_TRUE(PingSoon(a.ns(), "10.83.0.1"));
}

// Non-overlapping IPv6 subnets may share a bridge; another IPv4 address may not.
TEST_F(BridgeKeys, SeveralNetworksOnOneBridge) {
  ipam_.v4 = false;
  Pod a = Add("pod-a", Plain(R"("isGateway":true,"ipam":{"type":"x"})", "one"));
  ipam_.v6_base = "fd00:84::";
  Pod b = Add("pod-b", Plain(R"("isGateway":true,"ipam":{"type":"x"})", "two"));
  EXPECT_TRUE(PingSoon(a.ns(), "fd00:83::1"));
  EXPECT_TRUE(PingSoon(b.ns(), "fd00:84::1"));
  const std::string addresses = Sh("ip -6 -o addr show cni0");
  EXPECT_THAT(addresses, HasSubstr("fd00:83::1/64"));
  EXPECT_THAT(addresses, HasSubstr("fd00:84::1/64"));
  const std::string mac = Sh("cat /sys/class/net/cni0/address");
  EXPECT_EQ(a.result.interfaces[0].mac + "\n", mac) << "the address stays as ports come and go";
  Del(a);
  EXPECT_TRUE(PingSoon(b.ns(), "fd00:84::1"));
  EXPECT_EQ(Sh("cat /sys/class/net/cni0/address"), mac);
  // A network without addresses on it, too.
  Pod c = Add("pod-c", Plain(R"("mtu":1400)", "three"));
  EXPECT_THAT(In(c, "ip link show eth0"), HasSubstr("mtu 1400"));
  EXPECT_TRUE(c.result.ips.empty());
}

TEST_F(BridgeKeys, VlansHaveGatewaysOfTheirOwn) {
  const std::string conf = Plain(R"("vlan":100,"isGateway":true,"ipam":{"type":"host-local"})");
  auto added = TryAdd("pod-a", conf);
  if (!added) {
    // The feature is named, and nothing is left.
    EXPECT_THAT(added.error().message(), HasSubstr("CONFIG_BRIDGE_VLAN_FILTERING"));
    EXPECT_FALSE(ipam_.leases.contains("pod-a"));
    EXPECT_THAT(Sh("ip -o link show type veth"), Not(HasSubstr("cni0.100")));
    GTEST_SKIP() << "needs a kernel with CONFIG_BRIDGE_VLAN_FILTERING";
  }
  Pod a = *std::move(added);
  Pod b = Add("pod-b", conf);
  ASSERT_EQ(a.result.interfaces.size(), 4U);
  EXPECT_EQ(a.result.interfaces[3].name, "cni0.100");
  EXPECT_TRUE(PingSoon(a.ns(), "10.83.0.1"));
  EXPECT_TRUE(PingSoon(a.ns(), b.v4));
  EXPECT_THAT(Sh("ip -4 -o addr show cni0"), IsEmpty());
  EXPECT_THAT(Sh("bridge vlan show dev " + host_->LinkName("pod-a", "eth0")),
              HasSubstr("100 PVID Egress Untagged"));
  LN_EXPECT_OK(Check(a));
  Sh("ip link del cni0.100");
}

}  // namespace
}  // namespace linnet::network
