#include <csignal>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

#include "convert/from_cri.h"
#include "convert/signals.h"
#include "convert/text.h"
#include "convert/to_cri.h"

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;

v1::PodSandboxConfig FullPod() {
  v1::PodSandboxConfig c;
  c.mutable_metadata()->set_name("web");
  c.mutable_metadata()->set_uid("u1");
  c.mutable_metadata()->set_namespace_("default");
  c.mutable_metadata()->set_attempt(3);
  c.set_hostname("host");
  c.set_log_directory("/var/log/pods/web");
  c.mutable_dns_config()->add_servers("10.0.0.10");
  auto* port = c.add_port_mappings();
  port->set_protocol(v1::UDP);
  port->set_container_port(53);
  port->set_host_port(5353);
  port->set_host_ip("127.0.0.1");
  (*c.mutable_labels())["app"] = "web";
  (*c.mutable_annotations())["note"] = "ä";
  auto* linux_config = c.mutable_linux();
  linux_config->set_cgroup_parent("/kubepods/x");
  (*linux_config->mutable_sysctls())["net.ipv4.ip_forward"] = "1";
  linux_config->mutable_resources()->set_cpu_shares(512);
  auto* security = linux_config->mutable_security_context();
  security->set_privileged(true);
  security->mutable_namespace_options()->set_pid(v1::CONTAINER);
  auto* users = security->mutable_namespace_options()->mutable_userns_options();
  users->set_mode(v1::POD);
  auto* mapping = users->add_uids();
  mapping->set_container_id(0);
  mapping->set_host_id(100000);
  mapping->set_length(65536);
  return c;
}

TEST(FromCri, Pod_AllFields_Arrive) {
  const pods::PodConfig c = LN_ASSERT_OK(PodConfigFrom(FullPod(), "linnet"));
  EXPECT_EQ(c.metadata.name, "web");
  EXPECT_EQ(c.metadata.ns, "default");
  EXPECT_EQ(c.metadata.attempt, 3U);
  EXPECT_EQ(c.hostname, "host");
  EXPECT_EQ(c.dns.value().servers, std::vector<std::string>{"10.0.0.10"});
  ASSERT_EQ(c.ports.size(), 1U);
  EXPECT_EQ(c.ports[0].protocol, "udp");
  EXPECT_EQ(c.ports[0].host_port, 5353);
  EXPECT_EQ(c.ports[0].host_ip, "127.0.0.1");
  EXPECT_EQ(c.labels.at("app"), "web");
  EXPECT_EQ(c.cgroup_parent, "/kubepods/x");
  EXPECT_EQ(c.sysctls.at("net.ipv4.ip_forward"), "1");
  EXPECT_EQ(c.resources.cpu_shares, 512);
  EXPECT_TRUE(c.privileged);
  EXPECT_EQ(c.namespaces.pid, pods::NsMode::kContainer);
  EXPECT_EQ(c.namespaces.userns.value().uids.at(0).host_id, 100000U);
  EXPECT_EQ(c.runtime_handler, "linnet");
}

TEST(FromCri, Pod_NothingSet_HasTheInterfacesDefaults) {
  const pods::PodConfig c = LN_ASSERT_OK(PodConfigFrom(v1::PodSandboxConfig(), ""));
  EXPECT_FALSE(c.dns);
  EXPECT_EQ(c.namespaces.pid, pods::NsMode::kPod);
  EXPECT_FALSE(c.namespaces.userns);
  EXPECT_FALSE(c.run_as_user);
}

TEST(FromCri, Pod_UnknownEnumNumber_IsRefusedWithItsField) {
  v1::PodSandboxConfig c = FullPod();
  c.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      static_cast<v1::NamespaceMode>(9));
  LN_EXPECT_ERROR(PodConfigFrom(c, ""), Code::kInvalidArgument, "namespace_options.network: 9");
  c = FullPod();
  c.mutable_port_mappings(0)->set_protocol(static_cast<v1::Protocol>(7));
  LN_EXPECT_ERROR(PodConfigFrom(c, ""), Code::kInvalidArgument, "port_mappings.protocol: 7");
}

