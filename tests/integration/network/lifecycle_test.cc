// What pods leave, what others may not do, and how the host's side heals.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "net_fixture.h"
#include "netlink/names.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

using Kind = Server::Kind;
using std::chrono_literals::operator""ms;

class Lifecycle : public NetTest {
 protected:
  // Everything of pods that can be seen on the host: links, elements.
  static std::string Census() {
    return ShAny(
        "ip -o link show type veth | grep -v -e outside -e uplink | sed 's/^[0-9]*: "
        "\\([^@]*\\).*/\\1/'; "
        "nft list ruleset | grep -c comment.*pod-");
  }
  static bool Eventually(const std::function<bool()>& check,
                         std::chrono::milliseconds limit = 1000ms) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!check()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(10ms);
    }
    return true;
  }
  static bool IsEmpty() { return Trim(Census()) == "0\n[failed]" || Trim(Census()) == "0"; }
};

TEST_F(Lifecycle, NothingIsLeftASecondAfterDel) {
  Pod a = Add("pod-a", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  Pod b = Add("pod-b", RoutedConf());
  EXPECT_FALSE(IsEmpty()) << Census();
  // One goes with its namespace, of the other the namespace stays.
  Del(a);
  auto done = TryDel("pod-b", b.netns);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_TRUE(ipam_.leases.empty());
  EXPECT_TRUE(Eventually([] { return IsEmpty(); })) << Census();
  // Again, with the namespace there and gone: success.
  for (const FdRef ns : {b.ns(), FdRef(-1)}) {
    for (const char* id : {"pod-a", "pod-b"}) {
      auto again = TryDel(id, ns);
      EXPECT_TRUE(again) << again.error().message();
    }
  }
}

TEST_F(Lifecycle, DelWorksWithoutBridgeAndNamespace) {
  Pod a = Add("pod-a", RoutedConf());
  Sh("ip link del linnet0");
  a.netns.Reset();
  auto done = TryDel("pod-a", FdRef(-1));
  EXPECT_TRUE(done) << done.error().message();
  EXPECT_TRUE(Eventually([] { return IsEmpty(); })) << Census();
  // The next pod makes the bridge again.
  Pod b = Add("pod-b", RoutedConf());
  EXPECT_TRUE(Ping(b.ns(), "10.83.0.1"));
}

// The old pod is alive and has its address: the new one with the same address is the one that
// answers.
TEST_F(Lifecycle, AnAddressIsFreeAsSoonAsDelReturns) {
  for (const std::string& conf : {RoutedConf(), Layer2Conf()}) {
    Pod old = Add("pod-old", conf);
    const Server one(Kind::kTcp, old.ns(), "0.0.0.0", 80, "old ");
    ASSERT_TRUE(AskTcp(kHost, old.v4, 80));
    auto done = TryDel("pod-old", old.netns);
    ASSERT_TRUE(done) << done.error().message();
    ipam_.next -= 1;
    Pod young = Add("pod-young", conf);
    ASSERT_EQ(young.v4, old.v4);
    const Server two(Kind::kTcp, young.ns(), "0.0.0.0", 80, "young ");
    EXPECT_EQ(AskTcp(kHost, young.v4, 80).value_or("").substr(0, 6), "young ");
    EXPECT_FALSE(Ping(old.ns(), "10.83.0.1"));
    Del(young);
    host_->DrainRetired();
    ShAny("ip link del linnet0");  // the next has the same subnet
  }
}

TEST_F(Lifecycle, OldSubnetsLiveOnWhenTheRoutedNetworkGetsAnother) {
  Pod a = Add("pod-a", RoutedConf());
  ipam_.v4_base = "10.99.7.";
  ipam_.v4_prefix = 24;
  ipam_.v6_base = "fd00:99::";
  Pod b = Add("pod-b", RoutedConf());
  EXPECT_TRUE(Ping(a.ns(), b.v4));
  EXPECT_TRUE(Ping(a.ns(), "10.83.0.1"));
  EXPECT_TRUE(Ping(b.ns(), "10.99.7.1"));
  EXPECT_TRUE(PingSoon(b.ns(), a.v6));
}

TEST_F(Lifecycle, ALayer2BridgeHasOneAddressUnlessForced) {
  Pod a = Add("pod-a", Layer2Conf());
  ipam_.v4_base = "10.99.7.";
  ipam_.v6 = false;
  auto refused = TryAdd("pod-b", Layer2Conf());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find(
                "\"cni0\" already has an IP address different from 10.99.7.1/16"),
            std::string::npos)
      << refused.error().message();
  Pod b = Add("pod-c", Layer2Conf(R"("forceAddress":true,)"));
  EXPECT_TRUE(Ping(b.ns(), "10.99.7.1"));
  EXPECT_EQ(Sh("ip -4 addr show cni0").find("10.83.0.1"), std::string::npos);
}

