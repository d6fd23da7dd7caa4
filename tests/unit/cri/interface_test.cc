// The interface is Kubernetes': names, numbers and types are checked on the wire, where they count.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include "cri.grpc.pb.h"
#include "linnet.grpc.pb.h"

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;

struct Tag {
  int field, wire_type;
  bool operator==(const Tag&) const = default;
};

// The top-level tags of a serialised message, in order.
std::vector<Tag> TagsOf(const google::protobuf::MessageLite& message) {
  const std::string bytes = message.SerializeAsString();
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedInputStream in(&stream);
  std::vector<Tag> tags;
  while (const std::uint32_t tag = in.ReadTag()) {
    tags.push_back({static_cast<int>(tag >> 3U), static_cast<int>(tag & 7U)});
    std::uint64_t value = 0;
    if ((tag & 7U) == 0) {
      in.ReadVarint64(&value);
    } else if ((tag & 7U) == 1) {
      in.Skip(8);
    } else {
      std::uint32_t size = 0;
      in.ReadVarint32(&size);
      in.Skip(static_cast<int>(size));
    }
  }
  return tags;
}

constexpr int kVarint = 0, kDouble = 1, kBytes = 2;

TEST(Interface, ServiceNames_AreKubernetes) {
  EXPECT_STREQ(v1::RuntimeService::service_full_name(), "runtime.v1.RuntimeService");
  EXPECT_STREQ(v1::ImageService::service_full_name(), "runtime.v1.ImageService");
  EXPECT_STREQ(::linnet::v1::Linnet::service_full_name(), "linnet.v1.Linnet");
}

TEST(Interface, Enums_HaveTheirNumbers) {
  EXPECT_EQ(v1::TARGET, 3);
  EXPECT_EQ(v1::NODE, 2);
  EXPECT_EQ(v1::SCTP, 2);
  EXPECT_EQ(v1::PROPAGATION_BIDIRECTIONAL, 2);
  EXPECT_EQ(v1::SANDBOX_NOTREADY, 1);
  EXPECT_EQ(v1::CONTAINER_EXITED, 2);
  EXPECT_EQ(v1::CONTAINER_UNKNOWN, 3);
  EXPECT_EQ(v1::SecurityProfile::Localhost, 2);
  EXPECT_EQ(v1::Strict, 1);
  EXPECT_EQ(v1::SIGNAL_SIGTERM, 23);
  EXPECT_EQ(v1::SIGNAL_SIGRTMAX, 65);
  EXPECT_EQ(v1::CGROUPFS, 1);
  EXPECT_EQ(v1::CONTAINER_DELETED_EVENT, 3);
  EXPECT_EQ(v1::GAUGE, 1);
}

TEST(Interface, PodConfig_HasItsNumbers) {
  v1::PodSandboxConfig c;
  c.mutable_metadata();
  c.set_hostname("h");
  c.set_log_directory("/l");
  c.mutable_dns_config();
  c.add_port_mappings();
  (*c.mutable_labels())["a"] = "b";
  (*c.mutable_annotations())["a"] = "b";
  c.mutable_linux();
  c.mutable_windows();
  const std::vector<Tag> want = {{1, kBytes}, {2, kBytes}, {3, kBytes}, {4, kBytes}, {5, kBytes},
                                 {6, kBytes}, {7, kBytes}, {8, kBytes}, {9, kBytes}};
  EXPECT_EQ(TagsOf(c), want);
}

TEST(Interface, ContainerConfig_HasItsNumbers) {
  v1::ContainerConfig c;
  c.mutable_metadata();
  c.mutable_image();
  c.add_command("c");
  c.add_args("a");
  c.set_working_dir("/");
  c.add_envs();
  c.add_mounts();
  c.add_devices();
  (*c.mutable_labels())["a"] = "b";
  (*c.mutable_annotations())["a"] = "b";
  c.set_log_path("l");
  c.set_stdin(true);
  c.set_stdin_once(true);
  c.set_tty(true);
  c.mutable_linux();
  c.mutable_windows();
  c.add_cdi_devices();
  c.set_stop_signal(v1::SIGNAL_SIGTERM);
  std::vector<Tag> want;
  for (int field = 1; field <= 18; ++field) {
    want.push_back({field, (field >= 12 && field <= 14) || field == 18 ? kVarint : kBytes});
  }
  EXPECT_EQ(TagsOf(c), want);
}

TEST(Interface, SecurityContext_HasItsNumbers) {
  v1::LinuxContainerSecurityContext s;
  s.mutable_capabilities();
  s.set_privileged(true);
  s.mutable_namespace_options();
  s.mutable_run_as_user();
  s.mutable_run_as_group();
  s.set_no_new_privs(true);
  s.add_masked_paths("/m");
  s.mutable_seccomp();
  s.set_supplemental_groups_policy(v1::Strict);
  const std::vector<Tag> want = {{1, kBytes},  {2, kVarint},  {3, kBytes},
                                 {5, kBytes},  {11, kVarint}, {12, kBytes},
                                 {13, kBytes}, {15, kBytes},  {17, kVarint}};
  EXPECT_EQ(TagsOf(s), want);
}

TEST(Interface, ImageSpec_HasItsNumbers) {
  v1::ImageSpec s;
  s.set_image("i");
  s.set_user_specified_image("u");
  s.set_runtime_handler("r");
  s.set_image_ref("f");
  EXPECT_EQ(TagsOf(s), (std::vector<Tag>{{1, kBytes}, {18, kBytes}, {19, kBytes}, {20, kBytes}}));
}

TEST(Interface, Psi_HasItsNumbers) {
  v1::PsiData d;
  d.set_total(1);
  d.set_avg10(1);
  d.set_avg60(1);
  d.set_avg300(1);
  EXPECT_EQ(TagsOf(d), (std::vector<Tag>{{1, kVarint}, {2, kDouble}, {3, kDouble}, {4, kDouble}}));
}

TEST(Interface, ExecSyncResponse_TakesAnyBytes) {
  v1::ExecSyncResponse r;
  r.set_stdout(std::string("\xff\x00\xfe", 3));
  v1::ExecSyncResponse back;
  ASSERT_TRUE(back.ParseFromString(r.SerializeAsString()));
  EXPECT_EQ(back.stdout(), r.stdout());
}

TEST(Interface, EnvironmentValue_TakesAnyBytes) {
  v1::KeyValue kv;
  kv.set_key("K");
  kv.set_value("\xff");
  v1::KeyValue back;
  ASSERT_TRUE(back.ParseFromString(kv.SerializeAsString()));
  EXPECT_EQ(back.value(), "\xff");
}

TEST(Interface, UnknownField_IsSkipped) {
  v1::ImageSpec newer;
  newer.set_image("i");
  const std::string bytes =
      newer.SerializeAsString() + std::string("\xfa\x3e\x01x", 4);  // field 1007, bytes
  v1::ImageSpec back;
  ASSERT_TRUE(back.ParseFromString(bytes));
  EXPECT_EQ(back.image(), "i");
}

}  // namespace
}  // namespace linnet::cri
