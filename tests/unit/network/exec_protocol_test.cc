// The runtime's side of the exec protocol, row by row (the numbers are those of the acceptance
// table: A2.20 to A2.30), and what the engine says of the answers.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/log.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "cni/args.h"
#include "cni/conf.h"
#include "cni/result.h"
#include "exec/plugin_exec.h"

namespace linnet::network {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class ExecProtocol : public ::testing::Test {
 protected:
  ExecProtocol() { signal(SIGPIPE, SIG_IGN); }
  void Script(const std::string& name, const std::string& body) {
    LN_EXPECT_OK(ReplaceFile(dir_ / name, "#!/bin/sh\n" + body + "\n", 0755));
  }
  PluginExec Make(milliseconds timeout = std::chrono::seconds(20)) const {
    return PluginExec({.bin_dirs = {dir_.path()},
                       .delegate_dir = {},
                       .environment = {},
                       .cgroup_root = {},
                       .timeout = timeout,
                       .busy = milliseconds(400)});
  }
  static Invocation Call(const std::string& command, const std::string& type) {
    Invocation out;
    out.command = command;
    out.type = type;
    if (command != "GC" && command != "STATUS") {
      out.container_id = "c1";
      out.netns_path = "/run/netns/x";
      out.ifname = "eth0";
      out.args = "A=b";
    }
    out.input = "{}";
    return out;
  }
  Error Failure(const std::string& body) {
    Script("fails", body);
    auto out = Make().Run(Call("ADD", "fails"));
    EXPECT_FALSE(out);
    return out ? Internal("no error") : std::move(out).error();
  }
  testing::TempDir dir_;
};

// A2.20
TEST_F(ExecProtocol, EveryVariableIsSet_EmptyWhereThereIsNothingToSay) {
  ASSERT_EQ(setenv("CNI_ARGS", "of=daemon", 1), 0);
  ASSERT_EQ(setenv("CNI_PATH", "/of/daemon", 1), 0);
  Script("env", "env | grep ^CNI_ | LC_ALL=C sort");
  EXPECT_EQ(LN_ASSERT_OK(Make().Run(Call("ADD", "env"))),
            "CNI_ARGS=A=b\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n"
            "CNI_NETNS=/run/netns/x\nCNI_PATH=" +
                dir_.path() + "\n");
  for (const char* command : {"GC", "STATUS"}) {
    EXPECT_EQ(LN_ASSERT_OK(Make().Run(Call(command, "env"))),
              "CNI_ARGS=\nCNI_COMMAND=" + std::string(command) +
                  "\nCNI_CONTAINERID=\nCNI_IFNAME=\nCNI_NETNS=\nCNI_PATH=" + dir_.path() + "\n");
  }
  // DEL of what has lost its namespace.
  Invocation gone = Call("DEL", "env");
  gone.netns_path.clear();
  EXPECT_THAT(LN_ASSERT_OK(Make().Run(gone)), HasSubstr("\nCNI_NETNS=\n"));
  unsetenv("CNI_ARGS");
  unsetenv("CNI_PATH");
}

// A2.21
TEST_F(ExecProtocol, ArgsKeepTheirOrder) {
  EXPECT_EQ(LN_ASSERT_OK(cni::DumpArgs({{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "a"}, {"B", ""}})),
            "IgnoreUnknown=1;K8S_POD_NAME=a;B=");
}

// A2.22
TEST_F(ExecProtocol, FailuresAreToldInLibcnisWords) {
  EXPECT_EQ(Failure("echo no good >&2; exit 1").message(),
            "netplugin failed: \"no good\": exit status 1");
  EXPECT_EQ(Failure("exit 4").message(), "netplugin failed with no error message: exit status 4");
  EXPECT_EQ(Failure("echo '<html>'; exit 1").message(),
            "netplugin failed but error parsing its diagnostic message \"<html>\": exit status 1");
  const Error typed = Failure(R"(echo '{"code":11,"msg":"later","details":"much"}'; exit 1)");
  EXPECT_EQ(typed.message(), "later; much");
  EXPECT_EQ(typed.value(), 11);
  // What it prints on stdout counts, whatever stands on stderr.
  EXPECT_EQ(Failure(R"(echo noise >&2; echo '{"code":100,"msg":"mine"}'; exit 1)").message(),
            "mine");
}

// A2.23 to A2.25 are about results: what a plugin printed, read as the engine reads it.
TEST_F(ExecProtocol, AnswersToAdd) {
  Script("answers", "cat");
  const auto add = [&](const std::string& answer,
                       std::string_view version) -> Result<cni::AddResult> {
    Invocation call = Call("ADD", "answers");
    call.input = answer;
    const std::string output = LN_TRY(Make().Run(call));
    return cni::ParseResult(output, version);
  };
  LN_EXPECT_ERROR(add("", "1.0.0"), Code::kInvalidArgument, "not JSON");
  EXPECT_TRUE(LN_ASSERT_OK(add("null", "1.0.0")).ips.empty());
  // Without a version: the configuration's.
  EXPECT_EQ(LN_ASSERT_OK(add(R"({"ip4":{"ip":"10.0.0.2/8"}})", "0.2.0")).ips.size(), 1U);
  EXPECT_EQ(LN_ASSERT_OK(add(R"({"ips":[{"address":"10.0.0.2/8"}]})", "1.0.0")).ips.size(), 1U);
  // In another version: converted.
  const cni::AddResult other = LN_ASSERT_OK(
      add(R"({"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/8"}]})", "1.1.0"));
  EXPECT_EQ(LN_ASSERT_OK(cni::DumpResult(other, "1.1.0")),
            R"({"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/8"}]})");
  LN_EXPECT_ERROR(add(R"({"cniVersion":"2.0.0"})", "1.1.0"), Code::kFailedPrecondition, "2.0.0");
}

// A2.26: while somebody still writes the file, the kernel does not execute it.
TEST_F(ExecProtocol, ABusyFileIsTriedAgain) {
  const std::string program = LN_ASSERT_OK(ReadFile("/bin/true"));
  LN_EXPECT_OK(ReplaceFile(dir_ / "busy", program, 0755));
  UniqueFd writer = LN_ASSERT_OK(Open(dir_ / "busy", O_WRONLY));
  std::thread installer([&] {
    std::this_thread::sleep_for(milliseconds(60));
    writer.Reset();
  });
  LN_EXPECT_OK(Make().Run(Call("DEL", "busy")));
  installer.join();
  // Not for ever, and the error is the kernel's.
  writer = LN_ASSERT_OK(Open(dir_ / "busy", O_WRONLY));
  const auto refused = Make().Run(Call("DEL", "busy"));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().IsErrno(ETXTBSY)) << refused.error().message();
}

