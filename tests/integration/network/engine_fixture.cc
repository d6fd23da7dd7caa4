#include "engine_fixture.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::network {

std::string Shell(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) return "[failed]";
  std::string out;
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    out.append(buffer.data(), n);
  if (::pclose(pipe) != 0) out += "[failed]";
  return out;
}

EngineHost::EngineHost() {
  signal(SIGPIPE, SIG_IGN);  // as the daemon does: a plugin need not read its input
  options_.conf_dir = dir_ / "net.d";
  options_.bin_dirs = {dir_ / "bin"};
  options_.cache_dir = dir_ / "cni";
  options_.ipam_dir = dir_ / "networks";
  options_.state_dir = dir_ / "run";
  options_.cgroup_root = "/linnet-test-" + std::to_string(getpid());
  options_.pool_size = 0;
}

EngineHost::~EngineHost() = default;

void EngineHost::SetUp() {
  if (geteuid() != 0 || getenv("LINNET_ISOLATED") == nullptr)
    GTEST_SKIP() << "needs root in namespaces of its own (contrib/lib/isolated)";
}

void EngineHost::TearDown() {
  if (IsSkipped()) return;
  if (engine_) {
    for (const auto& [pod, netns] : netns_) {
      LN_EXPECT_OK(Detach(pod));
      LN_EXPECT_OK(engine_->ReleaseNetns(PodNamed(pod)));
    }
    netns_.clear();
    host_->DrainRetired();
    EXPECT_TRUE(Eventually([&] { return Names(options_.cache_dir + "/results").empty(); }))
        << Shell("ls " + options_.cache_dir + "/results");
    EXPECT_EQ(Shell("ip -o link show type veth | sed '/uplink/d'"), "")
        << "a host end of a pod is left";
  }
  engine_.reset();
  netns_.clear();
  Shell("for l in $(ls /sys/class/net | grep ^ln); do ip link del $l; done; nft flush ruleset");
  Shell("for p in /run/netns/*; do umount $p; rm -f $p; done");
}

void EngineHost::Start() {
  engine_.reset();
  EngineImpl::Parts parts;
  parts.host = LN_ASSERT_OK(HostNetwork::Create(
      {.instance = options_.instance, .mode = NftMode::kDaemon, .state_dir = options_.state_dir}));
  host_ = parts.host.get();
  parts.plugins = MakeBuiltinPlugins();
  parts.first_retry = first_retry_;
  parts.status_fresh = std::chrono::milliseconds(0);
  engine_ = LN_ASSERT_OK(EngineImpl::Make(options_, std::move(parts)));
}

Result<Attachment> EngineHost::Attach(const std::string& pod, std::vector<PortMapping> ports) {
  if (!netns_.contains(pod)) netns_[pod] = LN_TRY(engine_->TakeNetns(PodNamed(pod)));
  const PodNetns& netns = netns_[pod];
  AttachRequest request{.pod = PodNamed(pod),
                        .netns_path = netns.path,
                        .ports = std::move(ports),
                        .args = {},
                        .cgroup_path = {}};
  request.netns = netns.fd;
  request.args = {{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "ns"}, {"K8S_POD_NAME", pod}};
  return engine_->Attach(request);
}

void EngineHost::Conf(const std::string& name, const std::string& text) {
  LN_EXPECT_OK(MakeDirs(options_.conf_dir, 0755));
  LN_EXPECT_OK(ReplaceFile(JoinPath(options_.conf_dir, name), text, 0644));
}

void EngineHost::Script(const std::string& name, const std::string& body) {
  LN_EXPECT_OK(MakeDirs(dir_ / "bin", 0755));
  LN_EXPECT_OK(ReplaceFile(dir_ / ("bin/" + name), "#!/bin/sh\n" + body + "\n", 0755));
}

void EngineHost::LoggingPlugin(const std::string& name, const std::string& answer) {
  // VERSION is asked for whenever the daemon wonders whether the plugin will do.
  Script(
      name,
      "in=$(cat)\n"
      "if [ $CNI_COMMAND = VERSION ]; then echo "
      "'{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\","
      "\"0.4.0\",\"1.0.0\",\"1.1.0\"]}'; exit 0; fi\n"
      "echo \"" +
          name + " $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $in\" >>" + (dir_ / "log") +
          "\n[ $CNI_COMMAND != ADD ] || { " + answer + "; }");
}

std::vector<std::string> EngineHost::Log() const {
  std::vector<std::string> lines = Split(ReadFile(dir_ / "log").value_or(""), '\n');
  std::erase(lines, "");
  return lines;
}

std::vector<std::string> EngineHost::Calls() const {
  std::vector<std::string> out;
  for (const std::string& line : Log()) {
    const std::vector<std::string> words = SplitFields(line);
    out.push_back(words.size() < 2 ? line : words[0] + " " + words[1]);
  }
  return out;
}

void EngineHost::ForgetLog() { LN_EXPECT_OK(RemoveFile(dir_ / "log")); }

bool EngineHost::NetworkIs(const std::string& name) {
  return Eventually([&] { return engine_->Status().network == name; });
}

std::vector<std::string> EngineHost::Names(const std::string& dir) {
  return ListDir(dir).value_or({});
}

std::vector<std::string> EngineHost::Leases(const std::string& network) const {
  std::vector<std::string> out;
  for (const std::string& name : Names(JoinPath(options_.ipam_dir, network))) {
    if (IpAddress::Parse(name)) out.push_back(name);
  }
  return out;
}

std::string EngineHost::Snapshot() {
  // Without numbers of links: a new link never gets an old one; without link-local addresses: the
  // kernel makes them when it likes. Of the directory of addresses
  // without what says where to go on.
  std::string script =
      "show() { ip $1 -o link; ip $1 -o addr; ip $1 route show table all; ip $1 -6 route show "
      "table "
      "all; }; { show ''; for p in $(ls /run/netns); do echo \"== $p\"; show \"-n $p\"; done; } | "
      "sed -E 's/^[0-9]+: //; s/@if[0-9]+/@/; s/ link-netns [^ ]+//; s/ link-netnsid [0-9]+//; "
      "s/ pref medium//; s/ linkdown//; s/ (qdisc|state|mode|qlen) [^ ]+//g; s/<[A-Z_,-]*>//' | "
      "grep -v fe80: | LC_ALL=C sort;"
      "nft -s list ruleset;"
      "cd " +
      dir_.path() +
      " && for f in $(find networks cni run -type f | grep -v -e /lock$ -e last_reserved | "
      "LC_ALL=C "
      "sort); do echo \"file $f: $(cat $f)\"; done; ls /run/netns";
  return Shell(script);
}

}  // namespace linnet::network
