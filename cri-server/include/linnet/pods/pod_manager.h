// Pods and containers: the orchestrator where runtime, network and images meet.
//
// Verbs of one pod (run, stop, remove) run one after another; containers of a pod in parallel,
// verbs of one container one after another, but a stop may always overtake. Every verb is
// idempotent as CRI demands: unknown pods and containers are success for Stop and Remove, kNotFound
// elsewhere. Records are written before the first kernel object is made, so Recover() finishes or
// undoes whatever a crash left half-made. Thread-safe; calls block.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"
#include "linnet/network/engine.h"
#include "linnet/oci/image_store.h"
#include "linnet/pods/stats.h"
#include "linnet/pods/stream_targets.h"
#include "linnet/pods/types.h"
#include "linnet/runtime/runtime.h"

namespace linnet::pods {

struct DeviceOptions {
  std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};  // of rising priority
  bool ownership_from_user =
      false;  // devices of CRI belong to the container's user, not the host's
};

struct PodManagerOptions {
  std::string root;  // <root>/pods/<pod>/…
  std::string state_dir;
  std::string cgroup_root;                                 // "/linnet[-<instance>]"
  std::vector<std::string> runtime_handlers = {"linnet"};  // besides ""
  DeviceOptions devices = {};
};

struct Caller {
  Deadline deadline = Deadline::max();
  // True once the client has gone. Asked before the answer is given: a pod or container whose
  // client never heard of it is handed to the retry with the same metadata.
  std::function<bool()> gone = [] { return false; };
};

struct ExecSyncResult {
  int exit_code = 0;
  std::string out, err;
};

class PodManager : public StreamTargets {
 public:
  // `images`, `network` must outlive the manager. The runtime is made by it (it owns the runtime's
  // events).
  static Result<std::unique_ptr<PodManager>> Create(const PodManagerOptions& options,
                                                    const runtime::RuntimeOptions& runtime_options,
                                                    network::Engine& network,
                                                    oci::ImageStore& images);
  // Reads the records, adopts what runs, finishes or undoes the rest. Call once, before serving.
  virtual Result<void> Recover() = 0;

  virtual Result<std::string> RunPod(const PodConfig& config, const Caller& caller) = 0;
  virtual Result<void> StopPod(const std::string& id, const Caller& caller) = 0;
  virtual Result<void> RemovePod(const std::string& id, const Caller& caller) = 0;
  virtual Result<PodStatus> GetPod(const std::string& id) const = 0;
  virtual std::vector<PodStatus> ListPods(const PodFilter& filter) const = 0;

  virtual Result<std::string> CreateContainer(const std::string& pod_id,
                                              const ContainerConfig& config,
                                              const Caller& caller) = 0;
  virtual Result<void> StartContainer(const std::string& id, const Caller& caller) = 0;
  // Sends the stop signal, waits `timeout`, kills. 0: kills at once. Returns when it is dead.
  virtual Result<void> StopContainer(const std::string& id, std::chrono::seconds timeout,
                                     const Caller& caller) = 0;
  virtual Result<void> RemoveContainer(const std::string& id, const Caller& caller) = 0;
  virtual Result<ContainerStatus> GetContainer(const std::string& id) const = 0;
  virtual std::vector<ContainerStatus> ListContainers(const ContainerFilter& filter) const = 0;
  // New limits of a container that was created or runs; what is 0 or empty stays as it is. Live,
  // recorded and shown by GetContainer when this succeeds; nothing of that when it fails.
  virtual Result<void> UpdateContainer(const std::string& id, const Resources& resources) = 0;
  virtual Result<void> ReopenLog(const std::string& id) = 0;
  // Errors: kDeadlineExceeded past `timeout` (0: none), the tree is dead then.
  virtual Result<ExecSyncResult> ExecSync(const std::string& id,
                                          const std::vector<std::string>& command,
                                          std::chrono::seconds timeout, const Caller& caller) = 0;

  // What is used now. The lists hold what runs (of `filter.state` nothing is asked); what goes
  // meanwhile is left out.
  virtual Result<ContainerStats> GetContainerStats(const std::string& id) = 0;
  virtual std::vector<ContainerStats> ListContainerStats(const ContainerFilter& filter) = 0;
  virtual Result<PodStats> GetPodStats(const std::string& id) = 0;
  virtual std::vector<PodStats> ListPodStats(const PodFilter& filter) = 0;

  virtual runtime::Runtime::Features features() const = 0;
  // What containers' writable layers use: for ImageFsInfo.container_filesystems.
  virtual Result<oci::FsUsage> ContainerFsUsage() const = 0;
};

}  // namespace linnet::pods
