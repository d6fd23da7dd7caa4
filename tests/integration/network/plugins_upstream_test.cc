// Each plugin beside its model: upstream's executable and ours do the same in twin hosts, what they
// leave in the kernel and what they answer is compared, and each undoes what the other one did.
//
// Upstream's: $LINNET_UPSTREAM_CNI, what tests/conformance/get-cri-tools built, or /usr/lib/cni.
#include <glob.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>

#include <gmock/gmock.h>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"
#include "linnet/base/spawn.h"
#include "linnet/base/text.h"
#include "linnet/network/engine.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "net_fixture.h"

namespace linnet::network {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string UpstreamDir() {
  const char* given = std::getenv("LINNET_UPSTREAM_CNI");  // NOLINT(concurrency-mt-unsafe)
  std::vector<std::string> places;
  if (given != nullptr) places.emplace_back(given);
  const char* home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
  glob_t found{};
  const std::string pattern =
      std::string(home == nullptr ? "/root" : home) + "/.cache/linnet/tools/cri-tools-*/cni";
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (std::size_t i = 0; i < found.gl_pathc; ++i) places.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
  for (const std::string& place : places) {
    if (Exists(place + "/bandwidth")) return place;
  }
  return {};
}

// Names and addresses that differ from run to run.
constexpr const char* kSame =
    " | sed -E 's/([0-9a-f]{2}:){5}[0-9a-f]{2}/MAC/g; s/(veth[0-9a-f]{8}|lncni[a-z0-9]{10})/HOST/g;"
    " s/@if[0-9]+/@if/; s/^[0-9]+: //; s/ noprefixroute//; s/fe80::[0-9a-f:]+/fe80::N/;"
    " s/ (nodad|tentative)//; s/ +$//; /\"mtu\": /d; s/.    alias linnet.*//;"
    " s/link-netns[^ ]* [^ ]+//; s/(pref|index|handle) [0-9]+//g; s/refcnt [0-9]+//'";

struct Side {
  std::string name;  // of the host's namespace; the pod's is <name>-pod
  std::string bin;
  std::string pod() const { return name + "-pod"; }
};

class Twin : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    if (std::getenv("LINNET_ISOLATED") == nullptr)  // NOLINT(concurrency-mt-unsafe)
      GTEST_SKIP() << "runs under contrib/lib/isolated only";
    const std::string upstream = UpstreamDir();
    if (upstream.empty())
      GTEST_SKIP() << "upstream's plugins are missing: tests/conformance/get-cri-tools";
    const char* bin = std::getenv("LINNET_BIN_DIR");  // NOLINT(concurrency-mt-unsafe)
    const std::string program = std::string(bin == nullptr ? "." : bin) + "/linnet-cni";
    Sh(program + " install " + (dir_ / "bin"));
    theirs_ = {"theirs", upstream};
    ours_ = {"ours", dir_ / "bin"};
    for (const Side* side : {&theirs_, &ours_}) {
      for (const std::string& ns : {side->name, side->pod()})
        Sh("ip netns add " + ns + " && ip -n " + ns + " link set lo up");
    }
  }
  void TearDown() override {
    for (const std::string& ns : {std::string("theirs"), std::string("ours")}) {
      ShAny("ip netns del " + ns + "-pod");
      ShAny("ip netns del " + ns);
    }
  }

  std::string Leases(const Side& side) const { return dir_ / ("leases-" + side.name); }
  std::string Ipam(const Side& side) const {
    return R"("ipam":{"type":"host-local","dataDir":")" + Leases(side) +
           R"(","ranges":[[{"subnet":"10.77.0.0/24"}],[{"subnet":"fd00:77::/64"}]],)"
           R"("routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]})";
  }

  // Standard output; "exit N: …" where it failed.
  std::string Call(const Side& side, const std::string& plugin, const std::string& command,
                   const std::string& conf) const {
    SpawnSpec spec;
    spec.path = "/usr/sbin/ip";
    if (!Exists(spec.path)) spec.path = "/sbin/ip";
    spec.argv = {"ip", "netns", "exec", side.name, side.bin + "/" + plugin};
    spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_COMMAND=" + command,
                "CNI_CONTAINERID=c1",
                "CNI_NETNS=/run/netns/" + side.pod(),
                "CNI_IFNAME=eth0",
                "CNI_PATH=" + side.bin,
                "LINNET_STATE_DIR=" + dir_ / "state",
                "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere"};
    auto run = linnet::Run(spec, conf, std::chrono::steady_clock::now() + std::chrono::seconds(30));
    if (!run) return "exit: " + run.error().message();
    if (run->status.code != 0)
      return "exit " + std::to_string(run->status.code) + ": " + run->out + run->err;
    return run->out;
  }
  static std::string Conf(const std::string& type, const std::string& more,
                          const std::string& prev = {}) {
    return R"({"cniVersion":"1.0.0","name":"n","type":")" + type + "\"" +
           (more.empty() ? "" : "," + more) + (prev.empty() ? "" : ",\"prevResult\":" + prev) + "}";
  }

  static std::string State(const std::string& ns, const std::string& commands) {
    return Sh("ip netns exec " + ns + " sh -c '" + commands + "'" + kSame);
  }
  static std::string Same(const std::string& text) {
    const testing::TempDir dir;
    const std::string file = dir / "text";
    EXPECT_TRUE(ReplaceFile(file, text));
    return Sh("cat " + file + kSame + " | sed -E 's/(theirs|ours)-pod/POD/'");
  }
  // The last line of a failed plugin's message, without its code.
  static std::string Message(const std::string& output) {
    const auto json = output.find('{');
    if (json == std::string::npos) return output;
    const auto parsed = ParseJson(output.substr(json, output.rfind('}') - json + 1));
    return parsed ? parsed->value("msg", output) : output;
  }

  testing::TempDir dir_;
  Side theirs_, ours_;
};

