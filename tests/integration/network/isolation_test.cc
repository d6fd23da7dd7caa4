// What a pod with CAP_NET_RAW may not do to its neighbours and to the host, one test for each kind
// of attack, with frames really sent. Routed and layer 2 alike.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "net_fixture.h"
#include "netlink/names.h"
#include "nft/elements.h"

namespace linnet::network {
namespace {

using Kind = Server::Kind;
using std::chrono_literals::operator""ms;

constexpr std::string_view kMark = "linnet-isolation-mark";

std::string U16(unsigned v) {
  return {static_cast<char>(v >> 8U & 0xffU), static_cast<char>(v & 0xffU)};
}
std::string Bytes(const MacAddress& mac) {
  return {reinterpret_cast<const char*>(mac.bytes().data()), 6};
}
std::string Bytes(const std::string& ip) {
  const IpAddress address = *IpAddress::Parse(ip);
  return {reinterpret_cast<const char*>(address.bytes().data()), address.bytes().size()};
}

unsigned Sum(std::string_view bytes, unsigned sum = 0) {
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    sum += static_cast<unsigned>(static_cast<unsigned char>(bytes[i])) << 8U;
    if (i + 1 < bytes.size()) sum += static_cast<unsigned char>(bytes[i + 1]);
  }
  while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
  return sum;
}

std::string Frame(const MacAddress& to, const MacAddress& from, unsigned type,
                  const std::string& body) {
  return Bytes(to) + Bytes(from) + U16(type) + body;
}

std::string Ip4(const std::string& source, const std::string& destination, char protocol,
                const std::string& body) {
  std::string ip = std::string("\x45\0", 2) + U16(static_cast<unsigned>(20 + body.size())) +
                   std::string("\0\0\0\0\x40", 5) + protocol + std::string(2, '\0') +
                   Bytes(source) + Bytes(destination);
  ip.replace(10, 2, U16(~Sum(ip) & 0xffffU));
  return ip + body;
}

std::string Udp(unsigned source, unsigned port) {
  return U16(source) + U16(port) + U16(static_cast<unsigned>(8 + kMark.size())) + U16(0) +
         std::string(kMark);
}

std::string Ip6(const std::string& source, const std::string& destination, char next,
                const std::string& body) {
  return std::string("\x60\0\0\0", 4) + U16(static_cast<unsigned>(body.size())) + next + "\xff" +
         Bytes(source) + Bytes(destination) + body;
}

// ICMPv6 with a right checksum: what is refused is refused for what it says.
std::string Icmp6Body(const std::string& source, const std::string& destination, int type,
                      std::string rest) {
  std::string body = std::string(1, static_cast<char>(type)) + std::string(3, '\0') + rest;
  const std::string pseudo = Bytes(source) + Bytes(destination) + std::string(2, '\0') +
                             U16(static_cast<unsigned>(body.size())) + std::string("\0\0\0\x3a", 4);
  body.replace(2, 2, U16(~Sum(body, Sum(pseudo)) & 0xffffU));
  return body;
}

std::string Icmp6(const std::string& source, const std::string& destination, int type,
                  const std::string& rest) {
  return Ip6(source, destination, 0x3a, Icmp6Body(source, destination, type, rest));
}

// The bodies of neighbour discovery behind its first four bytes.
std::string Solicit(const std::string& target, const MacAddress& mac) {
  return std::string(4, '\0') + Bytes(target) + "\x01\x01" + Bytes(mac);
}
std::string Advertise(const std::string& target, const MacAddress& mac) {
  return std::string("\x20\0\0\0", 4) + Bytes(target) + "\x02\x01" + Bytes(mac);  // override
}
// Router lifetime 1800 s, prefix 2001:db8:bad::/64 for autoconfiguration.
std::string RouterAdvertisement(const MacAddress& mac) {
  return std::string("\x40\0\x07\x08\0\0\0\0\0\0\0\0", 12) + "\x01\x01" + Bytes(mac) +
         std::string("\x03\x04\x40\xc0\0\x01\x51\x80\0\0\x38\x40\0\0\0\0", 16) +
         Bytes(std::string("2001:db8:bad::"));
}

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

// Frames that arrive at an interface (not those that leave).
class Sniffer {
 public:
  Sniffer(FdRef netns, const std::string& interface) {
    const auto open = [&]() -> Result<void> {
      fd_.Reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
      sockaddr_ll at{};
      at.sll_family = AF_PACKET;
      at.sll_protocol = htons(ETH_P_ALL);
      at.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
      if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) < 0)
        return Error::FromErrno(errno, "bind");
      return Ok();
    };
    auto done = netns.valid() ? VisitNetns(netns, open) : open();
    EXPECT_TRUE(done);
  }
  bool Saw(std::string_view mark, std::chrono::milliseconds limit = 30ms) {
    const auto end = std::chrono::steady_clock::now() + limit;
    do {
      char buffer[2048];
      sockaddr_ll from{};
      socklen_t length = sizeof(from);
      const ssize_t n = ::recvfrom(fd_.get(), buffer, sizeof(buffer), 0,
                                   reinterpret_cast<sockaddr*>(&from), &length);
      if (n > 0 && from.sll_pkttype != PACKET_OUTGOING &&
          std::string_view(buffer, static_cast<std::size_t>(n)).find(mark) !=
              std::string_view::npos)
        return true;
      if (n <= 0) std::this_thread::sleep_for(2ms);
    } while (std::chrono::steady_clock::now() < end);
    return false;
  }

 private:
  UniqueFd fd_;
};

