#include "cni/conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "cni/args.h"
#include "cni/names.h"
#include "cni/raw_json.h"
#include "cni/version.h"

namespace linnet::network::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ConfList, Whole_IsRead) {
  const NetworkConf conf = LN_ASSERT_OK(ParseConfList(R"({
    "cniVersion": "1.0.0", "name": "net-1.x", "disableCheck": "TRUE", "disableGC": true,
    "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}, "x": 9007199254740993},
                {"Type": "portmap", "capabilities": {"portMappings": true, "ips": false}}]})"));
  EXPECT_EQ(conf.name, "net-1.x");
  EXPECT_EQ(conf.version, "1.0.0");
  EXPECT_TRUE(conf.disable_check);
  EXPECT_TRUE(conf.disable_gc);
  ASSERT_EQ(conf.plugins.size(), 2U);
  EXPECT_EQ(conf.plugins[0].type, "bridge");
  EXPECT_EQ(conf.plugins[0].ipam_type, "host-local");
  EXPECT_EQ(conf.plugins[0].json["name"], "net-1.x");
  EXPECT_EQ(conf.plugins[0].json["cniVersion"], "1.0.0");
  EXPECT_EQ(conf.plugins[1].type, "portmap") << "keys are matched as Go matches them";
  EXPECT_THAT(conf.plugins[1].capabilities, ElementsAre("portMappings"));
  EXPECT_FALSE(conf.plugins[1].json.contains("capabilities"));
}

TEST(ConfList, Broken_SaysWhere) {
  const struct {
    const char* text;
    const char* why;
  } cases[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"[]", "$: a network configuration is an object"},
      {R"({"plugins":[{"type":"x"}]})", "no name"},
      {R"({"name":"a/b","plugins":[{"type":"x"}]})",
       "$.name: invalid characters found in network name; a/b"},
      {R"({"name":"..","plugins":[{"type":"x"}]})", "invalid characters found in network name"},
      {R"({"name":7,"plugins":[{"type":"x"}]})", "$.name"},
      {R"({"name":"n","cniVersion":1,"plugins":[{"type":"x"}]})", "$.cniVersion"},
      {R"({"name":"n","cniVersion":"9.9.9","plugins":[{"type":"x"}]})",
       "cniVersion \"9.9.9\" is not supported"},
      {R"({"name":"n","cniVersion":"1.0.0-rc","plugins":[{"type":"x"}]})", "$.cniVersion"},
      {R"({"name":"n","cniVersions":["1.0.0",7],"plugins":[{"type":"x"}]})", "$.cniVersions[1]"},
      {R"({"name":"n","cniVersions":["1.0.0","x"],"plugins":[{"type":"x"}]})", "$.cniVersions[1]"},
      {R"({"name":"n","disableCheck":"maybe","plugins":[{"type":"x"}]})",
       "$.disableCheck: \"maybe\" is neither"},
      {R"({"name":"n","disableGC":1,"plugins":[{"type":"x"}]})", "$.disableGC"},
      {R"({"name":"n"})", "no plugins in list"},
      {R"({"name":"n","loadOnlyInlinedPlugins":true})", "required key \"plugins\" is missing"},
      {R"({"name":"n","plugins":[]})", "$.plugins: no plugins in list"},
      {R"({"name":"n","plugins":{}})", "$.plugins"},
      {R"({"name":"n","plugins":[7]})", "$.plugins[0]: a plugin is an object"},
      {R"({"name":"n","plugins":[{"type":"x"},{"typ":"y"}]})",
       "$.plugins[1]: required key \"type\" is missing"},
      {R"({"name":"n","plugins":[{"type":"../x"}]})", "$.plugins[0].type: invalid plugin name"},
      {R"({"name":"n","plugins":[{"type":""}]})", "$.plugins[0].type: no plugin name provided"},
      {R"({"name":"n","plugins":[{"type":".x"}]})", "invalid plugin name"},
      {R"({"name":"n","plugins":[{"type":"x","ipam":{"type":"/bin/sh"}}]})",
       "$.plugins[0].ipam.type"},
      {R"({"name":"n","plugins":[{"type":"x","capabilities":{"a":1}}]})",
       "$.plugins[0].capabilities: a: a boolean"},
  };
  for (const auto& c : cases) {
    const auto conf = ParseConfList(c.text);
    ASSERT_FALSE(conf.has_value()) << c.text;
    EXPECT_THAT(conf.error().message(), HasSubstr(c.why)) << c.text;
  }
}

