// The engine with real namespaces, bridges and nftables. Runs in namespaces of its own
// (contrib/lib/isolated).
#include "linnet/network/engine.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "cni/cache.h"
#include "engine/engine_impl.h"
#include "netns.h"

namespace linnet::network {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

PodId Pod(const std::string& name) { return *PodId::Parse(name); }

// Waits for what other threads do.
template <class F>
bool Eventually(F condition, milliseconds limit = std::chrono::seconds(10)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

// "eth0 10.83.0.2" of the namespace.
std::vector<std::string> AddressesIn(FdRef netns) {
  std::vector<std::string> out;
  auto visited = VisitNetns(netns, [&]() -> Result<void> {
    ifaddrs* list = nullptr;
    if (getifaddrs(&list) != 0) return Error::FromErrno(errno, "getifaddrs");
    for (ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
      if (i->ifa_addr == nullptr) continue;
      char text[INET6_ADDRSTRLEN] = "";
      if (i->ifa_addr->sa_family == AF_INET) {
        inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr, text,
                  sizeof text);
      } else if (i->ifa_addr->sa_family == AF_INET6) {
        const auto& address = reinterpret_cast<sockaddr_in6*>(i->ifa_addr)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;
        inet_ntop(AF_INET6, &address, text, sizeof text);
      } else {
        continue;
      }
      out.push_back(std::string(i->ifa_name) + " " + text);
    }
    freeifaddrs(list);
    return Ok();
  });
  EXPECT_TRUE(visited.has_value());
  std::sort(out.begin(), out.end());
  return out;
}

// A TCP listener in the namespace.
UniqueFd Listen(FdRef netns, std::uint16_t port) {
  UniqueFd out;
  auto visited = VisitNetns(netns, [&]() -> Result<void> {
    out = UniqueFd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(port);
    if (bind(out.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0 ||
        listen(out.get(), 16) != 0) {
      return Error::FromErrno(errno, "listen");
    }
    return Ok();
  });
  EXPECT_TRUE(visited.has_value()) << visited.error().message();
  return out;
}

bool Connects(const std::string& address, std::uint16_t port) {
  UniqueFd s(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  if (connect(s.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return true;
  pollfd wait{.fd = s.get(), .events = POLLOUT, .revents = 0};
  if (poll(&wait, 1, 2000) != 1) return false;
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(s.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0;
}

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    signal(SIGPIPE, SIG_IGN);  // as the daemon does: a plugin need not read its input
    if (geteuid() != 0 || getenv("LINNET_ISOLATED") == nullptr) return;
    options_.conf_dir = dir_ / "net.d";
    options_.bin_dirs = {dir_ / "bin"};
    options_.cache_dir = dir_ / "cni";
    options_.ipam_dir = dir_ / "networks";
    options_.state_dir = dir_ / "run";
    options_.cgroup_root = "/linnet-test-" + std::to_string(getpid());
    options_.pool_size = 2;
    Start();
  }
  void SetUp() override {
    if (!engine_) GTEST_SKIP() << "needs root in namespaces of its own (contrib/lib/isolated)";
  }
  // Whatever a test did: when its pods are gone, nothing is left.
  void TearDown() override {
    if (!engine_) return;
    for (const std::string& pod : pods_) {
      LN_EXPECT_OK(engine_->Detach(Pod(pod)));
      LN_EXPECT_OK(engine_->ReleaseNetns(Pod(pod)));
    }
    netns_.clear();
    EXPECT_TRUE(Eventually([&] { return Leases().empty(); }));
    EXPECT_THAT(Leases(), IsEmpty());
    EXPECT_THAT(Records(), IsEmpty());
    EXPECT_THAT(Names(options_.state_dir + "/attaching"), IsEmpty());
    EXPECT_THAT(Names(options_.netns_dir), IsEmpty());
    // A bridge of a configuration stays, as upstream's plugin leaves it; its ports do not.
    for (const char* bridge : {"lnmine0", "lnc0", "lnf0", "lnw0"}) {
      const std::string command = std::string("ip link del ") + bridge + " 2>/dev/null";
      if (Exists(std::string("/sys/class/net/") + bridge) && system(command.c_str()) != 0)
        ADD_FAILURE() << command;
    }
    EXPECT_TRUE(Eventually([&] { return HostLinks().empty(); }));
    EXPECT_THAT(HostLinks(), IsEmpty());
    engine_.reset();
  }

  void Start() {
    EngineImpl::Parts parts;
    auto host = HostNetwork::Create(
        {.instance = options_.instance, .mode = NftMode::kDaemon, .state_dir = options_.state_dir});
    ASSERT_TRUE(host.has_value()) << host.error().message();
    parts.host = *std::move(host);
    parts.plugins = MakeBuiltinPlugins();
    parts.first_retry = milliseconds(20);
    auto engine = EngineImpl::Make(options_, std::move(parts));
    ASSERT_TRUE(engine.has_value()) << engine.error().message();
    engine_ = *std::move(engine);
  }

  Result<Attachment> Attach(const std::string& pod, std::vector<PortMapping> ports = {}) {
    PodNetns netns = LN_TRY(engine_->TakeNetns(Pod(pod)));
    AttachRequest request{.pod = Pod(pod),
                          .netns_path = netns.path,
                          .ports = std::move(ports),
                          .args = {},
                          .cgroup_path = {}};
    request.netns = netns.fd;
    request.args = {{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "ns"}, {"K8S_POD_NAME", pod}};
    {
      MutexLock lock(mu_);
      netns_[pod] = std::move(netns);
      pods_.insert(pod);
    }
    return engine_->Attach(request);
  }

  static std::vector<std::string> Names(const std::string& dir) {
    return ListDir(dir).value_or({});
  }
  std::vector<std::string> Records() const { return Names(options_.cache_dir + "/results"); }
  std::vector<std::string> Leases(const std::string& network = "linnet") const {
    std::vector<std::string> out;
    for (const std::string& name : Names(JoinPath(options_.ipam_dir, network))) {
      if (IpAddress::Parse(name)) out.push_back(name);
    }
    return out;
  }
  static std::vector<std::string> HostLinks() {
    std::vector<std::string> out;
    for (const std::string& name : Names("/sys/class/net")) {
      if (name.starts_with("ln") || name.starts_with("veth")) out.push_back(name);
    }
    return out;
  }
  void Conf(const std::string& name, const std::string& text) {
    LN_EXPECT_OK(MakeDirs(options_.conf_dir, 0755));
    LN_EXPECT_OK(ReplaceFile(JoinPath(options_.conf_dir, name), text, 0644));
  }
  void Script(const std::string& name, const std::string& body) {
    LN_EXPECT_OK(MakeDirs(dir_ / "bin", 0755));
    LN_EXPECT_OK(ReplaceFile(dir_ / ("bin/" + name), "#!/bin/sh\n" + body + "\n", 0755));
  }
  // A script that logs its calls and answers `answer` to ADD.
  void LoggingPlugin(const std::string& name, const std::string& answer) {
    // VERSION is asked whenever Status is: nobody's business here.
    Script(name, "in=$(cat)\n[ $CNI_COMMAND != VERSION ] || exit 0\necho \"" + name +
                     " $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $in\" >>" +
                     (dir_ / "log") + "\n[ $CNI_COMMAND != ADD ] || { " + answer + "; }");
  }
  std::vector<std::string> Log() const {
    std::vector<std::string> lines = Split(ReadFile(dir_ / "log").value_or(""), '\n');
    std::erase(lines, "");
    return lines;
  }
  bool NetworkIs(const std::string& name) {
    return Eventually([&] { return engine_->Status().network == name; });
  }

  testing::TempDir dir_;
  EngineOptions options_;
  std::unique_ptr<EngineImpl> engine_;
  Mutex mu_;
  std::map<std::string, PodNetns> netns_;
  std::set<std::string> pods_;
};

TEST_F(EngineTest, ZeroConfiguration_PodIsReachable) {
  const EngineStatus status = engine_->Status();
  EXPECT_TRUE(status.ready);
  EXPECT_EQ(status.network, "linnet");
  EXPECT_EQ(status.source, "built-in");

  const Attachment attachment = LN_ASSERT_OK(Attach("pod1"));
  ASSERT_THAT(attachment.addresses, SizeIs(2));
  EXPECT_EQ(attachment.addresses[0].address().str(), "10.83.0.2");
  EXPECT_EQ(attachment.addresses[1].address().str().substr(0, 2), "fd");
  EXPECT_THAT(AddressesIn(netns_["pod1"].fd),
              ElementsAre("eth0 10.83.0.2", "eth0 " + attachment.addresses[1].address().str(),
                          "lo 127.0.0.1", "lo ::1"));
  const UniqueFd listener = Listen(netns_["pod1"].fd, 80);
  EXPECT_TRUE(Connects("10.83.0.2", 80));

  EXPECT_EQ(ReadFile(options_.ipam_dir + "/linnet/10.83.0.2").value_or(""), "pod1\r\neth0");
  ASSERT_THAT(Records(), ElementsAre("linnet-pod1-eth0"));
  const auto record = LN_ASSERT_OK(
      cni::ParseRecord(ReadFile(options_.cache_dir + "/results/linnet-pod1-eth0").value_or("")));
  EXPECT_EQ(record.result, attachment.result_json);
  EXPECT_EQ(record.netns, "/run/netns/linnet-pod1");
  LN_EXPECT_OK(engine_->Check(Pod("pod1")));

  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_FALSE(engine_->Find(Pod("pod1")).has_value());
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_FALSE(Connects("10.83.0.2", 80));
}

TEST_F(EngineTest, Attach_Repeated_GivesTheStoredResult) {
  const Attachment first = LN_ASSERT_OK(Attach("pod1"));
  const Attachment again = LN_ASSERT_OK(Attach("pod1"));
  EXPECT_EQ(again.result_json, first.result_json);
  EXPECT_EQ(LN_ASSERT_OK(Attach("pod2")).addresses[0].address().str(), "10.83.0.3");
  EXPECT_EQ(engine_->Find(Pod("pod1"))->result_json, first.result_json);
}

TEST_F(EngineTest, HostPort_LeadsToThePodAndIsExclusive) {
  LN_EXPECT_OK(Attach(
      "pod1", {{.host_port = 8080, .container_port = 80, .protocol = "tcp", .host_ip = ""}}));
  const UniqueFd listener = Listen(netns_["pod1"].fd, 80);
  EXPECT_TRUE(Connects("192.0.2.2", 8080));
  EXPECT_TRUE(Connects("127.0.0.1", 8080));
  LN_EXPECT_ERROR(
      Attach("pod2", {{.host_port = 8080, .container_port = 80, .protocol = "tcp", .host_ip = ""}}),
      Code::kAlreadyExists, "8080");
  EXPECT_THAT(Leases(), SizeIs(2)) << "the refused pod keeps nothing";
  EXPECT_THAT(Records(), SizeIs(1));
  EXPECT_TRUE(Connects("192.0.2.2", 8080)) << "the first keeps its port";
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_FALSE(Connects("192.0.2.2", 8080));
}

TEST_F(EngineTest, HostsOwnNamespace_IsRefused) {
  const UniqueFd own = LN_ASSERT_OK(Open("/proc/self/ns/net", O_RDONLY));
  AttachRequest request{.pod = Pod("pod1"),
                        .netns_path = "/proc/self/ns/net",
                        .ports = {},
                        .args = {},
                        .cgroup_path = {}};
  request.netns = own;
  LN_EXPECT_ERROR(engine_->Attach(request), Code::kInvalidArgument, "host");
  LN_EXPECT_ERROR(engine_->AdoptNetns(Pod("pod1"), own), Code::kInvalidArgument, "host");
}

TEST_F(EngineTest, Netns_IsPinnedFoundAgainAndReleased) {
  const UniqueFd made = LN_ASSERT_OK(NewNetns());
  const PodNetns adopted = LN_ASSERT_OK(engine_->AdoptNetns(Pod("pod1"), made));
  EXPECT_EQ(adopted.path, "/run/netns/linnet-pod1");
  const PodNetns found = LN_ASSERT_OK(engine_->OpenNetns(Pod("pod1")));
  EXPECT_EQ(found.inode, adopted.inode);
  EXPECT_EQ(found.device, adopted.device);
  LN_EXPECT_OK(engine_->ReleaseNetns(Pod("pod1")));
  LN_EXPECT_OK(engine_->ReleaseNetns(Pod("pod1")));
  LN_EXPECT_ERROR(engine_->OpenNetns(Pod("pod1")), Code::kNotFound, "");
}

constexpr const char* kBridgeList = R"({"cniVersion":"1.1.0","name":"mine","plugins":[
  {"type":"bridge","bridge":"lnmine0","isGateway":true,"ipMasq":true,
   "ipam":{"type":"host-local","ranges":[[{"subnet":"10.7.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]})";

TEST_F(EngineTest, Conflist_ComesChangesGoesAndTheDirectoryToo) {
  LN_EXPECT_OK(Attach("pod1"));
  Conf("10-mine.conflist", kBridgeList);  // the directory did not exist
  ASSERT_TRUE(NetworkIs("mine"));
  EXPECT_EQ(engine_->Status().source, JoinPath(options_.conf_dir, "10-mine.conflist"));
  EXPECT_EQ(LN_ASSERT_OK(Attach("pod2")).addresses[0].str(), "10.7.0.2/24");

  Conf("05-first.conflist",
       R"({"cniVersion":"1.0.0","name":"first","plugins":[{"type":"loopback"}]})");
  ASSERT_TRUE(NetworkIs("first"));
  LN_EXPECT_OK(RemoveFile(JoinPath(options_.conf_dir, "05-first.conflist")));
  ASSERT_TRUE(NetworkIs("mine"));
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
  EXPECT_EQ(LN_ASSERT_OK(Attach("pod3")).network, "linnet");
  Conf("10-mine.conflist", kBridgeList);
  ASSERT_TRUE(NetworkIs("mine"));
  // The directory's name comes to mean another one.
  ASSERT_EQ(rename(options_.conf_dir.c_str(), (dir_ / "aside").c_str()), 0);
  ASSERT_TRUE(NetworkIs("linnet"));
  ASSERT_EQ(rename((dir_ / "aside").c_str(), options_.conf_dir.c_str()), 0);
  ASSERT_TRUE(NetworkIs("mine"));

  // Every pod is detached by its own record, whatever rules now.
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  LN_EXPECT_OK(engine_->Detach(Pod("pod2")));
  EXPECT_THAT(Leases("mine"), IsEmpty());
}

TEST_F(EngineTest, BrokenFile_IsNamedAndChangesNothing) {
  Conf("10-mine.conflist",
       R"({"cniVersion":"1.1.0","name":"mine","plugins":[{"type":"loopback"}]})");
  ASSERT_TRUE(NetworkIs("mine"));
  Conf("10-mine.conflist",
       R"({"cniVersion":"1.1.0","name":"mine","plugins":[{"typ":"loopback"}]})");
  ASSERT_TRUE(Eventually([&] { return !engine_->Status().ready; }));
  const EngineStatus status = engine_->Status();
  EXPECT_EQ(status.reason, "NetworkPluginNotReady");
  EXPECT_THAT(status.message,
              HasSubstr("10-mine.conflist: $.plugins[0]: required key \"type\" is missing"));
  EXPECT_EQ(status.network, "mine") << "its last good contents rule on";
  Conf("10-mine.conflist",
       R"({"cniVersion":"1.1.0","name":"mine","plugins":[{"type":"loopback"}]})");
  ASSERT_TRUE(Eventually([&] { return engine_->Status().ready; }));
  // A broken one before a good one is passed over, and said so.
  Conf("00-broken.conf", "{");
  ASSERT_TRUE(Eventually(
      [&] { return engine_->Status().message.find("00-broken.conf") != std::string::npos; }));
  EXPECT_TRUE(engine_->Status().ready);

  // At start there is nothing to go on with: no pod, rather than one on a network that nobody asked
  // for.
  LN_EXPECT_OK(RemoveFile(JoinPath(options_.conf_dir, "10-mine.conflist")));
  engine_.reset();
  Start();
  EXPECT_FALSE(engine_->Status().ready);
  LN_EXPECT_ERROR(Attach("pod1"), Code::kUnavailable, "00-broken.conf");
}

TEST_F(EngineTest, UnknownPlugin_IsNotReady) {
  Conf("10-x.conflist", R"({"cniVersion":"1.0.0","name":"x","plugins":[{"type":"weave"}]})");
  ASSERT_TRUE(NetworkIs("x"));
  EXPECT_FALSE(engine_->Status().ready);
  EXPECT_THAT(engine_->Status().message, HasSubstr("failed to find plugin \"weave\""));
  LN_EXPECT_ERROR(Attach("pod1"), Code::kNotFound,
                  "plugin type=\"weave\" failed (add): failed to find plugin");
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
  // What was never there has nothing to undo, but nobody can know that: it is tried until the
  // plugin says so.
  LoggingPlugin("weave", "true");
  EXPECT_TRUE(Eventually(
      [&] { return Records().empty() && Names(options_.state_dir + "/attaching").empty(); }));
}

TEST_F(EngineTest, ForeignPlugin_Alone) {
  LoggingPlugin(
      "other",
      R"(echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"version":"4","interface":0,"address":"10.9.0.7/24"}],"extra":1}')");
  Conf(
      "10-o.conflist",
      R"({"cniVersion":"0.4.0","name":"o","plugins":[{"type":"other","big":9007199254740993,"capabilities":{"portMappings":true}}]})");
  ASSERT_TRUE(NetworkIs("o"));
  const Attachment attachment = LN_ASSERT_OK(
      Attach("pod1",
             {{.host_port = 99, .container_port = 80, .protocol = "udp", .host_ip = "127.0.0.1"}}));
  EXPECT_EQ(attachment.addresses[0].str(), "10.9.0.7/24");
  EXPECT_THAT(attachment.result_json, HasSubstr("\"extra\":1")) << "its result is kept as it is";
  LN_EXPECT_OK(engine_->Check(Pod("pod1")));
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  const auto log = Log();
  ASSERT_THAT(log, SizeIs(3));
  EXPECT_EQ(
      log[0],
      "other ADD pod1 eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod1 "
      R"({"cniVersion":"0.4.0","name":"o","type":"other","big":9007199254740993,"runtimeConfig":{"portMappings":[{"containerPort":80,"hostIP":"127.0.0.1","hostPort":99,"protocol":"udp"}]}})");
  EXPECT_THAT(log[1], HasSubstr("other CHECK pod1 eth0"));
  EXPECT_THAT(log[1], HasSubstr("\"prevResult\":{\"cniVersion\":\"0.4.0\""));
  EXPECT_THAT(log[2], HasSubstr("other DEL pod1 eth0"));
  EXPECT_THAT(log[2], HasSubstr("\"extra\":1"));
  EXPECT_THAT(log[2], HasSubstr("\"hostPort\":99"));
}

TEST_F(EngineTest, ForeignPlugin_ChainedAndAsIpam) {
  LoggingPlugin("chained", "echo \"$in\" | sed 's/.*\"prevResult\"://; s/}$//'");
  LoggingPlugin(
      "addresses",
      R"(echo '{"cniVersion":"1.0.0","ips":[{"address":"10.8.0.9/24","gateway":"10.8.0.1"}]}')");
  Conf("10-c.conflist", R"({"cniVersion":"1.0.0","name":"c","plugins":[
    {"type":"bridge","bridge":"lnc0","isGateway":true,"ipam":{"type":"addresses"}},{"type":"chained","x":1.0}]})");
  ASSERT_TRUE(NetworkIs("c"));
  const Attachment attachment = LN_ASSERT_OK(Attach("pod1"));
  EXPECT_EQ(attachment.addresses[0].str(), "10.8.0.9/24");
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  const auto log = Log();
  ASSERT_THAT(log, SizeIs(4));
  EXPECT_THAT(log[0], HasSubstr("addresses ADD pod1 eth0"));
  EXPECT_THAT(log[0], HasSubstr(R"("type":"bridge","bridge":"lnc0")"))
      << "the whole configuration of the caller";
  EXPECT_THAT(log[1], HasSubstr("chained ADD pod1"));
  EXPECT_THAT(log[1], HasSubstr("\"x\":1.0"));
  EXPECT_THAT(log[1], HasSubstr("10.8.0.9/24"));
  EXPECT_THAT(log[2], HasSubstr("chained DEL pod1"));
  EXPECT_THAT(log[3], HasSubstr("addresses DEL pod1"));
}

TEST_F(EngineTest, FailingAdd_IsUndoneInReverse) {
  LoggingPlugin("good", R"(echo '{"cniVersion":"1.0.0"}')");
  LoggingPlugin("bad", R"(echo '{"code":11,"msg":"not today"}'; exit 1)");
  Conf("10-f.conflist", R"({"cniVersion":"1.0.0","name":"f","plugins":[
    {"type":"bridge","bridge":"lnf0","ipam":{"type":"host-local","subnet":"10.6.0.0/24"}},{"type":"good"},{"type":"bad"}]})");
  ASSERT_TRUE(NetworkIs("f"));
  LN_EXPECT_ERROR(Attach("pod1"), Code::kUnavailable,
                  "plugin type=\"bad\" failed (add): not today");
  std::vector<std::string> calls;
  for (const std::string& line : Log()) calls.push_back(line.substr(0, line.find(" pod1")));
  EXPECT_THAT(calls, ElementsAre("good ADD", "bad ADD", "bad DEL", "good DEL"));
  EXPECT_THAT(Leases("f"), IsEmpty());
  EXPECT_THAT(Records(), IsEmpty());
}

TEST_F(EngineTest, DelOfMissingPlugin_SucceedsIsRetriedAndQuarantinesTheAddress) {
  LoggingPlugin("wall", "echo \"$in\" | sed 's/.*\"prevResult\"://; s/}$//'");
  Conf("10-w.conflist", R"({"cniVersion":"1.0.0","name":"w","plugins":[
    {"type":"bridge","bridge":"lnw0","ipam":{"type":"host-local","subnet":"10.5.0.0/24"}},{"type":"wall"}]})");
  ASSERT_TRUE(NetworkIs("w"));
  LN_EXPECT_OK(Attach("pod1"));
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  LN_EXPECT_OK(RemoveFile(dir_ / "bin/wall"));
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_THAT(Leases("w"), ElementsAre("10.5.0.2")) << "quarantined";
  EXPECT_FALSE(engine_->Find(Pod("pod1")).has_value());
  EXPECT_THAT(engine_->Status().message, HasSubstr("detaching pod pod1 is tried again"));
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  LN_EXPECT_ERROR(Attach("pod1"), Code::kFailedPrecondition, "being detached");
  // A restart does not forget it.
  engine_.reset();
  Start();
  LN_EXPECT_OK(engine_->Recover({}));
  EXPECT_THAT(Leases("w"), ElementsAre("10.5.0.2"));
  LoggingPlugin("wall", "true");
  EXPECT_TRUE(Eventually([&] { return Leases("w").empty(); }));
  EXPECT_TRUE(Eventually([&] { return engine_->Status().message.empty(); }));
  EXPECT_THAT(Log().back(), HasSubstr("wall DEL pod1"));
}

TEST_F(EngineTest, HangingPlugin_IsKilledWithAllItStarted) {
  options_.plugin_timeout = std::chrono::seconds(1);
  engine_.reset();
  Start();
  Script("hang", "[ $CNI_COMMAND = ADD ] || exit 0\nsetsid sh -c 'trap \"\" TERM; echo $$ >" +
                     (dir_ / "child") + "; sleep 60; sleep 60' &\nsleep 60");
  Conf("10-h.conflist", R"({"cniVersion":"1.0.0","name":"h","plugins":[{"type":"hang"}]})");
  ASSERT_TRUE(NetworkIs("h"));
  LN_EXPECT_ERROR(Attach("pod1"), Code::kDeadlineExceeded, "killed");
  const std::string child(Trim(ReadFile(dir_ / "child").value_or("")));
  ASSERT_FALSE(child.empty());
  EXPECT_TRUE(Eventually([&] {
    const std::string stat = ReadFile("/proc/" + child + "/stat").value_or("");
    return stat.empty() || stat.find(") Z") != std::string::npos;
  })) << "a child in a session of its own lives on";
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
}

TEST_F(EngineTest, PodCidr_ReplacesTheSubnetsForNewPods) {
  LN_EXPECT_OK(Attach("pod1"));
  LN_EXPECT_OK(engine_->SetPodCidr(""));
  LN_EXPECT_ERROR(engine_->SetPodCidr("10.1.2.3"), Code::kInvalidArgument, "");
  LN_EXPECT_ERROR(engine_->SetPodCidr("10.1.2.0/31"), Code::kInvalidArgument, "too small");
  LN_EXPECT_OK(engine_->SetPodCidr("10.200.1.0/24,fd12::/64"));
  LN_EXPECT_OK(engine_->SetPodCidr("10.200.1.0/24,fd12::/64"));
  const Attachment second = LN_ASSERT_OK(Attach("pod2"));
  EXPECT_EQ(second.addresses[0].address().str(), "10.200.1.2");
  EXPECT_EQ(second.addresses[1].address().str(), "fd12::2");
  const UniqueFd one = Listen(netns_["pod1"].fd, 80);
  const UniqueFd two = Listen(netns_["pod2"].fd, 80);
  EXPECT_TRUE(Connects("10.83.0.2", 80)) << "pods of before go on";
  EXPECT_TRUE(Connects("10.200.1.2", 80));
  engine_.reset();
  Start();
  LN_EXPECT_OK(engine_->Recover({Pod("pod1"), Pod("pod2")}));
  EXPECT_EQ(LN_ASSERT_OK(Attach("pod3")).addresses[0].address().str(), "10.200.1.3")
      << "remembered";
}

TEST_F(EngineTest, Recover_AdoptsTheKnownAndRemovesTheRest) {
  const Attachment kept = LN_ASSERT_OK(Attach(
      "pod1", {{.host_port = 8080, .container_port = 80, .protocol = "tcp", .host_ip = ""}}));
  LN_EXPECT_OK(Attach(
      "pod2", {{.host_port = 8081, .container_port = 80, .protocol = "tcp", .host_ip = ""}}));
  LN_EXPECT_OK(Attach("pod3"));
  engine_.reset();  // nobody detached anything
  // An intent: the daemon died in the middle of ADD; an address that no record tells of; a record
  // torn by a power loss.
  const std::string results = options_.cache_dir + "/results/";
  cni::Record intent =
      LN_ASSERT_OK(cni::ParseRecord(ReadFile(results + "linnet-pod3-eth0").value_or("")));
  intent.result.clear();
  LN_EXPECT_OK(RemoveFile(results + "linnet-pod3-eth0"));
  LN_EXPECT_OK(
      ReplaceFile(options_.state_dir + "/attaching/linnet-pod3-eth0", cni::DumpRecord(intent)));
  intent.container_id = "pod1";  // died between the record and the removal of the intent
  LN_EXPECT_OK(
      ReplaceFile(options_.state_dir + "/attaching/linnet-pod1-eth0", cni::DumpRecord(intent)));
  LN_EXPECT_OK(ReplaceFile(options_.ipam_dir + "/linnet/10.83.0.77", "nobody\r\neth0"));
  LN_EXPECT_OK(ReplaceFile(options_.ipam_dir + "/linnet/10.83.0.78", "torn\r\neth0"));
  LN_EXPECT_OK(ReplaceFile(results + "linnet-torn-eth0", ""));
  // Another runtime's are none of our business.
  intent.mark.reset();
  intent.container_id = "foreign";
  LN_EXPECT_OK(ReplaceFile(results + "linnet-foreign-eth0", cni::DumpRecord(intent)));
  LN_EXPECT_OK(ReplaceFile(results + "net-x-eth0", "torn, and not ours"));

  Start();
  LN_EXPECT_OK(engine_->Recover({Pod("pod1")}));
  EXPECT_THAT(Records(), ElementsAre("linnet-foreign-eth0", "linnet-pod1-eth0", "net-x-eth0"));
  EXPECT_THAT(Leases(), SizeIs(2)) << "pod1's";
  EXPECT_THAT(Names(options_.netns_dir), ElementsAre("linnet-pod1"));
  EXPECT_TRUE(Eventually([&] { return HostLinks().size() == 1; })) << "one port";
  ASSERT_TRUE(engine_->Find(Pod("pod1")).has_value());
  EXPECT_EQ(engine_->Find(Pod("pod1"))->result_json, kept.result_json);
  const UniqueFd listener = Listen(netns_["pod1"].fd, 80);
  EXPECT_TRUE(Connects("192.0.2.2", 8080));
  LN_EXPECT_OK(Attach(
      "pod4", {{.host_port = 8081, .container_port = 80, .protocol = "tcp", .host_ip = ""}}));
  LN_EXPECT_OK(engine_->Check(Pod("pod1")));
  LN_EXPECT_OK(RemoveFile(results + "linnet-foreign-eth0"));
  LN_EXPECT_OK(RemoveFile(results + "net-x-eth0"));
}

TEST_F(EngineTest, Recover_RestoresAFlushedRuleset) {
  LN_EXPECT_OK(Attach(
      "pod1", {{.host_port = 8080, .container_port = 80, .protocol = "tcp", .host_ip = ""}}));
  engine_.reset();
  if (system("nft flush ruleset") != 0) GTEST_SKIP() << "no nft program";
  Start();
  LN_EXPECT_OK(engine_->Recover({Pod("pod1")}));
  const UniqueFd listener = Listen(netns_["pod1"].fd, 80);
  EXPECT_TRUE(Connects("192.0.2.2", 8080));
  EXPECT_TRUE(Connects("10.83.0.2", 80));
}

TEST_F(EngineTest, Detach_BeforeRecover_WorksFromTheRecord) {
  LN_EXPECT_OK(Attach("pod1"));
  engine_.reset();
  Start();
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_THAT(Leases(), IsEmpty());
  EXPECT_THAT(Records(), IsEmpty());
}

TEST_F(EngineTest, Detach_WithoutARecord_UndoesByOwner) {
  LN_EXPECT_OK(Attach("pod1"));
  LN_EXPECT_OK(Attach("pod2"));
  engine_.reset();
  LN_EXPECT_OK(RemoveAll(options_.cache_dir));
  Start();
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_THAT(Leases(), SizeIs(2)) << "pod2's";
  LN_EXPECT_OK(engine_->Detach(Pod("pod2")));
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(EngineTest, NamespaceReplaced_NothingOfItIsTouched) {
  LN_EXPECT_OK(Attach("pod1"));
  // What lies at the pin's path now leads to the host.
  ASSERT_EQ(umount2("/run/netns/linnet-pod1", MNT_DETACH), 0);
  ASSERT_EQ(unlink("/run/netns/linnet-pod1"), 0);
  ASSERT_EQ(symlink("/proc/1/ns/net", "/run/netns/linnet-pod1"), 0);
  LN_EXPECT_OK(engine_->Detach(Pod("pod1")));
  EXPECT_EQ(access("/sys/class/net/uplink0", F_OK), 0);
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(EngineTest, FourThreads_FiftyPodsEach) {
  constexpr int kThreads = 4;
  constexpr int kPods = 50;
  std::vector<std::thread> threads;
  std::mutex mu;
  std::set<std::string> addresses;
  std::vector<double> times;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPods; ++i) {
        const std::string pod = "pod" + std::to_string(t) + "-" + std::to_string(i);
        const auto start = std::chrono::steady_clock::now();
        auto attachment = Attach(pod);
        const std::chrono::duration<double, std::milli> took =
            std::chrono::steady_clock::now() - start;
        ASSERT_TRUE(attachment.has_value()) << attachment.error().message();
        const std::lock_guard lock(mu);
        times.push_back(took.count());
        for (const Cidr& a : attachment->addresses)
          EXPECT_TRUE(addresses.insert(a.address().str()).second) << a.str();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(addresses, SizeIs(2 * kThreads * kPods));
  EXPECT_THAT(Leases(), SizeIs(2 * kThreads * kPods));
  std::sort(times.begin(), times.end());
  RecordProperty("attach_p50_ms", std::to_string(times[times.size() / 2]));
  std::printf("attach with namespace, 4 threads: p50 %.2f ms, p99 %.2f ms\n",
              times[times.size() / 2], times[times.size() * 99 / 100]);

  threads.clear();
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPods; ++i)
        LN_EXPECT_OK(engine_->Detach(Pod("pod" + std::to_string(t) + "-" + std::to_string(i))));
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(EngineTest, OneThread_CostOfAttachAndDetach) {
  std::vector<double> attach;
  std::vector<double> detach;
  LN_EXPECT_OK(Attach("warm-up"));
  for (int i = 0; i < 100; ++i) {
    const std::string pod = "pod" + std::to_string(i);
    PodNetns netns = LN_ASSERT_OK(engine_->TakeNetns(Pod(pod)));
    AttachRequest request{.pod = Pod(pod),
                          .netns_path = netns.path,
                          .ports = {},
                          .args = {{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", pod}},
                          .cgroup_path = {}};
    request.netns = netns.fd;
    request.ports = {{.host_port = static_cast<std::uint16_t>(9000 + i),
                      .container_port = 80,
                      .protocol = "tcp",
                      .host_ip = ""}};
    const auto start = std::chrono::steady_clock::now();
    LN_EXPECT_OK(engine_->Attach(request));
    const auto middle = std::chrono::steady_clock::now();
    if (i % 2 == 0) LN_EXPECT_OK(engine_->Detach(Pod(pod)));
    const auto end = std::chrono::steady_clock::now();
    attach.push_back(std::chrono::duration<double, std::milli>(middle - start).count());
    if (i % 2 == 0)
      detach.push_back(std::chrono::duration<double, std::milli>(end - middle).count());
    netns_[pod] = std::move(netns);
    pods_.insert(pod);
  }
  std::sort(attach.begin(), attach.end());
  std::sort(detach.begin(), detach.end());
  std::printf(
      "attach best %.2f ms p50 %.2f ms p95 %.2f ms, detach best %.2f ms p50 %.2f ms p95 %.2f ms\n",
      attach[0], attach[50], attach[95], detach[0], detach[25], detach[47]);
  EXPECT_LT(attach[50], 25.0);
}

}  // namespace
}  // namespace linnet::network