// A UDP socket that says whether anything came.
class Canary {
 public:
  Canary(const std::string& address, std::uint16_t port) {
    const bool v4 = address.find(':') == std::string::npos;
    fd_.Reset(::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (v4) {
      sockaddr_in at{};
      at.sin_family = AF_INET;
      at.sin_port = htons(port);
      ::inet_pton(AF_INET, address.c_str(), &at.sin_addr);
      EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
    } else {
      sockaddr_in6 at{};
      at.sin6_family = AF_INET6;
      at.sin6_port = htons(port);
      ::inet_pton(AF_INET6, address.c_str(), &at.sin6_addr);
      EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
    }
  }
  bool Heard(std::chrono::milliseconds limit = 60ms) {
    const auto end = std::chrono::steady_clock::now() + limit;
    do {
      char buffer[256];
      if (::recv(fd_.get(), buffer, sizeof(buffer), 0) > 0) return true;
      std::this_thread::sleep_for(2ms);
    } while (std::chrono::steady_clock::now() < end);
    return false;
  }

 private:
  UniqueFd fd_;
};

class Isolation : public NetTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    NetTest::SetUp();
    if (IsSkipped()) return;
    a_ = Add("pod-a", Conf(), R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])");
    b_ = Add("pod-b", Conf());
    mine_ = *MacAddress::Parse(a_.result.interfaces[2].mac);
    theirs_ = *MacAddress::Parse(b_.result.interfaces[2].mac);
    gateway_ = *MacAddress::Parse(a_.result.interfaces[0].mac);
    ASSERT_TRUE(Ping(a_.ns(), b_.v4));
    ASSERT_TRUE(PingSoon(a_.ns(), b_.v6));
    ASSERT_TRUE(Ping(kHost, b_.v4));
    ASSERT_TRUE(PingSoon(kHost, b_.v6));
    ASSERT_TRUE(Pin("/run/netns/b", b_.ns()));
  }
  std::string Conf() const { return GetParam() ? RoutedConf() : Layer2Conf(); }
  std::string bridge() const { return GetParam() ? "linnet0" : "cni0"; }

  // The frame arrives nowhere: not at the neighbour, not at the host.
  void Refused(const std::string& what, const std::string& frame, std::string_view mark = kMark) {
    Sniffer at_b(b_.ns(), "eth0");
    Sniffer at_host(kHost, bridge());
    SendFrame(a_.ns(), frame);
    EXPECT_FALSE(at_b.Saw(mark)) << what << " reached the neighbour";
    EXPECT_FALSE(at_host.Saw(mark, 4ms)) << what << " reached the host";
  }
  void Arrives(const std::string& what, const std::string& frame, std::string_view mark = kMark) {
    Sniffer at_host(kHost, bridge());
    SendFrame(a_.ns(), frame);
    EXPECT_TRUE(at_host.Saw(mark, 500ms)) << what;
  }
  // Who is where, as host and neighbour believe.
  static std::string Beliefs() {
    return Sh(
        "{ ip neigh; ip -n b neigh; } | sed -E 's/ (REACHABLE|STALE|DELAY|PROBE|router)//g' | "
        "grep -v -e FAILED -e INCOMPLETE -e uplink | sort; ip -6 route; ip -n b -6 route; ip -n b "
        "-6 addr "
        "show "
        "eth0 | grep inet6");
  }
  std::string PortOf(const MacAddress& mac) {
    return Sh("bridge fdb show br " + bridge() + " | grep '^" + mac.str() +
              "' | sed 's/.*dev "
              "\\([^ ]*\\) .*/\\1/' | sort -u");
  }

  Pod a_, b_;
  MacAddress mine_{{}}, theirs_{{}}, gateway_{{}};
  const MacAddress all_ = *MacAddress::Parse("ff:ff:ff:ff:ff:ff");
  const MacAddress all6_ = *MacAddress::Parse("33:33:00:00:00:01");
  const MacAddress strange_ = *MacAddress::Parse("02:00:00:00:be:ef");
};