TEST(ConfList, DeepNesting_IsRefused) {
  std::string text = R"({"name":"n","plugins":[{"type":"x","a":)";
  for (int i = 0; i < 10'000; ++i) text += "[";
  EXPECT_FALSE(ParseConfList(text).has_value());
}

TEST(ConfList, Version_HighestOfBothSides) {
  const struct {
    const char* keys;
    const char* version;
  } cases[] = {
      {R"("cniVersion":"0.4.0","cniVersions":["0.3.1","1.1.0","1.2.0","0.4.0"])", "1.1.0"},
      {R"("cniVersion":"0.4.0","cniVersions":["0.3.1"])", "0.4.0"},
      {R"("cniVersions":["0.3.1"])", "0.3.1"},
      {R"("cniVersion":"1")", "1.0.0"},
      {R"("cniVersion":"")", ""},
      {R"("x":1)", ""},
  };
  for (const auto& c : cases) {
    const auto conf =
        ParseConfList(std::string(R"({"name":"n","plugins":[{"type":"x"}],)") + c.keys + "}");
    ASSERT_TRUE(conf.has_value()) << c.keys << conf.error().message();
    EXPECT_EQ(conf->version, c.version) << c.keys;
  }
}

TEST(Conf, SinglePlugin_IsAListOfOne) {
  const NetworkConf conf = LN_ASSERT_OK(
      ParseConf(R"({"cniVersion":"0.3.1","name":"n","type":"x","big":9007199254740993})"));
  ASSERT_EQ(conf.plugins.size(), 1U);
  const NetworkConf again = LN_ASSERT_OK(ParseConfList(conf.text));
  EXPECT_EQ(again.plugins[0].text, conf.plugins[0].text);
  EXPECT_EQ(again.version, "0.3.1");
  LN_EXPECT_ERROR(ParseConf(R"({"name":"n","plugins":[{"type":"x"}]})"), Code::kInvalidArgument,
                  ".conflist");
}

TEST(PluginInput, KeepsBytesAsWritten) {
  const NetworkConf conf = LN_ASSERT_OK(ParseConfList(
      R"({"cniVersion":"1.1.0","name":"n","plugins":[{"type":"x","i":9007199254740993,"f":1.0,"s":"<&>\u003c","runtimeConfig":{"static":1},"prevResult":7,"capabilities":{"a":true}}]})"));
  const std::string alone = LN_ASSERT_OK(PluginInput(conf, conf.plugins[0], "", ""));
  EXPECT_EQ(
      alone,
      R"({"cniVersion":"1.1.0","name":"n","type":"x","i":9007199254740993,"f":1.0,"s":"<&>\u003c","runtimeConfig":{"static":1}})");
  const std::string all =
      LN_ASSERT_OK(PluginInput(conf, conf.plugins[0], R"({"a":1})", R"({"ips":[]})", R"(,"k":[])"));
  EXPECT_EQ(
      all,
      R"({"cniVersion":"1.1.0","name":"n","type":"x","i":9007199254740993,"f":1.0,"s":"<&>\u003c","runtimeConfig":{"a":1},"prevResult":{"ips":[]},"k":[]})");
}

TEST(LoadConf, DirectoryPlugins_AreAppendedInOrder) {
  const testing::TempDir dir;
  LN_EXPECT_OK(MakeDirs(dir / "n", 0755));
  LN_EXPECT_OK(ReplaceFile(dir / "10-n.conflist",
                           R"({"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a"}]})"));
  LN_EXPECT_OK(ReplaceFile(dir / "n/20-c.conf", R"( {"type":"c"} )"));
  LN_EXPECT_OK(ReplaceFile(dir / "n/10-b.conf", R"({"type":"b"})"));
  LN_EXPECT_OK(ReplaceFile(dir / "n/30-d.conflist", R"({"type":"d"})"));
  const NetworkConf conf = LN_ASSERT_OK(LoadConf(dir / "10-n.conflist"));
  std::vector<std::string> types;
  for (const auto& plugin : conf.plugins) types.push_back(plugin.type);
  EXPECT_THAT(types, ElementsAre("a", "b", "c"));
  // What goes into the cache holds them all, and asks for no more.
  const NetworkConf again = LN_ASSERT_OK(ParseConfList(conf.text));
  EXPECT_EQ(again.plugins.size(), 3U);

  LN_EXPECT_OK(ReplaceFile(dir / "n/20-c.conf", R"({"no":"type"})"));
  LN_EXPECT_ERROR(LoadConf(dir / "10-n.conflist"), Code::kInvalidArgument,
                  "20-c.conf: $: required key \"type\"");
  LN_EXPECT_OK(
      ReplaceFile(dir / "10-n.conflist",
                  R"({"name":"n","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]})"));
  EXPECT_EQ(LN_ASSERT_OK(LoadConf(dir / "10-n.conflist")).plugins.size(), 1U);
}