constexpr const char* kPodState =
    "ip -o addr show eth0; ip route show; ip -6 route show dev eth0 | grep -v ^fe80; "
    "ip -o link show eth0";

TEST_F(Twin, Bridge) {
  const std::string kMore[] = {
      R"("isDefaultGateway":true,"hairpinMode":true,"mtu":1400)",
      R"("isGateway":true,"portIsolation":true,"dns":{"nameservers":["10.0.0.53"],"search":[]})",
      R"("promiscMode":true)",
      R"("runtimeConfig":{"mac":"c2:00:00:00:00:01"},"isGateway":true,"enabledad":true)",
  };
  for (const std::string& more : kMore) {
    std::vector<std::string> results;
    std::vector<std::string> states;
    for (const Side* side : {&theirs_, &ours_}) {
      std::string ipam = Ipam(*side);
      // Upstream's plugin fails where a default route of the IPAM plugin meets isDefaultGateway.
      if (more.find("isDefaultGateway") != std::string::npos)
        ipam = ipam.substr(0, ipam.find(",\"routes\"")) + "}";
      const std::string conf = Conf("bridge", "\"bridge\":\"br0\"," + more + "," + ipam);
      const std::string result = Call(*side, "bridge", "ADD", conf);
      results.push_back(Same(result));
      states.push_back(State(side->pod(), kPodState) +
                       State(side->name,
                             "ip -o addr show br0; ip route show; ip -o link show br0; "
                             "for l in $(ls /sys/class/net/br0/brif); do cat "
                             "/sys/class/net/br0/brif/$l/hairpin_mode "
                             "/sys/class/net/br0/brif/$l/isolated /sys/class/net/$l/mtu; done"));
      const std::string with = Conf("bridge", "\"bridge\":\"br0\"," + more + "," + ipam, result);
      EXPECT_EQ(Call(*side, "bridge", "CHECK", with), "") << side->name << more;
      EXPECT_EQ(Call(*side, "bridge", "DEL", with), "") << side->name << more;
      Sh("ip -n " + side->name + " link del br0");
    }
    EXPECT_EQ(results[1], results[0]) << more;
    EXPECT_EQ(states[1], states[0]) << more;
  }
}

TEST_F(Twin, BridgeErrors) {
  const std::string kCases[] = {
      R"("vlan":4095)",
      R"("vlanTrunk":[{"minID":5}])",
      R"("vlanTrunk":[{"maxID":5}])",
      R"("vlanTrunk":[{"minID":0,"maxID":5}])",
      R"("vlanTrunk":[{"minID":1,"maxID":4095}])",
      R"("vlanTrunk":[{"minID":5,"maxID":4}])",
      R"("vlanTrunk":[{"id":0}])",
      R"("hairpinMode":true,"promiscMode":true)",
      R"("disableContainerInterface":true,"ipam":{"type":"host-local"})",
  };
  for (const std::string& more : kCases) {
    const std::string conf = Conf("bridge", "\"bridge\":\"br0\"," + more);
    EXPECT_EQ(Message(Call(ours_, "bridge", "ADD", conf)),
              Message(Call(theirs_, "bridge", "ADD", conf)));
  }
}

