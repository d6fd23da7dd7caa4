#include "net_fixture.h"

#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "linnet/base/file.h"

namespace linnet::network {
namespace {

using std::chrono_literals::operator""ms;

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Endpoint EndpointOf(const std::string& address, std::uint16_t port) {
  Endpoint e;
  if (address.find(':') == std::string::npos) {
    auto& in = *reinterpret_cast<sockaddr_in*>(&e.storage);
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    EXPECT_EQ(::inet_pton(AF_INET, address.c_str(), &in.sin_addr), 1) << address;
    e.length = sizeof(in);
  } else {
    auto& in = *reinterpret_cast<sockaddr_in6*>(&e.storage);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    EXPECT_EQ(::inet_pton(AF_INET6, address.c_str(), &in.sin6_addr), 1) << address;
    e.length = sizeof(in);
  }
  return e;
}

std::string TextOf(const sockaddr_storage& storage) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, text.data(),
                text.size());
  } else {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, text.data(),
                text.size());
  }
  return text.data();
}

UniqueFd SocketIn(FdRef netns, int family, int type, int protocol = 0) {
  UniqueFd fd;
  const auto open = [&]() -> Result<void> {
    fd.Reset(::socket(family, type | SOCK_CLOEXEC, protocol));
    return fd ? Ok() : Error::FromErrno(errno, "socket");
  };
  auto done = netns.valid() ? VisitNetns(netns, open) : open();
  EXPECT_TRUE(done) << done.error().message();
  return fd;
}

bool Ready(FdRef fd, short events, std::chrono::milliseconds limit) {
  pollfd p{.fd = fd.get(), .events = events, .revents = 0};
  return ::poll(&p, 1, static_cast<int>(limit.count())) == 1;
}

Json Parse(const std::string& text) {
  auto json = ParseJson(text);
  EXPECT_TRUE(json) << text;
  return json ? *json : Json();
}

}  // namespace

std::string ShAny(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::string out;
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    out.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  if (status != 0) out += "[failed]";
  return out;
}

std::string Sh(const std::string& command) {
  std::string out = ShAny(command);
  EXPECT_FALSE(out.ends_with("[failed]")) << command << "\n" << out;
  return out;
}

// --- Server

Server::Server(Kind kind, FdRef netns, const std::string& address, std::uint16_t port,
               std::string tag)
    : kind_(kind), tag_(std::move(tag)) {
  const Endpoint at = EndpointOf(address, port);
  socket_ = SocketIn(netns, at.storage.ss_family, kind == Kind::kTcp ? SOCK_STREAM : SOCK_DGRAM);
  const int on = 1;
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&at.storage), at.length), 0)
      << std::strerror(errno);
  if (kind == Kind::kTcp) {
    EXPECT_EQ(::listen(socket_.get(), 16), 0);
  }
  thread_ = std::thread([this] { Loop(); });
}

Server::~Server() {
  stop_ = true;
  thread_.join();
}

void Server::Loop() {
  while (!stop_) {
    if (!Ready(socket_, POLLIN, 20ms)) continue;
    sockaddr_storage from{};
    socklen_t length = sizeof(from);
    if (kind_ == Kind::kTcp) {
      const UniqueFd client(
          ::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC));
      if (client) (void)WriteAll(client, tag_ + TextOf(from));
    } else {
      std::array<char, 64> buffer{};
      if (::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0,
                     reinterpret_cast<sockaddr*>(&from), &length) < 0)
        continue;
      const std::string answer = tag_ + TextOf(from);
      (void)::sendto(socket_.get(), answer.data(), answer.size(), 0,
                     reinterpret_cast<const sockaddr*>(&from), length);
    }
  }
}

std::optional<std::string> Ask(Server::Kind kind, FdRef netns, const std::string& address,
                               std::uint16_t port, std::chrono::milliseconds limit,
                               const std::string& source) {
  const Endpoint to = EndpointOf(address, port);
  const UniqueFd fd =
      SocketIn(netns, to.storage.ss_family,
               (kind == Server::Kind::kTcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK);
  if (!source.empty()) {
    const int on = 1;
    (void)::setsockopt(fd.get(), SOL_IP, IP_FREEBIND, &on, sizeof(on));
    const Endpoint from = EndpointOf(source, 0);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&from.storage), from.length), 0)
        << std::strerror(errno);
  }
  const int connected =
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.length);
  if (connected < 0 && errno != EINPROGRESS) return std::nullopt;
  if (kind == Server::Kind::kTcp) {
    if (!Ready(fd, POLLOUT, limit)) return std::nullopt;
  } else if (::send(fd.get(), "?", 1, 0) != 1) {
    return std::nullopt;
  }
  if (!Ready(fd, POLLIN, limit)) return std::nullopt;
  std::array<char, 256> buffer{};
  const ssize_t n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
  if (n <= 0) return std::nullopt;
  return std::string(buffer.data(), static_cast<std::size_t>(n));
}