INSTANTIATE_TEST_SUITE_P(Modes, Isolation, ::testing::Values(true, false),
                         [](const auto& mode) { return mode.param ? "Routed" : "Layer2"; });

// The test can see: an honest frame arrives.
TEST_P(Isolation, HonestFramesArrive) {
  Arrives("IPv4", Frame(gateway_, mine_, ETH_P_IP, Ip4(a_.v4, "10.83.0.1", 17, Udp(5, 6))));
  Arrives("IPv6", Frame(gateway_, mine_, ETH_P_IPV6, Ip6(a_.v6, "fd00:83::1", 17, Udp(5, 6))));
}

TEST_P(Isolation, Mac) {
  const std::string port = PortOf(theirs_);
  for (const MacAddress& source : {strange_, theirs_, gateway_}) {
    Refused("a frame from " + source.str(),
            Frame(gateway_, source, ETH_P_IP, Ip4(a_.v4, "10.83.0.1", 17, Udp(5, 6))));
  }
  // The bridge has learned nothing of it: the neighbour's frames still go to the neighbour.
  EXPECT_EQ(PortOf(theirs_), port);
  EXPECT_TRUE(Ping(kHost, b_.v4));
}

TEST_P(Isolation, Ipv4Address) {
  for (const std::string& source :
       {b_.v4, std::string("10.83.0.1"), std::string("192.0.2.77"), std::string("127.0.0.1"),
        std::string("0.0.0.0"), std::string("255.255.255.255")}) {
    Refused("a packet from " + source,
            Frame(gateway_, mine_, ETH_P_IP, Ip4(source, "10.83.0.1", 17, Udp(5, 6))));
  }
}

TEST_P(Isolation, Ipv6Address) {
  for (const std::string& source :
       {b_.v6, std::string("fd00:83::1"), std::string("2001:db8::77"), std::string("::1"),
        std::string("fe80::1"), std::string("::")}) {
    Refused("a packet from " + source,
            Frame(gateway_, mine_, ETH_P_IPV6, Ip6(source, "fd00:83::1", 17, Udp(5, 6))));
  }
}

// A tag does not hide what is inside.
TEST_P(Isolation, VlanTags) {
  const std::string inner = Ip4(b_.v4, "10.83.0.1", 17, Udp(5, 6));
  for (const unsigned tag : {0x8100U, 0x88a8U}) {
    for (const unsigned vlan : {0U, 1U, 100U}) {
      Refused("a tagged packet", Frame(gateway_, mine_, tag, U16(vlan) + U16(ETH_P_IP) + inner));
      Refused("a tagged broadcast", Frame(all_, mine_, tag, U16(vlan) + U16(ETH_P_IP) + inner));
    }
  }
}

