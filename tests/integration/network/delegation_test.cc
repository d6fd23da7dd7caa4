// Who calls whom: the upper plugin in process, executed as linnet-cni, or foreign; the lower one
// (its IPAM plugin) the same. All nine pairs, for every verb.
#include <unistd.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "engine_fixture.h"

namespace linnet::network {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

enum class Kind { kBuiltin, kExecuted, kForeign };

std::string NameOf(Kind kind) {
  switch (kind) {
    case Kind::kBuiltin:
      return "Builtin";
    case Kind::kExecuted:
      return "Executed";
    case Kind::kForeign:
      return "Foreign";
  }
  return {};
}

class Delegation : public EngineHost, public ::testing::WithParamInterface<std::tuple<Kind, Kind>> {
 protected:
  Kind upper() const { return std::get<0>(GetParam()); }
  Kind lower() const { return std::get<1>(GetParam()); }
  std::string upper_type() const { return upper() == Kind::kForeign ? "upper" : "bridge"; }
  std::string lower_type() const { return lower() == Kind::kForeign ? "lower" : "host-local"; }

  void SetUp() override {
    EngineHost::SetUp();
    if (IsSkipped()) return;
    const char* bin = getenv("LINNET_BIN_DIR");
    const std::string program = JoinPath(bin == nullptr ? "." : bin, "linnet-cni");
    ASSERT_TRUE(Exists(program)) << program;
    options_.linnet_cni_path = program;
    LN_ASSERT_OK(MakeDirs(dir_ / "bin", 0755));
    // "Executed": a file of the built-in's name in the plugin directory, which is preferred. What
    // it is called with goes to the log.
    for (const auto& [kind, type] :
         {std::pair(upper(), upper_type()), std::pair(lower(), lower_type())}) {
      if (kind == Kind::kExecuted) {
        options_.prefer_external.push_back(type);
        Wrap(type, program);
      }
    }
    if (upper() == Kind::kForeign) {
      // As flannel's plugin does: everything goes to the lower plugin, found in CNI_PATH, and its
      // result is passed on.
      Script("upper", Logged("upper") + R"sh(
t=$(echo $in | sed 's/.*"ipam":{"type":"\([a-z-]*\)".*/\1/')
IFS=:
for d in $CNI_PATH; do
  if [ -e "$d/$t" ]; then
    printf %s "$in" | "$d/$t"
    exit
  fi
done
echo "{\"code\":999,\"msg\":\"failed to find plugin $t\"}"
exit 1)sh");
    }
    Lower("");
    Start();
    Conf("10-d.conflist", R"({"cniVersion":"1.1.0","name":"d","plugins":[{"type":")" +
                              upper_type() + R"(","bridge":"lnd0","ipam":{"type":")" +
                              lower_type() +
                              R"(","ranges":[[{"subnet":"10.71.0.0/24"}]],"dataDir":")" +
                              (dir_ / "networks") + R"("}}]})");
    ASSERT_TRUE(NetworkIs("d"));
    ForgetLog();
  }

  std::string Logged(const std::string& name) const {
    return "in=$(cat)\n[ $CNI_COMMAND = VERSION ] && { echo "
           "'{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.1.0\"]}'; exit 0; }\necho \"" +
           name + " $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(echo $in)\" >>" + (dir_ / "log");
  }
  void Wrap(const std::string& type, const std::string& program) {
    Script(type, "in=$(cat)\n[ $CNI_COMMAND = VERSION ] || echo \"" + type +
                     " $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(echo $in)\" >>" +
                     (dir_ / "log") + "\nprintf %s \"$in\" | exec " + program + " " + type);
  }
  // The foreign lower plugin; `failure` stands before its answers.
  void Lower(const std::string& failure) {
    if (lower() != Kind::kForeign) return;
    Script("lower", Logged("lower") + "\n" + failure + "\ncase $CNI_COMMAND in\n  ADD) touch " +
                        (dir_ / "leased") + R"sh(
    echo '{"cniVersion":"1.1.0","ips":[{"address":"10.71.0.9/24","gateway":"10.71.0.1"}]}' ;;
  DEL) rm -f )sh" + (dir_ / "leased") +
                        " ;;\nesac");
  }
  bool Leased() const { return Exists(dir_ / "leased") || !Leases("d").empty(); }
  // Calls of the log that the parameters make visible, in order.
  std::vector<std::string> Expected(const std::string& verb, bool upper_first = true) const {
    std::vector<std::string> out;
    const std::string up = upper() == Kind::kBuiltin ? "" : upper_type() + " " + verb;
    const std::string low = lower() == Kind::kBuiltin ? "" : lower_type() + " " + verb;
    for (const std::string& call : upper_first ? std::vector{up, low} : std::vector{low, up}) {
      if (!call.empty()) out.push_back(call);
    }
    // The lower plugin that a foreign or executed upper one calls is the one in CNI_PATH:
    // linnet-cni itself calls what is built in by a call.
    if (upper() == Kind::kExecuted && lower() == Kind::kExecuted) std::erase(out, low);
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(
    Pairs, Delegation,
    ::testing::Combine(::testing::Values(Kind::kBuiltin, Kind::kExecuted, Kind::kForeign),
                       ::testing::Values(Kind::kBuiltin, Kind::kExecuted, Kind::kForeign)),
    [](const auto& p) {
      return NameOf(std::get<0>(p.param)) + "Over" + NameOf(std::get<1>(p.param));
    });

TEST_P(Delegation, EveryVerbReachesTheLowerPlugin) {
  const Attachment attachment = LN_ASSERT_OK(Attach("pod1"));
  ASSERT_EQ(attachment.addresses.size(), 1U);
  EXPECT_EQ(attachment.addresses[0].Network().str(), "10.71.0.0/24");
  EXPECT_TRUE(Leased());
  EXPECT_EQ(Calls(), Expected("ADD"));
  for (const std::string& line : Log()) {
    EXPECT_THAT(line, HasSubstr(" pod1 eth0 {")) << "the same environment below";
    EXPECT_THAT(line, HasSubstr("\"bridge\":\"lnd0\"")) << "the whole configuration below";
  }
  ForgetLog();

  LN_EXPECT_OK(engine_->Check(PodNamed("pod1")));
  EXPECT_EQ(Calls(), Expected("CHECK"));
  for (const std::string& line : Log()) EXPECT_THAT(line, HasSubstr("\"prevResult\":"));
  ForgetLog();

  const EngineStatus status = engine_->Status();
  EXPECT_TRUE(status.ready) << status.message;
  EXPECT_EQ(Calls(), Expected("STATUS"));
  ForgetLog();

  LN_ASSERT_OK(engine_->Recover({PodNamed("pod1")}));
  EXPECT_EQ(Calls(), Expected("GC"));
  for (const std::string& line : Log())
    EXPECT_THAT(
        line, HasSubstr(R"("cni.dev/valid-attachments":[{"containerID":"pod1","ifname":"eth0"})"));
  EXPECT_TRUE(Leased());
  ForgetLog();

  LN_EXPECT_OK(Detach("pod1"));
  EXPECT_FALSE(Leased());
  EXPECT_EQ(Calls(), Expected("DEL"));
}

// What the lower plugin reserved before it failed is given back: its DEL follows at once, by the
// upper plugin or by the chain.
TEST_P(Delegation, AFailedAddIsFollowedByDel) {
  if (lower() == Kind::kForeign) {
    Lower("if [ $CNI_COMMAND = ADD ]; then touch " + (dir_ / "leased") +
          "; echo '{\"code\":11,\"msg\":\"not now\"}'; exit 1; fi");
  } else {
    // Full: every address has an owner.
    for (int i = 2; i < 255; ++i) {
      LN_ASSERT_OK(MakeDirs(dir_ / "networks/d", 0755));
      LN_ASSERT_OK(ReplaceFile(dir_ / ("networks/d/10.71.0." + std::to_string(i)), "x\r\neth0"));
    }
  }
  const auto failed = Attach("pod1");
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message(),
              HasSubstr("plugin type=\"" + upper_type() + "\" failed (add)"));
  EXPECT_THAT(
      failed.error().message(),
      HasSubstr(lower() == Kind::kForeign ? "not now" : "no IP addresses available in range set"));
  EXPECT_FALSE(Exists(dir_ / "leased"));
  if (lower() == Kind::kForeign) {
    EXPECT_THAT(Calls(), Contains("lower DEL"));
  } else {
    EXPECT_EQ(Leases("d").size(), 253U) << "the addresses of others stay";
  }
  if (upper() != Kind::kBuiltin) {
    EXPECT_THAT(Calls(), Contains(upper_type() + " DEL"));
  }
  EXPECT_EQ(Shell("ip -o link show type veth | grep -c master"), "0\n[failed]");
  LN_EXPECT_OK(RemoveAll(dir_ / "networks/d"));
}