bool Ping(FdRef netns, const std::string& address) {
  const Endpoint to = EndpointOf(address, 0);
  const bool v4 = to.storage.ss_family == AF_INET;
  const UniqueFd fd = SocketIn(netns, to.storage.ss_family, SOCK_RAW,
                               v4 ? static_cast<int>(IPPROTO_ICMP) : IPPROTO_ICMPV6);
  std::array<unsigned char, 16> request{};
  request[0] = v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
  request[4] = 0x17;
  if (v4) {
    const unsigned sum = 0x0800U + 0x1700U;
    const std::uint16_t folded =
        htons(static_cast<std::uint16_t>(~((sum & 0xffffU) + (sum >> 16U))));
    std::memcpy(&request[2], &folded, 2);
  }
  if (::sendto(fd.get(), request.data(), request.size(), 0,
               reinterpret_cast<const sockaddr*>(&to.storage), to.length) < 0) {
    return false;
  }
  const auto end = std::chrono::steady_clock::now() + 700ms;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left <= 0ms || !Ready(fd, POLLIN, left)) return false;
    std::array<unsigned char, 512> answer{};
    const ssize_t n = ::recv(fd.get(), answer.data(), answer.size(), 0);
    const std::size_t header = v4 ? 20 : 0;
    if (n < static_cast<ssize_t>(header + 8)) continue;
    if (answer[header] == (v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) && answer[header + 4] == 0x17)
      return true;
  }
}

bool PingSoon(FdRef netns, const std::string& address) {
  return Ping(netns, address) || Ping(netns, address) || Ping(netns, address);
}

// --- FakeIpam

Result<cni::AddResult> FakeIpam::Add(const std::string&, const PluginRequest& request) {
  if (fail) return Error(Code::kResourceExhausted, "no IP addresses available");
  const int number = leases.try_emplace(request.container_id, next++).first->second;
  cni::AddResult result;
  const auto add = [&](const std::string& base, int prefix, const char* any) {
    const std::string tail = "1";
    result.ips.push_back({.address = Cidr(*IpAddress::Parse(base + std::to_string(number)), prefix),
                          .gateway = *IpAddress::Parse(base + tail)});
    result.routes.push_back({.dst = *Cidr::Parse(any)});
  };
  if (v4) add(v4_base, v4_prefix, "0.0.0.0/0");
  if (v6) add(v6_base, v6_prefix, "::/0");
  return result;
}

Result<void> FakeIpam::Del(const std::string&, const PluginRequest& request) {
  leases.erase(request.container_id);
  return Ok();
}

// --- NetTest

void NetTest::SetUp() {
  if (std::getenv("LINNET_ISOLATED") == nullptr)
    GTEST_SKIP() << "runs under contrib/lib/isolated only";
  char dir[] = "/tmp/linnet-net-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  state_dir_ = dir;
  StartHost();
}

void NetTest::StartHost(NftMode mode, const std::string& instance) {
  host_.reset();
  auto host = HostNetwork::Create({.instance = instance, .mode = mode, .state_dir = state_dir_});
  ASSERT_TRUE(host) << host.error().message();
  host_ = *std::move(host);
}

void NetTest::TearDown() {
  if (host_) host_->DrainRetired();
  host_.reset();
  for (const char* bridge : {"linnet0", "cni0", "cni1"})
    ShAny(std::string("ip link del ") + bridge);
  ShAny("nft flush ruleset");
  ShAny("ip link del outside0");
  ShAny(
      "for l in $(ip -o link show type veth | sed -n 's/^[0-9]*: \\(ln[^@:]*\\).*/\\1/p'); do ip "
      "link del $l; done");
  ShAny("for p in /run/netns/*; do umount $p; rm -f $p; done");
  ShAny(
      "echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 "
      ">/proc/sys/net/bridge/bridge-nf-call-ip6tables");
  if (!state_dir_.empty()) (void)RemoveAll(state_dir_);
}

std::string NetTest::RoutedConf() {
  return R"({"cniVersion":"1.1.0","name":"net","type":"bridge","bridge":"linnet0","linnetRouted":true,"isGateway":true,
    "ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.83.0.0/16"}],[{"subnet":"fd00:83::/64"}]]}})";
}

std::string NetTest::Layer2Conf(const std::string& more) {
  return R"({"cniVersion":"1.1.0","name":"net","type":"bridge","bridge":"cni0","isDefaultGateway":true,"ipMasq":true,)" +
         more + R"("ipam":{"type":"host-local"}})";
}

