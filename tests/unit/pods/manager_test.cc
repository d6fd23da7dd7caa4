#include <stdlib.h>
#include <sys/stat.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"

#include "fakes.h"

namespace linnet::pods {
namespace {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals

class ManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "linnet-pods-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    ASSERT_TRUE(MakeDirs(root_ + "/image/etc"));
    images_ = std::make_unique<FakeImages>(root_ + "/image");
    Restart();
  }
  void TearDown() override {
    manager_.reset();
    ASSERT_TRUE(RemoveAll(root_));
  }
  // A new manager over the same directory: what a restart of the daemon sees.
  void Restart() {
    manager_.reset();
    manager_ = std::make_unique<Manager>(
        PodManagerOptions{.root = root_, .state_dir = root_, .cgroup_root = "/linnet-test"},
        engine_, *images_);
    ASSERT_TRUE(manager_->Start(
        [this](runtime::RuntimeEvents events) -> Result<std::unique_ptr<runtime::Runtime>> {
          auto runtime = std::make_unique<FakeRuntime>(std::move(events));
          runtime_ = runtime.get();
          return std::unique_ptr<runtime::Runtime>(std::move(runtime));
        }));
  }
  static PodConfig Pod(const std::string& name = "web") {
    PodConfig config;
    config.metadata = {.name = name, .uid = "u1", .ns = "default", .attempt = 0};
    config.dns = DnsConfig{};
    return config;
  }
  static ContainerConfig Container(const std::string& name = "c") {
    ContainerConfig config;
    config.metadata.name = name;
    config.image.image = "busybox";
    return config;
  }
  std::string MustRun(const PodConfig& config = Pod()) {
    auto id = manager_->RunPod(config, {});
    EXPECT_TRUE(id) << (id ? "" : id.error().message());
    return id ? *id : "";
  }
  std::string MustStart(const std::string& pod, const ContainerConfig& config = Container()) {
    auto id = manager_->CreateContainer(pod, config, {});
    EXPECT_TRUE(id) << (id ? "" : id.error().message());
    if (!id) return "";
    auto started = manager_->StartContainer(*id, {});
    EXPECT_TRUE(started) << (started ? "" : started.error().message());
    return *id;
  }
  std::vector<std::string> PodDirs() { return *ListDir(root_ + "/pods"); }

  std::string root_;
  FakeEngine engine_;
  std::unique_ptr<FakeImages> images_;
  FakeRuntime* runtime_ = nullptr;
  std::unique_ptr<Manager> manager_;
};

TEST_F(ManagerTest, RunPod_Plain_IsReadyWithAddress) {
  const std::string id = MustRun();
  const auto status = manager_->GetPod(id);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->state, PodState::kReady);
  EXPECT_EQ(status->ips, std::vector<std::string>{"10.83.0.2"});
  EXPECT_NE(status->created_at_ns, 0);
}

TEST_F(ManagerTest, RunPod_AttachFails_LeavesNothing) {
  engine_.fail_attach = true;
  const auto id = manager_->RunPod(Pod(), {});
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code(), Code::kAlreadyExists);
  EXPECT_TRUE(engine_.netns.empty());
  EXPECT_TRUE(runtime_->pods.empty());
  EXPECT_TRUE(PodDirs().empty());
  EXPECT_TRUE(manager_->ListPods({}).empty());
  engine_.fail_attach = false;
  EXPECT_TRUE(manager_->RunPod(Pod(), {}));  // the name is free again
}

TEST_F(ManagerTest, RunPod_KeeperFails_LeavesNothing) {
  runtime_->fail_start_pod = true;
  ASSERT_FALSE(manager_->RunPod(Pod(), {}));
  EXPECT_TRUE(engine_.netns.empty());
  EXPECT_TRUE(engine_.attached.empty());
  EXPECT_TRUE(PodDirs().empty());
}