TEST(RoundTrip, Pod_StatusEchoesItsConfiguration) {
  pods::PodStatus status;
  status.id = "p1";
  status.state = pods::PodState::kNotReady;
  status.created_at_ns = 7;
  status.config = LN_ASSERT_OK(PodConfigFrom(FullPod(), "linnet"));
  status.ips = {"10.83.0.2", "fd00::2"};
  v1::PodSandboxStatus out;
  ToCri(status, &out);
  EXPECT_EQ(out.metadata().SerializeAsString(), FullPod().metadata().SerializeAsString());
  EXPECT_EQ(out.state(), v1::SANDBOX_NOTREADY);
  EXPECT_EQ(out.network().ip(), "10.83.0.2");
  ASSERT_EQ(out.network().additional_ips_size(), 1);
  EXPECT_EQ(out.network().additional_ips(0).ip(), "fd00::2");
  EXPECT_EQ(out.linux().namespaces().options().SerializeAsString(),
            FullPod().linux().security_context().namespace_options().SerializeAsString());
  EXPECT_EQ(out.annotations().at("note"), "ä");
  EXPECT_EQ(out.runtime_handler(), "linnet");
}

v1::ContainerConfig FullContainer() {
  v1::ContainerConfig c;
  c.mutable_metadata()->set_name("c");
  c.mutable_image()->set_image("sha256:abc");
  c.mutable_image()->set_user_specified_image("busybox");
  c.add_command("sh");
  auto* env = c.add_envs();
  env->set_key("K");
  env->set_value("\xff");
  auto* mount = c.add_mounts();
  mount->set_container_path("/data");
  mount->set_host_path("/srv");
  mount->set_readonly(true);
  mount->set_propagation(v1::PROPAGATION_HOST_TO_CONTAINER);
  c.mutable_mounts(0)->mutable_image();  // as kubelet sends it
  c.set_stop_signal(v1::SIGNAL_SIGUSR1);
  c.set_stdin(true);
  auto* security = c.mutable_linux()->mutable_security_context();
  security->mutable_run_as_user()->set_value(0);
  security->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Unconfined);
  security->set_supplemental_groups_policy(v1::Strict);
  security->add_supplemental_groups(1234);
  auto* resources = c.mutable_linux()->mutable_resources();
  resources->set_memory_limit_in_bytes(1 << 20);
  resources->set_cpuset_cpus("0-1");
  (*resources->mutable_unified())["memory.high"] = "1000";
  return c;
}

TEST(FromCri, Container_AllFields_Arrive) {
  const pods::ContainerConfig c = LN_ASSERT_OK(ContainerConfigFrom(FullContainer()));
  EXPECT_EQ(c.image.image, "sha256:abc");
  EXPECT_EQ(c.envs.at(0).value, "\xff");
  EXPECT_EQ(c.mounts.at(0).propagation, pods::Propagation::kHostToContainer);
  EXPECT_FALSE(c.mounts.at(0).image) << "an empty image message is no image volume";
  EXPECT_EQ(c.stop_signal, SIGUSR1);
  EXPECT_TRUE(c.stdin_open);
  EXPECT_EQ(c.security.run_as_user, 0) << "given as 0 is not absent";
  EXPECT_FALSE(c.security.run_as_group);
  EXPECT_EQ(c.security.seccomp.value().type, pods::ProfileType::kUnconfined);
  EXPECT_EQ(c.security.groups_policy, pods::GroupsPolicy::kStrict);
  EXPECT_EQ(c.resources.unified.at("memory.high"), "1000");
}

TEST(FromCri, AppArmor_OldSpelling_IsRead) {
  const auto read = [](const std::string& text) {
    v1::ContainerConfig c;
    c.mutable_linux()->mutable_security_context()->set_apparmor_profile(text);
    return (*ContainerConfigFrom(c)).security.apparmor;
  };
  EXPECT_FALSE(read(""));
  EXPECT_EQ(read("runtime/default")->type, pods::ProfileType::kRuntimeDefault);
  EXPECT_EQ(read("unconfined")->type, pods::ProfileType::kUnconfined);
  EXPECT_EQ(read("localhost/mine")->type, pods::ProfileType::kLocalhost);
  EXPECT_EQ(read("localhost/mine")->localhost_ref, "mine");
}