TEST_F(Lifecycle, Layer2WithoutAddressesJustConnects) {
  const std::string conf =
      R"({"name":"net","type":"bridge","bridge":"cni0","hairpinMode":true,"portIsolation":true,"mtu":1400})";
  Pod a = Add("pod-a", conf);
  EXPECT_TRUE(a.result.ips.empty());
  EXPECT_EQ(Sh("ip -4 -o addr show cni0"), "");
  const std::string port = Sh("ip -d link show " + host_->LinkName("pod-a", "eth0"));
  for (const char* part : {"hairpin on", "isolated on", "mtu 1400", "master cni0"}) {
    EXPECT_NE(port.find(part), std::string::npos) << part << "\n" << port;
  }
  auto checked = Check(a);
  EXPECT_TRUE(checked) << checked.error().message();
  Sh("ip link set " + host_->LinkName("pod-a", "eth0") + " nomaster");
  EXPECT_FALSE(Check(a)) << "CHECK sees a port that left the bridge";
}

TEST_F(Lifecycle, VlansNameWhatTheKernelLacks) {
  auto pod = TryAdd("pod-a", R"({"name":"net","type":"bridge","bridge":"cni0","vlan":100})");
  if (pod) {
    EXPECT_NE(Sh("bridge vlan show dev " + host_->LinkName("pod-a", "eth0")).find("100 PVID"),
              std::string::npos);
  } else {
    EXPECT_NE(pod.error().message().find("CONFIG_BRIDGE_VLAN_FILTERING"), std::string::npos)
        << pod.error().message();
    EXPECT_TRUE(Eventually([] { return IsEmpty(); })) << Census();
  }
}

TEST_F(Lifecycle, TheResultIsUpstreams) {
  Pod a = Add("pod-a", Layer2Conf());
  ASSERT_EQ(a.result.interfaces.size(), 3U);
  EXPECT_EQ(a.result.interfaces[0].name, "cni0");
  EXPECT_EQ(a.result.interfaces[1].name, host_->LinkName("pod-a", "eth0"));
  EXPECT_EQ(a.result.interfaces[2].name, "eth0");
  EXPECT_EQ(a.result.interfaces[2].sandbox, "/run/netns/pod-a");
  ASSERT_TRUE(Pin("/run/netns/look", a.ns()));
  for (const auto& [show, interface] :
       {std::pair(std::string("ip link show cni0"), 0U),
        std::pair("ip link show " + a.result.interfaces[1].name, 1U),
        std::pair(std::string("ip -n look link show eth0"), 2U)}) {
    EXPECT_NE(Sh(show).find("link/ether " + a.result.interfaces[interface].mac), std::string::npos)
        << show;
  }
  EXPECT_NE(Sh("ip -n look route").find("default via 10.83.0.1 dev eth0"), std::string::npos);
  EXPECT_NE(Sh("ip -n look -6 addr show eth0").find("scope link"), std::string::npos)
      << "a link-local address, as usual";
  ASSERT_TRUE(Unpin("/run/netns/look"));
}

