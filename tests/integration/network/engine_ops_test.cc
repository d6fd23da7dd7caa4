// What the engine does besides ADD and DEL: garbage collection on request, STATUS, CHECK,
// self-healing, recovery without records, and what operators are shown.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "engine_fixture.h"
#include "netlink/route_socket.h"
#include "nft/elements.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class EngineOps : public EngineHost {
 protected:
  void SetUp() override {
    EngineHost::SetUp();
    if (IsSkipped()) return;
    Start();
    LN_ASSERT_OK(engine_->Recover({}));
  }
  // Whether a connection to the host's port reaches the pod.
  static bool Connects(const std::string& address, std::uint16_t port, int timeout_ms = 300) {
    const UniqueFd s(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    inet_pton(AF_INET, address.c_str(), &to.sin_addr);
    if (connect(s.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return true;
    pollfd wait{.fd = s.get(), .events = POLLOUT, .revents = 0};
    if (poll(&wait, 1, timeout_ms) != 1) return false;
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(s.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    return error == 0;
  }
  UniqueFd ListenIn(const std::string& pod, std::uint16_t port) {
    UniqueFd out;
    auto visited = VisitNetns(netns_[pod].fd, [&]() -> Result<void> {
      out = UniqueFd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in6 any{};
      any.sin6_family = AF_INET6;
      any.sin6_port = htons(port);
      if (bind(out.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0 ||
          listen(out.get(), 64) != 0)
        return Error::FromErrno(errno, "listen");
      return Ok();
    });
    EXPECT_TRUE(visited.has_value());
    return out;
  }
  std::vector<std::string> Problems() {
    std::vector<std::string> out;
    for (const Finding& f : engine_->Diagnose()) {
      if (f.level != Finding::Level::kOk) out.push_back(f.subject + ": " + f.text);
    }
    return out;
  }
};

// --- GC

TEST_F(EngineOps, Gc_TakesWhatBelongsToNobodyAndNothingElse) {
  LN_ASSERT_OK(Attach("live", {Tcp(8080, 80)}));
  LN_ASSERT_OK(Attach("gone", {Tcp(8081, 80)}));
  LN_ASSERT_OK(Detach("gone"));
  host_->DrainRetired();
  const std::string before = Snapshot();
  // An address, a link, a host port of pods that nobody knows; an address of another runtime, which
  // has a record.
  LN_ASSERT_OK(ReplaceFile(options_.ipam_dir + "/linnet/10.83.0.77", "nobody\r\neth0"));
  Shell(
      "ip link add lnlost type veth peer name lnlost2; ip link set lnlost alias 'linnet "
      "nobody/eth0/linnet'");
  LN_ASSERT_OK(host_->nft().Add("nobody/eth0/linnet", {MasqAllElement(IpAddress::V4(0x0a53004d))}));
  LN_ASSERT_OK(
      ReplaceFile(options_.cache_dir + "/results/linnet-other-eth0",
                  R"({"kind":"cniCacheV1","containerId":"other","config":"","ifName":"eth0",)"
                  R"("networkName":"linnet"})"));
  LN_ASSERT_OK(ReplaceFile(options_.ipam_dir + "/linnet/10.83.0.78", "other\r\neth0"));

  EXPECT_THAT(Problems(), Contains(HasSubstr("10.83.0.77 of network linnet belong to no pod")));
  EXPECT_THAT(Problems(), Contains(HasSubstr("lnlost belong to no pod")));
  EXPECT_THAT(LN_ASSERT_OK(engine_->CollectGarbage()),
              UnorderedElementsAre("address 10.83.0.77 of nobody (network linnet)",
                                   "link lnlost of nobody/eth0/linnet",
                                   "nftables elements of nobody/eth0/linnet"));
  EXPECT_TRUE(Exists(options_.ipam_dir + "/linnet/10.83.0.78")) << "another runtime's";
  LN_ASSERT_OK(RemoveFile(options_.ipam_dir + "/linnet/10.83.0.78"));
  LN_ASSERT_OK(RemoveFile(options_.cache_dir + "/results/linnet-other-eth0"));
  EXPECT_EQ(Snapshot(), before);
  EXPECT_THAT(LN_ASSERT_OK(engine_->CollectGarbage()), IsEmpty());
  LN_EXPECT_OK(engine_->Check(PodNamed("live")));
  EXPECT_THAT(Problems(), IsEmpty());
}

// GC waits for the ADD that is under way; what comes later waits for GC.
TEST_F(EngineOps, Gc_ExcludesAddAndDelBothWays) {
  LoggingPlugin("slow", "while [ ! -e " + (dir_ / "go-add") +
                            " ]; do sleep 0.01; done; echo '{\"cniVersion\":\"1.1.0\"}'");
  Script("slow", ReadFile(dir_ / "bin/slow").value_or("").substr(10) +
                     "\n[ $CNI_COMMAND != GC ] || while [ ! -e " + (dir_ / "go-gc") +
                     " ]; do sleep 0.01; done; echo end $CNI_COMMAND >>" + (dir_ / "log"));
  Conf("10-s.conflist", R"({"cniVersion":"1.1.0","name":"s","plugins":[{"type":"slow"}]})");
  ASSERT_TRUE(NetworkIs("s"));
  ForgetLog();
  netns_["one"] = LN_ASSERT_OK(engine_->TakeNetns(PodNamed("one")));
  netns_["two"] = LN_ASSERT_OK(engine_->TakeNetns(PodNamed("two")));
  const auto has = [&](const std::string& call) {
    const auto calls = Calls();
    return std::find(calls.begin(), calls.end(), call) != calls.end();
  };
  std::thread add([&] { LN_EXPECT_OK(Attach("one")); });
  ASSERT_TRUE(Eventually([&] { return has("slow ADD"); }));
  std::thread gc([&] { LN_EXPECT_OK(engine_->CollectGarbage()); });
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_FALSE(has("slow GC")) << "an ADD is under way";
  LN_ASSERT_OK(ReplaceFile(dir_ / "go-add", ""));
  ASSERT_TRUE(Eventually([&] { return has("slow GC"); }));
  EXPECT_TRUE(has("end ADD"));
  std::thread second([&] { LN_EXPECT_OK(Attach("two")); });
  std::thread del([&] { LN_EXPECT_OK(Detach("one")); });
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_THAT(Calls(), ElementsAre("slow ADD", "end ADD", "slow GC")) << "GC is alone";
  LN_ASSERT_OK(ReplaceFile(dir_ / "go-gc", ""));
  for (std::thread* t : {&add, &gc, &second, &del}) t->join();
  EXPECT_TRUE(has("slow DEL"));
  EXPECT_THAT(Log()[2],
              HasSubstr(R"("cni.dev/valid-attachments":[{"containerID":"one","ifname":"eth0"}])"));
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
}

TEST_F(EngineOps, Gc_ContinuesAfterAnErrorAndReturnsIt) {
  LoggingPlugin("first", "echo '{\"cniVersion\":\"1.1.0\"}'");
  LoggingPlugin("second", "echo \"$in\" | sed 's/.*\"prevResult\"://; s/}$//'");
  Conf("10-g.conflist",
       R"({"cniVersion":"1.1.0","name":"g","plugins":[{"type":"first"},{"type":"second"}]})");
  ASSERT_TRUE(NetworkIs("g"));
  Script("first",
         "[ $CNI_COMMAND = VERSION ] && exit 0; echo '{\"code\":7,\"msg\":\"will not\"}'; exit 1");
  ForgetLog();
  LN_EXPECT_ERROR(engine_->CollectGarbage(), Code::kInvalidArgument,
                  "network g: plugin type=\"first\" failed (gc): will not");
  EXPECT_THAT(Calls(), ElementsAre("second GC"));
  // disableGC: nobody is asked.
  Conf("10-g.conflist",
       R"({"cniVersion":"1.1.0","name":"g","disableGC":"true","plugins":[{"type":"first"}]})");
  ASSERT_TRUE(Eventually([&] { return engine_->CollectGarbage().has_value(); }));
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
}

// --- STATUS

TEST_F(EngineOps, Status_TellsThatAddressesRunOut) {
  options_.subnets = {"10.91.0.0/29"};  // .2 to .6
  Start();
  LN_ASSERT_OK(engine_->Recover({}));
  EXPECT_TRUE(engine_->Status().ready);
  for (int i = 2; i <= 6; ++i) LN_ASSERT_OK(Attach("pod" + std::to_string(i)));
  // Before a pod fails.
  EXPECT_FALSE(engine_->Status().ready);
  EXPECT_THAT(engine_->Status().message, HasSubstr("no IP addresses available in range set"));
  EXPECT_EQ(engine_->Status().reason, "NetworkPluginNotReady");
  EXPECT_THAT(Problems(), Contains(HasSubstr("no IP addresses available")));
  LN_EXPECT_ERROR(Attach("pod7"), Code::kResourceExhausted, "no IP addresses available");
  LN_ASSERT_OK(Detach("pod2"));
  EXPECT_TRUE(engine_->Status().ready);
}

TEST_F(EngineOps, Status_NamesAPluginThatLacksTheVersion) {
  Script("old",
         "[ $CNI_COMMAND != VERSION ] || echo "
         "'{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\"]}'");
  Conf("10-o.conflist", R"({"cniVersion":"1.0.0","name":"o","plugins":[{"type":"old"}]})");
  ASSERT_TRUE(NetworkIs("o"));
  EXPECT_FALSE(engine_->Status().ready);
  EXPECT_THAT(
      engine_->Status().message,
      HasSubstr("plugin old does not support config version \"1.0.0\" (it supports 0.3.1 0.4.0)"));
  Conf("10-o.conflist", R"({"cniVersion":"0.4.0","name":"o2","plugins":[{"type":"old"}]})");
  ASSERT_TRUE(NetworkIs("o2"));
  EXPECT_TRUE(engine_->Status().ready) << engine_->Status().message;
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
}

// --- self-healing

TEST_F(EngineOps, Tables_AreBuiltAgainWhenSomebodyFlushesThem) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  LN_ASSERT_OK(Attach("pod2", {Tcp(8081, 80)}));
  const UniqueFd one = ListenIn("pod1", 80);
  const UniqueFd two = ListenIn("pod2", 80);
  ASSERT_TRUE(Connects("192.0.2.2", 8080));
  const std::string before = Shell("nft -s list ruleset");
  // A flush of everything (a restart of nftables), of one table, of one chain, of one set; a
  // delete.
  for (const char* command :
       {"nft flush ruleset", "nft delete table inet linnet", "nft delete table bridge linnet",
        "nft flush table inet linnet", "nft flush chain inet linnet prerouting",
        "nft flush set inet linnet bridges", "nft flush map inet linnet hostport4",
        "nft flush ruleset; sleep 0.02; nft flush ruleset"}) {
    const std::string said = Shell(command);
    ASSERT_THAT(said, Not(HasSubstr("[failed]"))) << command << said;
    EXPECT_TRUE(
        Eventually([&] { return Shell("nft -s list ruleset") == before; }, std::chrono::seconds(3)))
        << command << "\n"
        << Shell("nft -s list ruleset");
    EXPECT_TRUE(Connects("192.0.2.2", 8080)) << command;
    EXPECT_TRUE(Connects("192.0.2.2", 8081)) << command;
  }
  LN_EXPECT_OK(engine_->Check(PodNamed("pod1")));
  EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(EngineOps, Tables_HealInATenthOfASecond) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  const UniqueFd listener = ListenIn("pod1", 80);
  ASSERT_TRUE(Connects("192.0.2.2", 8080));
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(milliseconds(150));
    ASSERT_EQ(system("nft flush ruleset"), 0);
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(Eventually(
        [&] {
          const auto missing = host_->nft().Missing("");
          return missing && missing->empty();
        },
        std::chrono::seconds(3)));
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::sort(times.begin(), times.end());
  std::printf("healed after %.1f ms (median of %zu)\n", times[2], times.size());
  EXPECT_LT(times[2], 100.0);
  EXPECT_TRUE(Connects("192.0.2.2", 8080));
}

// What others do to tables of their own, and what we do ourselves, makes no work.
TEST_F(EngineOps, Tables_OthersAreLeftAlone) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  const auto handle = Shell("nft -a list tables inet");
  Shell("nft add table inet theirs; nft add chain inet theirs c; nft delete table inet theirs");
  LN_ASSERT_OK(Attach("pod2", {Tcp(8081, 80)}));
  LN_ASSERT_OK(Detach("pod2"));
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(Shell("nft -a list tables inet"), handle) << "the table was built again for nothing";
}

// A reload of a firewall that works through iptables: its FORWARD chain drops by policy, and what
// lets pods through went with the old one.
TEST_F(EngineOps, IptablesForward_IsAdmittedAgain) {
  if (Shell("iptables -V").find("nf_tables") == std::string::npos)
    GTEST_SKIP() << "no iptables-nft";
  Shell("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
  LN_ASSERT_OK(Attach("pod1"));
  const auto admitted = [] {
    return Shell("iptables -S FORWARD").find("-i linnet0") != std::string::npos &&
           Shell("ip6tables -S FORWARD").find("-i linnet0") != std::string::npos;
  };
  ASSERT_TRUE(admitted()) << Shell("iptables -S FORWARD");
  Shell("iptables -F FORWARD; ip6tables -F FORWARD");
  EXPECT_TRUE(Eventually(admitted, std::chrono::seconds(5))) << Shell("iptables -S FORWARD");
}

// --- CHECK

TEST_F(EngineOps, Check_AsksTheKernel) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  LN_ASSERT_OK(Attach("pod2"));
  EXPECT_THAT(engine_->CheckAll(),
              ElementsAre(Field(&PodCheck::error, ""), Field(&PodCheck::error, "")));
  const struct {
    const char* damage;
    const char* says;
    const char* repair;
  } cases[] = {
      {"ip -n linnet-pod1 link set eth0 down", "interface eth0 is down",
       "ip -n linnet-pod1 link set eth0 up; ip -n linnet-pod1 route add 10.83.0.1 dev eth0; ip -n "
       "linnet-pod1 route add default via 10.83.0.1; ip -n linnet-pod1 -6 route add default via "
       "$(ip -6 addr show linnet0 | sed -n 's/.*inet6 \\(fd[^/]*\\).*/\\1/p') dev eth0"},
      {"ip -n linnet-pod1 addr del 10.83.0.2/32 dev eth0", "address 10.83.0.2", ""},
  };
  for (const auto& c : cases) {
    Shell(c.damage);
    const auto checked = engine_->Check(PodNamed("pod1"));
    ASSERT_FALSE(checked) << c.damage;
    EXPECT_THAT(checked.error().message(), HasSubstr(c.says)) << c.damage;
    Shell(c.repair);
  }
  EXPECT_THAT(engine_->CheckAll(),
              ElementsAre(AllOf(Field(&PodCheck::pod, "pod1"), Field(&PodCheck::error, Not(""))),
                          AllOf(Field(&PodCheck::pod, "pod2"), Field(&PodCheck::error, ""))));
  EXPECT_THAT(Problems(), Contains(HasSubstr("pod pod1: ")));
  LN_EXPECT_ERROR(engine_->Check(PodNamed("nobody")), Code::kNotFound, "not attached");
}

// The mirror in memory is no witness of what the kernel has: with nobody who watches, CHECK sees
// what is missing.
TEST_F(EngineOps, Check_SeesMissingElements) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  const std::string owner = "pod1/eth0/";
  EXPECT_THAT(LN_ASSERT_OK(host_->nft().Missing(owner)), IsEmpty());
  // A table that the engine does not watch.
  auto other = LN_ASSERT_OK(NftTable::Create({.mode = NftMode::kDaemon, .name = "linnet-test"}));
  LN_ASSERT_OK(other->Add("pod1/eth0/net", {MasqAllElement(IpAddress::V4(0x0a53004d))}));
  Shell("nft flush set inet linnet-test masqall4");
  EXPECT_THAT(LN_ASSERT_OK(other->Missing(owner)),
              ElementsAre("an element of set masqall4 is missing in nftables"));
  Shell("nft delete table inet linnet-test");
  EXPECT_THAT(LN_ASSERT_OK(other->Missing("")),
              ElementsAre(HasSubstr("table inet linnet-test is missing")));
}

// --- recovery

// The record of a pod that lives is lost: the pod keeps its network, and what it has goes with it.
TEST_F(EngineOps, Recover_KeepsALivingPodWithoutARecordUntilDetach) {
  LN_ASSERT_OK(Attach("other", {Tcp(8080, 80)}));
  LN_ASSERT_OK(Attach("warm"));
  LN_ASSERT_OK(Detach("warm"));
  host_->DrainRetired();
  LN_ASSERT_OK(engine_->ReleaseNetns(PodNamed("warm")));
  netns_.erase("warm");
  const std::string before = Snapshot();
  LN_ASSERT_OK(Attach("pod1", {Tcp(8081, 80)}));
  const UniqueFd listener = ListenIn("pod1", 80);
  LN_ASSERT_OK(RemoveFile(options_.cache_dir + "/results/linnet-pod1-eth0"));
  Start();
  LN_ASSERT_OK(engine_->Recover({PodNamed("other"), PodNamed("pod1")}));
  EXPECT_TRUE(Connects("192.0.2.2", 8081)) << "it lives";
  EXPECT_THAT(LN_ASSERT_OK(engine_->CollectGarbage()), IsEmpty()) << "it lives";
  EXPECT_TRUE(Connects("192.0.2.2", 8081));
  LN_EXPECT_OK(Detach("pod1"));
  host_->DrainRetired();
  EXPECT_FALSE(Connects("192.0.2.2", 8081));
  LN_EXPECT_OK(engine_->ReleaseNetns(PodNamed("pod1")));
  netns_.erase("pod1");
  EXPECT_EQ(Snapshot(), before);
  LN_EXPECT_OK(Attach("pod2", {Tcp(8081, 80)}));
}

// --- what operators see

TEST_F(EngineOps, RetriedDel_IsShownWithItsQuarantinedAddress) {
  LoggingPlugin("wall", "echo \"$in\" | sed 's/.*\"prevResult\"://; s/}$//'");
  Conf("10-w.conflist", R"({"cniVersion":"1.1.0","name":"w","plugins":[
    {"type":"bridge","bridge":"lnw0","ipam":{"type":"host-local","subnet":"10.5.0.0/24"}},{"type":"wall"}]})");
  ASSERT_TRUE(NetworkIs("w"));
  LN_ASSERT_OK(Attach("pod1"));
  EXPECT_THAT(LN_ASSERT_OK(engine_->Addresses()),
              ElementsAre(AllOf(Field(&AddressView::address, "10.5.0.2"),
                                Field(&AddressView::owner, AddressView::Owner::kAttached))));
  Script("wall",
         "[ $CNI_COMMAND = DEL ] || exit 0; echo '{\"code\":100,\"msg\":\"stuck\"}'; exit 1");
  LN_ASSERT_OK(Detach("pod1"));
  EXPECT_THAT(LN_ASSERT_OK(engine_->Addresses()),
              ElementsAre(AllOf(Field(&AddressView::address, "10.5.0.2"),
                                Field(&AddressView::owner, AddressView::Owner::kQuarantined))));
  const NetworkView view = LN_ASSERT_OK(engine_->View());
  ASSERT_THAT(view.attachments, SizeIs(1));
  EXPECT_EQ(view.attachments[0].state, AttachmentView::State::kDetaching);
  EXPECT_THAT(view.attachments[0].error, HasSubstr("stuck"));
  EXPECT_THAT(Problems(),
              Contains(AllOf(HasSubstr("pod pod1: a plugin's DEL fails and is tried again"),
                             HasSubstr("10.5.0.2 stay reserved"), HasSubstr("stuck"))));
  // The next pod gets another address, whatever is collected meanwhile.
  EXPECT_THAT(LN_ASSERT_OK(engine_->CollectGarbage()), IsEmpty());
  LoggingPlugin("wall", "echo \"$in\" | sed 's/.*\"prevResult\"://; s/}$//'");
  EXPECT_TRUE(Eventually([&] { return Leases("w").empty(); }));
  EXPECT_THAT(LN_ASSERT_OK(engine_->View()).attachments, IsEmpty());
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  ASSERT_TRUE(NetworkIs("linnet"));
}

