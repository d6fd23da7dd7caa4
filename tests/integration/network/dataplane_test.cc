// Packets through what the plugins build, and what is left when pods go.
#include <arpa/inet.h>
#include <sys/socket.h>

#include "linnet/base/file.h"

#include "net_fixture.h"

namespace linnet::network {
namespace {

using Kind = Server::Kind;

// Both modes, and both values of bridge-nf-call-iptables.
struct Variant {
  bool routed;
  bool bridge_nf;
};
std::string NameOf(const ::testing::TestParamInfo<Variant>& info) {
  return std::string(info.param.routed ? "routed" : "layer2") +
         (info.param.bridge_nf ? "_bridgenf" : "");
}

class DataPath : public NetTest, public ::testing::WithParamInterface<Variant> {
 protected:
  void SetUp() override {
    NetTest::SetUp();
    const std::string value = GetParam().bridge_nf ? "1" : "0";
    Sh("echo " + value + " >/proc/sys/net/bridge/bridge-nf-call-iptables");
    Sh("echo " + value + " >/proc/sys/net/bridge/bridge-nf-call-ip6tables");
  }
  std::string Conf() const { return GetParam().routed ? RoutedConf() : Layer2Conf(); }
};

INSTANTIATE_TEST_SUITE_P(Modes, DataPath,
                         ::testing::Values(Variant{true, false}, Variant{true, true},
                                           Variant{false, false}, Variant{false, true}),
                         NameOf);

TEST_P(DataPath, PodsReachEachOtherAndTheGateway) {
  Pod a = Add("pod-a", Conf());
  Pod b = Add("pod-b", Conf());
  // At once: what a pod sends first is not lost.
  for (const std::string& target : {b.v4, std::string("10.83.0.1"), std::string("fd00:83::1")}) {
    EXPECT_TRUE(Ping(a.ns(), target)) << target;
  }
  EXPECT_TRUE(Ping(b.ns(), a.v4));
  EXPECT_TRUE(Ping(kHost, a.v4));
  EXPECT_TRUE(PingSoon(a.ns(), b.v6));
  EXPECT_TRUE(PingSoon(b.ns(), a.v6));
  EXPECT_TRUE(PingSoon(kHost, b.v6));
  // Directly, with their own addresses.
  const Server server(Kind::kTcp, b.ns(), "0.0.0.0", 80);
  EXPECT_EQ(AskTcp(a.ns(), b.v4, 80), a.v4);
  auto checked = Check(a);
  EXPECT_TRUE(checked) << checked.error().message();
}

TEST_P(DataPath, PodsLeaveWithTheHostsAddress) {
  MakeOutside();
  Pod a = Add("pod-a", Conf());
  ASSERT_TRUE(PingSoon(kHost, a.v6));
  const Server four(Kind::kTcp, outside_, "0.0.0.0", 80);
  const Server six(Kind::kUdp, outside_, "::", 81);
  EXPECT_EQ(AskTcp(a.ns(), "198.51.100.2", 80), "198.51.100.1");
  EXPECT_EQ(AskUdp(a.ns(), "2001:db8:100::2", 81), "2001:db8:100::1");
}

TEST_P(DataPath, HostPortsWorkFromEverywhere) {
  MakeOutside();
  Pod a = Add("pod-a", Conf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"},
                                    {"HostPort":5353,"ContainerPort":53,"Protocol":"UDP","HostIP":""}])");
  Pod b = Add("pod-b", Conf());
  const Server tcp(Kind::kTcp, a.ns(), "::", 80, "tcp ");
  const Server udp(Kind::kUdp, a.ns(), "::", 53, "udp ");
  ASSERT_TRUE(PingSoon(kHost, a.v6));
  ASSERT_TRUE(PingSoon(kHost, b.v6));
  const auto starts = [](const std::optional<std::string>& answer, const std::string& tag) {
    return answer && answer->starts_with(tag);
  };
  EXPECT_EQ(AskTcp(outside_, "198.51.100.1", 8080), "tcp ::ffff:198.51.100.2")
      << "clients outside keep their address";
  EXPECT_TRUE(starts(AskTcp(outside_, "2001:db8:100::1", 8080), "tcp 2001:db8:100::2"));
  EXPECT_TRUE(starts(AskUdp(outside_, "198.51.100.1", 5353), "udp "));
  EXPECT_TRUE(starts(AskTcp(kHost, "127.0.0.1", 8080), "tcp "));
  EXPECT_TRUE(starts(AskUdp(kHost, "127.0.0.1", 5353), "udp "));
  EXPECT_TRUE(starts(AskTcp(kHost, "198.51.100.1", 8080), "tcp "));
  EXPECT_TRUE(starts(AskTcp(kHost, "2001:db8:100::1", 8080), "tcp "));
  for (const FdRef from : {a.ns(), b.ns()}) {
    const char* who = from.get() == a.netns.get() ? "itself" : "its neighbour";
    EXPECT_TRUE(starts(AskTcp(from, "198.51.100.1", 8080), "tcp ")) << who;
    EXPECT_TRUE(starts(AskTcp(from, "10.83.0.1", 8080), "tcp ")) << who;
    EXPECT_TRUE(starts(AskUdp(from, "198.51.100.1", 5353), "udp ")) << who;
    EXPECT_TRUE(starts(AskTcp(from, "2001:db8:100::1", 8080), "tcp ")) << who;
  }
  Del(a);
  EXPECT_EQ(AskTcp(kHost, "127.0.0.1", 8080), std::nullopt);
}

TEST_P(DataPath, HostIpLimitsAHostPort) {
  MakeOutside();
  Pod a = Add("pod-a", Conf(),
              R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"198.51.100.1"},
                                    {"hostPort":8081,"containerPort":80,"protocol":"tcp","hostIP":"127.0.0.1"}])");
  const Server tcp(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  EXPECT_TRUE(AskTcp(outside_, "198.51.100.1", 8080));
  EXPECT_FALSE(AskTcp(kHost, "127.0.0.1", 8080));
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 8081));
  EXPECT_FALSE(AskTcp(outside_, "198.51.100.1", 8081));
}

