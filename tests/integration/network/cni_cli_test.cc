// linnet-cni as other runtimes use it, and side by side with upstream's plugins (Debian:
// containernetworking-plugins).
#include <signal.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"
#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"
#include "linnet/base/spawn.h"
#include "linnet/network/engine.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "netns.h"

namespace linnet::network {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CniCliTest : public ::testing::Test {
 protected:
  CniCliTest() { signal(SIGPIPE, SIG_IGN); }
  void SetUp() override {
    if (geteuid() != 0 || getenv("LINNET_ISOLATED") == nullptr)
      GTEST_SKIP() << "needs root in namespaces of its own";
    const char* bin = getenv("LINNET_BIN_DIR");
    program_ = JoinPath(bin == nullptr ? "." : bin, "linnet-cni");
    if (!Exists(program_)) GTEST_SKIP() << program_ << " is not built";
    if (Exists("/usr/lib/cni/host-local")) upstream_ = "/usr/lib/cni";
    const RunResult installed = LN_ASSERT_OK(Program({"install", ours()}));
    ASSERT_EQ(installed.status.code, 0) << installed.err;
  }
  void TearDown() override {
    for (const std::string& path : pins_) LN_EXPECT_OK(Unpin(path));
    for (const char* bridge : {"lnx0", "lnx1"}) {
      const std::string command = std::string("ip link del ") + bridge;
      if (Exists(std::string("/sys/class/net/") + bridge) && system(command.c_str()) != 0)
        ADD_FAILURE() << command;
    }
  }
  std::string ours() const { return dir_ / "bin"; }

  Result<RunResult> Program(std::vector<std::string> args) const {
    SpawnSpec spec;
    spec.path = program_;
    spec.argv = {program_};
    spec.argv.insert(spec.argv.end(), args.begin(), args.end());
    return linnet::Run(spec, "", std::chrono::steady_clock::now() + std::chrono::seconds(20));
  }

  std::string Namespace(const std::string& name) {
    const std::string path = "/run/netns/" + name;
    auto netns = NewNetns();
    EXPECT_TRUE(netns && Pin(path, *netns));
    pins_.push_back(path);
    return path;
  }

  // Standard output, or "exit N: …".
  std::string Call(const std::string& plugin, const std::string& command, const std::string& id,
                   const std::string& netns, const std::string& conf) const {
    SpawnSpec spec;
    spec.path = plugin;
    spec.argv = {plugin};
    const std::string path =
        "CNI_PATH=" + dir_.path() + "/extra:" + ours() + (upstream_.empty() ? "" : ":" + upstream_);
    spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_COMMAND=" + command,
                "CNI_CONTAINERID=" + id,
                "CNI_NETNS=" + netns,
                "CNI_IFNAME=eth0",
                path,
                "LINNET_STATE_DIR=" + dir_ / "state"};
    auto run = linnet::Run(spec, conf, std::chrono::steady_clock::now() + std::chrono::seconds(20));
    if (!run) return "exit: " + run.error().message();
    if (run->status.code != 0)
      return "exit " + std::to_string(run->status.code) + ": " + run->out + run->err;
    return run->out;
  }
  std::vector<std::string> Leases() const {
    std::vector<std::string> out;
    const std::vector<std::string> names = ListDir(dir_ / "leases/n").value_or({});
    for (const std::string& name : names) {
      if (IpAddress::Parse(name)) out.push_back(name);
    }
    return out;
  }
  std::string Ipam(const std::string& type = "host-local") const {
    return R"({"type":")" + type + R"(","dataDir":")" + (dir_ / "leases") +
           R"(","subnet":"10.77.0.0/24","routes":[{"dst":"0.0.0.0/0"}]})";
  }

  testing::TempDir dir_;
  std::string program_, upstream_;
  std::vector<std::string> pins_;
};

