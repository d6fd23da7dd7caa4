// One way to start: read the records, compare with the kernel, finish or undo what was under way.
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

#include "manager.h"

namespace linnet::pods {
namespace {

constexpr auto kAdoptTimeout = std::chrono::seconds(5);

}  // namespace

// Nothing is known of the pod but its name: everything is undone by owner.
void Manager::Discard(const PodId& id, const std::string& directory,
                      const std::string& cgroup_parent) {
  const auto note = [&id](const char* what, const Result<void>& result) {
    if (!result)
      log::Warn("left-over not removed, ignoring",
                {{"pod", id}, {"what", what}, {"err", result.error()}});
  };
  note("network", network_.Detach(id));
  note("processes", runtime_->RemovePod(id, cgroup_parent));
  note("network namespace", network_.ReleaseNetns(id));
  note("files", RemoveAll(directory));
  log::Info("half-made pod removed", {{"pod", id}});
}

void Manager::LoadContainers(const PodPtr& pod) {
  const std::string dir = JoinPath(pod->directory, "containers");
  auto names = ListDir(dir);
  if (!names) return;
  for (const std::string& name : *names) {
    const std::string directory = JoinPath(dir, name);
    auto id = ContainerId::Parse(name);
    auto text = ReadFile(JoinPath(directory, "container.json"));
    auto record =
        text ? ParseContainerRecord(*text) : Result<ContainerRecord>(std::move(text).error());
    if (!id || !record || record->id != name) {
      auto removed = RemoveAll(directory);
      if (!removed)
        log::Warn("half-made container not removed, ignoring",
                  {{"ctr", name}, {"err", removed.error()}});
      continue;
    }
    auto container = std::make_shared<ContainerEntry>(*std::move(id));
    container->pod = pod;
    container->directory = directory;
    container->record = *std::move(record);
    if (auto image = oci::Digest::Parse(container->record.image_id)) {
      auto hold = images_.Hold(*image);
      if (hold) container->image_hold = *std::move(hold);
    }
    MutexLock lock(mu_);
    if (container->record.start_failed) container->phase = ContainerPhase::kExited;
    pod->containers.push_back(container);
    containers_.emplace(name, container);
  }
}

// Connects to the pod's keeper; without one, what ran is over.
void Manager::AdoptOrBury(const PodPtr& pod, const std::string& boot_id) {
  Result<std::vector<runtime::ContainerInfo>> alive = NotFound("from before the last boot");
  const bool was_ready = pod->record.stage == PodStage::kReady;
  if (was_ready && pod->record.boot_id == boot_id)
    alive = runtime_->AdoptPod(pod->id, clock_.Now() + kAdoptTimeout);
  if (alive && pod->record.config.namespaces.network == NsMode::kPod) {
    auto netns = network_.OpenNetns(pod->id);
    if (netns) {
      pod->netns = *std::move(netns);
    } else {
      log::Err("pod has lost its network namespace", {{"pod", pod->id}, {"err", netns.error()}});
      alive = std::move(netns).error();
    }
  }
  MutexLock lock(mu_);
  pod->ready = alive.has_value();
  for (const ContainerPtr& container : pod->containers) {
    if (container->phase == ContainerPhase::kExited) continue;
    const runtime::ContainerInfo* info = nullptr;
    if (alive) {
      for (const auto& i : *alive) {
        if (i.id == container->id) info = &i;
      }
    }
    if (info != nullptr && info->state == runtime::ContainerState::kRunning) {
      container->phase = ContainerPhase::kRunning;
      container->pid = info->pid;
      container->started_at_ns = info->started_at_ns;
      continue;
    }
    if (info != nullptr && info->exit) {
      ApplyExit(*container, *info->exit);
      continue;
    }
    auto exit = runtime::ReadExitRecord(container->id, container->directory);
    if (exit) {
      ApplyExit(*container, *exit);
    } else if (!alive) {
      // Created and never started, or lost with its keeper: only the keeper would know.
      container->phase = ContainerPhase::kRunning;
      MarkLost(*container);
    }
  }
}

void Manager::LoadPod(const std::string& name, const std::string& boot_id) {
  const std::string directory = JoinPath(pods_dir_, name);
  auto id = PodId::Parse(name);
  if (!id) {
    log::Warn("unknown entry in the pods' directory, ignoring", {{"name", name}});
    return;
  }
  auto text = ReadFile(JoinPath(directory, "pod.json"));
  auto record = text ? ParsePodRecord(*text) : Result<PodRecord>(std::move(text).error());
  if (!record || record->id != name || record->stage == PodStage::kCreating ||
      record->stage == PodStage::kRemoving) {
    Discard(*id, directory, record ? record->cgroup_parent : std::string());
    return;
  }
  auto pod = std::make_shared<PodEntry>(*std::move(id));
  pod->directory = directory;
  pod->record = *std::move(record);
  LoadContainers(pod);
  AdoptOrBury(pod, boot_id);
  MutexLock lock(mu_);
  pods_by_key_.emplace(PodKey(pod->record.config.metadata), pod);
  pods_.emplace(name, std::move(pod));
}

Result<void> Manager::Recover() {
  const std::string boot_id = LN_TRY(BootId());
  const std::vector<std::string> names = LN_TRY(ListDir(pods_dir_));
  for (const std::string& name : names) LoadPod(name, boot_id);

  std::vector<PodId> known;     // their network stays
  std::vector<PodId> alive;     // their processes stay
  std::vector<PodPtr> to_stop;  // lost, stopped or half stopped: what is left of them goes now, not
                                // at the client's leisure
  {
    MutexLock lock(mu_);
    for (const auto& [id, pod] : pods_) {
      if (pod->ready) {
        known.push_back(pod->id);
        alive.push_back(pod->id);
      } else {
        to_stop.push_back(pod);
      }
    }
  }
  for (const PodPtr& pod : to_stop) {
    auto stopped = StopPod(pod->id.str(), Caller{});
    if (!stopped) {
      log::Warn("lost pod not cleaned up, ignoring", {{"pod", pod->id}, {"err", stopped.error()}});
      known.push_back(pod->id);  // a later StopPodSandbox tries again
    }
  }
  LN_TRY_CTX(network_.Recover(known), "recover networks");
  LN_TRY_CTX(runtime_->Sweep(alive), "sweep processes");
  log::Info("recovered", {{"pods", names.size()}, {"ready", alive.size()}});
  return Ok();
}

}  // namespace linnet::pods
