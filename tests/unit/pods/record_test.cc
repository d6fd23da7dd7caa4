#include "record.h"

#include <gtest/gtest.h>

namespace linnet::pods {
namespace {

TEST(ContainerRecord, RoundTrip_EveryKindOfField) {
  ContainerRecord in;
  in.id = "abc";
  in.pod_id = "def";
  in.config.envs = {{"BYTES", std::string("\xff\x00\x01", 3)}, {"TEXT", "ü"}};
  in.config.mounts.resize(1);
  in.config.mounts[0].container_path = "/data";
  in.config.mounts[0].propagation = Propagation::kBidirectional;
  in.config.mounts[0].uid_mappings = {{0, 100000, 65536}};
  in.config.security.run_as_user = 1000;
  in.config.security.seccomp =
      SecurityProfile{.type = ProfileType::kLocalhost, .localhost_ref = "/p.json"};
  in.config.security.namespaces.userns =
      UserNamespaceOptions{.mode = NsMode::kPod, .uids = {{0, 1, 2}}, .gids = {}};
  in.config.resources.unified = {{"memory.high", "1"}};
  in.config.labels = {{"a", "b"}};
  in.user.groups = {1, 2};
  const auto out = ParseContainerRecord(DumpRecord(in));
  ASSERT_TRUE(out) << out.error().message();
  ASSERT_EQ(out->config.envs.size(), 2U);
  EXPECT_EQ(out->config.envs[0].value, in.config.envs[0].value);
  EXPECT_EQ(out->config.mounts[0].propagation, Propagation::kBidirectional);
  EXPECT_EQ(out->config.mounts[0].uid_mappings[0].host_id, 100000U);
  EXPECT_EQ(out->config.security.run_as_user, 1000);
  EXPECT_FALSE(out->config.security.run_as_group);
  EXPECT_EQ(out->config.security.seccomp->type, ProfileType::kLocalhost);
  EXPECT_FALSE(out->config.security.apparmor);
  EXPECT_EQ(out->config.security.namespaces.userns->uids[0].size, 2U);
  EXPECT_EQ(out->config.resources.unified.at("memory.high"), "1");
  EXPECT_EQ(out->user.groups, in.user.groups);
  EXPECT_EQ(DumpRecord(*out), DumpRecord(in));
}

TEST(PodRecord, Parse_TornText_IsAnError) {
  PodRecord record;
  record.id = "x";
  const std::string whole = DumpRecord(record);
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_FALSE(ParsePodRecord(whole.substr(0, n))) << n;
  EXPECT_TRUE(ParsePodRecord(whole));
}

TEST(PodRecord, Parse_OtherVersion_IsRefused) {
  PodRecord record;
  record.id = "x";
  record.version = 2;
  EXPECT_EQ(ParsePodRecord(DumpRecord(record)).error().code(), Code::kFailedPrecondition);
}

}  // namespace
}  // namespace linnet::pods