TEST_F(Twin, Ptp) {
  std::vector<std::string> results;
  std::vector<std::string> states;
  for (const Side* side : {&theirs_, &ours_}) {
    const std::string conf = Conf("ptp", "\"mtu\":1400," + Ipam(*side));
    const std::string result = Call(*side, "ptp", "ADD", conf);
    results.push_back(Same(result));
    states.push_back(State(side->pod(), kPodState) +
                     State(side->name,
                           "ip -o addr show | grep -E \"10[.]77|fd00:77\"; ip route show; "
                           "ip -6 route show | grep fd00:77; cat /proc/sys/net/ipv4/ip_forward"));
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(states[1], states[0]);
}

TEST_F(Twin, PtpEachUndoesTheOther) {
  for (const auto& [adds, undoes] : {std::pair(theirs_, ours_), std::pair(ours_, theirs_)}) {
    const std::string conf = Conf("ptp", "\"ipMasq\":false," + Ipam(adds));
    const std::string result = Call(adds, "ptp", "ADD", conf);
    Side other = adds;
    other.bin = undoes.bin;
    const std::string with = Conf("ptp", "\"ipMasq\":false," + Ipam(adds), result);
    EXPECT_EQ(Call(other, "ptp", "CHECK", with), "") << adds.name;
    EXPECT_EQ(Call(other, "ptp", "DEL", with), "") << adds.name;
    EXPECT_EQ(Call(other, "ptp", "DEL", with), "") << adds.name;
    EXPECT_THAT(State(adds.pod(), "ip -o link show type veth"), IsEmpty());
    EXPECT_THAT(State(adds.name, "ip -o link show type veth"), IsEmpty());
    EXPECT_THAT(Sh("ls " + Leases(adds) + "/n | grep -c 77 || true"), "0\n");
  }
}

TEST_F(Twin, Tuning) {
  const std::string tuned =
      R"("mac":"c2:11:22:33:44:55","mtu":1454,"promisc":true,"allmulti":true,"txQLen":77,)"
      R"("sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1","net.core.somaxconn":"500"},"dataDir":")";
  for (const bool swap : {false, true}) {
    std::vector<std::string> results;
    std::vector<std::string> states;
    for (const Side* side : {&theirs_, &ours_}) {
      const Side& other = side == &theirs_ ? ours_ : theirs_;
      const std::string bridged =
          Call(*side, "bridge", "ADD",
               Conf("bridge", "\"bridge\":\"br0\",\"isGateway\":true," + Ipam(*side)));
      const std::string before = State(side->pod(), "ip -o link show eth0");
      const std::string more = tuned + (dir_ / ("tuning-" + side->name)) + "\"";
      const std::string result = Call(*side, "tuning", "ADD", Conf("tuning", more, bridged));
      results.push_back(Same(result));
      states.push_back(State(side->pod(), std::string(kPodState) +
                                              "; cat /proc/sys/net/core/somaxconn "
                                              "/proc/sys/net/ipv4/conf/eth0/arp_filter"));
      Side undoes = *side;
      if (swap) undoes.bin = other.bin;
      EXPECT_EQ(Call(undoes, "tuning", "CHECK", Conf("tuning", more, result)), "") << side->name;
      Sh("ip -n " + side->pod() + " link set eth0 txqlen 78");
      EXPECT_THAT(Message(Call(undoes, "tuning", "CHECK", Conf("tuning", more, result))),
                  HasSubstr("Error: Tuning configured Transmit Queue Length of eth0 is"));
      EXPECT_EQ(Call(undoes, "tuning", "DEL", Conf("tuning", more, result)), "") << side->name;
      if (swap && side == &theirs_) {
        EXPECT_EQ(State(side->pod(), "ip -o link show eth0"), before)
            << "what upstream remembered, ours put back";
      }
      EXPECT_THAT(Sh("ls " + (dir_ / ("tuning-" + side->name))), IsEmpty());
      EXPECT_EQ(Call(*side, "bridge", "DEL", Conf("bridge", "\"bridge\":\"br0\"," + Ipam(*side))),
                "");
    }
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(states[1], states[0]);
  }
}