TEST_F(CniCliTest, Install_MakesLinksAndReplacesOnlyItsOwn) {
  const RunResult list = LN_ASSERT_OK(Program({"list"}));
  EXPECT_EQ(list.out,
            "bandwidth\nbridge\nfirewall\nhost-local\nloopback\nportmap\nptp\nstatic\ntuning\n");
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(ours() + "/bridge")), LN_ASSERT_OK(RealPath(program_)));
  EXPECT_EQ(LN_ASSERT_OK(Program({"install", ours()})).status.code, 0) << "again";
  LN_EXPECT_OK(RemoveFile(ours() + "/bridge"));
  LN_EXPECT_OK(ReplaceFile(ours() + "/bridge", "somebody else's", 0755));
  const RunResult refused = LN_ASSERT_OK(Program({"install", ours()}));
  EXPECT_EQ(refused.status.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("--force"));
  EXPECT_EQ(LN_ASSERT_OK(Program({"install", "--force", ours()})).status.code, 0);
  EXPECT_EQ(LN_ASSERT_OK(Program({"install", "--copy", dir_ / "copied"})).status.code, 0);
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(dir_ / "copied/portmap")), "linnet-cni");
  EXPECT_THAT(Call(dir_ / "copied/portmap", "VERSION", "", "", ""), HasSubstr("supportedVersions"));
  EXPECT_EQ(LN_ASSERT_OK(Program({"install"})).status.code, 2);
  EXPECT_EQ(LN_ASSERT_OK(Program({"nonsense"})).status.code, 2);
}