// The host keeps its own routes when it begins to forward.
TEST_F(Lifecycle, ForwardingKeepsRouterAdvertisements) {
  Sh("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding; echo 0 >/proc/sys/net/ipv4/ip_forward;"
     "echo 1 >/proc/sys/net/ipv6/conf/uplink0/accept_ra");
  StartHost();
  Pod a = Add("pod-a", RoutedConf());
  EXPECT_EQ(Trim(Sh("cat /proc/sys/net/ipv6/conf/uplink0/accept_ra")), "2");
  EXPECT_EQ(Trim(Sh("cat /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv4/ip_forward")),
            "1\n1");
  EXPECT_EQ(Trim(Sh("cat /proc/sys/net/ipv6/conf/linnet0/accept_ra")), "0");
  const std::string memory = Sh("cat " + state_dir_ + "/sysctls");
  for (const char* line :
       {"/proc/sys/net/ipv6/conf/uplink0/accept_ra 1\n",
        "/proc/sys/net/ipv6/conf/all/forwarding 0\n", "/proc/sys/net/ipv4/ip_forward 0\n"}) {
    EXPECT_NE(memory.find(line), std::string::npos) << memory;
  }
}

TEST_F(Lifecycle, AFailedAddLeavesNothing) {
  ipam_.fail = true;
  EXPECT_FALSE(TryAdd("pod-a", RoutedConf()));
  ipam_.fail = false;
  EXPECT_TRUE(IsEmpty()) << Census();
  // The interface exists: the address comes back.
  auto ns = NewNetns();
  ASSERT_TRUE(ns);
  ASSERT_TRUE(Pin("/run/netns/taken", *ns));
  Sh("ip -n taken link add eth0 type bridge");
  auto context = Context();
  const Json conf = *ParseJson(RoutedConf());
  auto result = bridge_->Add(context, RequestFor("pod-b", *ns, conf));
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("already exists"), std::string::npos)
      << result.error().message();
  EXPECT_TRUE(ipam_.leases.empty());
  EXPECT_TRUE(Eventually([] { return IsEmpty(); })) << Census();
  ASSERT_TRUE(Unpin("/run/netns/taken"));
}

TEST_F(Lifecycle, ARepeatedAddTakesThePlaceOfTheFirst) {
  Pod a = Add("pod-a", RoutedConf());
  auto context = Context();
  const Json conf = *ParseJson(RoutedConf());
  auto again = bridge_->Add(context, RequestFor("pod-a", a.netns, conf));
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(Ping(a.ns(), "10.83.0.1"));
}

TEST_F(Lifecycle, AHostPortHasOneOwner) {
  Pod a = Add("pod-a", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  const Server server(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  for (const char* ports :
       {R"([{"hostPort":8080,"containerPort":81,"protocol":"tcp"}])",
        R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"127.0.0.1"}])"}) {
    auto b = TryAdd("pod-b", RoutedConf(), ports);
    ASSERT_FALSE(b) << ports;
    EXPECT_TRUE(b.error().Is(Code::kAlreadyExists));
    EXPECT_NE(b.error().message().find("8080/tcp"), std::string::npos) << b.error().message();
    EXPECT_NE(b.error().message().find("pod-a"), std::string::npos) << b.error().message();
  }
  EXPECT_EQ(AskTcp(kHost, "127.0.0.1", 8080).value_or("").substr(0, 2), "a ");
  // Another protocol is another port.
  Pod c = Add("pod-c", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"udp"}])");
  Del(a);
  Pod b = Add("pod-b2", RoutedConf(), R"([{"hostPort":8080,"containerPort":81,"protocol":"tcp"}])");
  EXPECT_FALSE(b.id.empty());
}

