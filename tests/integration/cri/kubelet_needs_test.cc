// What a kubelet relies on and critest does not ask for, through the real daemon's interface.
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "linnetd.h"

namespace linnet::testing {
namespace {

namespace v1 = ::runtime::v1;
using std::chrono::seconds;
using Stub = v1::RuntimeService::Stub;

// Where a container's control file is, under whichever hierarchy; "" where nowhere.
std::string ControlFile(const std::string& container, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    for (const char* above :
         {"/sys/fs/cgroup/*/linnet*/pods/*/", "/sys/fs/cgroup/linnet*/pods/*/"}) {
      glob_t found = {};
      const std::string pattern = above + container + "/" + name;
      std::string path;
      if (glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) path = found.gl_pathv[0];
      globfree(&found);
      if (!path.empty()) return path;
    }
  }
  return "";
}

class KubeletNeedsTest : public ::testing::Test {
 protected:
  // One daemon for all: its pods are the tests' own.
  static void SetUpTestSuite() {
    dir_ = std::make_unique<TempDir>();
    dir_->Write("cdi/");
    dir_->Write("net.d/");
    dir_->Write("linnet.toml", "[network]\nconf_dir = \"" + (*dir_ / "net.d") +
                                   "\"\n[devices]\ncdi_dirs = [\"" + (*dir_ / "cdi") +
                                   "\"]\nownership_from_security_context = true\n");
    daemon_ =
        std::make_unique<Linnetd>(Linnetd::Options{.directory = dir_->path(),
                                                   .arguments = {"--config", *dir_ / "linnet.toml"},
                                                   .env = {},
                                                   .fds = {}});
    LN_ASSERT_OK(daemon_->StartAndWait());
    LN_ASSERT_OK(ImportBusybox(*daemon_, *dir_ / "scratch"));
  }
  static void TearDownTestSuite() {
    daemon_.reset();
    dir_.reset();
  }
  void SetUp() override {
    ASSERT_TRUE(daemon_);
    stub_ = v1::RuntimeService::NewStub(daemon_->Connect());
  }
  void TearDown() override {
    for (const std::string& pod : pods_) {
      v1::RemovePodSandboxRequest remove;
      remove.set_pod_sandbox_id(pod);
      v1::RemovePodSandboxResponse removed;
      EXPECT_EQ(Call(&Stub::RemovePodSandbox, remove, removed), "");
    }
  }

