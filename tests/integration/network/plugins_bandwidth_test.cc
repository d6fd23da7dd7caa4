// bandwidth: bytes really sent, and what CHECK, DEL and GC see of the limits.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include <gmock/gmock.h>

#include "linnet/base/text.h"
#include "linnet/network/engine.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "plugins/bandwidth_conf.h"
#include "plugins_fixture.h"

namespace linnet::network {
namespace {

using std::chrono_literals::operator""ms;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Clock = std::chrono::steady_clock;

sockaddr_in At(const std::string& address, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET, address.c_str(), &out.sin_addr), 1);
  return out;
}

UniqueFd Tcp(FdRef netns) {
  UniqueFd fd;
  const auto open = [&]() -> Result<void> {
    fd.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return Ok();
  };
  EXPECT_TRUE(netns.valid() ? VisitNetns(netns, open) : open());
  return fd;
}

// Bits a second from one namespace to another over TCP, without the first 500 ms (the burst).
double Throughput(FdRef from, FdRef to, const std::string& address) {
  constexpr std::uint16_t kPort = 5001;
  const UniqueFd listener = Tcp(to);
  const int on = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const sockaddr_in at = At("0.0.0.0", kPort);
  EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  const UniqueFd sender = Tcp(from);
  const sockaddr_in target = At(address, kPort);
  EXPECT_EQ(::connect(sender.get(), reinterpret_cast<const sockaddr*>(&target), sizeof(target)), 0);
  const UniqueFd receiver(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  std::atomic<bool> stop{false};
  std::thread pump([&] {
    const std::vector<char> data(65536, 'x');
    while (!stop) {
      pollfd p{.fd = sender.get(), .events = POLLOUT, .revents = 0};
      if (::poll(&p, 1, 20) == 1)
        (void)::send(sender.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
  });
  std::vector<char> buffer(65536);
  const auto start = Clock::now();
  std::uint64_t counted = 0;
  auto first = start;
  auto last = start;
  while (last < start + 2000ms) {
    pollfd p{.fd = receiver.get(), .events = POLLIN, .revents = 0};
    if (::poll(&p, 1, 50) == 1) {
      const ssize_t n = ::recv(receiver.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (n > 0 && Clock::now() > start + 500ms) counted += static_cast<std::uint64_t>(n);
    }
    last = Clock::now();
    if (last <= start + 500ms) first = last;
  }
  stop = true;
  pump.join();
  return static_cast<double>(counted) * 8 / std::chrono::duration<double>(last - first).count();
}

class BandwidthTest : public PluginsTest {
 protected:
  static constexpr const char* kBoth =
      R"({"type":"bandwidth","ingressRate":16000000,"ingressBurst":400000,"egressRate":8000000,
          "egressBurst":400000})";
};

TEST_F(BandwidthTest, BothDirectionsAreShaped) {
  for (const std::string& conf : {RoutedConf(), Layer2Conf()}) {
    Pod a = Add("pod-a", conf);
    LN_EXPECT_OK(AddTo(a, "bandwidth", kBoth));
    ASSERT_TRUE(PingSoon(kHost, a.v4));
    const double in = Throughput(kHost, a.ns(), a.v4);
    const double out = Throughput(a.ns(), kHost, "10.83.0.1");
    EXPECT_NEAR(in, 16e6, 1.6e6);
    EXPECT_NEAR(out, 8e6, 0.8e6);
    EXPECT_TRUE(PingSoon(a.ns(), "10.83.0.1")) << "the guard sees redirected frames, too";
    LN_EXPECT_OK(DelOf(a, "bandwidth"));
    Del(a);
    host_->DrainRetired();
    EXPECT_THAT(Sh("ip -o link show type ifb"), IsEmpty());
    Sh("ip link del " + a.result.interfaces[0].name);  // both have the same subnet
    StartHost();
  }
}

TEST_F(BandwidthTest, ResultCheckAndRepeatedDel) {
  Pod a = Add("pod-a", Layer2Conf());
  LN_EXPECT_OK(AddTo(a, "bandwidth", kBoth));
  ASSERT_EQ(a.result.interfaces.size(), 4U);
  EXPECT_EQ(a.result.interfaces[3].name, IfbName("net", "pod-a"));
  EXPECT_EQ(a.result.interfaces[3].mac.size(), 17U);
  LN_EXPECT_OK(CheckOf(a, "bandwidth"));
  const std::string link = host_->LinkName("pod-a", "eth0");
  Sh("tc qdisc replace dev " + link + " root handle 1: tbf rate 1mbit burst 50kb latency 25ms");
  LN_EXPECT_ERROR(CheckOf(a, "bandwidth"), Code::kFailedPrecondition, "Rate doesn't match");
  Sh("tc qdisc del dev " + link + " root");
  LN_EXPECT_ERROR(CheckOf(a, "bandwidth"), Code::kFailedPrecondition, "Failed to find qdisc");
  Sh("ip link del " + IfbName("net", "pod-a"));
  LN_EXPECT_OK(DelOf(a, "bandwidth"));
  LN_EXPECT_OK(DelOf(a, "bandwidth", false));
}

TEST_F(BandwidthTest, NothingAskedForChangesNothing) {
  Pod a = Add("pod-a", Layer2Conf());
  LN_EXPECT_OK(AddTo(a, "bandwidth", R"({"type":"bandwidth"})"));
  EXPECT_EQ(a.result.interfaces.size(), 3U);
  LN_EXPECT_OK(CheckOf(a, "bandwidth"));
  EXPECT_THAT(Sh("tc qdisc show dev " + host_->LinkName("pod-a", "eth0")),
              ::testing::Not(HasSubstr("tbf")));
}

TEST_F(BandwidthTest, AnAddThatIsRepeatedAndASecondInterface) {
  Pod a = Add("pod-a", Layer2Conf());
  const cni::AddResult before = a.result;
  LN_EXPECT_OK(AddTo(a, "bandwidth", kBoth));
  // Another interface of the same container in the same network: upstream's second one fails.
  Pod second;
  second.id = "pod-a";
  second.netns = *NewNetns();
  In(a, "true");
  Sh("ip link add lnother type veth peer name eth1 netns in-pod-a; ip link set lnother up");
  const Json conf = *ParseJson(kBoth);
  auto context = Context();
  PluginRequest request = RequestFor("pod-a", a.netns, conf);
  request.ifname = "eth1";
  request.prev_result = cni::AddResult{};
  request.prev_result->interfaces = {{.name = "lnother"},
                                     {.name = "eth1", .sandbox = "/run/netns/pod-a"}};
  const auto result = LN_ASSERT_OK(Find("bandwidth").Add(context, request));
  EXPECT_EQ(result.interfaces[2].name, IfbName("net", "pod-a", "eth1"));
  request.prev_result = result;
  LN_EXPECT_OK(Find("bandwidth").Check(context, request));
  LN_EXPECT_OK(Find("bandwidth").Del(context, request));
  host_->DrainRetired();
  EXPECT_THAT(Sh("ip -o link show type ifb"), HasSubstr(IfbName("net", "pod-a")))
      << "the first interface keeps its own";
  LN_EXPECT_OK(CheckOf(a, "bandwidth"));
}

TEST_F(BandwidthTest, GcRemovesWhatNobodyHas) {
  Pod a = Add("pod-a", Layer2Conf());
  Pod b = Add("pod-b", Layer2Conf());
  LN_EXPECT_OK(AddTo(a, "bandwidth", kBoth));
  LN_EXPECT_OK(AddTo(b, "bandwidth", kBoth));
  LN_EXPECT_OK(GcOf("bandwidth", R"({"name":"elsewhere"})", {}));
  LN_EXPECT_OK(CheckOf(a, "bandwidth"));
  LN_EXPECT_OK(GcOf("bandwidth", kBoth, {"pod-b"}));
  const std::string left = Sh("ip -o link show type ifb");
  EXPECT_THAT(left, HasSubstr(IfbName("net", "pod-b")));
  EXPECT_THAT(left, ::testing::Not(HasSubstr(IfbName("net", "pod-a"))));
}

// What a pod's annotations ask for reaches the kernel without any configuration.
TEST_F(BandwidthTest, TheBuiltInNetworkLimitsPods) {
  host_.reset();
  const testing::TempDir dir;
  EngineOptions options;
  options.conf_dir = dir / "net.d";
  options.bin_dirs = {};
  options.cache_dir = dir / "cni";
  options.ipam_dir = dir / "networks";
  options.state_dir = dir / "run";
  options.netns_dir = dir / "netns";
  options.subnets = {"10.83.0.0/16"};
  options.pool_size = 0;
  const auto engine = LN_ASSERT_OK(Engine::Create(options));
  const PodId pod = *PodId::Parse("pod1");
  const PodNetns netns = LN_ASSERT_OK(engine->TakeNetns(pod));
  AttachRequest request{
      .pod = pod, .netns_path = netns.path, .ports = {}, .args = {}, .cgroup_path = {}};
  request.netns = netns.fd;
  request.ingress_bits_per_second = 16'000'000;
  request.egress_bits_per_second = 8'000'000;
  LN_ASSERT_OK(engine->Attach(request));
  const std::string qdiscs = Sh("tc qdisc show");
  EXPECT_THAT(qdiscs, HasSubstr("rate 16Mbit"));
  EXPECT_THAT(qdiscs, HasSubstr("rate 8Mbit"));
  LN_EXPECT_OK(engine->Check(pod));
  LN_EXPECT_OK(engine->Detach(pod));
  LN_EXPECT_OK(engine->ReleaseNetns(pod));
  for (int i = 0; i < 50 && !Sh("ip -o link show type ifb").empty(); ++i)
    std::this_thread::sleep_for(20ms);
  EXPECT_THAT(Sh("ip -o link show type ifb"), IsEmpty());
}

TEST_F(BandwidthTest, ErrorsLeaveNothing) {
  Pod a = Add("pod-a", Layer2Conf());
  const cni::AddResult whole = a.result;
  a.result.interfaces.clear();
  LN_EXPECT_ERROR(AddTo(a, "bandwidth", kBoth), Code::kFailedPrecondition,
                  "no interfaces provided");
  a.result.interfaces = {{.name = "cni0"}};
  LN_EXPECT_ERROR(AddTo(a, "bandwidth", kBoth), Code::kFailedPrecondition,
                  "no veth peer of container interface found in host ns");
  a.result = whole;
  // Somebody else has the ifb's name.
  Sh("ip link add " + IfbName("net", "pod-a") + " type bridge; ip link add " +
     IfbName("net", "pod-a", "eth0") + " type bridge");
  LN_EXPECT_ERROR(AddTo(a, "bandwidth", kBoth), Code::kAlreadyExists, "adding link");
  EXPECT_THAT(Sh("tc qdisc show dev " + host_->LinkName("pod-a", "eth0")),
              ::testing::Not(HasSubstr("tbf")));
  Sh("ip link del " + IfbName("net", "pod-a") + "; ip link del " + IfbName("net", "pod-a", "eth0"));
}

}  // namespace
}  // namespace linnet::network