TEST_F(EngineOps, View_ShowsPodsPortsAndTables) {
  const Attachment attachment = LN_ASSERT_OK(Attach(
      "pod1",
      {Tcp(8080, 80),
       {.host_port = 53, .container_port = 5353, .protocol = "udp", .host_ip = "192.0.2.2"}}));
  const NetworkView view = LN_ASSERT_OK(engine_->View());
  EXPECT_EQ(view.network, "linnet");
  EXPECT_EQ(view.source, "built-in");
  EXPECT_TRUE(view.ready);
  EXPECT_EQ(view.pool_size, 0U);
  ASSERT_THAT(view.attachments, SizeIs(1));
  const AttachmentView& pod = view.attachments[0];
  EXPECT_EQ(pod.pod, "pod1");
  EXPECT_EQ(pod.state, AttachmentView::State::kAttached);
  EXPECT_EQ(pod.host_link, host_->LinkName("pod1", "eth0"));
  EXPECT_EQ(pod.netns, "/run/netns/linnet-pod1");
  EXPECT_THAT(pod.addresses,
              ElementsAre(attachment.addresses[0].str(), attachment.addresses[1].str()));
  EXPECT_THAT(pod.host_ports,
              UnorderedElementsAre(
                  "host port 8080/tcp -> 10.83.0.2:80",
                  "host port 8080/tcp -> [" + attachment.addresses[1].address().str() + "]:80",
                  "host port 53/udp of 192.0.2.2 -> 10.83.0.2:5353"));
  // As `nft list` shows them.
  std::map<std::string, std::vector<std::string>> sets;
  for (const TableSetView& set : view.sets) {
    for (const auto& e : set.elements) sets[set.table + " " + set.name].push_back(e.text);
  }
  EXPECT_THAT(sets["inet linnet hostport4"], ElementsAre("tcp . 8080 : 10.83.0.2 . 80"));
  EXPECT_THAT(sets["inet linnet hostipport4"],
              ElementsAre("192.0.2.2 . udp . 53 : 10.83.0.2 . 5353"));
  EXPECT_THAT(sets["inet linnet bridges"], ElementsAre("\"linnet0\""));
  EXPECT_THAT(sets["bridge linnet address4"], ElementsAre("\"" + pod.host_link + "\" . 10.83.0.2"));
  EXPECT_THAT(Shell("nft list map inet linnet hostport4"),
              HasSubstr("tcp . 8080 comment \"pod1/eth0/linnet\" : 10.83.0.2 . 80"));
}