TEST_F(Lifecycle, TheTableHealsAfterAFlush) {
  Pod a = Add("pod-a", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  const Server server(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  ASSERT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  Sh("nft flush ruleset");
  ASSERT_FALSE(AskTcp(kHost, "127.0.0.1", 8080));
  // By the next status call …
  auto context = Context();
  const Json conf = *ParseJson(RoutedConf());
  auto status = bridge_->Status(context, RequestFor("", FdRef(-1), conf));
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  // … by the next ADD, by the next DEL.
  Sh("nft flush ruleset");
  Pod b = Add("pod-b", RoutedConf());
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  Sh("nft flush ruleset");
  Del(b);
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  auto checked = Check(a);
  EXPECT_TRUE(checked) << checked.error().message();
}

TEST_F(Lifecycle, RecoveryKeepsTheKnownAndSweepsTheRest) {
  Pod a = Add("pod-a", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  Pod b = Add("pod-b", RoutedConf(), R"([{"hostPort":8081,"containerPort":80,"protocol":"tcp"}])");
  Sh("ip link add lnother type veth peer name lnother2; ip link set lnother alias 'linnet-ab3d "
     "pod-x/eth0/net'");
  const Server server(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  StartHost();
  auto recovered = host_->Recover({"pod-a"});
  ASSERT_TRUE(recovered) << recovered.error().message();
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  EXPECT_TRUE(Ping(a.ns(), "10.83.0.1"));
  EXPECT_EQ(ShAny("ip link show " + host_->LinkName("pod-b", "eth0")).find("does not exist") ==
                std::string::npos,
            false);
  EXPECT_EQ(Sh("nft list ruleset").find("pod-b"), std::string::npos);
  EXPECT_NE(Sh("ip -o link show lnother").find("lnother"), std::string::npos)
      << "another instance's";
  Sh("ip link del lnother");
  auto restored = Restore(a);
  EXPECT_TRUE(restored) << restored.error().message();
  // The freed port is there for others; the kept one is not.
  EXPECT_FALSE(
      TryAdd("pod-c", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])"));
  Pod d = Add("pod-d", RoutedConf(), R"([{"hostPort":8081,"containerPort":80,"protocol":"tcp"}])");
  Del(a);
  Del(d);
  EXPECT_TRUE(Eventually([] { return IsEmpty(); })) << Census();
}

TEST_F(Lifecycle, RestorePutsBackWhatTheHostLost) {
  Pod a = Add("pod-a", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  const Server server(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  host_.reset();
  Sh("nft flush ruleset; ip link del linnet0");
  StartHost();
  ASSERT_TRUE(host_->Recover({"pod-a"}));
  auto restored = Restore(a);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_TRUE(Ping(a.ns(), "10.83.0.1"));
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 8080));
  auto checked = Check(a);
  EXPECT_TRUE(checked) << checked.error().message();
}

TEST_F(Lifecycle, GarbageCollectionKeepsWhatIsValid) {
  Pod a = Add("pod-a", RoutedConf());
  Pod b = Add("pod-b", RoutedConf());
  auto context = Context();
  const Json conf = *ParseJson(RoutedConf());
  auto done = bridge_->Gc(context, RequestFor("", FdRef(-1), conf), {{"pod-a", "eth0"}});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_TRUE(Ping(a.ns(), "10.83.0.1"));
  EXPECT_EQ(Sh("nft list ruleset").find("pod-b"), std::string::npos);
  EXPECT_NE(ShAny("ip link show " + host_->LinkName("pod-b", "eth0")).find("does not exist"),
            std::string::npos);
}

TEST_F(Lifecycle, ExecutedPluginsShareATableOfTheirOwn) {
  Pod daemon =
      Add("pod-d", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  auto daemons_host = std::move(host_);
  StartHost(NftMode::kExec);
  ipam_.v4_base = "10.84.0.";
  ipam_.v6_base = "fd00:84::";
  Pod a = Add("pod-a", Layer2Conf(), R"([{"hostPort":9090,"containerPort":80,"protocol":"tcp"}])");
  const Server server(Kind::kTcp, a.ns(), "0.0.0.0", 80, "a ");
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 9090));
  EXPECT_NE(Sh("nft list table inet linnet-cni").find("pod-a"), std::string::npos);
  EXPECT_EQ(ShAny("nft list table bridge linnet-cni").find("pod-a"), std::string::npos)
      << "upstream's behaviour: no guard";
  // Each respects the other's ports.
  auto taken =
      TryAdd("pod-b", Layer2Conf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message().find("pod-d"), std::string::npos) << taken.error().message();
  auto execs_host = std::exchange(host_, std::move(daemons_host));
  auto also_taken =
      TryAdd("pod-e", RoutedConf(), R"([{"hostPort":9090,"containerPort":80,"protocol":"tcp"}])");
  ASSERT_FALSE(also_taken);
  EXPECT_NE(also_taken.error().message().find("pod-a"), std::string::npos)
      << also_taken.error().message();
  std::swap(execs_host, host_);
  auto checked = Check(a);
  EXPECT_TRUE(checked) << checked.error().message();
  Del(a);
  EXPECT_EQ(Sh("nft list table inet linnet-cni").find("pod-a"), std::string::npos);
  EXPECT_FALSE(AskTcp(kHost, "127.0.0.1", 9090));
  std::swap(execs_host, host_);
}

// Twenty at once on a host without the bridge: one bridge with its address, all reachable; and one
// winner of a port.
TEST_F(Lifecycle, PodsMayComeAtOnce) {
  constexpr int kPods = 20;
  const Json conf = *ParseJson(RoutedConf());
  std::vector<UniqueFd> spaces;
  std::vector<Result<cni::AddResult>> results(kPods,
                                              Result<cni::AddResult>(Internal("did not run")));
  std::atomic<int> winners{0}, refused{0};
  for (int i = 0; i < kPods; ++i) {
    auto ns = NewNetns();
    ASSERT_TRUE(ns);
    spaces.push_back(*std::move(ns));
    ipam_.leases["pod-" + std::to_string(i)] =
        ipam_.next++;  // the test's IPAM plugin is no thread's friend
  }
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kPods; ++i) {
      threads.emplace_back([&, i] {
        const auto n = static_cast<std::size_t>(i);
        auto context = Context();
        const std::string id = "pod-" + std::to_string(i);
        results[n] = bridge_->Add(context, RequestFor(id, spaces[n], conf));
        if (!results[n]) return;
        const Json ports = *ParseJson(
            R"({"name":"net","runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}})");
        PluginRequest request = RequestFor(id, spaces[n], ports);
        request.prev_result = *results[n];
        auto mapped = portmap_->Add(context, request);
        (mapped ? winners : refused) += 1;
        if (!mapped) {
          EXPECT_TRUE(mapped.error().Is(Code::kAlreadyExists)) << mapped.error().message();
        }
      });
    }
  }
  for (std::size_t i = 0; i < kPods; ++i) {
    ASSERT_TRUE(results[i]) << results[i].error().message();
    EXPECT_TRUE(Ping(spaces[i], "10.83.0.1"));
  }
  EXPECT_EQ(winners, 1);
  EXPECT_EQ(refused, kPods - 1);
  EXPECT_EQ(Trim(Sh("ip -o link show type bridge | wc -l")), "1");
}

