#include "cdi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::pods {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CdiNames, ComeFromTheFieldAndFromAnnotationsEachOnce) {
  ContainerConfig config;
  config.cdi_devices = {"vendor.com/gpu=0", "vendor.com/gpu=1"};
  config.annotations = {{"cdi.k8s.io/plugin_7", "vendor.com/gpu=1, vendor.com/net=a:b.c"},
                        {"other/key", "vendor.com/gpu=9"}};
  EXPECT_THAT(LN_ASSERT_OK(CdiDevicesOf(config)),
              ElementsAre("vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/net=a:b.c"));
}

TEST(CdiNames, ThatAreNoneAreRefused) {
  for (const char* name :
       {"", "gpu0", "vendor.com/gpu", "vendor.com/gpu=", "vendor.com=0", "1vendor/gpu=0",
        "vendor/g pu=0", "vendor/gpu=../0", "/gpu=0", "a/b=c="}) {
    ContainerConfig config;
    config.cdi_devices = {name};
    LN_EXPECT_ERROR(CdiDevicesOf(config), Code::kInvalidArgument, "CDI device");
  }
}

class CdiTest : public ::testing::Test {
 protected:
  Result<oci::Spec> Inject(const std::vector<std::string>& devices, std::uint32_t uid = 0) const {
    oci::Spec spec;
    spec.process.env = {"PATH=/bin", "A=old"};
    spec.process.user.uid = uid;
    spec.process.user.gid = uid;
    spec.mounts = {{.destination = "/proc", .type = "proc", .source = "proc", .options = {}},
                   {.destination = "/data/sub", .type = "bind", .source = "/", .options = {}}};
    auto done = InjectCdiDevices(spec, devices, {dir_ / "etc", dir_ / "run"});
    if (!done) return std::move(done).error();
    return spec;
  }
  testing::TempDir dir_;
};

TEST_F(CdiTest, Json_AllEditsArriveOnceForTheFileAndForEachDevice) {
  dir_.Write("data/");
  dir_.Write("etc/a.json", R"({"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
    "containerEdits": {"env": ["A=new", "ALL=1"], "additionalGids": [44, 0]},
    "devices": [
      {"name": "0", "containerEdits": {
        "env": ["ZERO=1"],
        "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}],
        "mounts": [{"hostPath": ")" +
                               dir_ / "data" +
                               R"(", "containerPath": "/data", "options": ["ro", "nosuid"]}]}},
      {"name": "1", "containerEdits": {
        "deviceNodes": [{"path": "/dev/gpu1", "type": "c", "major": 5, "minor": 6,
                         "fileMode": 432, "uid": 7, "gid": 8}]}}]})");
  const oci::Spec spec = LN_ASSERT_OK(Inject({"vendor.com/gpu=0", "vendor.com/gpu=1"}, 1000));
  EXPECT_THAT(spec.process.env, ElementsAre("PATH=/bin", "A=new", "ALL=1", "ZERO=1"));
  EXPECT_THAT(spec.process.user.additional_gids, ElementsAre(44U));
  ASSERT_EQ(spec.devices.size(), 2U);
  EXPECT_EQ(spec.devices[0].path, "/dev/gpu0");
  EXPECT_EQ(spec.devices[0].major, 1);
  EXPECT_EQ(spec.devices[0].minor, 3);
  EXPECT_EQ(spec.devices[0].uid, 1000U) << "who is not root has to be able to use it";
  EXPECT_EQ(spec.devices[1].uid, 7U);
  EXPECT_EQ(spec.devices[1].file_mode, 0660U);
  ASSERT_EQ(spec.resources.devices.size(), 2U);
  EXPECT_EQ(spec.resources.devices[0].access, "rw");
  EXPECT_EQ(spec.resources.devices[1].minor, 6);
  ASSERT_EQ(spec.mounts.size(), 3U);
  EXPECT_EQ(spec.mounts[1].destination, "/data") << "before what lies below it";
  EXPECT_THAT(spec.mounts[1].options, ElementsAre("ro", "nosuid", "rbind"));
}

TEST_F(CdiTest, Yaml_IsReadAsItsToolsWriteIt) {
  dir_.Write("run/b.yaml",
             "---\n"
             "cdiVersion: 0.3.0\n"
             "kind: vendor.com/disk\n"
             "devices:\n"
             "- name: \"0\"\n"
             "  containerEdits: &edits\n"
             "    env:\n"
             "    - NUMBER=0\n"
             "    deviceNodes:\n"
             "    - path: /dev/null\n"
             "      fileMode: 0640\n"
             "      type: c\n"
             "      major: 0x1\n"
             "      minor: 3\n"
             "- name: all\n"
             "  containerEdits: *edits\n");
  const oci::Spec spec = LN_ASSERT_OK(Inject({"vendor.com/disk=all"}));
  ASSERT_EQ(spec.devices.size(), 1U);
  EXPECT_EQ(spec.devices[0].file_mode, 0640U);
  EXPECT_EQ(spec.devices[0].major, 1);
  EXPECT_FALSE(spec.devices[0].uid);
  EXPECT_THAT(spec.process.env, Contains("NUMBER=0"));
}