PluginRequest NetTest::RequestFor(const std::string& id, FdRef netns, const Json& conf) {
  PluginRequest request;
  request.container_id = id;
  request.ifname = "eth0";
  request.netns_path = "/run/netns/" + id;
  request.netns = netns;
  request.network = conf.value("name", "net");
  request.cni_version = "1.1.0";
  request.conf = &conf;
  return request;
}

Result<Pod> NetTest::TryAdd(const std::string& id, const std::string& conf,
                            const std::string& ports) {
  Pod pod;
  pod.id = id;
  pod.netns = LN_TRY(NewNetns());
  auto context = Context();
  Attached& attached = attached_[id];
  attached.bridge = Parse(conf);
  attached.portmap = Parse(
      R"({"cniVersion":"1.1.0","name":"net","type":"portmap","runtimeConfig":{"portMappings":)" +
      (ports.empty() ? "[]" : ports) + "}}");
  attached.portmap["name"] = attached.bridge["name"];
  const Json loopback = Parse(R"({"cniVersion":"1.1.0","name":"lo","type":"loopback"})");
  (void)LN_TRY(loopback_->Add(context, RequestFor(id, pod.netns, loopback)));
  pod.result = LN_TRY(bridge_->Add(context, RequestFor(id, pod.netns, attached.bridge)));
  attached.result = pod.result;
  PluginRequest request = RequestFor(id, pod.netns, attached.portmap);
  request.prev_result = pod.result;
  auto mapped = portmap_->Add(context, request);
  if (!mapped) {
    LN_TRY(TryDel(id, pod.netns));
    return std::move(mapped).error();
  }
  for (const cni::IpConfig& ip : pod.result.ips) {
    (ip.address.family() == Family::kV4 ? pod.v4 : pod.v6) = ip.address.address().str();
  }
  return pod;
}

Pod NetTest::Add(const std::string& id, const std::string& conf, const std::string& ports) {
  auto pod = TryAdd(id, conf, ports);
  EXPECT_TRUE(pod) << (pod ? "" : pod.error().message());
  return pod ? *std::move(pod) : Pod();
}

Result<void> NetTest::TryDel(const std::string& id, FdRef netns) {
  auto context = Context();
  Attached& attached = attached_[id];
  PluginRequest portmap = RequestFor(id, netns, attached.portmap);
  portmap.prev_result = attached.result;
  LN_TRY(portmap_->Del(context, portmap));
  PluginRequest bridge = RequestFor(id, netns, attached.bridge);
  bridge.prev_result = attached.result;
  return bridge_->Del(context, bridge);
}

void NetTest::Del(Pod& pod) {
  auto done = TryDel(pod.id, pod.netns);
  EXPECT_TRUE(done) << (done ? "" : done.error().message());
  pod.netns.Reset();
}

Result<void> NetTest::Check(const Pod& pod) {
  auto context = Context();
  Attached& attached = attached_[pod.id];
  PluginRequest request = RequestFor(pod.id, pod.netns, attached.bridge);
  request.prev_result = attached.result;
  LN_TRY(bridge_->Check(context, request));
  PluginRequest portmap = RequestFor(pod.id, pod.netns, attached.portmap);
  portmap.prev_result = attached.result;
  return portmap_->Check(context, portmap);
}

Result<void> NetTest::Restore(const Pod& pod) {
  auto context = Context();
  Attached& attached = attached_[pod.id];
  PluginRequest request = RequestFor(pod.id, pod.netns, attached.bridge);
  request.prev_result = attached.result;
  LN_TRY(bridge_->Restore(context, request));
  PluginRequest portmap = RequestFor(pod.id, pod.netns, attached.portmap);
  portmap.prev_result = attached.result;
  return portmap_->Restore(context, portmap);
}

void NetTest::MakeOutside() {
  auto ns = NewNetns();
  ASSERT_TRUE(ns);
  outside_ = *std::move(ns);
  ASSERT_TRUE(Pin("/run/netns/outside", outside_));
  Sh("ip link add outside0 type veth peer name eth0 netns outside");
  Sh("ip addr add 198.51.100.1/24 dev outside0; ip addr add 2001:db8:100::1/64 dev outside0 nodad; "
     "ip link set outside0 up");
  Sh("ip -n outside addr add 198.51.100.2/24 dev eth0; ip -n outside addr add 2001:db8:100::2/64 "
     "dev eth0 nodad;"
     "ip -n outside link set lo up; ip -n outside link set eth0 up");
  EXPECT_TRUE(PingSoon(kHost, "198.51.100.2"));
  EXPECT_TRUE(PingSoon(kHost, "2001:db8:100::2"));
}

}  // namespace linnet::network
