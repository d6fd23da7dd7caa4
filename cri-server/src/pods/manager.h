// PodManager's state. Locks, in the order they are taken:
//
//   PodEntry::op_mu        stop and remove of one pod, one after another
//   ContainerEntry::op_mu  start and remove of one container, one after another
//   Manager::mu_           everything in memory; held for moments, never across a system call that
//   can block
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/pods/pod_manager.h"

#include "cpu_meter.h"
#include "record.h"

namespace linnet::pods {

struct PodEntry;

//   kCreated ──start──▶ kRunning ──exit──▶ kExited
//       └──── start failed ───────────────────▲
struct ContainerEntry {
  explicit ContainerEntry(ContainerId i) : id(std::move(i)) {}
  const ContainerId id;
  std::shared_ptr<PodEntry> pod;
  std::string directory;
  Mutex op_mu;
  // Guarded by Manager::mu_.
  ContainerRecord record;
  ContainerPhase phase = ContainerPhase::kCreated;
  int pid = 0;
  std::int64_t started_at_ns = 0;
  bool removed = false;
  bool undelivered = false;
  std::unique_ptr<runtime::ContainerSpec> spec;  // until it was started
  std::shared_ptr<const oci::Process> process;  // for exec; loaded from config.json after a restart
  std::shared_ptr<const void> image_hold;
  CpuMeter cpu;
  std::optional<LayerUsage> layer;  // as last counted
  std::chrono::steady_clock::time_point next_layer_count;
};

struct PodEntry {
  explicit PodEntry(PodId i) : id(std::move(i)) {}
  const PodId id;
  std::string directory;
  Mutex op_mu;
  // Guarded by Manager::mu_.
  PodRecord record;
  network::PodNetns netns;
  bool ready = false;      // READY for clients
  bool torn_down = false;  // network, keeper and cgroups are gone
  bool removed = false;
  bool undelivered = false;
  std::vector<std::shared_ptr<ContainerEntry>> containers;
  CpuMeter cpu;
};

class Manager final : public PodManager {
 public:
  Manager(PodManagerOptions options, network::Engine& network, oci::ImageStore& images);
  // Runtime::Create, or a test's fake.
  using RuntimeFactory =
      std::function<Result<std::unique_ptr<runtime::Runtime>>(runtime::RuntimeEvents)>;
  Result<void> Start(const RuntimeFactory& make_runtime);

  Result<void> Recover() override;
  Result<std::string> RunPod(const PodConfig& config, const Caller& caller) override;
  Result<void> StopPod(const std::string& id, const Caller& caller) override;
  Result<void> RemovePod(const std::string& id, const Caller& caller) override;
  Result<PodStatus> GetPod(const std::string& id) const override;
  std::vector<PodStatus> ListPods(const PodFilter& filter) const override;
  Result<std::string> CreateContainer(const std::string& pod_id, const ContainerConfig& config,
                                      const Caller& caller) override;
  Result<void> StartContainer(const std::string& id, const Caller& caller) override;
  Result<void> StopContainer(const std::string& id, std::chrono::seconds timeout,
                             const Caller& caller) override;
  Result<void> RemoveContainer(const std::string& id, const Caller& caller) override;
  Result<ContainerStatus> GetContainer(const std::string& id) const override;
  std::vector<ContainerStatus> ListContainers(const ContainerFilter& filter) const override;
  Result<void> UpdateContainer(const std::string& id, const Resources& resources) override;
  Result<void> ReopenLog(const std::string& id) override;
  Result<ExecSyncResult> ExecSync(const std::string& id, const std::vector<std::string>& command,
                                  std::chrono::seconds timeout, const Caller& caller) override;
  Result<std::unique_ptr<runtime::ExecSession>> Exec(const std::string& id,
                                                     const ExecRequest& request) override;
  Result<runtime::Attachment> Attach(const std::string& id,
                                     const runtime::AttachSpec& spec) override;
  Result<UniqueFd> OpenSocket(const std::string& pod_id, Family family) override;
  Result<ContainerStats> GetContainerStats(const std::string& id) override;
  std::vector<ContainerStats> ListContainerStats(const ContainerFilter& filter) override;
  Result<PodStats> GetPodStats(const std::string& id) override;
  std::vector<PodStats> ListPodStats(const PodFilter& filter) override;
  runtime::Runtime::Features features() const override { return runtime_->features(); }
  Result<oci::FsUsage> ContainerFsUsage() const override;