// --- what a pod may not do

// Sends a frame as it is from the pod's interface.
void SendFrame(FdRef netns, const std::string& frame) {
  UniqueFd fd;
  unsigned index = 0;
  auto visited = VisitNetns(netns, [&]() -> Result<void> {
    fd.Reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    index = ::if_nametoindex("eth0");
    return Ok();
  });
  ASSERT_TRUE(visited);
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(index);
  to.sll_halen = 6;
  std::memcpy(to.sll_addr, frame.data(), 6);
  ASSERT_EQ(::sendto(fd.get(), frame.data(), frame.size(), 0,
                     reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
            static_cast<ssize_t>(frame.size()))
      << std::strerror(errno);
}

// Receives frames on an interface.
class Sniffer {
 public:
  Sniffer(FdRef netns, const char* interface) {
    const auto open = [&]() -> Result<void> {
      fd_.Reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
      sockaddr_ll at{};
      at.sll_family = AF_PACKET;
      at.sll_protocol = htons(ETH_P_ALL);
      at.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
      if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) < 0)
        return Error::FromErrno(errno, "bind");
      return Ok();
    };
    auto done = netns.valid() ? VisitNetns(netns, open) : open();
    EXPECT_TRUE(done);
  }
  bool Saw(const std::string& mark, std::chrono::milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
      char buffer[2048];
      const ssize_t n = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (n > 0 && std::string(buffer, static_cast<std::size_t>(n)).find(mark) != std::string::npos)
        return true;
      if (n <= 0) std::this_thread::sleep_for(2ms);
    }
    return false;
  }

 private:
  UniqueFd fd_;
};

std::string Bytes(const MacAddress& mac) {
  return {reinterpret_cast<const char*>(mac.bytes().data()), 6};
}
std::string Bytes(const std::string& ip) {
  const IpAddress address = *IpAddress::Parse(ip);
  return {reinterpret_cast<const char*>(address.bytes().data()), address.bytes().size()};
}
MacAddress MacOf(const Pod& pod, std::size_t interface) {
  return *MacAddress::Parse(pod.result.interfaces[interface].mac);
}

constexpr std::string_view kMark = "linnet-spoof-mark";