// A packet that only crosses the host is not the host port's (CVE-2025-67499).
TEST_P(DataPath, HostPortsLeaveOtherTrafficAlone) {
  MakeOutside();
  Pod a = Add("pod-a", Conf(), R"([{"hostPort":53,"containerPort":53,"protocol":"udp"}])");
  Pod b = Add("pod-b", Conf());
  const Server in_pod(Kind::kUdp, a.ns(), "0.0.0.0", 53, "pod ");
  const Server far(Kind::kUdp, outside_, "0.0.0.0", 53, "far ");
  EXPECT_EQ(AskUdp(b.ns(), "198.51.100.2", 53), "far 198.51.100.1");
}

// route_localnet is on, and yet nobody reaches what listens on 127.0.0.1 (CVE-2020-8558).
TEST_P(DataPath, LoopbackOfTheHostStaysInside) {
  Pod a = Add("pod-a", Conf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  const Server secret(Kind::kTcp, kHost, "127.0.0.1", 9999, "secret ");
  const Server tcp(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  ASSERT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  ASSERT_TRUE(AskTcp(kHost, "127.0.0.1", 9999));
  ASSERT_TRUE(Pin("/run/netns/attacker", a.ns()));
  Sh("ip -n attacker addr del 127.0.0.1/8 dev lo; ip -n attacker route add 127.0.0.0/8 via "
     "10.83.0.1 dev eth0 onlink;"
     "ip netns exec attacker sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet';"
     "ip -n attacker route del table local local 127.0.0.0/8 dev lo 2>/dev/null || true");
  EXPECT_EQ(Ask(Kind::kTcp, a.ns(), "127.0.0.1", 9999, std::chrono::milliseconds(500), a.v4),
            std::nullopt);
  ASSERT_TRUE(Unpin("/run/netns/attacker"));
}

TEST_P(DataPath, UdpFlowsFollowTheHostPort) {
  Pod a = Add("pod-a", Conf(), R"([{"hostPort":5353,"containerPort":53,"protocol":"udp"}])");
  auto first = std::make_unique<Server>(Kind::kUdp, a.ns(), "0.0.0.0", 53, "first ");
  const UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(5353);
  to.sin_addr.s_addr = htonl(0x0a530001);  // 10.83.0.1
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  const timeval limit{.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  const auto ask = [&]() -> std::string {
    char buffer[64] = {};
    if (::send(client.get(), "?", 1, 0) < 0)
      (void)::recv(client.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    const ssize_t n = ::recv(client.get(), buffer, sizeof(buffer) - 1, 0);
    return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : "";
  };
  EXPECT_TRUE(ask().starts_with("first "));
  first.reset();
  Del(a);
  Pod b = Add("pod-b", Conf(), R"([{"hostPort":5353,"containerPort":53,"protocol":"udp"}])");
  const Server second(Kind::kUdp, b.ns(), "0.0.0.0", 53, "second ");
  EXPECT_TRUE(ask().starts_with("second "));
}

}  // namespace
}  // namespace linnet::network