TEST_P(Isolation, Arp) {
  const std::string beliefs = Beliefs();
  const auto arp = [&](const MacAddress& to, unsigned operation, const MacAddress& sender,
                       const std::string& sender_ip, const std::string& target_ip) {
    return Frame(to, mine_, ETH_P_ARP,
                 std::string("\0\x01\x08\0\x06\x04", 6) + U16(operation) + Bytes(sender) +
                     Bytes(sender_ip) + Bytes(all_) + Bytes(target_ip) + std::string(kMark));
  };
  for (const unsigned operation : {1U, 2U}) {
    Refused("ARP for the gateway", arp(all_, operation, mine_, "10.83.0.1", b_.v4));
    Refused("ARP for the gateway, to the neighbour",
            arp(theirs_, operation, mine_, "10.83.0.1", b_.v4));
    Refused("ARP for the neighbour", arp(gateway_, operation, mine_, b_.v4, "10.83.0.1"));
    Refused("gratuitous ARP for the neighbour", arp(all_, operation, mine_, b_.v4, b_.v4));
    Refused("ARP with a foreign MAC", arp(gateway_, operation, theirs_, a_.v4, "10.83.0.1"));
  }
  EXPECT_EQ(Beliefs(), beliefs);
  EXPECT_TRUE(Ping(a_.ns(), b_.v4));
}

TEST_P(Isolation, NeighbourDiscovery) {
  const std::string beliefs = Beliefs();
  const auto nd = [&](const MacAddress& to, const std::string& source,
                      const std::string& destination, int type, const std::string& rest) {
    return Frame(to, mine_, ETH_P_IPV6,
                 Icmp6(source, destination, type, rest + std::string(kMark)));
  };
  for (const auto& [to, destination] :
       {std::pair(gateway_, std::string("fd00:83::1")), std::pair(all6_, std::string("ff02::1"))}) {
    Refused("an advertisement of the neighbour",
            nd(to, a_.v6, destination, 136, Advertise(b_.v6, mine_)));
    Refused("an advertisement of the gateway",
            nd(to, a_.v6, destination, 136, Advertise("fd00:83::1", mine_)));
    Refused("an advertisement in the neighbour's name",
            nd(to, b_.v6, destination, 136, Advertise(b_.v6, mine_)));
    Refused("a solicitation in the neighbour's name",
            nd(to, b_.v6, destination, 135, Solicit("fd00:83::1", mine_)));
  }
  // As if somebody else had the address already: duplicate address detection of a neighbour.
  Refused("a probe for the neighbour's address",
          nd(all6_, "::", "ff02::1", 135, std::string(4, '\0') + Bytes(b_.v6)));
  EXPECT_EQ(Beliefs(), beliefs);
  EXPECT_TRUE(Ping(a_.ns(), b_.v6));
}

// CVE-2020-10749.
TEST_P(Isolation, RouterAdvertisements) {
  const std::string beliefs = Beliefs();
  for (const std::string& source : {std::string("fe80::1"), LinkLocal(mine_).str(), a_.v6}) {
    for (const int type : {134, 137}) {
      const std::string rest = (type == 134 ? RouterAdvertisement(mine_)
                                            : std::string(4, '\0') + Bytes(b_.v6) + Bytes(a_.v6)) +
                               std::string(kMark);
      Refused("type " + std::to_string(type) + " from " + source,
              Frame(all6_, mine_, ETH_P_IPV6, Icmp6(source, "ff02::1", type, rest)));
      // Behind an extension header (RFC 7113): hop-by-hop and destination options with padding.
      for (const char header : {'\0', '\x3c'}) {
        const std::string options = std::string("\x3a\0\x01\x04\0\0\0\0", 8);
        Refused("type " + std::to_string(type) + " behind an extension header",
                Frame(all6_, mine_, ETH_P_IPV6,
                      Ip6(source, "ff02::1", header,
                          options + Icmp6Body(source, "ff02::1", type, rest))));
      }
    }
  }
  EXPECT_EQ(Beliefs(), beliefs) << "no route, no address came of it";
  for (const char* name : {"accept_ra", "accept_redirects"}) {
    EXPECT_EQ(Trim(Sh("cat /proc/sys/net/ipv6/conf/" + bridge() + "/" + name)), "0") << name;
    EXPECT_EQ(Trim(Sh("ip netns exec b cat /proc/sys/net/ipv6/conf/eth0/" + std::string(name))),
              "0")
        << name;
  }
}