std::string OneDevice(const std::string& kind, const std::string& edits,
                      const std::string& version = "1.0.0") {
  return R"({"cdiVersion": ")" + version + R"(", "kind": ")" + kind +
         R"(", "devices": [{"name": "x", "containerEdits": )" + edits + "}]}";
}

TEST_F(CdiTest, LaterDirectoriesCountMoreAndTwiceInOneIsAnError) {
  dir_.Write("etc/a.json", OneDevice("v.com/d", R"({"env": ["FROM=etc"]})"));
  dir_.Write("run/a.json", OneDevice("v.com/d", R"({"env": ["FROM=run"]})"));
  EXPECT_THAT(LN_ASSERT_OK(Inject({"v.com/d=x"})).process.env, Contains("FROM=run"));
  dir_.Write("run/b.json", OneDevice("v.com/d", R"({"env": ["FROM=b"]})"));
  LN_EXPECT_ERROR(Inject({"v.com/d=x"}), Code::kFailedPrecondition, "b.json");
}

TEST_F(CdiTest, FilesThatAreNotSoundHarmOnlyTheirOwnDevices) {
  dir_.Write("etc/good.json", OneDevice("v.com/d", R"({"env": ["OK=1"]})"));
  dir_.Write("etc/torn.json", R"({"cdiVersion": "1.0.0", "kind": "v.com/)");
  dir_.Write("etc/bad.yaml", "a: [b\n");
  dir_.Write("etc/notes.txt", "not a description");
  EXPECT_THAT(LN_ASSERT_OK(Inject({"v.com/d=x"})).process.env, Contains("OK=1"));
  LN_EXPECT_ERROR(Inject({"v.com/e=x"}), Code::kNotFound, "bad.yaml");
  LN_EXPECT_ERROR(Inject({"v.com/d=y"}), Code::kNotFound, "v.com/d=y");
}

TEST_F(CdiTest, WhatIsNotDoneIsRefusedAndNotLeftOut) {
  int number = 0;
  for (const char* edits :
       {R"({"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]})",
        R"({"intelRdt": {"closID": "a"}})", R"({"netDevices": [{"hostInterfaceName": "e"}]})",
        R"({"env": ["NOVALUE"]})", R"({"deviceNodes": [{"path": "dev/x"}]})",
        R"({"deviceNodes": [{"path": "/dev/null", "permissions": "x"}]})",
        R"({"deviceNodes": [{"path": "/dev/null", "type": "b"}]})",
        R"({"deviceNodes": [{"path": "/etc/passwd"}]})",
        R"({"deviceNodes": [{"path": "/dev/none-such"}]})", R"({"mounts": [{"hostPath": "/"}]})"}) {
    dir_.Write("etc/a.json", OneDevice("v.com/d", edits));
    EXPECT_FALSE(Inject({"v.com/d=x"})) << edits << " " << number++;
  }
  dir_.Write("etc/a.json", OneDevice("v.com/d", "{}", "2.0.0"));
  LN_EXPECT_ERROR(Inject({"v.com/d=x"}), Code::kNotFound, "2.0.0");
}

TEST(Yaml, ScalarsAreWhatKubernetesTakesThemFor) {
  const Json json = LN_ASSERT_OK(YamlToJson(
      "{a: 1, b: -2, c: 0o17, d: 017, e: 0x1f, f: true, g: ~, h: '1', i: 1.0, j: 08, k: text}"));
  EXPECT_EQ(
      DumpJson(json),
      R"({"a":1,"b":-2,"c":15,"d":15,"e":31,"f":true,"g":null,"h":"1","i":"1.0","j":"08","k":"text"})");
}

TEST(Yaml, BombsAndNonsenseAreErrors) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int n = 0; n < 9; ++n) bomb += ", " + before;
    bomb += "]\n";
  }
  EXPECT_FALSE(YamlToJson(bomb));
  EXPECT_FALSE(YamlToJson("a: b: c"));
  EXPECT_FALSE(YamlToJson("[1]: x"));
  EXPECT_FALSE(YamlToJson(std::string(200, '[') + std::string(200, ']')));
}

}  // namespace
}  // namespace linnet::pods