TEST_F(ManagerTest, RunPod_SameName_IsRefused) {
  MustRun();
  const auto again = manager_->RunPod(Pod(), {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kAlreadyExists);
}

TEST_F(ManagerTest, RunPod_ClientGone_RetryGetsTheSamePod) {
  Caller gone;
  gone.gone = [] { return true; };
  const auto first = manager_->RunPod(Pod(), gone);
  ASSERT_TRUE(first);
  const auto retry = manager_->RunPod(Pod(), {});
  ASSERT_TRUE(retry);
  EXPECT_EQ(*first, *retry);
  EXPECT_FALSE(manager_->RunPod(Pod(), {}));  // delivered now
}

TEST_F(ManagerTest, RunPod_NodeNetwork_HasNoNamespace) {
  PodConfig config = Pod();
  config.namespaces.network = NsMode::kNode;
  config.ports = {{.container_port = 80, .host_port = 8080}};
  const std::string id = MustRun(config);
  EXPECT_TRUE(engine_.netns.empty());
  EXPECT_TRUE(manager_->GetPod(id)->ips.empty());
}

TEST_F(ManagerTest, RunPod_HostPortZero_IsNoMapping) {
  PodConfig config = Pod();
  config.ports = {{.container_port = 80, .host_port = 0},
                  {.container_port = 81, .host_port = 8081}};
  MustRun(config);
  ASSERT_EQ(engine_.last_request_ports.size(), 1U);
  EXPECT_EQ(engine_.last_request_ports[0].host_port, 8081);
}

TEST_F(ManagerTest, StopAndRemove_Unknown_IsSuccess) {
  EXPECT_TRUE(manager_->StopPod("nope", {}));
  EXPECT_TRUE(manager_->RemovePod("nope", {}));
  EXPECT_TRUE(manager_->StopContainer("nope", 1s, {}));
  EXPECT_TRUE(manager_->RemoveContainer("nope", {}));
}

TEST_F(ManagerTest, OtherVerbs_Unknown_AreNotFound) {
  EXPECT_EQ(manager_->GetPod("x").error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->GetContainer("x").error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->StartContainer("x", {}).error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->ReopenLog("x").error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->ExecSync("x", {"ls"}, 0s, {}).error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->CreateContainer("x", Container(), {}).error().code(), Code::kNotFound);
}

TEST_F(ManagerTest, StopPod_Running_KillsAndKeepsRecords) {
  const std::string pod = MustRun();
  const std::string ctr = MustStart(pod);
  ASSERT_TRUE(manager_->StopPod(pod, {}));
  EXPECT_EQ(manager_->GetPod(pod)->state, PodState::kNotReady);
  const auto status = manager_->GetContainer(ctr);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->phase, ContainerPhase::kExited);
  EXPECT_EQ(status->exit_code, 137);
  EXPECT_TRUE(engine_.netns.empty());
  EXPECT_TRUE(runtime_->pods.empty());
  const int detaches = engine_.detaches;
  EXPECT_TRUE(manager_->StopPod(pod, {}));  // again: nothing more happens
  EXPECT_EQ(engine_.detaches, detaches);
  EXPECT_EQ(manager_->CreateContainer(pod, Container("late"), {}).error().code(),
            Code::kFailedPrecondition);
}

TEST_F(ManagerTest, StopPod_NetworkFails_IsRetried) {
  const std::string pod = MustRun();
  engine_.fail_detach = true;
  EXPECT_FALSE(manager_->StopPod(pod, {}));
  EXPECT_EQ(manager_->GetPod(pod)->state, PodState::kNotReady);
  engine_.fail_detach = false;
  EXPECT_TRUE(manager_->StopPod(pod, {}));
  EXPECT_TRUE(engine_.attached.empty());
}

TEST_F(ManagerTest, RemovePod_Running_RemovesEverything) {
  const std::string pod = MustRun();
  const std::string ctr = MustStart(pod);
  EXPECT_EQ(*images_->held, 1);
  ASSERT_TRUE(manager_->RemovePod(pod, {}));
  EXPECT_TRUE(PodDirs().empty());
  EXPECT_EQ(*images_->held, 0);
  EXPECT_EQ(manager_->GetContainer(ctr).error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->GetPod(pod).error().code(), Code::kNotFound);
}

TEST_F(ManagerTest, Container_Life_TimesAndReasons) {
  const std::string pod = MustRun();
  auto id = manager_->CreateContainer(pod, Container(), {});
  ASSERT_TRUE(id);
  EXPECT_EQ(manager_->GetContainer(*id)->phase, ContainerPhase::kCreated);
  EXPECT_EQ(manager_->GetContainer(*id)->started_at_ns, 0);
  ASSERT_TRUE(manager_->StartContainer(*id, {}));
  EXPECT_EQ(manager_->GetContainer(*id)->phase, ContainerPhase::kRunning);
  EXPECT_EQ(manager_->GetContainer(*id)->pid, 4711);
  EXPECT_EQ(manager_->StartContainer(*id, {}).error().code(), Code::kFailedPrecondition);
  runtime_->Finish(*PodId::Parse(pod), *ContainerId::Parse(*id), 0);
  EXPECT_EQ(manager_->GetContainer(*id)->reason, "Completed");
  EXPECT_EQ(manager_->GetContainer(*id)->finished_at_ns, 2000);
  EXPECT_EQ(manager_->ExecSync(*id, {"ls"}, 0s, {}).error().code(), Code::kFailedPrecondition);
}