// CHECK fails when the lower plugin says so.
TEST_P(Delegation, TheLowerPluginsErrorsComeUp) {
  LN_ASSERT_OK(Attach("pod1"));
  if (lower() == Kind::kForeign) {
    Lower(
        "if [ $CNI_COMMAND = CHECK ]; then echo '{\"code\":3,\"msg\":\"what pod?\"}'; exit 1; fi");
    LN_EXPECT_ERROR(engine_->Check(PodNamed("pod1")), Code::kNotFound, "what pod?");
  } else {
    LN_ASSERT_OK(RemoveFile(dir_ / ("networks/d/" + Leases("d").front())));
    const auto checked = engine_->Check(PodNamed("pod1"));
    ASSERT_FALSE(checked);
    EXPECT_THAT(checked.error().message(),
                HasSubstr("Failed to find address added by container pod1"));
  }
}

// STATUS, too.
TEST_P(Delegation, TheLowerPluginsStatusComesUp) {
  if (lower() == Kind::kForeign) {
    Lower(
        "if [ $CNI_COMMAND = STATUS ]; then echo '{\"code\":50,\"msg\":\"no addresses\"}'; exit 1; "
        "fi");
  } else {
    LN_ASSERT_OK(MakeDirs(dir_ / "networks/d", 0755));
    for (int i = 2; i < 255; ++i)
      LN_ASSERT_OK(ReplaceFile(dir_ / ("networks/d/10.71.0." + std::to_string(i)), "x\r\neth0"));
  }
  ForgetLog();
  const EngineStatus status = engine_->Status();
  EXPECT_FALSE(status.ready);
  EXPECT_EQ(status.reason, "NetworkPluginNotReady");
  EXPECT_THAT(status.message,
              HasSubstr(lower() == Kind::kForeign ? "no addresses"
                                                  : "no IP addresses available in range set"));
  EXPECT_EQ(Calls(), Expected("STATUS"));
  LN_EXPECT_OK(RemoveAll(dir_ / "networks/d"));
}

}  // namespace
}  // namespace linnet::network