std::string Arp(const MacAddress& to, const MacAddress& from, const MacAddress& sender,
                const std::string& sender_ip, const std::string& target_ip) {
  return Bytes(to) + Bytes(from) + std::string("\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02", 10) +
         Bytes(sender) + Bytes(sender_ip) + Bytes(to) + Bytes(target_ip) + std::string(kMark);
}

std::string Udp4(const MacAddress& to, const MacAddress& from, const std::string& source,
                 const std::string& destination, std::uint16_t source_port, std::uint16_t port) {
  std::string ip("\x45\0\0\0\0\0\0\0\x40\x11\0\0", 12);
  ip += Bytes(source) + Bytes(destination);
  const std::size_t total = ip.size() + 8 + kMark.size();
  ip[2] = static_cast<char>(total >> 8U);
  ip[3] = static_cast<char>(total & 0xffU);
  unsigned sum = 0;
  for (std::size_t i = 0; i < 20; i += 2) {
    sum += static_cast<unsigned>(static_cast<unsigned char>(ip[i])) << 8U |
           static_cast<unsigned char>(ip[i + 1]);
  }
  while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
  ip[10] = static_cast<char>(~sum >> 8U & 0xffU);
  ip[11] = static_cast<char>(~sum & 0xffU);
  std::string udp;
  for (const unsigned v : {static_cast<unsigned>(source_port), static_cast<unsigned>(port),
                           static_cast<unsigned>(8 + kMark.size()), 0U}) {
    udp += static_cast<char>(v >> 8U);
    udp += static_cast<char>(v & 0xffU);
  }
  return Bytes(to) + Bytes(from) + std::string("\x08\x00", 2) + ip + udp + std::string(kMark);
}

std::string Icmp6(const MacAddress& to, const MacAddress& from, const std::string& source,
                  const std::string& destination, std::uint8_t type, const std::string& target) {
  std::string body;
  body += static_cast<char>(type);
  body += std::string(7, '\0') + Bytes(target) + std::string(kMark);
  std::string ip("\x60\0\0\0\0\0\x3a\xff", 8);
  ip[4] = static_cast<char>(body.size() >> 8U);
  ip[5] = static_cast<char>(body.size() & 0xffU);
  return Bytes(to) + Bytes(from) + "\x86\xdd" + ip + Bytes(source) + Bytes(destination) + body;
}

class Spoofing : public Lifecycle, public ::testing::WithParamInterface<bool> {
 protected:
  std::string Conf() const { return GetParam() ? RoutedConf() : Layer2Conf(); }
};
INSTANTIATE_TEST_SUITE_P(Modes, Spoofing, ::testing::Values(true, false),
                         [](const auto& mode) { return mode.param ? "routed" : "layer2"; });

