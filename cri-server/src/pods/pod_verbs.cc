#include <csignal>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "bandwidth.h"
#include "manager.h"
#include "pod_files.h"
#include "spec_builder.h"
#include "validate.h"

namespace linnet::pods {
namespace {

void LogUndoFailure(const std::string& what, const Error& error) {
  log::Err("undo failed", {{"what", what}, {"err", error}});
}

// Two steps side by side; both end before this returns.
template <class A, class B>
std::pair<Result<void>, Result<void>> Both(A first, B second) {
  Result<void> a = Internal("step did not run");
  std::thread thread([&] { a = first(); });
  Result<void> b = second();
  thread.join();
  return {std::move(a), std::move(b)};
}

}  // namespace

Result<void> Manager::WritePodRecord(const PodEntry& pod) const {
  return ReplaceFile(JoinPath(pod.directory, "pod.json"), DumpRecord(pod.record));
}

void Manager::NoteStage(const PodEntry& pod) const {
  auto written = WritePodRecord(pod);
  if (!written)
    log::Warn("pod record not written, ignoring", {{"pod", pod.id}, {"err", written.error()}});
}

Result<std::string> Manager::RunPod(const PodConfig& config, const Caller& caller) {
  LN_TRY(ValidatePod(config, options_.runtime_handlers));
  return SingleFlight("pod " + PodKey(config.metadata), caller,
                      [&] { return MakePod(config, caller); });
}

Result<std::string> Manager::MakePod(const PodConfig& config, const Caller& caller) {
  const std::string key = PodKey(config.metadata);
  {
    MutexLock lock(mu_);
    if (const auto found = pods_by_key_.find(key); found != pods_by_key_.end()) {
      const PodPtr& pod = found->second;
      if (!pod->undelivered || !pod->ready) {
        return AlreadyExists("pod \"" + key + "\" exists already: " + pod->id.str() +
                             " (remove it, or use another attempt)");
      }
      pod->undelivered = caller.gone();
      return pod->id.str();
    }
  }
  auto pod = std::make_shared<PodEntry>(PodId::Generate());
  pod->directory = JoinPath(pods_dir_, pod->id.str());
  pod->record.id = pod->id.str();
  pod->record.stage = PodStage::kCreating;
  pod->record.created_at_ns = clock_.WallNanos();
  pod->record.boot_id = LN_TRY(BootId());
  pod->record.config = config;
  pod->record.cgroup_parent = config.cgroup_parent;

  Rollback undo(LogUndoFailure);
  undo.Add("remove " + pod->directory, [&] { return RemoveAll(pod->directory); });
  LN_TRY(MakeDirs(JoinPath(pod->directory, "containers"), 0700));
  LN_TRY(WritePodRecord(*pod));  // from here recovery can undo
  undo.Add("pod " + pod->id.str(), [&] { return TearDown(*pod); });
  LN_TRY(BringUp(*pod, caller));

  pod->record.stage = PodStage::kReady;
  LN_TRY(WritePodRecord(*pod));
  undo.Commit();
  MutexLock lock(mu_);
  pod->ready = true;
  pod->undelivered = caller.gone();
  pods_.emplace(pod->id.str(), pod);
  pods_by_key_.emplace(key, pod);
  return pod->id.str();
}

Result<void> Manager::BringUp(PodEntry& pod, const Caller& caller) {
  const PodConfig& config = pod.record.config;
  const bool own_network = config.namespaces.network == NsMode::kPod;
  const bool own_users = config.namespaces.userns && config.namespaces.userns->mode == NsMode::kPod;
  if (!config.log_directory.empty())
    LN_TRY_CTX(MakeDirs(config.log_directory, 0755), "log_directory");

  runtime::PodSpec spec{.id = pod.id,
                        .uid_mappings = {},
                        .gid_mappings = {},
                        .hostname = {},
                        .sysctls = {},
                        .cgroup_parent = {}};
  spec.network = ToRuntime(config.namespaces.network);
  spec.ipc = ToRuntime(config.namespaces.ipc);
  spec.pid = ToRuntime(config.namespaces.pid);
  if (own_users) {
    spec.uid_mappings = config.namespaces.userns->uids;
    spec.gid_mappings = config.namespaces.userns->gids;
  }
  if (own_network) spec.hostname = PodHostname(config);
  spec.sysctls.assign(config.sysctls.begin(), config.sysctls.end());
  spec.cgroup_parent = config.cgroup_parent;

  network::AttachRequest request{
      .pod = pod.id, .netns_path = {}, .ports = {}, .args = {}, .cgroup_path = {}};
  for (const PodPort& port : config.ports) {
    if (port.host_port == 0 || !own_network) continue;
    request.ports.push_back({static_cast<std::uint16_t>(port.host_port),
                             static_cast<std::uint16_t>(port.container_port), port.protocol,
                             port.host_ip});
  }
  request.args = {{"IgnoreUnknown", "1"},
                  {"K8S_POD_NAMESPACE", config.metadata.ns},
                  {"K8S_POD_NAME", config.metadata.name},
                  {"K8S_POD_INFRA_CONTAINER_ID", pod.id.str()},
                  {"K8S_POD_UID", config.metadata.uid}};
  const PodBandwidth bandwidth = LN_TRY(BandwidthOf(config.annotations));
  request.ingress_bits_per_second = bandwidth.ingress;
  request.egress_bits_per_second = bandwidth.egress;
  request.deadline = caller.deadline;

  const auto start = [&] { return runtime_->StartPod(spec, caller.deadline); };
  const auto attach = [&]() -> Result<void> {
    request.netns = pod.netns.fd;
    request.netns_path = pod.netns.path;
    const network::Attachment attachment = LN_TRY(network_.Attach(request));
    for (const Cidr& address : attachment.addresses)
      pod.record.ips.push_back(address.address().str());
    return Ok();
  };

  if (!own_network) {
    LN_TRY(start());
  } else if (own_users) {
    LN_TRY(start());
    const UniqueFd netns = LN_TRY(runtime_->PodNetns(pod.id));
    pod.netns = LN_TRY(network_.AdoptNetns(pod.id, netns));
    LN_TRY(attach());
  } else {
    pod.netns = LN_TRY(network_.TakeNetns(pod.id));
    spec.netns = pod.netns.fd;
    auto [started, attached] = Both(start, attach);
    LN_TRY(std::move(attached));
    LN_TRY(std::move(started));
  }
  pod.record.netns_path = pod.netns.path;
  return WritePodFiles(pod.directory, config, pod.record.ips);
}

// Everything the kernel holds of the pod. Visits all of it; the first error is returned. May be
// repeated.
Result<void> Manager::TearDown(PodEntry& pod) {
  Result<void> first;
  const auto note = [&first, &pod](const char* what, Result<void> result) {
    if (result) return;
    log::Err("tear-down failed", {{"pod", pod.id}, {"step", what}, {"err", result.error()}});
    if (first) first = std::move(result).error().With(what);
  };
  note("network", network_.Detach(pod.id));
  note("processes", runtime_->RemovePod(pod.id, pod.record.cgroup_parent));
  {
    MutexLock lock(mu_);
    pod.netns = network::PodNetns{};
  }
  note("network namespace", network_.ReleaseNetns(pod.id));
  return first;
}

Result<void> Manager::StopPod(const std::string& id, const Caller& /*caller*/) {
  const PodPtr pod = FindPod(id);
  if (!pod) return Ok();
  MutexLock op(pod->op_mu);
  std::vector<ContainerPtr> containers;
  {
    MutexLock lock(mu_);
    if (pod->torn_down) return Ok();
    pod->ready = false;  // no container is created or started from here on
    pod->record.stage = PodStage::kNotReady;
    containers = pod->containers;
  }
  // Before the first act: a daemon that is killed from here on must not take the pod for a ready
  // one again. A full disk must not keep pods from going, though.
  NoteStage(*pod);
  // All are told first, then waited for: the wait is that of the slowest, not the sum.
  for (const ContainerPtr& container : containers) {
    bool running = false;
    {
      MutexLock start(container->op_mu);
      MutexLock lock(mu_);
      running = container->phase == ContainerPhase::kRunning;
    }
    if (running)
      (void)runtime_->Signal(pod->id, container->id,
                             SIGKILL);  // gone already is fine: the wait below tells
  }
  Result<void> killed;
  for (const ContainerPtr& container : containers) {
    auto done = KillAndWait(*container);
    if (!done && killed) killed = std::move(done);
  }
  LN_TRY(std::move(killed));
  LN_TRY(TearDown(*pod));
  MutexLock lock(mu_);
  pod->torn_down = true;
  return Ok();
}

Result<void> Manager::RemovePod(const std::string& id, const Caller& caller) {
  const PodPtr pod = FindPod(id);
  if (!pod) return Ok();
  LN_TRY(StopPod(id, caller));
  MutexLock op(pod->op_mu);
  {
    MutexLock lock(mu_);
    if (pod->removed) return Ok();
  }
  return RemoveLocked(pod, caller);
}

Result<void> Manager::RemoveLocked(const PodPtr& pod, const Caller& /*caller*/) {
  std::vector<ContainerPtr> containers;
  {
    MutexLock lock(mu_);
    containers = pod->containers;
  }
  for (const ContainerPtr& container : containers) {
    MutexLock op(container->op_mu);
    LN_TRY(RemoveContainerLocked(container));
  }
  pod->record.stage = PodStage::kRemoving;
  NoteStage(*pod);
  LN_TRY(RemoveAll(pod->directory));
  MutexLock lock(mu_);
  pod->removed = true;
  pods_.erase(pod->id.str());
  pods_by_key_.erase(PodKey(pod->record.config.metadata));
  return Ok();
}

}  // namespace linnet::pods
