// tuning: attributes and sysctls of a pod's interface, and what of them comes back.
#include <gmock/gmock.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"

#include "plugins_fixture.h"

namespace linnet::network {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Tuning : public PluginsTest {
 protected:
  std::string Dir() const { return state_dir_ + "/tuning"; }
  std::string Conf(const std::string& more) const {
    return R"({"type":"tuning","dataDir":")" + Dir() + "\"," + more + "}";
  }
};

TEST_F(Tuning, AttributesAreSetCheckedAndForgotten) {
  Pod pod = Add("pod-a", Layer2Conf());
  LN_EXPECT_OK(AddTo(pod, "tuning",
                     Conf(R"("mac":"C2:11:22:33:44:55","mtu":1454,"promisc":true,"allmulti":true,
                             "txQLen":20000)")));
  EXPECT_EQ(pod.result.interfaces[2].mac, "C2:11:22:33:44:55") << "as it was written";
  const std::string link = In(pod, "ip -d link show eth0");
  for (const char* part : {"c2:11:22:33:44:55", "mtu 1454", "PROMISC", "ALLMULTI", "qlen 20000"})
    EXPECT_THAT(link, HasSubstr(part));
  LN_EXPECT_OK(CheckOf(pod, "tuning"));
  EXPECT_TRUE(Exists(Dir() + "/pod-a_eth0.json"));
  In(pod, "ip link set eth0 mtu 1400");
  LN_EXPECT_ERROR(CheckOf(pod, "tuning"), Code::kFailedPrecondition,
                  "Error: Tuning configured MTU of eth0 is 1454, current value is 1400");
  LN_EXPECT_OK(DelOf(pod, "tuning"));
  LN_EXPECT_OK(DelOf(pod, "tuning"));
  EXPECT_FALSE(Exists(Dir() + "/pod-a_eth0.json"));
  Del(pod);
}

// host-device gives the interface back to the host: as it was.
TEST_F(Tuning, DelPutsBackWhatOutlivesThePod) {
  Pod pod = Add("pod-a", Layer2Conf());
  const std::string before = In(pod, "ip -o link show eth0");
  pod.result.interfaces = {{.name = "eth0", .mac = "", .sandbox = "/run/netns/pod-a"}};
  LN_EXPECT_OK(AddTo(pod, "tuning",
                     Conf(R"("mac":"c2:11:22:33:44:55","mtu":1454,"promisc":true,"allmulti":true,
                             "txQLen":20)")));
  EXPECT_NE(In(pod, "ip -o link show eth0"), before);
  LN_EXPECT_OK(DelOf(pod, "tuning"));
  EXPECT_EQ(In(pod, "ip -o link show eth0"), before);
  // The namespace is gone, the file must go all the same.
  LN_EXPECT_OK(AddTo(pod, "tuning", Conf(R"("mtu":1454)")));
  EXPECT_TRUE(Exists(Dir() + "/pod-a_eth0.json"));
  const UniqueFd kept = std::move(pod.netns);
  LN_EXPECT_OK(DelOf(pod, "tuning"));
  EXPECT_FALSE(Exists(Dir() + "/pod-a_eth0.json"));
}

TEST_F(Tuning, Sysctls) {
  Pod pod = Add("pod-a", Layer2Conf());
  LN_EXPECT_OK(AddTo(pod, "tuning", Conf(R"("sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1",
      "net.ipv4.ip_local_port_range":"1024 65000","net/core/somaxconn":"77"})")));
  EXPECT_EQ(In(pod, "cat /proc/sys/net/ipv4/conf/eth0/arp_filter"), "1\n");
  EXPECT_EQ(In(pod, "cat /proc/sys/net/core/somaxconn"), "77\n");
  LN_EXPECT_OK(CheckOf(pod, "tuning"));
  In(pod, "sh -c 'echo 78 >/proc/sys/net/core/somaxconn'");
  LN_EXPECT_ERROR(CheckOf(pod, "tuning"), Code::kFailedPrecondition,
                  "value of /proc/sys/net/core/somaxconn is 77, current value is 78");
  LN_EXPECT_ERROR(AddTo(pod, "tuning", Conf(R"("sysctl":{"kernel.hostname":"x"})")),
                  Code::kInvalidArgument, "invalid net sysctl key: \"kernel/hostname\"");
  LN_EXPECT_ERROR(AddTo(pod, "tuning", Conf(R"("sysctl":{"net.core.no_such":"x"})")),
                  Code::kNotFound, "no_such");
  LN_EXPECT_ERROR(AddTo(pod, "tuning", R"({"sysctl":{"net.a":"1","net.a":"1"}})"),
                  Code::kInvalidArgument, "duplicated sysctl keys are not allowed");
  EXPECT_FALSE(Exists(Dir())) << "sysctls alone are not kept";
}

// The anti-spoofing guard of the port follows: and the old address is nobody's any more.
TEST_F(Tuning, AnotherMacStaysConnected) {
  for (const std::string& conf : {RoutedConf(), Layer2Conf()}) {
    Pod a = Add("pod-a", conf);
    Pod b = Add("pod-b", conf);
    const std::string old = a.result.interfaces[2].mac;
    LN_EXPECT_OK(AddTo(a, "tuning", Conf(R"("mac":"c2:11:22:33:44:55")")));
    attached_["pod-a"].result = a.result;
    for (const std::string& target : {std::string("10.83.0.1"), b.v4})
      EXPECT_TRUE(PingSoon(a.ns(), target)) << target;
    EXPECT_TRUE(PingSoon(b.ns(), a.v4));
    EXPECT_TRUE(PingSoon(a.ns(), b.v6));
    EXPECT_TRUE(PingSoon(b.ns(), a.v6));
    LN_EXPECT_OK(Check(a));
    In(a, "ip link set eth0 address " + old);
    In(a, "ip neigh flush all");
    EXPECT_FALSE(Ping(a.ns(), b.v4));
    In(a, "ip link set eth0 address c2:11:22:33:44:55");
    EXPECT_TRUE(PingSoon(a.ns(), b.v4));
    // As after a restart: what the final result says is what may pass.
    LN_EXPECT_OK(Restore(a));
    EXPECT_TRUE(PingSoon(a.ns(), b.v4));
    Del(a);
    Del(b);
    ShAny("umount /run/netns/in-pod-a; rm -f /run/netns/in-pod-a");
    Sh("ip link del " + b.result.interfaces[0].name);  // both have the same subnet
    StartHost();
  }
}

// What the engine does after a foreign plugin that set another address: Restore with the result.
TEST_F(Tuning, RestoreTakesTheFinalResultsMac) {
  Pod a = Add("pod-a", Layer2Conf());
  Pod b = Add("pod-b", Layer2Conf());
  const std::string old = a.result.interfaces[2].mac;
  In(a, "ip link set eth0 address c2:11:22:33:44:55");
  EXPECT_FALSE(Ping(a.ns(), b.v4));
  a.result.interfaces[2].mac = "c2:11:22:33:44:55";
  attached_["pod-a"].result = a.result;
  LN_EXPECT_OK(Restore(a));
  EXPECT_TRUE(PingSoon(a.ns(), b.v4));
  In(a, "ip link set eth0 address " + old);
  EXPECT_FALSE(Ping(a.ns(), b.v4)) << "the old one is out";
}

TEST_F(Tuning, GcRemovesFilesOfItsNetworkOnly) {
  Pod a = Add("pod-a", Layer2Conf());
  Pod b = Add("pod-b", Layer2Conf());
  LN_EXPECT_OK(AddTo(a, "tuning", Conf(R"("mtu":1400)")));
  LN_EXPECT_OK(AddTo(b, "tuning", Conf(R"("mtu":1400)")));
  LN_EXPECT_OK(ReplaceFile(Dir() + "/other_eth0.json", "{\"mtu\": 1500}"));
  LN_EXPECT_OK(GcOf("tuning", R"({"name":"elsewhere","dataDir":")" + Dir() + "\"}", {}));
  EXPECT_TRUE(Exists(Dir() + "/pod-a_eth0.json"));
  LN_EXPECT_OK(GcOf("tuning", Conf(R"("mtu":1400)"), {"pod-b"}));
  EXPECT_FALSE(Exists(Dir() + "/pod-a_eth0.json"));
  EXPECT_TRUE(Exists(Dir() + "/pod-b_eth0.json"));
  EXPECT_TRUE(Exists(Dir() + "/other_eth0.json")) << "another runtime's";
  LN_EXPECT_OK(StatusOf("tuning", Conf(R"("sysctl":{"net.core.somaxconn":"1"})")));
  LN_EXPECT_ERROR(StatusOf("tuning", Conf(R"("sysctl":{"vm.swappiness":"1"})")),
                  Code::kInvalidArgument, "invalid net sysctl key");
}

}  // namespace
}  // namespace linnet::network