  // "", or what went wrong.
  template <class Request, class Response>
  std::string Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                   const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + seconds(30));
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    return status.ok() ? "" : "error: " + status.error_message();
  }

  static v1::PodSandboxConfig PodConfig() {
    static int number = 0;
    v1::PodSandboxConfig config;
    config.mutable_metadata()->set_name("p" + std::to_string(++number));
    config.mutable_metadata()->set_uid("u");
    config.mutable_metadata()->set_namespace_("n");
    config.set_log_directory(*dir_ / ("logs/" + std::to_string(number)));
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
        v1::CONTAINER);
    return config;
  }
  // The pod's id, or an error.
  std::string RunPod(const v1::PodSandboxConfig& config) {
    v1::RunPodSandboxRequest request;
    *request.mutable_config() = config;
    v1::RunPodSandboxResponse response;
    const std::string problem = Call(&Stub::RunPodSandbox, request, response);
    if (!problem.empty()) return problem;
    pods_.push_back(response.pod_sandbox_id());
    return response.pod_sandbox_id();
  }
  static v1::ContainerConfig ContainerConfig(const std::string& script,
                                             const std::string& name = "c") {
    v1::ContainerConfig config;
    config.mutable_metadata()->set_name(name);
    config.mutable_image()->set_image(kImage);
    config.set_log_path(name + ".log");
    for (const std::string& word : {std::string("sh"), std::string("-c"), script})
      config.add_command(word);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
        v1::CONTAINER);
    return config;
  }
  // The container's id, or an error.
  std::string Create(const std::string& pod, const v1::ContainerConfig& config) {
    v1::CreateContainerRequest request;
    request.set_pod_sandbox_id(pod);
    *request.mutable_config() = config;
    v1::CreateContainerResponse response;
    const std::string problem = Call(&Stub::CreateContainer, request, response);
    return problem.empty() ? response.container_id() : problem;
  }
  std::string Start(const std::string& pod, const v1::ContainerConfig& config) {
    const std::string id = Create(pod, config);
    if (id.starts_with("error")) return id;
    v1::StartContainerRequest request;
    request.set_container_id(id);
    v1::StartContainerResponse response;
    const std::string problem = Call(&Stub::StartContainer, request, response);
    return problem.empty() ? id : problem;
  }
  // What the script says, in a pod of its own that `edit` has had its way with.
  template <class Edit>
  std::string RunIn(const std::string& script, Edit edit) {
    v1::PodSandboxConfig pod_config = PodConfig();
    v1::ContainerConfig config = ContainerConfig("sleep 1000");
    edit(pod_config, config);
    const std::string pod = RunPod(pod_config);
    if (pod.starts_with("error")) return pod;
    const std::string id = Start(pod, config);
    return id.starts_with("error") ? id : Exec(id, script);
  }
  std::string Exec(const std::string& id, const std::string& script) {
    v1::ExecSyncRequest request;
    request.set_container_id(id);
    for (const std::string& word : {std::string("sh"), std::string("-c"), script})
      request.add_cmd(word);
    request.set_timeout(20);
    v1::ExecSyncResponse response;
    const std::string problem = Call(&Stub::ExecSync, request, response);
    return problem.empty() ? response.stdout() + response.stderr() : problem;
  }
  v1::ContainerStatus Status(const std::string& id) {
    v1::ContainerStatusRequest request;
    request.set_container_id(id);
    v1::ContainerStatusResponse response;
    EXPECT_EQ(Call(&Stub::ContainerStatus, request, response), "");
    return response.status();
  }
  v1::ContainerStatus AwaitExit(const std::string& id) {
    for (int i = 0; i < 500; ++i) {
      v1::ContainerStatus status = Status(id);
      if (status.state() == v1::CONTAINER_EXITED) return status;
      usleep(20000);
    }
    ADD_FAILURE() << "it does not end";
    return {};
  }

  static std::unique_ptr<TempDir> dir_;
  static std::unique_ptr<Linnetd> daemon_;
  std::unique_ptr<Stub> stub_;
  std::vector<std::string> pods_;
};
std::unique_ptr<TempDir> KubeletNeedsTest::dir_;
std::unique_ptr<Linnetd> KubeletNeedsTest::daemon_;

// ---------------------------------------------------------------------------------------------
// devices

TEST_F(KubeletNeedsTest, Cdi_DevicesOfTheFieldAndOfAnnotations) {
  dir_->Write("cdi/vendor.json", R"({"cdiVersion": "0.6.0", "kind": "vendor.com/dev",
    "containerEdits": {"env": ["VENDOR=1"]},
    "devices": [{"name": "null", "containerEdits": {"env": ["NULL=1"],
      "deviceNodes": [{"path": "/dev/vendor-null", "hostPath": "/dev/null"}]}}]})");
  dir_->Write("cdi/files.yaml",
              "cdiVersion: 1.0.0\nkind: vendor.com/files\ndevices:\n- name: all\n"
              "  containerEdits:\n    additionalGids: [4711]\n    mounts:\n"
              "    - {hostPath: " +
                  (*dir_ / "cdi") + ", containerPath: /vendor/cdi, options: [ro, nosuid]}\n");
  const std::string out = RunIn(
      "echo $VENDOR$NULL; echo x >/dev/vendor-null && busybox stat -c '%F %t %T %u' "
      "/dev/vendor-null; ls /vendor/cdi; touch /vendor/cdi/x; busybox id -G",
      [](auto&, v1::ContainerConfig& c) {
        c.add_cdi_devices()->set_name("vendor.com/dev=null");
        (*c.mutable_annotations())["cdi.k8s.io/plugin"] = "vendor.com/files=all";
        c.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(1000);
      });
  EXPECT_TRUE(out.starts_with("11\ncharacter special file 1 3 1000\nfiles.yaml\nvendor.json\n"))
      << out;
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
  EXPECT_NE(out.find("4711"), std::string::npos) << out;
}