TEST_F(CniCliTest, Chain_AddCheckDel) {
  const std::string netns = Namespace("x1");
  for (const char* version : {"0.4.0", "1.1.0"}) {
    const std::string head = std::string(R"({"cniVersion":")") + version + R"(","name":"n",)";
    const std::string bridge =
        head + R"("type":"bridge","bridge":"lnx0","isGateway":true,"ipMasq":true,"ipam":)" + Ipam();
    const std::string portmap =
        head +
        R"("type":"portmap","runtimeConfig":{"portMappings":[{"HostPort":8099,"ContainerPort":80,"Protocol":"tcp","HostIP":""}]})";
    const std::string first = Call(ours() + "/bridge", "ADD", "c1", netns, bridge + "}");
    const Json result = LN_ASSERT_OK(ParseJson(first));
    EXPECT_EQ(result["cniVersion"], version);
    EXPECT_THAT(result["ips"][0]["address"].get<std::string>(), HasSubstr("10.77.0."));
    const std::string second =
        Call(ours() + "/portmap", "ADD", "c1", netns, portmap + R"(,"prevResult":)" + first + "}");
    EXPECT_EQ(LN_ASSERT_OK(ParseJson(second))["ips"], result["ips"]);
    const std::string prev = R"(,"prevResult":)" + second + "}";
    EXPECT_EQ(Call(ours() + "/bridge", "CHECK", "c1", netns, bridge + prev), "");
    EXPECT_EQ(Call(ours() + "/portmap", "CHECK", "c1", netns, portmap + prev), "");
    EXPECT_EQ(Call(ours() + "/portmap", "DEL", "c1", netns, portmap + prev), "");
    EXPECT_EQ(Call(ours() + "/bridge", "DEL", "c1", netns, bridge + prev), "");
    EXPECT_EQ(Call(ours() + "/bridge", "DEL", "c1", "", bridge + "}"), "")
        << "again, and without a namespace";
    EXPECT_THAT(Call(ours() + "/bridge", "CHECK", "c1", netns, bridge + prev), HasSubstr("exit 1"));
    EXPECT_THAT(Leases(), IsEmpty());
  }
}

TEST_F(CniCliTest, ForeignIpam_IsFoundInCniPath) {
  LN_EXPECT_OK(MakeDirs(dir_ / "extra", 0755));
  LN_EXPECT_OK(
      ReplaceFile(dir_ / "extra/addresses",
                  "#!/bin/sh\ncat >>" + (dir_ / "log") + "\necho $CNI_COMMAND >>" + (dir_ / "log") +
                      "\n[ $CNI_COMMAND != ADD ] || echo "
                      "'{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.78.0.5/24\"}]}'\n",
                  0755));
  const std::string netns = Namespace("x1");
  const std::string conf =
      R"({"cniVersion":"1.0.0","name":"n","type":"bridge","bridge":"lnx0","ipam":{"type":"addresses","x":9007199254740993}})";
  EXPECT_THAT(Call(ours() + "/bridge", "ADD", "c1", netns, conf), HasSubstr("10.78.0.5/24"));
  EXPECT_EQ(Call(ours() + "/bridge", "DEL", "c1", netns, conf), "");
  EXPECT_EQ(ReadFile(dir_ / "log").value_or(""), conf + "ADD\n" + conf + "DEL\n");
}

TEST_F(CniCliTest, HostLocal_SharesItsDirectoryWithUpstream) {
  if (upstream_.empty()) GTEST_SKIP() << "upstream's plugins are not installed";
  const std::string netns = Namespace("x1");
  const std::string conf = R"({"cniVersion":"1.0.0","name":"n","type":"x","ipam":)" + Ipam() + "}";
  std::set<std::string> addresses;
  constexpr int kRounds = 40;
  for (int i = 0; i < kRounds; ++i) {
    const std::string plugin = (i % 2 == 0 ? ours() : upstream_) + "/host-local";
    const std::string out = Call(plugin, "ADD", "c" + std::to_string(i), netns, conf);
    const Json result = LN_ASSERT_OK(ParseJson(out));
    EXPECT_TRUE(addresses.insert(result["ips"][0]["address"].get<std::string>()).second) << out;
    EXPECT_EQ(result["ips"][0]["gateway"], "10.77.0.1");
    EXPECT_EQ(result["routes"][0]["dst"], "0.0.0.0/0");
  }
  EXPECT_EQ(Leases().size(), static_cast<std::size_t>(kRounds));
  const std::string prev =
      conf.substr(0, conf.size() - 1) + R"(,"prevResult":{"cniVersion":"1.0.0","ips":[]}})";
  for (int i = 0; i < kRounds; ++i) {
    // Each checks and releases what the other gave.
    const std::string plugin = (i % 2 == 1 ? ours() : upstream_) + "/host-local";
    EXPECT_EQ(Call(plugin, "CHECK", "c" + std::to_string(i), netns, prev), "");
    EXPECT_EQ(Call(plugin, "DEL", "c" + std::to_string(i), netns, conf), "");
  }
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(CniCliTest, UpstreamBridge_DelegatesToOurHostLocal) {
  if (upstream_.empty()) GTEST_SKIP() << "upstream's plugins are not installed";
  const std::string netns = Namespace("x1");
  const std::string conf =
      R"({"cniVersion":"1.0.0","name":"n","type":"bridge","bridge":"lnx1","isGateway":true,"ipam":)" +
      Ipam() + "}";
  const std::string added = Call(upstream_ + "/bridge", "ADD", "c1", netns, conf);
  EXPECT_THAT(added, HasSubstr("10.77.0.2/24"));
  EXPECT_EQ(Call(upstream_ + "/bridge", "DEL", "c1", netns, conf), "");
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(CniCliTest, UpstreamChain_ThroughTheEngine) {
  if (upstream_.empty()) GTEST_SKIP() << "upstream's plugins are not installed";
  EngineOptions options;
  options.conf_dir = dir_ / "net.d";
  options.bin_dirs = {upstream_};
  options.prefer_external = {"bridge", "host-local", "tuning"};
  options.cache_dir = dir_ / "cni";
  options.ipam_dir = dir_ / "leases";
  options.state_dir = dir_ / "run";
  options.linnet_cni_path = program_;
  options.pool_size = 0;
  LN_EXPECT_OK(MakeDirs(options.conf_dir, 0755));
  LN_EXPECT_OK(ReplaceFile(
      options.conf_dir + "/10-n.conflist",
      R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","bridge":"lnx1","isGateway":true,"ipam":)" +
          Ipam() +
          R"(},{"type":"portmap","capabilities":{"portMappings":true}},{"type":"tuning","sysctl":{"net.core.somaxconn":"500"}}]})"));
  const auto engine = LN_ASSERT_OK(Engine::Create(options));
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(options.state_dir + "/cni-bin/host-local")), program_);
  const EngineStatus status = engine->Status();
  EXPECT_TRUE(status.ready) << status.message;
  const PodId pod = *PodId::Parse("pod1");
  const PodNetns netns = LN_ASSERT_OK(engine->TakeNetns(pod));
  AttachRequest request{.pod = pod,
                        .netns_path = netns.path,
                        .ports = {},
                        .args = {{"IgnoreUnknown", "1"}},
                        .cgroup_path = {}};
  request.netns = netns.fd;
  request.ports = {{.host_port = 8098, .container_port = 80, .protocol = "tcp", .host_ip = ""}};
  const Attachment attachment = LN_ASSERT_OK(engine->Attach(request));
  ASSERT_EQ(attachment.addresses.size(), 1U);
  EXPECT_EQ(attachment.addresses[0].str(), "10.77.0.2/24");
  LN_EXPECT_OK(engine->Check(pod));
  LN_EXPECT_OK(RemoveAll(options.conf_dir));
  LN_EXPECT_OK(engine->Detach(pod));
  EXPECT_THAT(Leases(), IsEmpty());
  LN_EXPECT_OK(engine->ReleaseNetns(pod));
}

}  // namespace
}  // namespace linnet::network
