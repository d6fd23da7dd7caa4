// Statistics: rates, layers, and what is left out.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "linnet/base/file.h"

#include "cpu_meter.h"
#include "fakes.h"
#include "layer_usage.h"

namespace linnet::pods {
namespace {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals

// ------------------------------------------------------------------------------------------------
// CpuMeter

TEST(CpuMeter, FirstReading_AverageSinceTheStart) {
  CpuMeter meter;
  EXPECT_EQ(meter.Add(CpuMeter::Time(100s), 1'000'000'000, 10s), 100'000'000U);
}

TEST(CpuMeter, LaterReadings_RateSinceTheOneBefore) {
  CpuMeter meter;
  (void)meter.Add(CpuMeter::Time(100s), 1'000'000'000, 10s);
  EXPECT_EQ(meter.Add(CpuMeter::Time(110s), 21'000'000'000, 20s), 2'000'000'000U);
  EXPECT_EQ(meter.Add(CpuMeter::Time(111s), 21'000'000'000, 21s), 0U);
}

TEST(CpuMeter, ASecondClientRightAfter_GetsTheSameSpan) {
  CpuMeter meter;
  (void)meter.Add(CpuMeter::Time(100s), 0, 10s);
  EXPECT_EQ(meter.Add(CpuMeter::Time(110s), 10'000'000'000, 20s), 1'000'000'000U);
  // 1 ms later, 1 ms of CPU used: 1.0 over 10 s, not over the millisecond.
  EXPECT_EQ(meter.Add(CpuMeter::Time(110s + 1ms), 10'001'000'000, 20s), 1'000'000'000U);
  EXPECT_EQ(meter.Add(CpuMeter::Time(112s), 10'000'000'000, 22s), 0U) << "since 110 s";
}

TEST(CpuMeter, NoTime_OrCounterWentBack_NoRate) {
  CpuMeter meter;
  EXPECT_FALSE(meter.Add(CpuMeter::Time(100s), 5, 0s));
  EXPECT_FALSE(meter.Add(CpuMeter::Time(102s), 4, 2s));
}

// ------------------------------------------------------------------------------------------------
// layers

class Layer : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "linnet-layer-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { ASSERT_TRUE(RemoveAll(root_)); }
  TreeUsage Measure(std::size_t max = 1000) {
    auto dir = OpenDir(root_);
    EXPECT_TRUE(dir);
    auto usage = MeasureTree(*dir, max);
    EXPECT_TRUE(usage) << (usage ? "" : usage.error().message());
    return usage ? *usage : TreeUsage{};
  }
  std::string root_;
};

TEST_F(Layer, CountsBlocksAndInodes_NamesOfOneFileOnce) {
  const TreeUsage empty = Measure();
  EXPECT_EQ(empty.inodes, 1U);
  ASSERT_TRUE(MakeDirs(root_ + "/a/b"));
  ASSERT_TRUE(WriteFileDurable(root_ + "/a/b/file", std::string(100'000, 'x')));
  ASSERT_EQ(::link((root_ + "/a/b/file").c_str(), (root_ + "/again").c_str()), 0);
  const TreeUsage usage = Measure();
  EXPECT_EQ(usage.inodes, 4U) << "root, a, b, file";
  EXPECT_GE(usage.bytes - empty.bytes, 100'000U);
  EXPECT_LT(usage.bytes - empty.bytes, 150'000U);
  EXPECT_TRUE(usage.whole);
}

TEST_F(Layer, FollowsNoLink) {
  ASSERT_EQ(::symlink("/usr", (root_ + "/usr").c_str()), 0);
  ASSERT_EQ(::symlink(".", (root_ + "/self").c_str()), 0);
  EXPECT_EQ(Measure().inodes, 3U);
}

TEST_F(Layer, DeeperThanAPathMayBeLong) {
  auto dir = OpenDir(root_);
  ASSERT_TRUE(dir);
  const std::string name(200, 'd');
  for (int i = 0; i < 100; ++i) {  // 20,000 characters
    ASSERT_EQ(::mkdirat(dir->get(), name.c_str(), 0700), 0);
    dir = OpenAt(*dir, name, O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(dir);
  }
  EXPECT_EQ(Measure().inodes, 101U);
}

TEST_F(Layer, EndsAtTheLimit) {
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ReplaceFile(root_ + "/" + std::to_string(i), ""));
  const TreeUsage usage = Measure(10);
  EXPECT_EQ(usage.inodes, 10U);
  EXPECT_FALSE(usage.whole);
}

// ------------------------------------------------------------------------------------------------
// PodManager

class StatsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "linnet-stats-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    ASSERT_TRUE(MakeDirs(root_ + "/image/etc"));
    images_ = std::make_unique<FakeImages>(root_ + "/image");
    manager_ = std::make_unique<Manager>(
        PodManagerOptions{.root = root_, .state_dir = root_, .cgroup_root = "/linnet-test"},
        engine_, *images_);
    ASSERT_TRUE(manager_->Start(
        [this](runtime::RuntimeEvents events) -> Result<std::unique_ptr<runtime::Runtime>> {
          auto runtime = std::make_unique<FakeRuntime>(std::move(events));
          runtime_ = runtime.get();
          return std::unique_ptr<runtime::Runtime>(std::move(runtime));
        }));
    runtime_->usage.cpu_ns = 5'000'000'000;
    runtime_->usage.memory = {.usage_bytes = 100, .working_set_bytes = 60, .limit_bytes = 200};
    runtime_->usage.pids = 3;
  }
  void TearDown() override {
    manager_.reset();
    ASSERT_TRUE(RemoveAll(root_));
  }
  std::string MustRun(const std::string& name) {
    PodConfig config;
    config.metadata = {.name = name, .uid = "u1", .ns = "default", .attempt = 2};
    config.dns = DnsConfig{};
    config.labels["pod"] = name;
    auto id = manager_->RunPod(config, {});
    EXPECT_TRUE(id) << (id ? "" : id.error().message());
    return id ? *id : "";
  }
  std::string MustCreate(const std::string& pod, const std::string& name) {
    ContainerConfig config;
    config.metadata.name = name;
    config.image.image = "busybox";
    config.labels["name"] = name;
    config.annotations["note"] = "n";
    auto id = manager_->CreateContainer(pod, config, {});
    EXPECT_TRUE(id) << (id ? "" : id.error().message());
    return id ? *id : "";
  }
  std::string MustStart(const std::string& pod, const std::string& name) {
    std::string id = MustCreate(pod, name);
    EXPECT_TRUE(manager_->StartContainer(id, {}));
    return id;
  }

  std::string root_;
  FakeEngine engine_;
  std::unique_ptr<FakeImages> images_;
  FakeRuntime* runtime_ = nullptr;
  std::unique_ptr<Manager> manager_;
};

TEST_F(StatsTest, Container_AttributesTimesAndNumbers) {
  const std::string pod = MustRun("web");
  const std::string id = MustStart(pod, "main");
  auto stats = manager_->GetContainerStats(id);
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_EQ(stats->id, id);
  EXPECT_EQ(stats->pod_id, pod);
  EXPECT_EQ(stats->metadata.name, "main");
  EXPECT_EQ(stats->labels.at("name"), "main");
  EXPECT_EQ(stats->annotations.at("note"), "n");
  EXPECT_GT(stats->taken_at_ns, 0);
  EXPECT_EQ(stats->usage.cpu_ns, 5'000'000'000U);
  EXPECT_TRUE(stats->nano_cores);
}

TEST_F(StatsTest, Container_Unknown_NotFound) {
  EXPECT_TRUE(manager_->GetContainerStats("nope").error().Is(Code::kNotFound));
  EXPECT_TRUE(manager_->GetPodStats("nope").error().Is(Code::kNotFound));
}

TEST_F(StatsTest, Container_NotRunning_TimesWithoutNumbers) {
  const std::string id = MustCreate(MustRun("web"), "main");
  auto stats = manager_->GetContainerStats(id);
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_GT(stats->taken_at_ns, 0);
  EXPECT_FALSE(stats->usage.cpu_ns || stats->usage.memory || stats->nano_cores);
}

TEST_F(StatsTest, List_RunningOnly_FiltersExact) {
  const std::string web = MustRun("web");
  const std::string db = MustRun("db");
  const std::string a = MustStart(web, "a");
  const std::string b = MustStart(web, "b");
  const std::string c = MustStart(db, "c");
  MustCreate(db, "created");
  const auto ids = [&](const ContainerFilter& filter) {
    std::set<std::string> out;
    for (const ContainerStats& stats : manager_->ListContainerStats(filter)) out.insert(stats.id);
    return out;
  };
  EXPECT_EQ(ids({}), (std::set<std::string>{a, b, c}));
  EXPECT_EQ(ids({.pod_id = web}), (std::set<std::string>{a, b}));
  EXPECT_EQ(ids({.id = c}), (std::set<std::string>{c}));
  EXPECT_EQ(ids({.labels = {{"name", "b"}}}), (std::set<std::string>{b}));
  EXPECT_TRUE(ids({.labels = {{"name", "B"}}}).empty());
  EXPECT_TRUE(ids({.id = c, .pod_id = web}).empty());
}

TEST_F(StatsTest, List_WhatVanishes_IsLeftOut) {
  const std::string pod = MustRun("web");
  const std::string a = MustStart(pod, "a");
  const std::string b = MustStart(pod, "b");
  runtime_->vanished.insert(a);
  const auto list = manager_->ListContainerStats({});
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].id, b);
  // Asked for by name it is there, without numbers.
  auto stats = manager_->GetContainerStats(a);
  ASSERT_TRUE(stats);
  EXPECT_FALSE(stats->usage.cpu_ns);
  auto whole = manager_->GetPodStats(pod);
  ASSERT_TRUE(whole);
  ASSERT_EQ(whole->containers.size(), 1U);
  EXPECT_EQ(whole->containers[0].id, b);
}

TEST_F(StatsTest, Pod_AttributesAndContainers) {
  const std::string pod = MustRun("web");
  MustStart(pod, "a");
  auto stats = manager_->GetPodStats(pod);
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_EQ(stats->metadata.name, "web");
  EXPECT_EQ(stats->metadata.attempt, 2U);
  EXPECT_EQ(stats->labels.at("pod"), "web");
  EXPECT_GT(stats->taken_at_ns, 0);
  EXPECT_EQ(stats->usage.pids, 3U);
  ASSERT_EQ(stats->containers.size(), 1U);
  EXPECT_EQ(stats->network_taken_at_ns, 0) << "the fake has no namespaces";
}

TEST_F(StatsTest, Pods_ReadyOnly) {
  const std::string web = MustRun("web");
  const std::string db = MustRun("db");
  ASSERT_TRUE(manager_->StopPod(db, {}));
  const auto list = manager_->ListPodStats({});
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].id, web);
  EXPECT_TRUE(manager_->ListPodStats({.labels = {{"pod", "db"}}}).empty());
  auto stopped = manager_->GetPodStats(db);
  ASSERT_TRUE(stopped);
  EXPECT_GT(stopped->taken_at_ns, 0);
  EXPECT_FALSE(stopped->usage.cpu_ns);
}

TEST_F(StatsTest, Layer_IsCountedOnceInAWhile) {
  const std::string pod = MustRun("web");
  const std::string id = MustStart(pod, "main");
  auto container = manager_->GetContainer(id);
  ASSERT_TRUE(container);
  const std::string upper = Dirname(container->runtime_spec_path) + "/upper";
  ASSERT_TRUE(MakeDirs(upper));
  auto first = manager_->GetContainerStats(id);
  ASSERT_TRUE(first && first->layer);
  EXPECT_EQ(first->layer->inodes_used, 1U);
  EXPECT_EQ(first->layer->mountpoint, manager_->ContainerFsUsage()->mountpoint);
  ASSERT_TRUE(ReplaceFile(upper + "/new", "x"));
  auto second = manager_->GetContainerStats(id);
  ASSERT_TRUE(second && second->layer);
  EXPECT_EQ(second->layer->inodes_used, 1U);
  EXPECT_EQ(second->layer->taken_at_ns, first->layer->taken_at_ns)
      << "and says when it was counted";
}

}  // namespace
}  // namespace linnet::pods
