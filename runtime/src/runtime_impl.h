// The daemon's side of running pods. Locks: RuntimeImpl::mu_ and Pod::mu protect memory only; both
// are held for moments and never together with KeeperClient's.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/runtime/runtime.h"

#include "cgroup/cgroup.h"
#include "client/event_loop.h"
#include "client/keeper_client.h"
#include "client/keeper_launcher.h"
#include "host/cgroup_files.h"
#include "host/cgroup_ledger.h"
#include "plan/build.h"
#include "security/seccomp.h"

namespace linnet::runtime {

class RuntimeImpl final : public Runtime {
 public:
  struct Parts {
    std::unique_ptr<CgroupManager> cgroups;
    std::unique_ptr<CgroupFiles> cgroup_files;
    std::unique_ptr<CgroupLedger> ledger;
    std::unique_ptr<KeeperLauncher> launcher;
    std::unique_ptr<EventLoop> loop;
  };
  RuntimeImpl(RuntimeOptions options, RuntimeEvents events, Parts parts);
  ~RuntimeImpl() override;

  // runtime_pods.cc
  Result<void> StartPod(const PodSpec& spec, Deadline deadline) override;
  Result<UniqueFd> PodNetns(const PodId& pod) override;
  Result<std::vector<ContainerInfo>> AdoptPod(const PodId& pod, Deadline deadline) override;
  Result<void> RemovePod(const PodId& pod, const std::string& cgroup_parent) override;
  Result<void> Sweep(const std::vector<PodId>& known) override;

  // runtime_containers.cc
  Result<void> CheckContainer(const PodId& pod, const ContainerSpec& spec) override;
  Result<StartedContainer> StartContainer(const PodId& pod, const ContainerSpec& spec,
                                          Deadline deadline) override;
  Result<void> Signal(const PodId& pod, const ContainerId& id, int signal) override;
  Result<ContainerExit> WaitExit(const PodId& pod, const ContainerId& id,
                                 Deadline deadline) override;
  Result<void> RemoveContainer(const PodId& pod, const ContainerId& id) override;
  Result<void> ReopenLog(const PodId& pod, const ContainerId& id) override;
  Result<void> UpdateResources(const PodId& pod, const ContainerId& id,
                               const oci::Resources& resources) override;
  Result<std::vector<ContainerInfo>> ListContainers(const PodId& pod) override;
  Result<CgroupUsage> ContainerUsage(const PodId& pod, const ContainerId& id) override;
  Result<CgroupUsage> PodUsage(const PodId& pod, const std::string& cgroup_parent) override;

  // runtime_exec.cc
  Result<ExecResult> Exec(const PodId& pod, const ContainerId& id, const ExecSpec& spec) override;
  Result<ExecOutput> ExecSync(const PodId& pod, const ContainerId& id, const oci::Process& process,
                              std::chrono::milliseconds timeout) override;
  Result<std::unique_ptr<ExecSession>> StartExec(const PodId& pod, const ContainerId& id,
                                                 const ExecSpec& spec) override;

  // runtime_attach.cc
  Result<Attachment> Attach(const PodId& pod, const ContainerId& id,
                            const AttachSpec& spec) override;

  Features features() const override { return features_; }

 private:
  struct Pod {
    explicit Pod(PodId i) : id(std::move(i)) {}
    const PodId id;
    std::shared_ptr<KeeperClient> keeper;
    Mutex mu;
    std::map<std::string, std::string> cgroups
        LN_GUARDED_BY(mu);  // by container id, and the pod's for its holder
  };
  using PodPtr = std::shared_ptr<Pod>;

  PodPtr Find(const PodId& pod) const LN_EXCLUDES(mu_);
  Result<PodPtr> Get(const PodId& pod) const;

  // A client for a keeper of this pod, with the callbacks of a published pod.
  std::shared_ptr<KeeperClient> MakeClient(const PodPtr& pod, UniqueFd socket);
  // Connects and greets. kNotFound: nobody listens.
  Result<PodPtr> ConnectPod(const PodId& pod, Deadline deadline);
  Result<void> SetUpPod(Pod& pod, const PodSpec& spec, Deadline deadline);
  void EndKeeper(Pod& pod);
  // Kills and removes every cgroup that is the pod's.
  Result<void> RemoveCgroups(const PodId& pod, Pod* known);
  void OnKeeperLost(const PodId& pod);

  std::string OwnPodCgroup(const PodId& pod) const;
  bool IsOwn(const PodId& pod, const std::string& cgroup) const;
  // Before it is made.
  Result<void> NoteCgroup(Pod& pod, const std::string& name, const std::string& cgroup);
  std::string CgroupOf(Pod& pod, const ContainerId& id) const;
  Result<plan::CgroupInput> OpenCgroup(const std::string& path, std::vector<UniqueFd>& owned) const;
  Result<void> MakeContainerCgroup(const std::string& path, const oci::Resources& resources) const;
  // The profile's program in a sealed memfd, shared by all containers that have the same.
  Result<std::shared_ptr<const UniqueFd>> SeccompProgram(const oci::Seccomp& profile)
      LN_EXCLUDES(mu_);
  Result<Command> MakeExec(const ContainerId& id, const oci::Process& process,
                           const std::vector<FdRef>& streams, std::uint32_t flags,
                           std::chrono::milliseconds timeout) const;

  const RuntimeOptions options_;
  const RuntimeEvents events_;
  const std::unique_ptr<CgroupManager> cgroups_;
  const std::unique_ptr<CgroupFiles> cgroup_files_;
  const std::unique_ptr<CgroupLedger> ledger_;
  const std::unique_ptr<KeeperLauncher> launcher_;
  const Features features_;
  SeccompCache seccomp_;

  mutable Mutex mu_;
  std::unordered_map<PodId, PodPtr> pods_ LN_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<const UniqueFd>> programs_
      LN_GUARDED_BY(mu_);  // by content
  // Last: its thread ends before what its handlers use.
  std::unique_ptr<EventLoop> loop_;
};

}  // namespace linnet::runtime