TEST_F(ManagerTest, StartContainer_Fails_LeavesStartError) {
  const std::string pod = MustRun();
  auto id = manager_->CreateContainer(pod, Container(), {});
  ASSERT_TRUE(id);
  runtime_->fail_start = true;
  EXPECT_FALSE(manager_->StartContainer(*id, {}));
  const auto status = manager_->GetContainer(*id);
  EXPECT_EQ(status->phase, ContainerPhase::kExited);
  EXPECT_EQ(status->exit_code, 128);
  EXPECT_EQ(status->reason, "StartError");
  EXPECT_THAT(status->message, testing::HasSubstr("execve"));
}

TEST_F(ManagerTest, StopContainer_IgnoresSignal_ShorterStopWins) {
  const std::string pod = MustRun();
  const std::string ctr = MustStart(pod);
  runtime_->ignore_signals = true;
  const auto begin = std::chrono::steady_clock::now();
  std::thread patient([&] { EXPECT_TRUE(manager_->StopContainer(ctr, 30s, {})); });
  while (runtime_->signals.empty()) std::this_thread::yield();
  EXPECT_TRUE(manager_->StopContainer(ctr, 0s, {}));
  patient.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_EQ(manager_->GetContainer(ctr)->exit_code, 137);
}

TEST_F(ManagerTest, CreateContainer_NoImage_IsNotFound) {
  const std::string pod = MustRun();
  ContainerConfig config = Container();
  config.image.image = "missing";
  EXPECT_EQ(manager_->CreateContainer(pod, config, {}).error().code(), Code::kNotFound);
  EXPECT_TRUE(ListDir(root_ + "/pods/" + pod + "/containers")->empty());
}

TEST_F(ManagerTest, KeeperLost_RunningContainers_AreUnknown) {
  const std::string pod = MustRun();
  const std::string ctr = MustStart(pod);
  runtime_->LoseKeeper(*PodId::Parse(pod));
  EXPECT_EQ(manager_->GetPod(pod)->state, PodState::kNotReady);
  EXPECT_EQ(manager_->GetContainer(ctr)->exit_code, 137);
  EXPECT_EQ(manager_->GetContainer(ctr)->reason, "Unknown");
}

TEST_F(ManagerTest, List_Filters_ByPrefixStateAndLabel) {
  PodConfig labelled = Pod("b");
  labelled.labels = {{"app", "b"}};
  const std::string a = MustRun(Pod("a"));
  const std::string b = MustRun(labelled);
  EXPECT_EQ(manager_->ListPods({}).size(), 2U);
  EXPECT_EQ(manager_->ListPods({.id = a.substr(0, 12)}).size(), 1U);
  EXPECT_EQ(manager_->ListPods({.labels = {{"app", "b"}}}).at(0).id, b);
  ASSERT_TRUE(manager_->StopPod(a, {}));
  EXPECT_EQ(manager_->ListPods({.state = PodState::kReady}).at(0).id, b);
}

TEST_F(ManagerTest, Recover_KeeperAlive_GoesOn) {
  const std::string pod = MustRun();
  const std::string running = MustStart(pod, Container("r"));
  const std::string created = *manager_->CreateContainer(pod, Container("n"), {});
  Restart();
  runtime_->adoptable[pod] = {
      {.id = *ContainerId::Parse(running), .pid = 99, .started_at_ns = 1000, .exit = {}}};
  ASSERT_TRUE(manager_->Recover());
  EXPECT_EQ(manager_->GetPod(pod)->state, PodState::kReady);
  EXPECT_EQ(manager_->GetContainer(running)->phase, ContainerPhase::kRunning);
  EXPECT_EQ(manager_->GetContainer(running)->pid, 99);
  EXPECT_EQ(manager_->GetContainer(created)->phase, ContainerPhase::kCreated);
  EXPECT_EQ(engine_.recovered_with, 1U);
  EXPECT_EQ(runtime_->swept_with, 1U);
  EXPECT_TRUE(manager_->StartContainer(created, {}));
  EXPECT_EQ(manager_->ExecSync(running, {"hello"}, 0s, {})->out, "hello");
}

TEST_F(ManagerTest, Recover_KilledWhileStopping_PodIsStoppedNotReadyAgain) {
  const std::string pod = MustRun();
  engine_.fail_detach = true;
  ASSERT_FALSE(manager_->StopPod(pod, {}));  // as far as a killed daemon came
  engine_.fail_detach = false;
  Restart();
  runtime_->adoptable[pod] = {};  // its keeper lives
  ASSERT_TRUE(manager_->Recover());
  EXPECT_EQ(manager_->GetPod(pod)->state, PodState::kNotReady);
  EXPECT_TRUE(engine_.attached.empty());
  EXPECT_EQ(engine_.recovered_with, 0U) << "nothing of its network is kept";
  EXPECT_TRUE(manager_->RemovePod(pod, {}));
}