TEST_P(Isolation, DhcpServers) {
  Refused("DHCPv4", Frame(all_, mine_, ETH_P_IP, Ip4(a_.v4, "255.255.255.255", 17, Udp(67, 68))));
  Refused("DHCPv4 to one station",
          Frame(theirs_, mine_, ETH_P_IP, Ip4(a_.v4, b_.v4, 17, Udp(67, 68))));
  for (const std::string& source : {a_.v6, LinkLocal(mine_).str()}) {
    Refused("DHCPv6 from " + source,
            Frame(all6_, mine_, ETH_P_IPV6, Ip6(source, "ff02::1", 17, Udp(547, 546))));
  }
}

TEST_P(Isolation, OtherProtocols) {
  Refused("an unknown protocol",
          Frame(all_, mine_, 0x88b5, std::string(kMark) + std::string(40, 'x')));
  Refused("spanning tree", Bytes(*MacAddress::Parse("01:80:c2:00:00:00")) + Bytes(mine_) + U16(38) +
                               std::string("\x42\x42\x03", 3) + std::string(kMark) +
                               std::string(40, '\0'));
  Refused("LLDP", Frame(*MacAddress::Parse("01:80:c2:00:00:0e"), mine_, 0x88cc,
                        std::string(kMark) + std::string(40, '\0')));
  Refused("PPPoE", Frame(all_, mine_, 0x8863, std::string(kMark) + std::string(40, '\0')));
}

// CVE-2020-8558: a host port is there, so 127.0.0.1 may be routed; who sends to it from outside,
// from a pod or from a neighbour on the host's own wire, reaches nothing.
TEST_P(Isolation, LoopbackOfTheHost) {
  MakeOutside();
  Canary canary("127.0.0.1", 9999);
  Canary canary6("::1", 9999);
  const auto outside_mac =
      *MacAddress::Parse(std::string(Trim(Sh("cat /sys/class/net/outside0/address"))));
  const auto far_mac = *MacAddress::Parse(
      std::string(Trim(Sh("ip netns exec outside cat /sys/class/net/eth0/address"))));
  for (const std::string& source : {a_.v4, std::string("127.0.0.1")})
    SendFrame(a_.ns(),
              Frame(gateway_, mine_, ETH_P_IP, Ip4(source, "127.0.0.1", 17, Udp(5, 9999))));
  for (const std::string& source : {std::string("198.51.100.2"), std::string("127.0.0.1")})
    SendFrame(outside_,
              Frame(outside_mac, far_mac, ETH_P_IP, Ip4(source, "127.0.0.1", 17, Udp(5, 9999))));
  SendFrame(a_.ns(), Frame(gateway_, mine_, ETH_P_IPV6, Ip6(a_.v6, "::1", 17, Udp(5, 9999))));
  EXPECT_FALSE(canary.Heard());
  EXPECT_FALSE(canary6.Heard(5ms));
  // Nor by the host's other addresses.
  const Server secret(Kind::kTcp, kHost, "127.0.0.1", 9998);
  for (const char* address : {"192.0.2.2", "10.83.0.1", "198.51.100.1"}) {
    EXPECT_FALSE(AskTcp(a_.ns(), address, 9998)) << address;
  }
  EXPECT_FALSE(AskTcp(outside_, "198.51.100.1", 9998));
  EXPECT_TRUE(AskTcp(kHost, "127.0.0.1", 9998));
  // The canary sings when it should.
  EXPECT_FALSE(AskUdp(kHost, "127.0.0.1", 9999));
  EXPECT_TRUE(canary.Heard(500ms));
}