TEST_F(EngineOps, Doctor_FindsNothingWrongWithAHealthyNode) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  const std::vector<Finding> findings = engine_->Diagnose();
  EXPECT_THAT(Problems(), IsEmpty());
  std::set<std::string> subjects;
  for (const Finding& f : findings) subjects.insert(f.subject);
  EXPECT_THAT(subjects, Contains("kernel"));
  EXPECT_THAT(subjects, Contains("network"));
  EXPECT_THAT(subjects, Contains("forwarding"));
  EXPECT_THAT(subjects, Contains("pods"));
}

TEST_F(EngineOps, Doctor_NamesWhatIsWrong) {
  LN_ASSERT_OK(Attach("pod1", {Tcp(8080, 80)}));
  Shell("echo 0 >/proc/sys/net/ipv4/ip_forward");
  EXPECT_THAT(Problems(), Contains(HasSubstr("net.ipv4.ip_forward is off")));
  Shell("echo 1 >/proc/sys/net/ipv4/ip_forward");
  LN_ASSERT_OK(ReplaceFile(options_.cache_dir + "/results/linnet-x-eth0", ""));
  EXPECT_THAT(Problems(), Contains(HasSubstr("records: linnet-x-eth0")));
  LN_ASSERT_OK(RemoveFile(options_.cache_dir + "/results/linnet-x-eth0"));
  Conf("10-x.conflist", "{");
  EXPECT_TRUE(Eventually([&] {
    const auto problems = Problems();
    return std::any_of(problems.begin(), problems.end(), [](const std::string& p) {
      return p.find("10-x.conflist") != std::string::npos;
    });
  }));
  LN_EXPECT_OK(RemoveAll(options_.conf_dir));
  EXPECT_TRUE(Eventually([&] { return Problems().empty(); }));
}