TEST_F(KubeletNeedsTest, Cdi_DeviceThatNobodyDescribesIsAnErrorWithItsName) {
  const std::string problem = RunIn("true", [](auto&, v1::ContainerConfig& c) {
    c.add_cdi_devices()->set_name("vendor.com/none=7");
  });
  EXPECT_NE(problem.find("vendor.com/none=7"), std::string::npos) << problem;
}

TEST_F(KubeletNeedsTest, Devices_BelongToTheContainersUserWhereAskedFor) {
  const std::string out =
      RunIn("busybox stat -c '%u %g' /dev/mine /dev/null; echo x >/dev/mine && echo written",
            [](auto&, v1::ContainerConfig& c) {
              v1::Device* device = c.add_devices();
              device->set_host_path("/dev/null");
              device->set_container_path("/dev/mine");
              device->set_permissions("rw");
              auto* security = c.mutable_linux()->mutable_security_context();
              security->mutable_run_as_user()->set_value(1234);
              security->mutable_run_as_group()->set_value(5678);
            });
  EXPECT_EQ(out, "1234 5678\n0 0\nwritten\n");
}

// ---------------------------------------------------------------------------------------------
// resources

TEST_F(KubeletNeedsTest, Hugepages_HaveTheirLimit) {
  if (ControlFile("..", {"../../../hugetlb.2MB.max", "../../hugetlb.2MB.limit_in_bytes"}).empty() &&
      access("/sys/kernel/mm/hugepages/hugepages-2048kB", F_OK) != 0)
    GTEST_SKIP() << "the kernel has no pages of 2 MB";
  const std::string pod = RunPod(PodConfig());
  v1::ContainerConfig config = ContainerConfig("sleep 1000");
  v1::HugepageLimit* limit = config.mutable_linux()->mutable_resources()->add_hugepage_limits();
  limit->set_page_size("2MB");
  limit->set_limit(8U << 20);
  const std::string id = Start(pod, config);
  ASSERT_FALSE(id.starts_with("error")) << id;
  const std::string file = ControlFile(id, {"hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"});
  ASSERT_NE(file, "") << "no control file of " << id;
  EXPECT_EQ(std::string(Trim(LN_ASSERT_OK(ReadFile(file)))), "8388608");
}

TEST_F(KubeletNeedsTest, Swap_IsWhatTheLimitOfBothLeavesAndNoneWithoutOne) {
  const std::string pod = RunPod(PodConfig());
  for (const auto& [both, swap] :
       {std::pair<std::int64_t, std::int64_t>{96 << 20, 32 << 20}, {0, 0}}) {
    v1::ContainerConfig config = ContainerConfig("sleep 1000", "c" + std::to_string(both));
    config.mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(64 << 20);
    config.mutable_linux()->mutable_resources()->set_memory_swap_limit_in_bytes(both);
    const std::string id = Start(pod, config);
    ASSERT_FALSE(id.starts_with("error")) << id;
    const std::string file = ControlFile(id, {"memory.swap.max", "memory.memsw.limit_in_bytes"});
    if (file.empty()) GTEST_SKIP() << "the kernel does not account for swap";
    const std::int64_t base = file.ends_with("memory.swap.max") ? 0 : 64 << 20;
    EXPECT_EQ(std::string(Trim(LN_ASSERT_OK(ReadFile(file)))), std::to_string(base + swap));
  }
}

// ---------------------------------------------------------------------------------------------
// users, signals, namespaces

TEST_F(KubeletNeedsTest, SupplementalGroups_PolicySaysWhetherTheImagesCount) {
  for (const auto& [policy, groups] :
       {std::pair{v1::Merge, "100 4242 50000"}, std::pair{v1::Strict, "100 50000"}}) {
    const std::string pod = RunPod(PodConfig());
    v1::ContainerConfig config = ContainerConfig("sleep 1000");
    auto* security = config.mutable_linux()->mutable_security_context();
    security->mutable_run_as_user()->set_value(1000);
    security->add_supplemental_groups(50000);
    security->set_supplemental_groups_policy(policy);
    const std::string id = Start(pod, config);
    ASSERT_FALSE(id.starts_with("error")) << id;
    EXPECT_EQ(std::string(Trim(Exec(id, "busybox id -G"))), groups);
    std::ostringstream said;
    const v1::ContainerStatus status = Status(id);
    for (const std::int64_t gid : status.user().linux().supplemental_groups()) said << gid << " ";
    EXPECT_EQ(std::string(Trim(said.str())), groups);
  }
}