// CVE-2025-67499 and its like: a host port takes what is sent to the host, nothing else.
TEST_P(Isolation, HostPortsTakeNothingThatIsNotTheirs) {
  MakeOutside();
  Pod c = Add("pod-c", Conf(), R"([{"hostPort":53,"containerPort":53,"protocol":"udp"},
                                  {"hostPort":53,"containerPort":53,"protocol":"tcp"}])");
  const Server in_pod(Kind::kUdp, c.ns(), "::", 53, "pod ");
  const Server far(Kind::kUdp, outside_, "0.0.0.0", 53, "far ");
  const Server far6(Kind::kUdp, outside_, "2001:db8:100::2", 53, "far6 ");
  const Server far_tcp(Kind::kTcp, outside_, "0.0.0.0", 53, "fart ");
  const Server near(Kind::kTcp, b_.ns(), "0.0.0.0", 53, "near ");
  EXPECT_EQ(AskUdp(a_.ns(), "198.51.100.2", 53).value_or("").substr(0, 4), "far ");
  EXPECT_EQ(AskUdp(a_.ns(), "2001:db8:100::2", 53).value_or("").substr(0, 5), "far6 ");
  EXPECT_EQ(AskTcp(a_.ns(), "198.51.100.2", 53).value_or("").substr(0, 5), "fart ");
  EXPECT_EQ(AskUdp(kHost, "198.51.100.2", 53).value_or("").substr(0, 4), "far ") << "from the host";
  EXPECT_EQ(AskTcp(a_.ns(), b_.v4, 53).value_or("").substr(0, 5), "near ") << "to a neighbour";
  EXPECT_EQ(AskUdp(outside_, "198.51.100.1", 53).value_or("").substr(0, 4), "pod ");
}

// A second pod cannot take a port over, in whatever form it asks.
TEST_P(Isolation, HostPortsAreNotTakenOver) {
  const Server server(Kind::kTcp, a_.ns(), "::", 80, "a ");
  for (
      const char* ports :
      {R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}])",
       R"([{"hostPort":8080,"containerPort":80,"protocol":"TCP"}])",
       R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"0.0.0.0"}])",
       R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"::"}])",
       R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"192.0.2.2"}])",
       R"([{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"::ffff:192.0.2.2"}])",
       R"([{"hostPort":9,"containerPort":9,"protocol":"tcp"},{"hostPort":8080,"containerPort":81,"protocol":"tcp"}])"}) {
    auto c = TryAdd("pod-c", Conf(), ports);
    EXPECT_FALSE(c) << ports;
    if (c) continue;
    EXPECT_TRUE(c.error().Is(Code::kAlreadyExists)) << ports << ": " << c.error().message();
    (void)TryDel("pod-c", FdRef(-1));
  }
  EXPECT_EQ(AskTcp(kHost, "192.0.2.2", 8080).value_or("").substr(0, 2), "a ");
  EXPECT_FALSE(AskTcp(kHost, "192.0.2.2", 9)) << "all or nothing";
}

// The address of a pod that is gone is another's: nothing of the old one sticks to it.
TEST_P(Isolation, ReusedAddresses) {
  Pod old = Add("pod-old", Conf(), R"([{"hostPort":5353,"containerPort":53,"protocol":"udp"}])");
  const std::string address = old.v4;
  {
    const Server server(Kind::kUdp, old.ns(), "0.0.0.0", 53, "old ");
    EXPECT_EQ(AskUdp(kHost, "192.0.2.2", 5353).value_or("").substr(0, 4), "old ");
    EXPECT_TRUE(Ping(b_.ns(), address));
  }
  // The namespace lives on with its address set; its link is cut.
  auto done = TryDel("pod-old", old.netns);
  ASSERT_TRUE(done) << done.error().message();
  ipam_.next -= 1;
  Pod young =
      Add("pod-young", Conf(), R"([{"hostPort":5353,"containerPort":53,"protocol":"udp"}])");
  ASSERT_EQ(young.v4, address);
  const Server server(Kind::kUdp, young.ns(), "0.0.0.0", 53, "young ");
  EXPECT_EQ(AskUdp(kHost, "192.0.2.2", 5353).value_or("").substr(0, 6), "young ");
  EXPECT_EQ(AskUdp(b_.ns(), address, 53).value_or("").substr(0, 6), "young ");
  host_->DrainRetired();
  EXPECT_TRUE(Ping(kHost, address));
}

}  // namespace
}  // namespace linnet::network
