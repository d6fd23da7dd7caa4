#include "spec_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pod_files.h"

namespace linnet::pods {
namespace {

using testing::ElementsAre;

TEST(BuildArgs, KubernetesRule) {
  oci::ImageConfig image;
  image.entrypoint = {"entry"};
  image.cmd = {"cmd"};
  ContainerConfig config;
  EXPECT_THAT(*BuildArgs(config, image), ElementsAre("entry", "cmd"));
  config.args = {"a"};
  EXPECT_THAT(*BuildArgs(config, image), ElementsAre("entry", "a"));
  config.command = {"c"};
  EXPECT_THAT(*BuildArgs(config, image), ElementsAre("c", "a"));
  config.args.clear();
  EXPECT_THAT(*BuildArgs(config, image), ElementsAre("c"));
}

TEST(BuildArgs, NothingToRun_IsAnError) {
  EXPECT_EQ(BuildArgs({}, {}).error().code(), Code::kInvalidArgument);
}

TEST(BuildEnv, OrderAndOverrides) {
  oci::ImageConfig image;
  image.env = {"PATH=/bin", "A=1", "B=2", "nonsense"};
  ContainerConfig config;
  config.envs = {{"A", "x"}, {"C", "3"}, {"C", "4"}};
  EXPECT_THAT(BuildEnv(config, image, "h", "/root"),
              ElementsAre("PATH=/bin", "A=x", "B=2", "HOSTNAME=h", "C=4", "HOME=/root"));
}

TEST(BuildEnv, Defaults_PathHomeTerm) {
  ContainerConfig config;
  config.tty = true;
  const auto env = BuildEnv(config, {}, "", "");
  EXPECT_THAT(env, testing::Contains("TERM=xterm"));
  EXPECT_THAT(env, testing::Contains("HOME=/"));
  EXPECT_THAT(env, testing::Contains(testing::StartsWith("PATH=/usr/local/sbin")));
}

TEST(BuildResources, MemoryWithoutSwap_ForbidsSwap) {
  Resources r;
  r.memory_limit_bytes = 100;
  EXPECT_EQ(BuildResources(r).memory_swap, 100);
  r.memory_swap_limit_bytes = 150;
  EXPECT_EQ(BuildResources(r).memory_swap, 150);
  EXPECT_FALSE(BuildResources({}).memory_limit);
}

TEST(ResolvConf, AllParts) {
  EXPECT_EQ(
      ResolvConf({.servers = {"10.10.10.10"}, .searches = {"google.com"}, .options = {"ndots:8"}}),
      "search google.com\nnameserver 10.10.10.10\noptions ndots:8\n");
  EXPECT_EQ(ResolvConf({}), "");
}

TEST(PodHostname, FromConfigElseName) {
  PodConfig config;
  config.metadata.name = std::string(80, 'n');
  EXPECT_EQ(PodHostname(config).size(), 63U);
  config.hostname = "h";
  EXPECT_EQ(PodHostname(config), "h");
}

TEST(HostsFile, NamesThePod) {
  EXPECT_THAT(HostsFile("h", {"10.0.0.2"}), testing::HasSubstr("10.0.0.2\th\n"));
}

}  // namespace
}  // namespace linnet::pods