 private:
  using PodPtr = std::shared_ptr<PodEntry>;
  using ContainerPtr = std::shared_ptr<ContainerEntry>;
  // One creation under way: retries with the same name join it.
  struct Flight {
    bool done = false;
    std::optional<Result<std::string>> result;
  };

  PodPtr FindPod(const std::string& id) const LN_EXCLUDES(mu_);
  ContainerPtr FindContainer(const std::string& id) const LN_EXCLUDES(mu_);
  bool Matches(const PodEntry& pod, const PodFilter& filter) const LN_REQUIRES(mu_);
  bool Matches(const ContainerEntry& container, const ContainerFilter& filter) const
      LN_REQUIRES(mu_);
  // Joins a flight of the same key, or runs `make` as its leader.
  Result<std::string> SingleFlight(const std::string& key, const Caller& caller,
                                   const std::function<Result<std::string>()>& make)
      LN_EXCLUDES(mu_);

  // pod_verbs.cc
  Result<std::string> MakePod(const PodConfig& config, const Caller& caller);
  Result<void> BringUp(PodEntry& pod, const Caller& caller);
  Result<void> TearDown(PodEntry& pod) LN_EXCLUDES(mu_);
  Result<void> RemoveLocked(const PodPtr& pod, const Caller& caller);
  Result<void> WritePodRecord(const PodEntry& pod) const;
  void NoteStage(const PodEntry& pod) const;

  // stream_verbs.cc
  Result<ContainerPtr> RunningContainer(const std::string& id) const LN_EXCLUDES(mu_);

  // stats.cc
  Result<ContainerStats> StatsOf(const ContainerPtr& container) LN_EXCLUDES(mu_);
  Result<PodStats> StatsOf(const PodPtr& pod) LN_EXCLUDES(mu_);
  std::optional<LayerUsage> LayerUsageOf(const ContainerPtr& container) LN_EXCLUDES(mu_);
  // `stats[i]` is of `pods[i]`.
  void AddInterfaces(const std::vector<PodPtr>& pods, std::vector<PodStats>& stats) const
      LN_EXCLUDES(mu_);

  // container_verbs.cc
  Result<std::string> MakeContainer(const PodPtr& pod, const ContainerConfig& config,
                                    const Caller& caller);
  Result<ContainerId> CheckPidTarget(const PodEntry& pod, const std::string& target) const;
  Result<void> RemoveContainerLocked(const ContainerPtr& container);
  Result<void> KillAndWait(const ContainerEntry& container);
  Result<std::unique_ptr<runtime::ContainerSpec>> RebuildSpec(
      const ContainerEntry& container) const;
  Result<std::shared_ptr<const oci::Process>> ProcessOf(const ContainerPtr& container);
  ContainerStatus StatusOf(const ContainerEntry& container) const LN_REQUIRES(mu_);
  void ApplyExit(ContainerEntry& container, const runtime::ContainerExit& exit) LN_REQUIRES(mu_);
  void MarkLost(ContainerEntry& container) LN_REQUIRES(mu_);

  // recovery.cc
  void LoadPod(const std::string& name, const std::string& boot_id);
  void LoadContainers(const PodPtr& pod);
  void AdoptOrBury(const PodPtr& pod, const std::string& boot_id);
  void Discard(const PodId& id, const std::string& directory, const std::string& cgroup_parent);

  // Called on the runtime's thread.
  void OnExit(const PodId& pod, const runtime::ContainerExit& exit) LN_EXCLUDES(mu_);
  void OnKeeperLost(const PodId& pod) LN_EXCLUDES(mu_);

  const PodManagerOptions options_;
  const std::string pods_dir_;
  network::Engine& network_;
  oci::ImageStore& images_;
  SystemClock clock_;
  std::unique_ptr<runtime::Runtime> runtime_;

  mutable Mutex mu_;
  CondVar flight_done_;
  std::unordered_map<std::string, PodPtr> pods_ LN_GUARDED_BY(mu_);
  std::unordered_map<std::string, PodPtr> pods_by_key_ LN_GUARDED_BY(mu_);  // the same, by PodKey()
  std::unordered_map<std::string, ContainerPtr> containers_ LN_GUARDED_BY(mu_);
  std::unordered_map<std::string, std::shared_ptr<Flight>> flights_ LN_GUARDED_BY(mu_);
};

// "name_namespace_uid_attempt": what makes a pod unique.
std::string PodKey(const PodMetadata& metadata);

}  // namespace linnet::pods