TEST_F(KubeletNeedsTest, StopSignal_IsTheOneThatWasAskedFor) {
  const std::string pod = RunPod(PodConfig());
  v1::ContainerConfig config = ContainerConfig(
      "trap 'exit 42' USR1; trap 'exit 43' TERM; echo ready >/ready; while :; do "
      "sleep 0.05; done");
  config.set_stop_signal(v1::SIGNAL_SIGUSR1);
  const std::string id = Start(pod, config);
  ASSERT_FALSE(id.starts_with("error")) << id;
  EXPECT_EQ(Status(id).stop_signal(), v1::SIGNAL_SIGUSR1);
  for (int i = 0; i < 200 && Exec(id, "cat /ready") != "ready\n"; ++i) usleep(10000);
  v1::StopContainerRequest stop;
  stop.set_container_id(id);
  stop.set_timeout(10);
  v1::StopContainerResponse stopped;
  EXPECT_EQ(Call(&Stub::StopContainer, stop, stopped), "");
  EXPECT_EQ(Status(id).exit_code(), 42);
}

TEST_F(KubeletNeedsTest, HostNamespaces_AreTheNodes) {
  std::array<char, 256> ipc{}, pid{};
  ASSERT_GT(readlink("/proc/self/ns/ipc", ipc.data(), ipc.size() - 1), 0);
  ASSERT_GT(readlink("/proc/self/ns/pid", pid.data(), pid.size() - 1), 0);
  const std::string out =
      RunIn("busybox readlink /proc/self/ns/ipc; busybox readlink /proc/self/ns/pid",
            [](v1::PodSandboxConfig& p, v1::ContainerConfig& c) {
              for (auto* options :
                   {p.mutable_linux()->mutable_security_context()->mutable_namespace_options(),
                    c.mutable_linux()->mutable_security_context()->mutable_namespace_options()}) {
                options->set_ipc(v1::NODE);
                options->set_pid(v1::NODE);
              }
            });
  EXPECT_EQ(out, std::string(ipc.data()) + "\n" + pid.data() + "\n");
}

TEST_F(KubeletNeedsTest, EphemeralContainer_SeesTheProcessesOfItsTarget) {
  const std::string pod = RunPod(PodConfig());
  const std::string target = Start(pod, ContainerConfig("exec sleep 98765", "target"));
  v1::ContainerConfig config = ContainerConfig("sleep 1000", "debugger");
  auto* options = config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options->set_pid(v1::TARGET);
  options->set_target_id(target);
  const std::string id = Start(pod, config);
  ASSERT_FALSE(id.starts_with("error")) << id;
  EXPECT_NE(Exec(id, "cat /proc/1/cmdline | busybox tr '\\0' ' '").find("sleep 98765"),
            std::string::npos);
  options->set_target_id("nobody");
  config.mutable_metadata()->set_name("other");
  EXPECT_NE(Start(pod, config).find("nobody"), std::string::npos);
}

TEST_F(KubeletNeedsTest, Sysctls_AreThePodsAndOthersAreRefused) {
  const std::string out =
      RunIn("cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced",
            [](v1::PodSandboxConfig& p, auto&) {
              (*p.mutable_linux()->mutable_sysctls())["net.ipv4.ip_local_port_range"] = "2000 3000";
              (*p.mutable_linux()->mutable_sysctls())["kernel/shm_rmid_forced"] = "1";
            });
  EXPECT_EQ(out, "2000\t3000\n1\n");
  v1::PodSandboxConfig config = PodConfig();
  (*config.mutable_linux()->mutable_sysctls())["vm.swappiness"] = "1";
  EXPECT_NE(RunPod(config).find("vm.swappiness"), std::string::npos);
  config = PodConfig();
  (*config.mutable_linux()->mutable_sysctls())["net.ipv4.ip_forward"] = "1";
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      v1::NODE);
  EXPECT_NE(RunPod(config).find("net.ipv4.ip_forward"), std::string::npos);
}

