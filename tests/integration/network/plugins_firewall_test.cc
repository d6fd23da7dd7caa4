// firewall: packets past a FORWARD chain that drops, bridges kept apart, firewalld told.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"

#include "dbus/system_bus.h"
#include "netlink/names.h"
#include "nft/nft_table.h"
#include "plugins_fixture.h"

namespace linnet::network {
namespace {

using Kind = Server::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kOpen = R"({"type":"firewall","backend":"iptables"})";

std::string Policy(const std::string& policy) {
  return R"({"type":"firewall","backend":"iptables","ingressPolicy":")" + policy + "\"}";
}

class FirewallTest : public PluginsTest {
 protected:
  // As the executable: the daemon admits its own bridges in any case.
  void SetUp() override {
    PluginsTest::SetUp();
    StartHost(NftMode::kExec);
  }
  // What Docker does.
  static void DropForwarded() {
    for (const char* family : {"ip", "ip6"}) {
      Sh(std::string("nft add table ") + family + " filter");
      Sh(std::string("nft add chain ") + family +
         " filter FORWARD '{ type filter hook forward priority 0; policy drop; }'");
    }
  }
  static std::string Rules(const std::string& chain, const std::string& family = "ip") {
    return ShAny("nft list chain " + family + " filter " + chain);
  }
  static void BridgeNf(bool on) {
    for (const char* name : {"iptables", "ip6tables"}) {
      Sh(std::string("echo ") + (on ? "1" : "0") + " >/proc/sys/net/bridge/bridge-nf-call-" + name);
    }
  }
};

TEST_F(FirewallTest, PodsPassAForwardChainThatDrops) {
  MakeOutside();
  DropForwarded();
  Pod a = Add("pod-a", Layer2Conf());
  Pod b = Add("pod-b", Layer2Conf());
  ASSERT_TRUE(PingSoon(kHost, a.v6));
  const Server four(Kind::kTcp, outside_, "0.0.0.0", 80);
  const Server six(Kind::kTcp, outside_, "::", 81);
  EXPECT_FALSE(AskTcp(a.ns(), "198.51.100.2", 80)) << "else this test shows nothing";
  LN_EXPECT_OK(AddTo(a, "firewall", kOpen));
  LN_EXPECT_OK(CheckOf(a, "firewall"));
  EXPECT_TRUE(AskTcp(a.ns(), "198.51.100.2", 80));
  EXPECT_TRUE(AskTcp(a.ns(), "2001:db8:100::2", 81));
  EXPECT_FALSE(AskTcp(b.ns(), "198.51.100.2", 80)) << "the other pod is not meant";
  EXPECT_THAT(Rules("FORWARD"), HasSubstr("policy drop"));
  // The administrator's chain comes first.
  Sh("nft add rule ip filter CNI-ADMIN ip saddr " + a.v4 + " counter drop");
  EXPECT_FALSE(AskTcp(a.ns(), "198.51.100.2", 80));
  Sh("nft flush chain ip filter CNI-ADMIN");
  EXPECT_TRUE(AskTcp(a.ns(), "198.51.100.2", 80));
  LN_EXPECT_OK(DelOf(a, "firewall"));
  LN_EXPECT_OK(DelOf(a, "firewall"));
  EXPECT_FALSE(AskTcp(a.ns(), "198.51.100.2", 80));
  EXPECT_THAT(Rules("CNI-FORWARD"), Not(HasSubstr(a.v4)));
}

TEST_F(FirewallTest, IptablesReadsAndDeletesWhatWeMake) {
  if (ShAny("command -v iptables").ends_with("[failed]")) GTEST_SKIP() << "needs iptables (nft)";
  Pod a = Add("pod-a", Layer2Conf());
  LN_EXPECT_OK(AddTo(a, "firewall", R"({"backend":"iptables","iptablesAdminChainName":"MINE"})"));
  for (const auto& [program, address] : {std::pair(std::string("iptables"), a.v4 + "/32"),
                                         std::pair(std::string("ip6tables"), a.v6 + "/128")}) {
    // As upstream's plugin asks.
    Sh(program + " -C FORWARD -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD");
    Sh(program +
       " -C CNI-FORWARD -m comment --comment 'CNI firewall plugin admin overrides' -j MINE");
    Sh(program + " -C CNI-FORWARD -s " + address + " -j ACCEPT");
    Sh(program + " -C CNI-FORWARD -d " + address +
       " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    Sh(program + " -D CNI-FORWARD -s " + address + " -j ACCEPT");
  }
  LN_EXPECT_ERROR(CheckOf(a, "firewall"), Code::kFailedPrecondition,
                  "expected rule [-s " + a.v4 + "/32 -j ACCEPT] not found");
  // And what iptables made is found.
  Sh("iptables -A CNI-FORWARD -s " + a.v4 + "/32 -j ACCEPT");
  Sh("ip6tables -A CNI-FORWARD -s " + a.v6 + "/128 -j ACCEPT");
  LN_EXPECT_OK(CheckOf(a, "firewall"));
  LN_EXPECT_OK(DelOf(a, "firewall"));
  EXPECT_THAT(Sh("iptables -S CNI-FORWARD; ip6tables -S CNI-FORWARD"), Not(HasSubstr("ACCEPT")));
}

TEST_F(FirewallTest, OwnersAreKnownWithoutAResult) {
  DropForwarded();
  Pod a = Add("pod-a", Layer2Conf());
  Pod b = Add("pod-b", Layer2Conf());
  for (Pod* pod : {&a, &b}) LN_EXPECT_OK(AddTo(*pod, "firewall", kOpen));
  LN_EXPECT_OK(DelOf(a, "firewall", false));
  EXPECT_THAT(Rules("CNI-FORWARD"), Not(HasSubstr(a.v4)));
  EXPECT_THAT(Rules("CNI-FORWARD"), HasSubstr(b.v4));
  LN_EXPECT_OK(GcOf("firewall", R"({"name":"elsewhere","backend":"iptables"})", {}));
  LN_EXPECT_OK(CheckOf(b, "firewall"));
  // Somebody restored another state of iptables: Status puts back what lives.
  Sh("nft flush chain ip filter FORWARD; nft flush chain ip filter CNI-FORWARD");
  LN_EXPECT_ERROR(CheckOf(b, "firewall"), Code::kFailedPrecondition, "expected FORWARD rule");
  LN_EXPECT_OK(StatusOf("firewall", kOpen));
  LN_EXPECT_OK(CheckOf(b, "firewall"));
  // As a chain does it: the bridge plugin first.
  LN_EXPECT_OK(GcOf("bridge", Layer2Conf(), {}));
  LN_EXPECT_OK(GcOf("firewall", kOpen, {}));
  EXPECT_THAT(Rules("CNI-FORWARD"), Not(HasSubstr(b.v4)));
  EXPECT_THAT(Rules("CNI-FORWARD", "ip6"), Not(HasSubstr(b.v6)));
}

TEST_F(FirewallTest, BridgesWithAPolicyAreApart) {
  for (const bool bridge_nf : {false, true}) {
    BridgeNf(bridge_nf);
    Pod a = Add("pod-a", Layer2Conf());
    Pod b = Add("pod-b", Layer2Conf());
    ipam_.v4_base = "10.84.0.";
    ipam_.v6_base = "fd00:84::";
    Pod c = Add("pod-c", R"({"name":"two","type":"bridge","bridge":"cni1","isDefaultGateway":true,
                            "ipam":{"type":"host-local"}})");
    ipam_.v4_base = "10.83.0.";
    ipam_.v6_base = "fd00:83::";
    ASSERT_TRUE(PingSoon(a.ns(), c.v4));
    ASSERT_TRUE(PingSoon(a.ns(), c.v6));
    for (Pod* pod : {&a, &b, &c}) LN_EXPECT_OK(AddTo(*pod, "firewall", Policy("same-bridge")));
    LN_EXPECT_OK(CheckOf(a, "firewall"));
    EXPECT_FALSE(Ping(a.ns(), c.v4));
    EXPECT_FALSE(Ping(c.ns(), a.v4));
    EXPECT_FALSE(Ping(a.ns(), c.v6));
    EXPECT_TRUE(PingSoon(a.ns(), b.v4));
    EXPECT_TRUE(PingSoon(a.ns(), b.v6));
    EXPECT_TRUE(PingSoon(a.ns(), "10.83.0.1"));
    for (Pod* pod : {&a, &b, &c}) {
      LN_EXPECT_OK(DelOf(*pod, "firewall"));
      Del(*pod);
    }
    Sh("nft flush ruleset; ip link del cni0; ip link del cni1");
    StartHost(NftMode::kExec);
  }
}

TEST_F(FirewallTest, AnIsolatedBridgesPodsSeeTheGatewayOnly) {
  for (const bool bridge_nf : {false, true}) {
    BridgeNf(bridge_nf);
    Pod a = Add("pod-a", Layer2Conf());
    Pod b = Add("pod-b", Layer2Conf());
    ASSERT_TRUE(PingSoon(a.ns(), b.v4));
    ASSERT_TRUE(PingSoon(a.ns(), b.v6));
    for (Pod* pod : {&a, &b}) LN_EXPECT_OK(AddTo(*pod, "firewall", Policy("isolated")));
    EXPECT_FALSE(Ping(a.ns(), b.v4)) << "bridge-nf " << bridge_nf;
    EXPECT_FALSE(Ping(b.ns(), a.v6)) << "bridge-nf " << bridge_nf;
    EXPECT_TRUE(PingSoon(a.ns(), "10.83.0.1"));
    EXPECT_TRUE(PingSoon(kHost, b.v4));
    for (Pod* pod : {&a, &b}) {
      LN_EXPECT_OK(DelOf(*pod, "firewall"));
      Del(*pod);
    }
    Sh("nft flush ruleset; ip link del cni0");
    StartHost(NftMode::kExec);
  }
}

TEST_F(FirewallTest, ErrorsLeaveNothing) {
  Pod a = Add("pod-a", Layer2Conf());
  a.result.interfaces.clear();
  for (cni::IpConfig& ip : a.result.ips) ip.interface.reset();
  LN_EXPECT_ERROR(AddTo(a, "firewall", Policy("isolated")), Code::kFailedPrecondition,
                  "make sure to chain \"firewall\" plugin with \"bridge\"");
  EXPECT_THAT(Rules("CNI-FORWARD"), Not(HasSubstr(a.v4)));
  const auto left = LN_ASSERT_OK(host_->nft().Of(OwnerText(AttachmentKey{"pod-a", "eth0", "net"})));
  for (const NftElement& e : left) EXPECT_FALSE(e.set.starts_with("admitted")) << e.set;
  LN_EXPECT_ERROR(AddTo(a, "firewall", Policy("closed")), Code::kInvalidArgument,
                  "unknown ingress policy: \"closed\"");
}

// A bus with a firewalld on it: answers as the real ones do.
class FakeBus {
 public:
  explicit FakeBus(std::string path) : path_(std::move(path)) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path, path_.c_str(), path_.size() + 1);
    listener_.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    thread_ = std::thread([this] { Loop(); });
  }
  FakeBus(const FakeBus&) = delete;
  FakeBus& operator=(const FakeBus&) = delete;
  ~FakeBus() {
    stop_ = true;
    thread_.join();
    (void)RemoveFile(path_);
  }
  std::vector<std::string> sources() const {
    const std::lock_guard lock(mu_);
    return {sources_.begin(), sources_.end()};
  }

 private:
  void Loop() {
    while (!stop_) {
      pollfd p{.fd = listener_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&p, 1, 20) != 1) continue;
      const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client) Serve(client);
    }
  }

  static bool Take(FdRef fd, std::string& into, std::size_t size) {
    while (into.size() < size) {
      char c = 0;
      if (::recv(fd.get(), &c, 1, 0) != 1) return false;
      into += c;
    }
    return true;
  }

  void Serve(FdRef client) {
    std::string line;
    while (!line.ends_with("\r\n")) {
      if (!Take(client, line, line.size() + 1)) return;
    }
    EXPECT_EQ(line.substr(0, 15), std::string("\0AUTH EXTERNAL ", 15));
    (void)WriteAll(client, "OK 0123456789abcdef0123456789abcdef\r\n");
    line.clear();
    while (!line.ends_with("BEGIN\r\n")) {
      if (!Take(client, line, line.size() + 1)) return;
    }
    for (;;) {
      std::string call;
      if (!Take(client, call, 16)) return;
      const std::size_t length = BusMessageLength(call);
      if (length == 0 || !Take(client, call, length)) return;
      std::uint32_t serial = 0;
      std::memcpy(&serial, &call[8], 4);
      (void)WriteAll(client, Answer(call, serial));
    }
  }

  std::string Answer(const std::string& call, std::uint32_t serial) {
    const std::lock_guard lock(mu_);
    const auto slash = call.rfind('/');
    std::string source;
    if (call.find("Source") != std::string::npos && slash != std::string::npos) {
      const auto from = call.rfind('\0', slash) + 1;
      source = call.substr(from, call.find('\0', slash) - from);
      EXPECT_THAT(call, HasSubstr("trusted"));
    }
    if (call.find("addSource") != std::string::npos) {
      if (!sources_.insert(source).second) return Reply(3, serial, "ZONE_ALREADY_SET");
      return Reply(2, serial, "trusted");
    }
    if (call.find("removeSource") != std::string::npos) {
      if (sources_.erase(source) == 0) return Reply(3, serial, "UNKNOWN_SOURCE");
      return Reply(2, serial, "trusted");
    }
    if (call.find("querySource") != std::string::npos)
      return Reply(2, serial, sources_.contains(source) ? "\1" : "\2");
    return Reply(2, serial, ":1.5");
  }

  // "\1" and "\2": booleans.
  static std::string Reply(char type, std::uint32_t serial, const std::string& value) {
    std::string fields("\x05\x01u\0", 4);
    fields.append(reinterpret_cast<const char*>(&serial), 4);
    std::string body;
    const bool boolean = value == "\1" || value == "\2";
    fields += std::string("\x08\x01g\0\x01", 5) + (boolean ? "b" : "s") + '\0';
    const std::uint32_t number =
        boolean ? (value == "\1" ? 1 : 0) : static_cast<std::uint32_t>(value.size());
    body.append(reinterpret_cast<const char*>(&number), 4);
    if (!boolean) body += value + '\0';
    const auto field_size = static_cast<std::uint32_t>(fields.size());
    const auto body_size = static_cast<std::uint32_t>(body.size());
    fields.resize((fields.size() + 7) / 8 * 8, '\0');
    std::string out("l_\0\1", 4);
    out[1] = type;
    out.append(reinterpret_cast<const char*>(&body_size), 4);
    out.append("\x09\0\0\0", 4);
    out.append(reinterpret_cast<const char*>(&field_size), 4);
    return out + fields + body;
  }

  const std::string path_;
  UniqueFd listener_;
  mutable std::mutex mu_;
  std::set<std::string> sources_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_F(FirewallTest, FirewalldGetsThePodsAddresses) {
  host_.reset();
  const std::string socket = state_dir_ + "/bus";
  auto host = HostNetwork::Create(
      {.instance = {}, .mode = NftMode::kExec, .state_dir = state_dir_, .system_bus = socket});
  ASSERT_TRUE(host);
  host_ = *std::move(host);
  Pod a = Add("pod-a", Layer2Conf());
  LN_EXPECT_ERROR(AddTo(a, "firewall", R"({"backend":"firewalld"})"), Code::kUnavailable,
                  "no D-Bus at " + socket);
  const FakeBus bus(socket);
  // No back end named: firewalld, as it runs.
  LN_EXPECT_OK(AddTo(a, "firewall", R"({"type":"firewall"})"));
  EXPECT_THAT(bus.sources(), ElementsAre(a.v4 + "/32", a.v6 + "/128"));
  LN_EXPECT_OK(AddTo(a, "firewall", R"({"type":"firewall"})"));
  LN_EXPECT_OK(CheckOf(a, "firewall"));
  EXPECT_TRUE(Rules("CNI-FORWARD").ends_with("[failed]")) << "iptables is left alone";
  LN_EXPECT_OK(DelOf(a, "firewall", false));
  EXPECT_THAT(bus.sources(), IsEmpty());
  LN_EXPECT_ERROR(CheckOf(a, "firewall"), Code::kFailedPrecondition,
                  "failed to find the address " + a.v4 + "/32 in trusted zone");
  LN_EXPECT_OK(DelOf(a, "firewall"));
}

}  // namespace
}  // namespace linnet::network