TEST(RawJson, Pieces_AreAsWritten) {
  const auto members = LN_ASSERT_OK(
      RawMembers("{ \"a\" : 1.0 , \"b\\\"}\": [1,{\"x\":\"],\\\\\"}] ,\"\\u0063\":null }"));
  ASSERT_EQ(members.size(), 3U);
  EXPECT_EQ(members[0].value, "1.0");
  EXPECT_EQ(members[1].key, "b\"}");
  EXPECT_EQ(members[1].value, "[1,{\"x\":\"],\\\\\"}]");
  EXPECT_EQ(members[2].key, "c");
  EXPECT_EQ(members[2].value, "null");
  EXPECT_TRUE(LN_ASSERT_OK(RawMembers(" { } ")).empty());
  EXPECT_THAT(LN_ASSERT_OK(RawElements(R"([ {"a":[1]} , "x,]" , 7 ])")),
              ElementsAre(R"({"a":[1]})", "\"x,]\"", "7"));
  EXPECT_TRUE(LN_ASSERT_OK(RawElements("[]")).empty());
  EXPECT_FALSE(RawMembers("[]").has_value());
  for (const char* torn :
       {"", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":\"", "{\"a\":[", "[1"}) {
    EXPECT_FALSE(RawMembers(torn).has_value()) << torn;
  }
}

TEST(Version, Parse_TakesWhatLibcniTakes) {
  for (const char* good : {"", "1", "1.0", "1.0.0", "0.3.1", "1.2.0", "12.34.56"})
    EXPECT_TRUE(ParseVersion(good)) << good;
  for (const char* bad : {"1.0.0.0", "1.x", "1.0.0-rc", "v1.0.0", "1.", ".1", "1..0", "-1"})
    EXPECT_FALSE(ParseVersion(bad)) << bad;
  EXPECT_TRUE(AtLeast("1.0", "0.4.0"));
  EXPECT_TRUE(AtLeast("", "0.1.0"));
  EXPECT_FALSE(AtLeast("", "0.2.0"));
  EXPECT_FALSE(AtLeast("x", "0.1.0"));
}

TEST(Names, Table) {
  for (const char* good : {"a", "net-1.x_y", "9"}) EXPECT_TRUE(CheckNetworkName(good)) << good;
  for (const char* bad : {"", "-a", ".", "a/b", "a b", "ä", "a\n"})
    EXPECT_FALSE(CheckNetworkName(bad)) << bad;
  EXPECT_FALSE(CheckContainerId("-x"));
  EXPECT_EQ(CheckContainerId("-x").error().value(), 4);
  for (const char* good : {"eth0", "a23456789012345", "lo"})
    EXPECT_TRUE(CheckInterfaceName(good)) << good;
  for (const char* bad : {"", ".", "..", "a/b", "a:b", "a b", "a\tb", "a234567890123456"})
    EXPECT_FALSE(CheckInterfaceName(bad)) << bad;
}

TEST(Args, SeparatorsInValues_AreRefused) {
  EXPECT_EQ(LN_ASSERT_OK(DumpArgs({{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "a"}})),
            "IgnoreUnknown=1;K8S_POD_NAME=a");
  EXPECT_EQ(LN_ASSERT_OK(DumpArgs({})), "");
  EXPECT_FALSE(DumpArgs({{"K8S_POD_NAME", "a;IgnoreUnknown=1;K8S_POD_UID=x"}}).has_value());
  EXPECT_FALSE(DumpArgs({{"K", "a\nb"}}).has_value());
  EXPECT_FALSE(DumpArgs({{"", "a"}}).has_value());
  EXPECT_EQ(FindArg(LN_ASSERT_OK(ParseArgs("IP=1;MAC=;IP=2")), "IP"), "2");
  EXPECT_FALSE(ParseArgs("IP").has_value());
  EXPECT_FALSE(ParseArgs("IP=1=2").has_value());
  EXPECT_FALSE(FindArg({{"IP", "1"}}, "ip").has_value());
}

}  // namespace
}  // namespace linnet::network::cni