TEST(RoundTrip, Container_StatusEchoesItsConfiguration) {
  pods::ContainerStatus status;
  status.config = LN_ASSERT_OK(ContainerConfigFrom(FullContainer()));
  status.id = "c1";
  status.phase = pods::ContainerPhase::kExited;
  status.exit_code = 137;
  status.reason = "OOMKilled";
  status.message = "broken \xff text";
  status.image_name = "docker.io/library/busybox:latest";
  status.image_ref = "docker.io/library/busybox@sha256:1";
  status.image_id = "sha256:abc";
  status.stop_signal = SIGUSR1;
  status.user = {.uid = 5, .gid = 6, .groups = {6, 1234}};
  status.resources = status.config.resources;
  v1::ContainerStatus out;
  ToCri(status, &out);
  EXPECT_EQ(out.state(), v1::CONTAINER_EXITED);
  EXPECT_EQ(out.exit_code(), 137);
  EXPECT_EQ(out.message(), "broken \xEF\xBF\xBD text");
  EXPECT_EQ(out.image().image(), "docker.io/library/busybox:latest");
  EXPECT_EQ(out.image().user_specified_image(), "busybox");
  ASSERT_EQ(out.mounts_size(), 1);
  EXPECT_EQ(out.mounts(0).host_path(), "/srv");
  EXPECT_FALSE(out.mounts(0).has_image());
  EXPECT_EQ(out.resources().linux().SerializeAsString(),
            FullContainer().linux().resources().SerializeAsString());
  EXPECT_EQ(out.user().linux().supplemental_groups_size(), 2);
  EXPECT_EQ(out.stop_signal(), v1::SIGNAL_SIGUSR1);
}

TEST(ToCri, ImageUser_IsUidOrName) {
  const auto image = [](const std::string& user) {
    oci::Image from{.id = oci::Digest::Sha256Of("x")};
    from.config.user = user;
    v1::Image to;
    ToCri(from, &to);
    return to;
  };
  EXPECT_EQ(image("1003:group").uid().value(), 1003);
  EXPECT_EQ(image("1003:group").username(), "");
  EXPECT_EQ(image("www-data:group").username(), "www-data");
  EXPECT_FALSE(image("www-data").has_uid());
  EXPECT_FALSE(image("").has_uid());
  EXPECT_EQ(image("").username(), "");
  EXPECT_GT(image("").size(), 0U);
}

TEST(Signals, EveryNumberOfTheInterface_GoesThereAndBack) {
  for (int n = v1::SIGNAL_SIGABRT; n <= v1::SIGNAL_SIGRTMAX; ++n) {
    const int number = LN_ASSERT_OK(SignalNumber(static_cast<v1::Signal>(n)));
    EXPECT_EQ(LN_ASSERT_OK(SignalNumber(SignalOf(number))), number) << n;
  }
  EXPECT_EQ(*SignalNumber(v1::SIGNAL_SIGTERM), SIGTERM);
  EXPECT_EQ(*SignalNumber(v1::SIGNAL_SIGRTMINPLUS3), 37);
  EXPECT_EQ(*SignalNumber(v1::SIGNAL_SIGRTMAXMINUS1), 63);
  EXPECT_EQ(SignalOf(SIGABRT), v1::SIGNAL_SIGABRT);
  EXPECT_EQ(*SignalNumber(v1::SIGNAL_RUNTIME_DEFAULT), 0);
  LN_EXPECT_ERROR(SignalNumber(static_cast<v1::Signal>(66)), Code::kInvalidArgument, "66");
}

TEST(Text, Utf8_ReplacesOnlyWhatIsBroken) {
  EXPECT_EQ(Utf8("plain ä € 𝄞"), "plain ä € 𝄞");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(Utf8("a\xff"), "a" + bad);
  EXPECT_EQ(Utf8("\xc3"), bad);                                // cut short
  EXPECT_EQ(Utf8("\xc0\x80"), bad + bad);                      // longer than needed
  EXPECT_EQ(Utf8("\xed\xa0\x80"), bad + bad + bad);            // half of a surrogate pair
  EXPECT_EQ(Utf8("\xf4\x90\x80\x80"), bad + bad + bad + bad);  // over U+10FFFF
}

TEST(Text, Utf8Prefix_DoesNotCutCharacters) {
  EXPECT_EQ(Utf8Prefix("aä", 2), "a");
  EXPECT_EQ(Utf8Prefix("aä", 3), "aä");
}

}  // namespace
}  // namespace linnet::cri
