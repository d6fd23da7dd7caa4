#include "linnet/oci/runtime_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/json_view.h"

namespace linnet::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Everything that Spec knows, in the words of the specification.
constexpr std::string_view kFull = R"({
  "ociVersion": "1.2.0",
  "process": {
    "terminal": true, "consoleSize": {"height": 25, "width": 80},
    "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4294967295]},
    "args": ["sh", "-c", "true"], "env": ["PATH=/bin"], "cwd": "/srv",
    "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                     "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 18446744073709551615}],
    "noNewPrivileges": true, "apparmorProfile": "p", "selinuxLabel": "l", "oomScoreAdj": -997
  },
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "h", "domainname": "d",
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"],
              "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
              "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]}],
  "annotations": {"a": "b"},
  "linux": {
    "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}],
    "uidMappings": [{"containerID": 0, "hostID": 65536, "size": 65536}],
    "gidMappings": [{"containerID": 0, "hostID": 65536, "size": 65536}],
    "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
    "cgroupsPath": "/linnet/pods/x",
    "resources": {
      "devices": [{"allow": false, "type": "a", "access": "rwm"},
                  {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
      "memory": {"limit": 1048576, "reservation": 1024, "swap": -1},
      "cpu": {"shares": 512, "quota": -1, "period": 100000, "cpus": "0-1", "mems": "0"},
      "pids": {"limit": 100},
      "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
      "unified": {"memory.high": "max"}
    },
    "sysctl": {"net.ipv4.ip_forward": "1"},
    "seccomp": {
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
      "flags": ["SECCOMP_FILTER_FLAG_LOG"],
      "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1,
                    "args": [{"index": 0, "value": 2114060288, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}]}]
    },
    "rootfsPropagation": "slave",
    "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
  }
})";

void ExpectRefused(Json json, const std::string& part) {
  const auto spec = Spec::Parse(json.dump());
  ASSERT_FALSE(spec) << part;
  EXPECT_TRUE(spec.error().Is(Code::kInvalidArgument));
  EXPECT_THAT(spec.error().message(), HasSubstr(part));
}

Json With(const char* pointer, Json value) {
  Json json = Json::parse(kFull);
  json[Json::json_pointer(pointer)] = std::move(value);
  return json;
}

TEST(Spec, ParseAndDump_Full_NothingIsLost) {
  const auto spec = Spec::Parse(kFull);
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(Json::parse(spec->Dump()), Json::parse(kFull));
}

TEST(Spec, Parse_Full_Fields) {
  const auto s = Spec::Parse(kFull);
  ASSERT_TRUE(s) << s.error().message();
  EXPECT_THAT(s->process.user.additional_gids, ElementsAre(3U, 4294967295U));
  EXPECT_EQ(s->process.rlimits[0].hard, 18446744073709551615ULL);
  EXPECT_EQ(s->process.oom_score_adj, -997);
  EXPECT_EQ(s->namespaces[1].path, "/run/netns/x");
  EXPECT_EQ(s->resources.memory_swap, -1);
  EXPECT_FALSE(s->resources.devices[0].major);
  EXPECT_EQ(s->seccomp->syscalls[0].args[0].value_two, 7U);
  EXPECT_TRUE(s->root_readonly);
}

TEST(Spec, Dump_Default_IsSmallAndParses) {
  Spec spec;
  spec.root_path = "/r";
  EXPECT_EQ(Json::parse(spec.Dump()),
            Json::parse(R"({"ociVersion":"1.2.0","process":{"cwd":"/","user":{"uid":0,"gid":0}},
                                                     "root":{"path":"/r"},"linux":{}})"));
  EXPECT_TRUE(Spec::Parse(spec.Dump()));
}

TEST(Spec, Dump_EmptyCapabilities_StayPresent) {
  Spec spec;
  spec.process.capabilities.emplace();
  const auto again = Spec::Parse(spec.Dump());
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->process.capabilities);
}

TEST(Spec, Dump_TextThatIsNotUtf8_StillJson) {
  Spec spec;
  spec.process.env = {"A=\xff"};
  EXPECT_TRUE(Json::accept(spec.Dump()));
}

TEST(Spec, Parse_UnknownMembers_Ignored) {
  EXPECT_TRUE(Spec::Parse(With("/linux/intelRdt", {{"closID", "x"}}).dump()));
  EXPECT_TRUE(Spec::Parse(With("/hooks", Json::object()).dump()));
}

TEST(Spec, Parse_DeviceRuleWildcards_AreAbsent) {
  const auto s = Spec::Parse(With("/linux/resources/devices",
                                  {{{"allow", true}, {"type", "b"}, {"major", -1}, {"minor", -1}}})
                                 .dump());
  ASSERT_TRUE(s) << s.error().message();
  EXPECT_FALSE(s->resources.devices[0].major);
  EXPECT_FALSE(s->resources.devices[0].minor);
  EXPECT_EQ(s->resources.devices[0].access, "rwm");
}

TEST(Spec, Parse_Invalid_NamesThePath) {
  ExpectRefused(With("/ociVersion", "2.0.0"), "ociVersion");
  ExpectRefused(With("/process/user/uid", -1), "$.process.user.uid");
  ExpectRefused(With("/process/user/uid", 4294967296), "$.process.user.uid");
  ExpectRefused(With("/process/args/0", 7), "$.process.args[0]");
  ExpectRefused(With("/process/cwd", "relative"), "$.process: cwd");
  ExpectRefused(With("/process/rlimits/0/type", "NOFILE"), "$.process.rlimits[0]");
  ExpectRefused(With("/process/oomScoreAdj", 1001), "oomScoreAdj");
  ExpectRefused(With("/root", Json::object()), "$.root");
  ExpectRefused(With("/mounts/0/destination", ""), "$.mounts[0]");
  ExpectRefused(With("/linux/namespaces/0/type", "pidd"), "$.linux.namespaces[0]");
  ExpectRefused(With("/linux/namespaces/1/type", "pid"), "twice");
  ExpectRefused(With("/linux/devices/0/type", "x"), "$.linux.devices[0]");
  ExpectRefused(With("/linux/devices/0/path", "dev/x"), "$.linux.devices[0]");
  ExpectRefused(With("/linux/resources/devices/0/access", "rx"), "access");
  ExpectRefused(With("/linux/resources/memory/limit", 1.5), "$.linux.resources.memory.limit");
  ExpectRefused(With("/linux/seccomp/syscalls/0/names", Json::array()),
                "$.linux.seccomp.syscalls[0]");
  ExpectRefused(With("/linux/seccomp/syscalls/0/args/0/index", 6), "args[0]");
  ExpectRefused(With("/linux/rootfsPropagation", "sharedd"), "rootfsPropagation");
  ExpectRefused(With("/linux/maskedPaths", "x"), "$.linux.maskedPaths");
  ExpectRefused(With("/hostname", std::string("a\0b", 3)), "$.hostname: a NUL");
}

}  // namespace
}  // namespace linnet::oci