// A2.27: the whole process group, by the caller's deadline as by the plugin's own limit.
TEST_F(ExecProtocol, TheProcessGroupIsKilledInTime) {
  Script("slow", "echo $$ >" + (dir_ / "leader") +
                     "; trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >" + (dir_ / "child") +
                     "; sleep 60; sleep 60' & sleep 60; sleep 60");
  Invocation call = Call("ADD", "slow");
  const auto start = std::chrono::steady_clock::now();
  call.deadline = start + milliseconds(300);
  LN_EXPECT_ERROR(Make().Run(call), Code::kDeadlineExceeded, "did not end in time and was killed");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  for (const char* who : {"leader", "child"}) {
    const auto pid = ParseNumber<pid_t>(Trim(LN_ASSERT_OK(ReadFile(dir_ / who))));
    ASSERT_TRUE(pid);
    bool gone = false;
    for (int i = 0; i < 2000 && !gone; ++i) {
      const std::string stat = ReadFile("/proc/" + std::to_string(*pid) + "/stat").value_or("");
      gone = stat.empty() || stat.find(") Z") != std::string::npos;
      if (!gone) std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_TRUE(gone) << who << " lives";
  }
}

// A2.28
TEST_F(ExecProtocol, StandardErrorGoesToTheLog_AlsoOfSuccess) {
  const std::string path = dir_ / "log";
  LN_ASSERT_OK(log::Init({.level = log::Level::kInfo, .file = path}));
  Script("talks", "echo a word to the operator >&2; echo '{}'");
  LN_EXPECT_OK(Make().Run(Call("ADD", "talks")));
  LN_ASSERT_OK(log::Init({}));
  const std::string text = ReadFile(path).value_or("");
  EXPECT_THAT(text, HasSubstr("a word to the operator"));
  EXPECT_THAT(text, HasSubstr("talks"));
}

// A2.30
TEST_F(ExecProtocol, VersionIsAskedOnceForEachFile) {
  const PluginExec exec = Make();
  const auto versions = [&](const std::string& body) {
    Script("v",
           "echo call >>" + (dir_ / "calls") +
               "; [ \"$CNI_COMMAND:$CNI_NETNS:$CNI_IFNAME\" = VERSION:dummy:dummy ] || exit 9\n" +
               body);
    return exec.Versions("v", Deadline::max());
  };
  EXPECT_THAT(LN_ASSERT_OK(versions(
                  R"(echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}')")),
              ElementsAre("0.4.0", "1.0.0"));
  LN_EXPECT_OK(exec.Versions("v", Deadline::max()));
  EXPECT_EQ(ReadFile(dir_ / "calls").value_or(""), "call\n") << "remembered";
  EXPECT_THAT(LN_ASSERT_OK(versions(R"(echo '{"cniVersion":"0.2.0"}')")),
              ElementsAre("0.1.0", "0.2.0"));
  EXPECT_THAT(
      LN_ASSERT_OK(versions(R"(echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1)")),
      ElementsAre("0.1.0"))
      << "from before VERSION";
  LN_EXPECT_ERROR(versions("echo '{}'"), Code::kInvalidArgument, "missing field cniVersion");
  LN_EXPECT_ERROR(versions(R"(echo '{"cniVersion":"1.0.0"}')"), Code::kInvalidArgument,
                  "missing field supportedVersions");
  LN_EXPECT_ERROR(versions("exit 3"), Code::kInternal, "exit status 3");
}

// CNI_ARGS as the built-in plugins take them.
TEST(PluginArgs, UnknownKeysAreRefusedUnlessIgnored) {
  for (const char* type : {"bridge", "host-local", "static", "ptp", "tuning"}) {
    LN_EXPECT_OK(cni::CheckArgs(type, ""));
    LN_EXPECT_OK(cni::CheckArgs(type, "IP=10.0.0.9;MAC=02:00:00:00:00:01;GATEWAY=10.0.0.1"));
    LN_EXPECT_ERROR(cni::CheckArgs(type, "FOO=bar"), Code::kInternal,
                    "ARGS: unknown args [\"FOO=bar\"]");
    LN_EXPECT_ERROR(cni::CheckArgs(type, "FOO=bar;IP=1.2.3.4;ip=x"), Code::kInternal,
                    "ARGS: unknown args [\"FOO=bar\" \"ip=x\"]");
    LN_EXPECT_ERROR(cni::CheckArgs(type, "FOO=bar;IgnoreUnknown=false"), Code::kInternal,
                    "unknown args");
    for (const char* yes : {"1", "true", "True", "TRUE"})
      LN_EXPECT_OK(cni::CheckArgs(type, std::string("FOO=bar;IgnoreUnknown=") + yes));
    LN_EXPECT_ERROR(cni::CheckArgs(type, "IgnoreUnknown=perhaps"), Code::kInvalidArgument,
                    "invalid input perhaps");
    LN_EXPECT_ERROR(cni::CheckArgs(type, "FOO"), Code::kInvalidArgument, "ARGS: invalid pair");
  }
  LN_EXPECT_OK(cni::CheckArgs("portmap", "FOO=bar"));
  LN_EXPECT_OK(cni::CheckArgs("loopback", "FOO=bar"));
}

// A1.5, A1.8, A1.9: the directory of a network's further plugins.
class AggregatedDirectory : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) { dir_.Write(name, text); }
  Result<std::vector<std::string>> Types() {
    const cni::NetworkConf conf = LN_TRY(cni::LoadConf(dir_ / "10-n.conflist"));
    std::vector<std::string> out;
    for (const auto& plugin : conf.plugins) out.push_back(plugin.type);
    // Whoever reads the cached text later gets the same without the directory.
    const cni::NetworkConf again = LN_TRY(cni::ParseConfList(conf.text));
    EXPECT_EQ(again.plugins.size(), conf.plugins.size());
    return out;
  }
  testing::TempDir dir_;
};

