#include "config/config.h"

#include <unistd.h>

#include <cstdlib>

#include <gtest/gtest.h>

#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::cri {
namespace {

using testing::TempDir;

std::string SourceOf(const LoadedConfig& loaded, const std::string& key) {
  for (const Setting& s : loaded.settings) {
    if (s.key == key) return s.source;
  }
  return "<no such key>";
}

class ConfigTest : public ::testing::Test {
 protected:
  Result<LoadedConfig> Load(const std::string& text) {
    dir_.Write("linnet.toml", text);
    return LoadConfig({.file = dir_ / "linnet.toml"});
  }
  TempDir dir_;
};

TEST_F(ConfigTest, Empty_HasDefaults) {
  const LoadedConfig loaded = LN_ASSERT_OK(Load(""));
  const Config& c = loaded.config;
  EXPECT_EQ(c.root, "/var/lib/linnet");
  EXPECT_EQ(c.socket, "/run/linnet/linnet.sock");
  EXPECT_EQ(c.instance, "");
  EXPECT_EQ(c.images.preload, "/var/lib/linnet/preload");
  EXPECT_EQ(c.network.bridge, "linnet0");
  EXPECT_EQ(c.network.cache_dir, "/var/lib/cni");
  EXPECT_EQ(c.network.ipam_dir, "/var/lib/cni/networks");
  EXPECT_EQ(SourceOf(loaded, "network.bridge"), "default");
}

TEST_F(ConfigTest, File_SetsValuesAndNamesLines) {
  const LoadedConfig loaded = LN_ASSERT_OK(
      Load("[network]\nbridge = \"br7\"\npool_size = 0\n\nsubnets = [\"10.1.0.0/16\"]\n"
           "[runtimes.runc]\npath = \"/usr/sbin/runc\"\n"));
  EXPECT_EQ(loaded.config.network.bridge, "br7");
  EXPECT_EQ(loaded.config.network.pool_size, 0);
  EXPECT_EQ(loaded.config.network.subnets, std::vector<std::string>{"10.1.0.0/16"});
  EXPECT_EQ(loaded.config.runtimes.at("runc").path, "/usr/sbin/runc");
  EXPECT_EQ(SourceOf(loaded, "network.subnets"), dir_ / "linnet.toml:5");
}

TEST_F(ConfigTest, DropIns_CountInTheOrderOfNames) {
  dir_.Write({{"conf.d/20-b.toml", "network.bridge = \"b20\"\n"},
              {"conf.d/10-a.toml", "network.bridge = \"b10\"\nmetrics.address = \"127.0.0.1:9\"\n"},
              {"conf.d/30-c.toml.off", "network.bridge = \"b30\"\n"}});
  const LoadedConfig loaded = LN_ASSERT_OK(Load("[network]\nbridge = \"b0\"\n"));
  EXPECT_EQ(loaded.config.network.bridge, "b20");
  EXPECT_EQ(loaded.config.metrics.address, "127.0.0.1:9");
  EXPECT_EQ(SourceOf(loaded, "network.bridge"), dir_ / "conf.d/20-b.toml:1");
}

TEST_F(ConfigTest, EnvironmentAndOptions_WinInThisOrder) {
  dir_.Write("linnet.toml",
             "[network]\nbridge = \"file\"\npool_size = 1\n[log]\nlevel = \"warn\"\n");
  const LoadedConfig loaded =
      LN_ASSERT_OK(LoadConfig({.file = dir_ / "linnet.toml",
                               .env = {{"LINNET_NETWORK_BRIDGE", "env"},
                                       {"LINNET_LOG_LEVEL", "error"},
                                       {"LINNET_NETWORK_BIN_DIRS", "/a, /b"},
                                       {"LINNET_ADDRESS", "of another program"}},
                               .options = {{"log.level", "debug"}}}));
  EXPECT_EQ(loaded.config.network.bridge, "env");
  EXPECT_EQ(loaded.config.network.pool_size, 1);
  EXPECT_EQ(loaded.config.network.bin_dirs, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(loaded.config.log.level, "debug");
  EXPECT_EQ(SourceOf(loaded, "network.bridge"), "LINNET_NETWORK_BRIDGE");
  EXPECT_EQ(SourceOf(loaded, "log.level"), "--log-level");
}

TEST_F(ConfigTest, UnknownKey_IsRefusedWithPlaceAndSuggestion) {
  const std::string file = dir_ / "linnet.toml";
  LN_EXPECT_ERROR(Load("\n[network]\nbrigde = \"x\"\n"), Code::kInvalidArgument,
                  file + ":3: unknown key \"network.brigde\" (did you mean \"network.bridge\"?)");
  LN_EXPECT_ERROR(Load("pool_size = 1\n"), Code::kInvalidArgument,
                  "(did you mean \"network.pool_size\"?)");
  LN_EXPECT_ERROR(Load("[runtimes.runc]\nbinary = \"x\"\n"), Code::kInvalidArgument,
                  "runtimes.NAME.path");
  const auto far = Load("zzzzzzzz = 1\n");
  ASSERT_FALSE(far);
  EXPECT_EQ(far.error().message().find("did you mean"), std::string::npos) << far.error().message();
}

TEST_F(ConfigTest, WrongValues_AreRefusedWithTheirKey) {
  LN_EXPECT_ERROR(Load("[network]\npool_size = 99999\n"), Code::kInvalidArgument,
                  "network.pool_size: 99999 is not in the range");
  LN_EXPECT_ERROR(Load("[network]\npool_size = 99999999999999\n"), Code::kInvalidArgument,
                  "not in the range");
  LN_EXPECT_ERROR(Load("[network]\npool_size = \"4\"\n"), Code::kInvalidArgument, "whole number");
  LN_EXPECT_ERROR(Load("[network]\npool_size = 4.5\n"), Code::kInvalidArgument,
                  "network.pool_size");
  LN_EXPECT_ERROR(Load("[network]\nbin_dirs = [1]\n"), Code::kInvalidArgument, "list of texts");
  LN_EXPECT_ERROR(Load("[network]\nbin_dirs = \"/a\"\n"), Code::kInvalidArgument, "list of texts");
  LN_EXPECT_ERROR(Load("[log]\nlevel = \"loud\"\n"), Code::kInvalidArgument,
                  "not one of debug, info, warn, error");
  LN_EXPECT_ERROR(Load("root = \"\"\n"), Code::kInvalidArgument, "must not be empty");
  LN_EXPECT_ERROR(LoadConfig({.file = dir_ / "linnet.toml", .options = {{"log.level", "loud"}}}),
                  Code::kInvalidArgument, "");
}

TEST_F(ConfigTest, BrokenToml_NamesTheLine) {
  LN_EXPECT_ERROR(Load("[network]\nbridge = \n"), Code::kInvalidArgument, dir_ / "linnet.toml:2: ");
}

TEST_F(ConfigTest, NamedFile_MustExist) {
  LN_EXPECT_ERROR(LoadConfig({.file = dir_ / "absent.toml"}), Code::kNotFound, "absent.toml");
}

TEST_F(ConfigTest, OwnDirectories_GetAnInstanceAndTheirOwnNames) {
  const LoadedConfig a =
      LN_ASSERT_OK(LoadConfig({.options = {{"root", dir_ / "a"}, {"state", dir_ / "sa"}}}));
  const LoadedConfig b =
      LN_ASSERT_OK(LoadConfig({.options = {{"root", dir_ / "b"}, {"state", dir_ / "sb"}}}));
  EXPECT_EQ(a.config.instance.size(), 4U);
  EXPECT_NE(a.config.instance, b.config.instance);
  EXPECT_EQ(a.config.network.bridge, "ln" + a.config.instance + "0");
  EXPECT_EQ(a.config.network.cache_dir, dir_ / "a/cni");
  EXPECT_EQ(a.config.network.ipam_dir, dir_ / "a/cni/networks");
  EXPECT_EQ(a.config.socket, dir_ / "sa/linnet.sock");
}

TEST_F(ConfigTest, Instance_IsThatOfTheRealPath) {
  dir_.Write("real/");
  ASSERT_EQ(::symlink((dir_ / "real").c_str(), (dir_ / "link").c_str()), 0);
  EXPECT_EQ(LN_ASSERT_OK(InstanceOf("/r", dir_ / "link/state")),
            LN_ASSERT_OK(InstanceOf("/r", dir_ / "real/state")));
  // Known value: it is part of names on disk and in the kernel, and must not change between
  // versions.
  EXPECT_EQ(LN_ASSERT_OK(InstanceOf("/r", "/linnet-instance-test")), "raso");
}

TEST_F(ConfigTest, Print_IsTomlThatGivesTheSame) {
  const LoadedConfig first =
      LN_ASSERT_OK(Load("[network]\nbin_dirs = [\"/x\", \"/y \\\"z\"]\npool_size = 3\n"));
  const std::string text = PrintConfig(first);
  EXPECT_NE(text.find("linnet.toml:3; default 8"), std::string::npos) << text;
  const LoadedConfig second = LN_ASSERT_OK(Load(text));
  for (std::size_t i = 0; i < first.settings.size(); ++i)
    EXPECT_EQ(first.settings[i].value, second.settings[i].value);
}

TEST_F(ConfigTest, Json_IsNested) {
  const LoadedConfig loaded = LN_ASSERT_OK(Load("[network]\npool_size = 3\n"));
  EXPECT_EQ(ConfigJson(loaded)["network"]["pool_size"], 3);
}

// What the sample says behind "# " is the default, and every key in it exists.
TEST_F(ConfigTest, PackagedSample_ShowsTheDefaults) {
  const char* source_dir = std::getenv("LINNET_SOURCE_DIR");
  if (source_dir == nullptr) GTEST_SKIP() << "LINNET_SOURCE_DIR is not set (ctest does)";
  std::string sample;
  const std::string text =
      LN_ASSERT_OK(ReadFile(std::string(source_dir) + "/contrib/packaging/linnet.toml"));
  for (std::string line : Split(text, '\n')) {
    if (line.starts_with("# [runtimes") || line.starts_with("# path")) continue;
    const bool is_key = line.starts_with("# ") && line.find(" = ") != std::string::npos &&
                        line.find(' ', 2) == line.find(" = ");
    if (is_key && !line.starts_with("# subnets")) line.erase(0, 2);
    sample += line + "\n";
  }
  const LoadedConfig loaded = LN_ASSERT_OK(Load(sample));
  int set = 0;
  for (const Setting& s : loaded.settings) {
    if (s.source == "default") continue;
    EXPECT_EQ(s.value, s.default_value) << s.key;
    ++set;
  }
  EXPECT_GE(set, 6);
}

}  // namespace
}  // namespace linnet::cri
