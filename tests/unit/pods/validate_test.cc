#include "validate.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linnet::pods {
namespace {

PodConfig GoodPod() {
  PodConfig config;
  config.metadata = {.name = "web", .uid = "u", .ns = "default", .attempt = 0};
  return config;
}

ContainerConfig GoodContainer() {
  ContainerConfig config;
  config.metadata.name = "c";
  config.image.image = "busybox";
  return config;
}

struct PodCase {
  const char* name;
  std::function<void(PodConfig&)> break_it;
  const char* field;
};

TEST(ValidatePod, Bad_NamesTheField) {
  const UserNamespaceOptions one{
      .mode = NsMode::kPod, .uids = {{0, 1000, 10}}, .gids = {{0, 1000, 10}}};
  const std::vector<PodCase> cases = {
      {"no name", [](PodConfig& c) { c.metadata.name.clear(); }, "metadata.name"},
      {"separator in name", [](PodConfig& c) { c.metadata.name = "a;IgnoreUnknown=1"; },
       "metadata.name"},
      {"newline in namespace", [](PodConfig& c) { c.metadata.ns = "a\nb"; }, "metadata.namespace"},
      {"slash in uid", [](PodConfig& c) { c.metadata.uid = "../x"; }, "metadata.uid"},
      {"unknown handler", [](PodConfig& c) { c.runtime_handler = "kata"; }, "runtime_handler"},
      {"long hostname", [](PodConfig& c) { c.hostname = std::string(65, 'a'); }, "hostname"},
      {"newline in hostname", [](PodConfig& c) { c.hostname = "a\nb"; }, "hostname"},
      {"relative log directory", [](PodConfig& c) { c.log_directory = "var/log"; },
       "log_directory"},
      {"log directory that climbs", [](PodConfig& c) { c.log_directory = "/var/log/../../etc"; },
       "log_directory"},
      {"newline in nameserver",
       [](PodConfig& c) { c.dns = DnsConfig{.servers = {"1.1.1.1\noptions x"}}; },
       "dns_config.servers"},
      {"host port", [](PodConfig& c) { c.ports = {{.container_port = 80, .host_port = 70000}}; },
       "port_mappings[0].host_port"},
      {"container port", [](PodConfig& c) { c.ports = {{.container_port = 0, .host_port = 80}}; },
       "port_mappings[0].container_port"},
      {"host ip",
       [](PodConfig& c) { c.ports = {{.container_port = 1, .host_port = 80, .host_ip = "x"}}; },
       "host_ip"},
      {"network CONTAINER", [](PodConfig& c) { c.namespaces.network = NsMode::kContainer; },
       "network"},
      {"ipc TARGET", [](PodConfig& c) { c.namespaces.ipc = NsMode::kTarget; }, "ipc"},
      {"userns CONTAINER",
       [](PodConfig& c) { c.namespaces.userns = UserNamespaceOptions{.mode = NsMode::kContainer}; },
       "userns"},
      {"userns two maps",
       [&](PodConfig& c) {
         c.namespaces.userns = one;
         c.namespaces.userns->uids.push_back({10, 5000, 10});
       },
       "uids"},
      {"userns root not mapped",
       [&](PodConfig& c) {
         c.namespaces.userns = one;
         c.namespaces.userns->uids[0].container_id = 1;
       },
       "container_id"},
      {"userns lengths differ",
       [&](PodConfig& c) {
         c.namespaces.userns = one;
         c.namespaces.userns->gids[0].size = 11;
       },
       "length"},
      {"group without user", [](PodConfig& c) { c.run_as_group = 5; }, "run_as_group"},
      {"cgroup parent climbs", [](PodConfig& c) { c.cgroup_parent = "/a/../../b"; },
       "cgroup_parent"},
  };
  for (const PodCase& c : cases) {
    PodConfig config = GoodPod();
    c.break_it(config);
    const auto result = ValidatePod(config, {"linnet"});
    ASSERT_FALSE(result) << c.name;
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument) << c.name;
    EXPECT_THAT(result.error().message(), testing::HasSubstr(c.field)) << c.name;
  }
  EXPECT_TRUE(ValidatePod(GoodPod(), {"linnet"}));
}

TEST(ValidatePod, HostPortZero_IsNotChecked) {
  PodConfig config = GoodPod();
  config.ports = {{.container_port = 0, .host_port = 0}};
  EXPECT_TRUE(ValidatePod(config, {}));
}

struct ContainerCase {
  const char* name;
  std::function<void(ContainerConfig&)> break_it;
  const char* field;
};

TEST(ValidateContainer, Bad_NamesTheField) {
  const std::vector<ContainerCase> cases = {
      {"no image", [](ContainerConfig& c) { c.image.image.clear(); }, "image"},
      {"group without user", [](ContainerConfig& c) { c.security.run_as_group = 5; },
       "run_as_group"},
      {"negative user", [](ContainerConfig& c) { c.security.run_as_user = -1; }, "run_as_user"},
      {"user beyond 31 bits", [](ContainerConfig& c) { c.security.run_as_user = 4294967296; },
       "run_as_user"},
      {"privileged in a plain pod", [](ContainerConfig& c) { c.security.privileged = true; },
       "privileged"},
      {"target without id", [](ContainerConfig& c) { c.security.namespaces.pid = NsMode::kTarget; },
       "target_id"},
      {"mount onto root",
       [](ContainerConfig& c) { c.mounts = {{.container_path = "/.", .host_path = "/tmp"}}; },
       "container_path"},
      {"relative source",
       [](ContainerConfig& c) { c.mounts = {{.container_path = "/a", .host_path = "tmp"}}; },
       "host_path"},
      {"rro without ro",
       [](ContainerConfig& c) {
         c.mounts = {{.container_path = "/a", .host_path = "/t", .recursive_read_only = true}};
       },
       "recursive_read_only"},
      {"rro with propagation",
       [](ContainerConfig& c) {
         c.mounts = {{.container_path = "/a",
                      .host_path = "/t",
                      .readonly = true,
                      .recursive_read_only = true,
                      .propagation = Propagation::kHostToContainer}};
       },
       "recursive_read_only"},
      {"log path climbs", [](ContainerConfig& c) { c.log_path = "../x.log"; }, "log_path"},
      {"env name",
       [](ContainerConfig& c) {
         c.envs = {{"A=B", "c"}};
       },
       "envs"},
      {"oom score", [](ContainerConfig& c) { c.resources.oom_score_adj = 1001; }, "oom_score_adj"},
  };
  for (const ContainerCase& c : cases) {
    ContainerConfig config = GoodContainer();
    c.break_it(config);
    const auto result = ValidateContainer(config, GoodPod());
    ASSERT_FALSE(result) << c.name;
    EXPECT_THAT(result.error().message(), testing::HasSubstr(c.field)) << c.name;
  }
  EXPECT_TRUE(ValidateContainer(GoodContainer(), GoodPod()));
}

}  // namespace
}  // namespace linnet::pods