TEST_F(AggregatedDirectory, LoadOnlyInlinedPlugins_InEveryForm) {
  Write("n/10-more.conf", R"({"type":"more"})");
  for (const char* no :
       {R"("loadOnlyInlinedPlugins":false,)", R"("loadOnlyInlinedPlugins":"FALSE",)",
        R"("LOADONLYINLINEDPLUGINS":"false",)", ""}) {
    Write("10-n.conflist", std::string(R"({"cniVersion":"1.1.0","name":"n",)") + no +
                               R"("plugins":[{"type":"a"}]})");
    EXPECT_THAT(LN_ASSERT_OK(Types()), ElementsAre("a", "more")) << no;
  }
  for (const char* yes :
       {R"("loadOnlyInlinedPlugins":true)", R"("loadOnlyInlinedPlugins":"True")"}) {
    Write("10-n.conflist",
          std::string(R"({"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a"}],)") + yes + "}");
    EXPECT_THAT(LN_ASSERT_OK(Types()), ElementsAre("a")) << yes;
    Write("10-n.conflist", std::string(R"({"cniVersion":"1.1.0","name":"n",)") + yes + "}");
    LN_EXPECT_ERROR(Types(), Code::kInvalidArgument, "\"plugins\" is missing");
  }
  for (const char* bad : {"1", "null1", "\"yes\"", "[]"}) {
    Write("10-n.conflist",
          std::string(R"({"name":"n","plugins":[{"type":"a"}],"loadOnlyInlinedPlugins":)") + bad +
              "}");
    EXPECT_FALSE(Types()) << bad;
  }
}