TEST_F(ManagerTest, Recover_KeeperGone_PodIsNotReadyAndRemovable) {
  const std::string pod = MustRun();
  const std::string ctr = MustStart(pod);
  Restart();
  ASSERT_TRUE(manager_->Recover());
  EXPECT_EQ(manager_->GetPod(pod)->state, PodState::kNotReady);
  EXPECT_EQ(manager_->GetContainer(ctr)->phase, ContainerPhase::kExited);
  EXPECT_TRUE(engine_.attached.empty());
  EXPECT_EQ(engine_.recovered_with, 0U);
  EXPECT_TRUE(manager_->RemovePod(pod, {}));
  EXPECT_TRUE(PodDirs().empty());
}

TEST_F(ManagerTest, Recover_TornAndHalfMadeRecords_AreUndone) {
  const std::string torn = MustRun(Pod("torn"));
  const std::string half = MustRun(Pod("half"));
  ASSERT_TRUE(ReplaceFile(root_ + "/pods/" + torn + "/pod.json", ""));
  PodRecord record;
  record.id = half;
  ASSERT_TRUE(ReplaceFile(root_ + "/pods/" + half + "/pod.json", DumpRecord(record)));
  Restart();
  ASSERT_TRUE(manager_->Recover());
  EXPECT_TRUE(PodDirs().empty());
  EXPECT_TRUE(engine_.attached.empty());
  EXPECT_TRUE(engine_.netns.empty());
}

TEST_F(ManagerTest, Recover_HalfMadeContainer_IsRemoved) {
  const std::string pod = MustRun();
  const std::string dir = root_ + "/pods/" + pod + "/containers/abc";
  ASSERT_TRUE(MakeDirs(dir + "/upper"));
  Restart();
  runtime_->adoptable[pod] = {};
  ASSERT_TRUE(manager_->Recover());
  EXPECT_FALSE(Exists(dir));
  EXPECT_TRUE(manager_->ListContainers({}).empty());
}

TEST_F(ManagerTest, RunPod_ManyAtOnceSameName_OneIsMade) {
  std::vector<std::thread> threads;
  std::atomic<int> made{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      if (manager_->RunPod(Pod(), {})) ++made;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GE(made.load(), 1);
  EXPECT_EQ(manager_->ListPods({}).size(), 1U);
}

TEST_F(ManagerTest, UpdateContainer_Running_IsLiveRecordedAndMerged) {
  ContainerConfig config = Container();
  config.resources.cpu_shares = 100;
  const std::string id = MustStart(MustRun(), config);
  Resources update;
  update.memory_limit_bytes = 1 << 30;
  ASSERT_TRUE(manager_->UpdateContainer(id, update));
  ASSERT_TRUE(runtime_->last_update);
  EXPECT_EQ(runtime_->last_update->memory_limit, 1 << 30);
  EXPECT_EQ(manager_->GetContainer(id)->resources.memory_limit_bytes, 1 << 30);
  EXPECT_EQ(manager_->GetContainer(id)->resources.cpu_shares, 100);
}

TEST_F(ManagerTest, UpdateContainer_Fails_ChangesNothing) {
  ContainerConfig config = Container();
  config.resources.cpu_shares = 100;
  const std::string id = MustStart(MustRun(), config);
  runtime_->fail_update = true;
  Resources update;
  update.cpu_shares = 500;
  ASSERT_FALSE(manager_->UpdateContainer(id, update));
  EXPECT_EQ(runtime_->last_update->cpu_shares, 100U) << "the old limits are set again";
  EXPECT_EQ(manager_->GetContainer(id)->resources.cpu_shares, 100);
}

TEST_F(ManagerTest, UpdateContainer_Created_CountsAtTheStart) {
  const auto id = manager_->CreateContainer(MustRun(), Container(), {});
  ASSERT_TRUE(id);
  Resources update;
  update.cpu_quota = 5000;
  ASSERT_TRUE(manager_->UpdateContainer(*id, update));
  EXPECT_FALSE(runtime_->last_update);
  ASSERT_TRUE(manager_->StartContainer(*id, {}));
  EXPECT_EQ(runtime_->last_spec_resources.cpu_quota, 5000);
}

TEST_F(ManagerTest, UpdateContainer_UnknownOrEnded_IsRefused) {
  EXPECT_EQ(manager_->UpdateContainer("nope", {}).error().code(), Code::kNotFound);
  EXPECT_EQ(manager_->UpdateContainer("nope", {.cpu_shares = -1}).error().code(),
            Code::kInvalidArgument);
  const std::string id = MustStart(MustRun());
  ASSERT_TRUE(manager_->StopContainer(id, 0s, {}));
  EXPECT_EQ(manager_->UpdateContainer(id, {}).error().code(), Code::kFailedPrecondition);
}

}  // namespace
}  // namespace linnet::pods