// A foreign plugin of the chain changes what our bridge plugin guards.
TEST_F(Twin, AMacFromUpstreamsTuningIsAdmitted) {
  EngineOptions options;
  options.conf_dir = dir_ / "net.d";
  options.bin_dirs = {theirs_.bin};
  options.prefer_external = {"tuning"};
  options.cache_dir = dir_ / "cni";
  options.ipam_dir = dir_ / "networks";
  options.state_dir = dir_ / "run";
  options.netns_dir = dir_ / "netns";
  options.pool_size = 0;
  LN_EXPECT_OK(MakeDirs(options.conf_dir, 0755));
  LN_EXPECT_OK(ReplaceFile(options.conf_dir + "/10-n.conflist",
                           R"({"cniVersion":"1.0.0","name":"n","plugins":[
          {"type":"bridge","bridge":"lnx2","isGateway":true,"ipam":{"type":"host-local","subnet":"10.78.0.0/24"}},
          {"type":"tuning","mac":"c2:11:22:33:44:55","dataDir":")" +
                               (dir_ / "tuning") + "\"}]}"));
  const auto engine = LN_ASSERT_OK(Engine::Create(options));
  const PodId pod = *PodId::Parse("pod1");
  const PodNetns netns = LN_ASSERT_OK(engine->TakeNetns(pod));
  AttachRequest request{.pod = pod,
                        .netns_path = netns.path,
                        .ports = {},
                        .args = {{"IgnoreUnknown", "1"}},
                        .cgroup_path = {}};
  request.netns = netns.fd;
  const Attachment attachment = LN_ASSERT_OK(engine->Attach(request));
  EXPECT_THAT(attachment.result_json, HasSubstr("c2:11:22:33:44:55"));
  EXPECT_THAT(Sh("nft list set bridge linnet mac"), HasSubstr("c2:11:22:33:44:55"));
  EXPECT_TRUE(PingSoon(netns.fd, "10.78.0.1"));
  LN_EXPECT_OK(engine->Check(pod));
  LN_EXPECT_OK(engine->Detach(pod));
  LN_EXPECT_OK(engine->ReleaseNetns(pod));
  Sh("ip link del lnx2");
}

TEST_F(Twin, TuningErrors) {
  const std::string prev = R"({"cniVersion":"1.0.0"})";
  const std::pair<std::string, std::string> kCases[] = {
      {R"("sysctl":{"kernel.hostname":"x"})", prev},
      {R"("sysctl":{"net.core.a":"1","net.core.a":"2"})", prev},
      {R"("sysctl":{"net.core.somaxconn":"1"})", ""},
  };
  for (const auto& [more, before] : kCases) {
    const std::string conf = Conf("tuning", more, before);
    EXPECT_EQ(Message(Call(ours_, "tuning", "ADD", conf)),
              Message(Call(theirs_, "tuning", "ADD", conf)));
  }
}

TEST_F(Twin, Bandwidth) {
  const std::string limits =
      R"("ingressRate":8000000,"ingressBurst":800000,"egressRate":123456789,"egressBurst":1234560)";
  for (const bool swap : {false, true}) {
    std::vector<std::string> results;
    std::vector<std::string> states;
    for (const Side* side : {&theirs_, &ours_}) {
      const Side& other = side == &theirs_ ? ours_ : theirs_;
      const std::string bridged =
          Call(*side, "bridge", "ADD",
               Conf("bridge", "\"bridge\":\"br0\",\"isGateway\":true," + Ipam(*side)));
      const std::string result =
          Call(*side, "bandwidth", "ADD", Conf("bandwidth", limits, bridged));
      results.push_back(Same(result));
      states.push_back(
          State(side->name,
                "tc -d qdisc show | grep -E \"tbf|ingress\"; "
                // Upstream's filter redirects twice, of which the second never happens.
                "for l in $(ls /sys/class/net); do tc filter show dev $l ingress; done | "
                "grep -E \"^filter|match|order 1:\"; "
                "ip -o link show type ifb"));
      Side undoes = *side;
      if (swap) undoes.bin = other.bin;
      EXPECT_EQ(Call(undoes, "bandwidth", "CHECK", Conf("bandwidth", limits, result)), "")
          << side->name;
      EXPECT_THAT(Message(Call(
                      undoes, "bandwidth", "CHECK",
                      Conf("bandwidth", R"("ingressRate":9000000,"ingressBurst":800000)", result))),
                  HasSubstr("Rate doesn't match"));
      EXPECT_EQ(Call(undoes, "bandwidth", "DEL", Conf("bandwidth", limits, result)), "");
      EXPECT_THAT(State(side->name, "ip -o link show type ifb"), IsEmpty()) << side->name;
      EXPECT_EQ(Call(*side, "bridge", "DEL", Conf("bridge", "\"bridge\":\"br0\"," + Ipam(*side))),
                "");
    }
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(states[1], states[0]);
  }
}

TEST_F(Twin, BandwidthErrors) {
  const std::string prev = R"({"cniVersion":"1.0.0"})";
  const std::pair<std::string, std::string> kCases[] = {
      {R"("ingressRate":8)", prev},
      {R"("egressBurst":8)", prev},
      {R"("egressRate":8,"egressBurst":34359738360)", prev},
      {R"("egressRate":8,"egressBurst":8)", ""},
      {R"("egressRate":8,"egressBurst":8)", prev},
  };
  for (const auto& [more, before] : kCases) {
    const std::string conf = Conf("bandwidth", more, before);
    EXPECT_EQ(Message(Call(ours_, "bandwidth", "ADD", conf)),
              Message(Call(theirs_, "bandwidth", "ADD", conf)));
  }
}

TEST_F(Twin, Firewall) {
  if (ShAny("command -v iptables").ends_with("[failed]"))
    GTEST_SKIP() << "upstream's plugin needs iptables";
  for (const bool swap : {false, true}) {
    std::vector<std::string> results;
    std::vector<std::string> states;
    std::vector<std::string> left;
    for (const Side* side : {&theirs_, &ours_}) {
      const Side& other = side == &theirs_ ? ours_ : theirs_;
      const std::string bridged =
          Call(*side, "bridge", "ADD",
               Conf("bridge", "\"bridge\":\"br0\",\"isGateway\":true," + Ipam(*side)));
      const std::string result =
          Call(*side, "firewall", "ADD", Conf("firewall", R"("backend":"iptables")", bridged));
      results.push_back(Same(result));
      constexpr const char* kList = "iptables -S | sort; ip6tables -S | sort";
      states.push_back(State(side->name, kList));
      Side undoes = *side;
      if (swap) undoes.bin = other.bin;
      const std::string conf = Conf("firewall", R"("backend":"iptables")", result);
      EXPECT_EQ(Call(undoes, "firewall", "CHECK", conf), "") << side->name;
      EXPECT_EQ(Call(undoes, "firewall", "DEL", conf), "") << side->name;
      EXPECT_THAT(Message(Call(undoes, "firewall", "CHECK", conf)), HasSubstr("not found"));
      left.push_back(State(side->name, kList));
      EXPECT_EQ(Call(*side, "bridge", "DEL", Conf("bridge", "\"bridge\":\"br0\"," + Ipam(*side))),
                "");
    }
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(states[1], states[0]);
    EXPECT_EQ(left[1], left[0]);
  }
}

TEST_F(Twin, VersionsAreTheirs) {
  for (const char* plugin : {"bandwidth", "bridge", "firewall", "host-local", "loopback", "portmap",
                             "ptp", "static", "tuning"}) {
    EXPECT_EQ(Call(ours_, plugin, "VERSION", ""), Call(theirs_, plugin, "VERSION", "")) << plugin;
    const std::string old = R"({"cniVersion":"0.2.0","name":"n","type":"x"})";
    const std::string theirs = Call(theirs_, plugin, "ADD", old);
    if (theirs.find("incompatible") != std::string::npos) {
      EXPECT_THAT(Call(ours_, plugin, "ADD", old), HasSubstr("incompatible CNI versions"));
    }
  }
}

TEST_F(Twin, StaticErrors) {
  const std::string kCases[] = {
      R"("ipam":{"type":"static","addresses":[{"address":"10.0.0.1"}]})",
      R"("ipam":{"type":"static"},"args":{"cni":{"ips":["10.0.0.1"]}})",
      R"("ipam":{"type":"static"},"runtimeConfig":{"ips":["x"]})",
      R"("ipam":{"type":"static","addresses":[{"address":"10.0.0.1/24"}]},"runtimeConfig":{"ips":["10.9.0.1/16","fd00::1/64"]})",
  };
  for (const std::string& more : kCases) {
    const std::string conf = Conf("static", more);
    const std::string ours = Message(Call(ours_, "static", "ADD", conf));
    const std::string theirs = Message(Call(theirs_, "static", "ADD", conf));
    EXPECT_TRUE(ours.find(theirs) != std::string::npos) << ours << "\n" << theirs;
  }
}

}  // namespace
}  // namespace linnet::network
