#include "exec/plugin_exec.h"

#include <signal.h>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::network {
namespace {

using ::testing::HasSubstr;

class PluginExecTest : public ::testing::Test {
 protected:
  PluginExecTest() {
    signal(SIGPIPE, SIG_IGN);
  }  // as the daemon does: a plugin need not read its input
  void Script(const std::string& name, const std::string& body) {
    LN_EXPECT_OK(ReplaceFile(dir_ / name, "#!/bin/sh\n" + body + "\n", 0755));
  }
  PluginExec Make(std::chrono::milliseconds timeout = std::chrono::seconds(20)) const {
    return PluginExec({.bin_dirs = {"/nonexistent", dir_.path()},
                       .delegate_dir = "/run/linnet/cni-bin",
                       .environment = {"LINNET_INSTANCE=abcd"},
                       .cgroup_root = {},
                       .timeout = timeout});
  }
  static Invocation Call(const std::string& type) {
    Invocation out;
    out.command = "ADD";
    out.type = type;
    out.container_id = "c1";
    out.netns_path = "/run/netns/x";
    out.ifname = "eth0";
    out.args = "A=b;C=d";
    out.input = R"({"in":"put"})";
    return out;
  }
  testing::TempDir dir_;
};

TEST_F(PluginExecTest, EnvironmentAndInput_AreTheSpecifications) {
  Script("env", "env | grep -E '^(CNI_|LINNET_)' | sort; echo; cat; pwd; ls /proc/self/fd | wc -l");
  ASSERT_EQ(setenv("LN_SECRET", "of the daemon", 1), 0);
  Script("secret", "echo \"<$LN_SECRET>\"");
  const std::string out = LN_ASSERT_OK(Make().Run(Call("env")));
  EXPECT_THAT(out, HasSubstr("CNI_ARGS=A=b;C=d\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME="
                             "eth0\nCNI_NETNS=/run/netns/x\n"
                             "CNI_PATH=/nonexistent:" +
                             dir_.path() + ":/run/linnet/cni-bin\nLINNET_INSTANCE=abcd\n"));
  EXPECT_THAT(out, HasSubstr("{\"in\":\"put\"}"));
  EXPECT_EQ(LN_ASSERT_OK(Make().Run(Call("secret"))), "<>\n");
}

TEST_F(PluginExecTest, Find_TakesOnlyWhatIsSafe) {
  const PluginExec exec = Make();
  LN_EXPECT_ERROR(exec.Find("nope"), Code::kNotFound,
                  "failed to find plugin \"nope\" in path [/nonexistent " + dir_.path() + "]");
  LN_EXPECT_ERROR(exec.Find("../sh"), Code::kInvalidArgument, "invalid plugin name");
  LN_EXPECT_ERROR(exec.Find(""), Code::kInvalidArgument, "no plugin name");
  LN_EXPECT_OK(MakeDirs(dir_ / "directory", 0755));
  LN_EXPECT_ERROR(exec.Find("directory"), Code::kNotFound, "failed to find");
  Script("open", "true");
  ASSERT_EQ(chmod((dir_ / "open").c_str(), 0777), 0);
  LN_EXPECT_ERROR(exec.Find("open"), Code::kPermissionDenied, "root's alone");
}

TEST_F(PluginExecTest, Failures_SayWhatThePluginSaid) {
  const PluginExec exec = Make();
  const struct {
    const char* name;
    const char* body;
    const char* message;
    Origin origin;
    int value;
  } cases[] = {
      {"json", R"(echo '{"code":7,"msg":"bad","details":"very"}'; exit 1)", "bad; very",
       Origin::kCni, 7},
      {"stderr", "echo oops >&2; exit 3", "netplugin failed: \"oops\": exit status 3",
       Origin::kExitStatus, 3},
      {"silent", "exit 2", "netplugin failed with no error message: exit status 2",
       Origin::kExitStatus, 2},
      {"garbage", "echo rubbish; exit 1",
       "netplugin failed but error parsing its diagnostic message \"rubbish\"", Origin::kExitStatus,
       1},
      {"killed", "kill -9 $$", "signal 9", Origin::kExitStatus, 137},
      {"long", "yes | head -c 100000 >&2; exit 1", "…", Origin::kExitStatus, 1},
  };
  for (const auto& c : cases) {
    Script(c.name, c.body);
    const auto out = exec.Run(Call(c.name));
    ASSERT_FALSE(out.has_value()) << c.name;
    EXPECT_THAT(out.error().message(), HasSubstr(c.message)) << c.name;
    EXPECT_LT(out.error().message().size(), 5000U) << c.name;
    EXPECT_EQ(out.error().origin(), c.origin) << c.name;
    EXPECT_EQ(out.error().value(), c.value) << c.name;
  }
}

TEST_F(PluginExecTest, OutputIsBounded) {
  Script("flood", "head -c 3000000 /dev/zero");
  EXPECT_LE(LN_ASSERT_OK(Make().Run(Call("flood"))).size(), std::size_t{1} << 20);
}

TEST_F(PluginExecTest, Hanging_IsKilledWithItsChildren) {
  Script("hang", "trap '' TERM; (trap '' TERM; sleep 60 & echo $! >" + (dir_ / "child") +
                     "; wait) & sleep 60");
  const auto start = std::chrono::steady_clock::now();
  LN_EXPECT_ERROR(Make(std::chrono::milliseconds(300)).Run(Call("hang")), Code::kDeadlineExceeded,
                  "killed");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  const auto child = ParseNumber<pid_t>(Trim(LN_ASSERT_OK(ReadFile(dir_ / "child"))));
  ASSERT_TRUE(child.has_value());
  for (int i = 0; i < 1000 && kill(*child, 0) == 0; ++i) {
    // A zombie counts as killed: its reaper is somebody else.
    const std::string stat = ReadFile("/proc/" + std::to_string(*child) + "/stat").value_or("");
    if (stat.empty() || stat.find(") Z") != std::string::npos) return;
    usleep(1000);
  }
  EXPECT_NE(kill(*child, 0), 0) << "process " << *child << " lives";
}

TEST_F(PluginExecTest, DaemonHoldingStdout_DelaysNobody) {
  Script("daemon", "sleep 5 & echo '{}'");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(LN_ASSERT_OK(Make().Run(Call("daemon"))), "{}\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
}

}  // namespace
}  // namespace linnet::network