// What the bridge plugin waits with on kernels before 6.8, whose links take their time: a link
// whose carrier comes later, an address that is tried for duplicates.
TEST_F(EngineOps, RouteEvents_TellOfLinksAndAddresses) {
  Shell("ip link add lnev0 type veth peer name lnev1; ip link set lnev0 up");
  RouteSocket socket = LN_ASSERT_OK(RouteSocket::Open());
  EXPECT_FALSE(LN_ASSERT_OK(socket.FindLink("lnev0"))->running);
  RouteEvents links = LN_ASSERT_OK(RouteEvents::Open(RouteEvents::Group::kLinks));
  const auto briefly = [&] {
    return links.Wait(std::chrono::steady_clock::now() + milliseconds(50));
  };
  auto quiet = briefly();
  // The kernel tells of a carrier up to a second late.
  for (int i = 0; quiet && i < 100; ++i) quiet = briefly();
  LN_EXPECT_ERROR(quiet, Code::kDeadlineExceeded, "no notification in time");
  std::thread later([] {
    std::this_thread::sleep_for(milliseconds(50));
    Shell("ip link set lnev1 up");
  });
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!LN_ASSERT_OK(socket.FindLink("lnev0"))->running) LN_ASSERT_OK(links.Wait(deadline));
  later.join();
  const std::uint32_t index = socket.IndexOf("lnev0");
  RouteEvents addresses = LN_ASSERT_OK(RouteEvents::Open(RouteEvents::Group::kAddresses6));
  Shell("ip addr add fd00:77::1/64 dev lnev0");
  const auto tentative = [&] {
    for (const LinkAddress& a : socket.ListAddresses(index).value_or({})) {
      if (a.tentative) return true;
    }
    return false;
  };
  EXPECT_TRUE(tentative());
  while (tentative()) LN_ASSERT_OK(addresses.Wait(deadline));
  // More than the socket holds is told all the same.
  RouteEvents flooded = LN_ASSERT_OK(RouteEvents::Open(RouteEvents::Group::kLinks));
  Shell(
      "i=0; while [ $i -lt 400 ]; do echo link set lnev1 mtu $((1300 + i % 2)); i=$((i+1)); done | "
      "ip -batch -");
  LN_EXPECT_OK(flooded.Wait(deadline));
  Shell("ip link del lnev0");
}

// What a ready namespace is said to cost is of the right order.
TEST_F(EngineOps, Pool_SaysWhatItCosts) {
  const auto used = [] {
    std::uint64_t kib = 0;
    for (const std::string& line : Split(ReadFile("/proc/meminfo").value_or(""), '\n')) {
      const auto words = SplitFields(line);
      if (words.size() > 1 && (words[0] == "Slab:" || words[0] == "Percpu:"))
        kib += ParseNumber<std::uint64_t>(words[1]).value_or(0);
    }
    return kib << 10U;
  };
  constexpr std::uint64_t kCount = 100;
  const std::uint64_t before = used();
  std::vector<UniqueFd> all;
  for (std::uint64_t i = 0; i < kCount; ++i) all.push_back(LN_ASSERT_OK(NewNetns()));
  const std::uint64_t after = used();
  ASSERT_GT(after, before);
  const std::uint64_t each = (after - before) / kCount;
  std::printf("a namespace takes %llu KiB\n", static_cast<unsigned long long>(each >> 10U));
  EXPECT_GT(each, NetnsPool::kBytesEach / 8);
  EXPECT_LT(each, NetnsPool::kBytesEach * 8);
}

}  // namespace
}  // namespace linnet::network