TEST_P(Spoofing, NoForgedFrameReachesNeighbourOrHost) {
  Pod a = Add("pod-a", Conf());
  Pod b = Add("pod-b", Conf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  ASSERT_TRUE(Ping(a.ns(), b.v4));
  const MacAddress mine = MacOf(a, 2), other = MacOf(b, 2), gateway = MacOf(a, 0);
  const MacAddress strange = *MacAddress::Parse("02:00:00:00:be:ef");
  const MacAddress all = *MacAddress::Parse("ff:ff:ff:ff:ff:ff");
  const MacAddress all6 = *MacAddress::Parse("33:33:00:00:00:01");
  const std::pair<const char*, std::string> frames[] = {
      {"foreign MAC", Udp4(gateway, strange, a.v4, "10.83.0.1", 5, 6)},
      {"foreign IPv4 source", Udp4(gateway, mine, b.v4, "10.83.0.1", 5, 6)},
      {"foreign IPv4 source, outside", Udp4(gateway, mine, "192.0.2.77", "10.83.0.1", 5, 6)},
      {"DHCP server", Udp4(all, mine, a.v4, "255.255.255.255", 67, 68)},
      {"ARP for the gateway's address", Arp(all, mine, mine, "10.83.0.1", b.v4)},
      {"ARP for the neighbour's address", Arp(gateway, mine, mine, b.v4, "10.83.0.1")},
      {"ARP with a foreign MAC", Arp(gateway, mine, other, a.v4, "10.83.0.1")},
      {"router advertisement", Icmp6(all6, mine, "fe80::1", "ff02::1", 134, "::")},
      {"router advertisement, own address", Icmp6(all6, mine, a.v6, "ff02::1", 134, "::")},
      {"neighbour advertisement", Icmp6(gateway, mine, a.v6, "fd00:83::1", 136, b.v6)},
      {"neighbour advertisement from nowhere", Icmp6(gateway, mine, "::", "fd00:83::1", 136, b.v6)},
      {"foreign IPv6 source", Icmp6(gateway, mine, b.v6, "fd00:83::1", 128, "::")},
      {"unknown protocol",
       Bytes(all) + Bytes(mine) + "\x88\xb5" + std::string(kMark) + std::string(40, 'x')},
      {"spanning tree", std::string("\x01\x80\xc2\x00\x00\x00", 6) + Bytes(mine) +
                            std::string("\x00\x26\x42\x42\x03", 5) + std::string(kMark) +
                            std::string(40, '\0')},
  };
  for (const auto& [what, frame] : frames) {
    Sniffer at_b(b.ns(), "eth0");
    Sniffer at_host(kHost, GetParam() ? "linnet0" : "cni0");
    SendFrame(a.ns(), frame);
    EXPECT_FALSE(at_b.Saw(std::string(kMark), 30ms)) << what;
    EXPECT_FALSE(at_host.Saw(std::string(kMark), 5ms)) << what;
  }
  // An honest one arrives: the test can see.
  Sniffer at_host(kHost, GetParam() ? "linnet0" : "cni0");
  SendFrame(a.ns(), Udp4(gateway, mine, a.v4, "10.83.0.1", 5, 6));
  EXPECT_TRUE(at_host.Saw(std::string(kMark), 500ms));
}

// Every packet between routed pods goes through the host: nothing passes on layer 2.
TEST_F(Lifecycle, RoutedPodsMeetOnlyInTheForwardHook) {
  for (const char* bridge_nf : {"0", "1"}) {
    Sh(std::string("echo ") + bridge_nf + " >/proc/sys/net/bridge/bridge-nf-call-iptables");
    Pod a = Add("pod-a", RoutedConf());
    Pod b =
        Add("pod-b", RoutedConf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
    Sh("nft 'table inet police { chain forward { type filter hook forward priority 0; ip daddr " +
       b.v4 + " drop; }; }'");
    EXPECT_FALSE(Ping(a.ns(), b.v4));
    const Server server(Kind::kTcp, b.ns(), "0.0.0.0", 80);
    EXPECT_FALSE(AskTcp(a.ns(), b.v4, 80));
    Sniffer at_b(b.ns(), "eth0");
    SendFrame(a.ns(), Udp4(MacOf(b, 2), MacOf(a, 2), a.v4, b.v4, 5, 6));
    EXPECT_FALSE(at_b.Saw(std::string(kMark), 50ms)) << "straight to the neighbour's MAC";
    Sh("nft delete table inet police");
    EXPECT_TRUE(Ping(a.ns(), b.v4));
    Del(a);
    Del(b);
    host_->DrainRetired();
  }
}

TEST_F(Lifecycle, NetworksAreApartExceptForPublishedPorts) {
  Pod a = Add("pod-a", RoutedConf());
  ipam_.v4_base = "10.84.0.";
  ipam_.v6_base = "fd00:84::";
  Pod b = Add(
      "pod-b",
      R"({"cniVersion":"1.1.0","name":"two","type":"bridge","bridge":"cni1","isDefaultGateway":true,
    "ipMasq":true,"ipam":{"type":"host-local"}})",
      R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
  const Server server(Kind::kTcp, b.ns(), "0.0.0.0", 80);
  EXPECT_FALSE(AskTcp(a.ns(), b.v4, 80));
  EXPECT_FALSE(Ping(b.ns(), a.v4));
  EXPECT_TRUE(AskTcp(a.ns(), "10.83.0.1", 8080));
}

// Docker's way to be alone: FORWARD drops what it does not know.
TEST_F(Lifecycle, PodsAreForwardedWhereIptablesDropsByPolicy) {
  if (ShAny("iptables -V").find("nf_tables") == std::string::npos)
    GTEST_SKIP() << "no iptables-nft";
  Sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
  MakeOutside();
  Pod a = Add("pod-a", RoutedConf());
  Pod b = Add("pod-b", RoutedConf());
  const Server server(Kind::kTcp, outside_, "0.0.0.0", 80);
  EXPECT_TRUE(AskTcp(a.ns(), "198.51.100.2", 80));
  EXPECT_TRUE(Ping(a.ns(), b.v4));
  EXPECT_TRUE(PingSoon(a.ns(), b.v6));
  // iptables can read them, and an administrator's rule comes first.
  EXPECT_NE(Sh("iptables -S FORWARD").find("-A FORWARD -i linnet0 "), std::string::npos)
      << Sh("iptables -S FORWARD");
  Sh("iptables -I FORWARD -d 198.51.100.2 -j DROP");
  EXPECT_FALSE(AskTcp(a.ns(), "198.51.100.2", 80));
  Sh("iptables -D FORWARD -d 198.51.100.2 -j DROP");
  // A reload of the firewall takes them away; the next status brings them back, once.
  Sh("iptables -F FORWARD");
  ASSERT_TRUE(host_->Heal());
  ASSERT_TRUE(host_->Heal());
  EXPECT_TRUE(Ping(a.ns(), b.v4));
  EXPECT_EQ(Trim(Sh("iptables -S FORWARD | grep -c linnet0")), "2");
}

// --- numbers

TEST_F(Lifecycle, CostOfAddAndDel) {
  constexpr int kPods = 60;
  std::vector<double> add, del, add_cpu;
  // The process's share, the kernel's work for it included: the same however busy the machine is.
  const auto cpu = [] {
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
  };
  std::vector<Pod> pods;
  std::vector<UniqueFd> ready;
  for (int i = 0; i < kPods; ++i) {
    auto ns = NewNetns();
    ASSERT_TRUE(ns);
    ready.push_back(*std::move(ns));
  }
  std::this_thread::sleep_for(500ms);  // the kernel still cleans up behind earlier tests
  const Json conf = *ParseJson(RoutedConf());
  auto context = Context();
  const auto since = [](auto begin) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
  };
  const Json loopback = *ParseJson(R"({"cniVersion":"1.1.0","name":"lo","type":"loopback"})");
  for (int i = 0; i < kPods; ++i) {
    std::this_thread::sleep_for(2ms);
    const std::string id = "pod-" + std::to_string(i);
    const double cpu_begin = cpu();
    const auto begin = std::chrono::steady_clock::now();
    auto lo = loopback_->Add(context, RequestFor(id, ready[static_cast<std::size_t>(i)], loopback));
    auto result = bridge_->Add(context, RequestFor(id, ready[static_cast<std::size_t>(i)], conf));
    add.push_back(since(begin));
    add_cpu.push_back(cpu() - cpu_begin);
    ASSERT_TRUE(lo);
    ASSERT_TRUE(result) << result.error().message();
  }
  for (int i = 0; i < kPods; ++i) {
    std::this_thread::sleep_for(2ms);
    const std::string id = "pod-" + std::to_string(i);
    const auto begin = std::chrono::steady_clock::now();
    auto done = bridge_->Del(context, RequestFor(id, ready[static_cast<std::size_t>(i)], conf));
    del.push_back(since(begin));
    ASSERT_TRUE(done) << done.error().message();
  }
  const auto drain = std::chrono::steady_clock::now();
  host_->DrainRetired();
  std::sort(add.begin(), add.end());
  std::sort(del.begin(), del.end());
  std::sort(add_cpu.begin(), add_cpu.end());
  std::printf(
      "ADD (lo + bridge, dual stack) ms: min %.2f p50 %.2f p90 %.2f max %.2f, cpu p50 %.2f\nDEL "
      "ms: p50 %.2f p90 %.2f max %.2f\ndrain ms %.0f\n",
      add.front(), add[kPods / 2], add[kPods * 9 / 10], add.back(), add_cpu[kPods / 2],
      del[kPods / 2], del[kPods * 9 / 10], del.back(), since(drain));
  // Far above what is expected: other things run on the machine of a test.
  EXPECT_LT(add[kPods / 2], 20.0);
  EXPECT_LT(del[kPods / 2], 20.0);
}

}  // namespace
}  // namespace linnet::network