TEST_F(AggregatedDirectory, AloneIsEnough_EmptyIsNot) {
  Write("10-n.conflist", R"({"cniVersion":"1.1.0","name":"n"})");
  LN_EXPECT_ERROR(Types(), Code::kInvalidArgument, "no plugin configs found");
  Write("n/b.conf", R"({"type":"b"})");
  EXPECT_THAT(LN_ASSERT_OK(Types()), ElementsAre("b"));
  Write("10-n.conflist", R"({"cniVersion":"1.1.0","name":"n","plugins":[]})");
  LN_EXPECT_ERROR(Types(), Code::kInvalidArgument, "no plugins in list");
}

TEST_F(AggregatedDirectory, OnlyFilesThatEndInConf) {
  Write("10-n.conflist", R"({"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a"}]})");
  Write("n/20.conflist", R"({"type":"no"})");
  Write("n/30.json", R"({"type":"no"})");
  Write("n/sub.conf/40.conf", R"({"type":"no"})");
  Write("other/50.conf", R"({"type":"no"})");
  Write("n/B.conf", R"({"type":"upper"})");
  Write("n/a.conf", R"({"type":"lower"})");
  EXPECT_THAT(LN_ASSERT_OK(Types()), ElementsAre("a", "upper", "lower"));
}

TEST_F(AggregatedDirectory, ABrokenFileFailsTheNetworkAndIsNamed) {
  Write("10-n.conflist", R"({"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a"}]})");
  Write("n/20.conf", R"({"type":"x")");
  LN_EXPECT_ERROR(Types(), Code::kInvalidArgument, "/n/20.conf");
  Write("n/20.conf", R"({"type":"x/y"})");
  LN_EXPECT_ERROR(Types(), Code::kInvalidArgument, "/n/20.conf: $.type");
}

TEST_F(AggregatedDirectory, HasALimit) {
  Write("10-n.conflist", R"({"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a"}]})");
  for (int i = 0; i < 64; ++i) Write("n/" + std::to_string(i) + ".conf", R"({"type":"x"})");
  LN_EXPECT_ERROR(Types(), Code::kInvalidArgument, "more than 64 plugins");
}

// The capabilities of a plugin from the directory count as those of an inlined one.
TEST_F(AggregatedDirectory, PluginsKeepTheirBytesAndCapabilities) {
  Write("10-n.conflist", R"({"cniVersion":"0.4.0","cniVersions":["1.1.0"],"name":"n"})");
  Write(
      "n/1.conf",
      R"({"cniVersion":"0.3.0","name":"other","type":"x","n":9007199254740993,"capabilities":{"portMappings":true,"mac":false}})");
  const cni::NetworkConf conf = LN_ASSERT_OK(cni::LoadConf(dir_ / "10-n.conflist"));
  EXPECT_THAT(conf.plugins[0].capabilities, ElementsAre("portMappings"));
  EXPECT_EQ(LN_ASSERT_OK(cni::PluginInput(conf, conf.plugins[0], "", "")),
            R"({"cniVersion":"1.1.0","name":"n","type":"x","n":9007199254740993})");
}

}  // namespace
}  // namespace linnet::network