TEST_F(KubeletNeedsTest, PodCidr_IsWhereAddressesComeFrom) {
  v1::UpdateRuntimeConfigRequest update;
  update.mutable_runtime_config()->mutable_network_config()->set_pod_cidr("10.94.3.0/24");
  v1::UpdateRuntimeConfigResponse updated;
  ASSERT_EQ(Call(&Stub::UpdateRuntimeConfig, update, updated), "");
  v1::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(RunPod(PodConfig()));
  v1::PodSandboxStatusResponse response;
  ASSERT_EQ(Call(&Stub::PodSandboxStatus, request, response), "");
  EXPECT_TRUE(response.status().network().ip().starts_with("10.94.3."))
      << response.status().network().ip();
}

// ---------------------------------------------------------------------------------------------
// logs, ends

TEST_F(KubeletNeedsTest, TerminationMessage_IsThereAfterTheEnd) {
  dir_->Write("termination/log");
  ASSERT_EQ(chmod((*dir_ / "termination/log").c_str(), 0666), 0);
  v1::ContainerConfig config = ContainerConfig("echo because >/dev/termination-log; exit 5");
  v1::Mount* mount = config.add_mounts();
  mount->set_host_path(*dir_ / "termination/log");
  mount->set_container_path("/dev/termination-log");
  config.mutable_linux()->mutable_security_context()->mutable_run_as_user()->set_value(1000);
  const std::string id = Start(RunPod(PodConfig()), config);
  ASSERT_FALSE(id.starts_with("error")) << id;
  const v1::ContainerStatus status = AwaitExit(id);
  EXPECT_EQ(status.exit_code(), 5);
  EXPECT_EQ(status.reason(), "Error");
  EXPECT_EQ(dir_->Read("termination/log"), "because\n");
}

TEST_F(KubeletNeedsTest, StartErrors_AreReasonsWithAMessage) {
  const std::string pod = RunPod(PodConfig());
  v1::ContainerConfig config = ContainerConfig("");
  config.clear_command();
  config.add_command("/no/such/program");
  const std::string id = Create(pod, config);
  ASSERT_FALSE(id.starts_with("error")) << id;
  v1::StartContainerRequest request;
  request.set_container_id(id);
  v1::StartContainerResponse response;
  EXPECT_NE(Call(&Stub::StartContainer, request, response).find("/no/such/program"),
            std::string::npos);
  const v1::ContainerStatus status = Status(id);
  EXPECT_EQ(status.state(), v1::CONTAINER_EXITED);
  EXPECT_EQ(status.reason(), "StartError");
  EXPECT_EQ(status.exit_code(), 128);
  EXPECT_NE(status.message().find("/no/such/program"), std::string::npos);
}

TEST_F(KubeletNeedsTest, LogRotation_UnderLoadLosesAndRepeatsNoLine) {
  const std::string pod = RunPod(PodConfig());
  constexpr int kLines = 60000;
  const std::string id =
      Start(pod, ContainerConfig("i=0; while [ $i -lt " + std::to_string(kLines) +
                                 " ]; do i=$((i+1)); echo line $i of many; done"));
  ASSERT_FALSE(id.starts_with("error")) << id;
  const std::string log = Status(id).log_path();
  std::vector<std::string> files;
  while (Status(id).state() == v1::CONTAINER_RUNNING && files.size() < 20) {
    files.push_back(log + "." + std::to_string(files.size()));
    ASSERT_EQ(rename(log.c_str(), files.back().c_str()), 0);
    v1::ReopenContainerLogRequest request;
    request.set_container_id(id);
    v1::ReopenContainerLogResponse response;
    const std::string problem = Call(&Stub::ReopenContainerLog, request, response);
    if (problem.find("not running") != std::string::npos) break;  // it was faster
    ASSERT_EQ(problem, "");
    usleep(5000);
  }
  (void)AwaitExit(id);
  files.push_back(log);
  std::string text;
  for (const std::string& file : files) text += ReadFile(file, 64U << 20).value_or("");
  int expected = 0;
  for (const std::string& line : Split(text, '\n')) {
    if (line.empty()) continue;
    ++expected;
    ASSERT_TRUE(line.ends_with(" stdout F line " + std::to_string(expected) + " of many")) << line;
  }
  EXPECT_EQ(expected, kLines);
  EXPECT_GT(files.size(), 1U) << "it was never rotated";
}

}  // namespace
}  // namespace linnet::testing
