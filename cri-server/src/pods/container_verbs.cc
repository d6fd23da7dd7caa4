#include <sys/stat.h>

#include <algorithm>
#include <csignal>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "manager.h"
#include "spec_builder.h"
#include "validate.h"

namespace linnet::pods {
namespace {

// How long a killed process may take to be gone: a process in an uninterruptible system call keeps
// it waiting.
constexpr auto kKillTimeout = std::chrono::seconds(30);

Error NoContainer(const std::string& id) {
  return NotFound("container \"" + id + "\" does not exist");
}

Error NoImage(const std::string& image) {
  return NotFound("image \"" + image + "\" is not on this node (pull it first)");
}

}  // namespace

Result<ContainerId> Manager::CheckPidTarget(const PodEntry& pod, const std::string& target) const {
  const ContainerPtr container = FindContainer(target);
  if (!container || container->pod.get() != &pod) {
    return InvalidArgument("namespace_options.target_id: container \"" + target +
                           "\" is not in this pod");
  }
  MutexLock lock(mu_);
  if (container->phase != ContainerPhase::kRunning) {
    return FailedPrecondition("namespace_options.target_id: container \"" + target +
                              "\" is not running");
  }
  return container->id;
}

Result<std::string> Manager::CreateContainer(const std::string& pod_id,
                                             const ContainerConfig& config, const Caller& caller) {
  const PodPtr pod = FindPod(pod_id);
  if (!pod) return NotFound("pod sandbox \"" + pod_id + "\" does not exist");
  LN_TRY(ValidateContainer(config, pod->record.config));
  const std::string key = "container " + pod_id + " " + config.metadata.name + " " +
                          std::to_string(config.metadata.attempt);
  return SingleFlight(key, caller, [&] { return MakeContainer(pod, config, caller); });
}

Result<std::string> Manager::MakeContainer(const PodPtr& pod, const ContainerConfig& config,
                                           const Caller& caller) {
  {
    MutexLock lock(mu_);
    if (!pod->ready)
      return FailedPrecondition("pod sandbox \"" + pod->id.str() + "\" is not ready");
    for (const ContainerPtr& other : pod->containers) {
      const ContainerMetadata& m = other->record.config.metadata;
      if (m.name != config.metadata.name || m.attempt != config.metadata.attempt) continue;
      if (!other->undelivered || other->phase != ContainerPhase::kCreated) {
        return AlreadyExists("container \"" + m.name + "\", attempt " + std::to_string(m.attempt) +
                             ", exists already: " + other->id.str());
      }
      other->undelivered = caller.gone();
      return other->id.str();
    }
  }
  const std::shared_ptr<const oci::Image> image = images_.Find(config.image.image);
  if (!image) return NoImage(config.image.image);

  auto container = std::make_shared<ContainerEntry>(ContainerId::Generate());
  container->pod = pod;
  container->directory = JoinPath(JoinPath(pod->directory, "containers"), container->id.str());
  container->image_hold = LN_TRY(images_.Hold(image->id));

  Rollback undo([](const std::string& what, const Error& error) {
    log::Err("undo failed", {{"what", what}, {"err", error}});
  });
  undo.Add("remove " + container->directory, [&] { return RemoveAll(container->directory); });
  LN_TRY(MakeDirs(container->directory, 0700));

  SpecInput input{.config = config,
                  .pod = pod->record.config,
                  .image = *image,
                  .id = container->id,
                  .pod_dir = pod->directory,
                  .container_dir = container->directory,
                  .cgroup_root = options_.cgroup_root,
                  .pod_id = pod->id.str(),
                  .netns_path = pod->record.netns_path,
                  .pid_target = {},
                  .devices = options_.devices};
  if (config.security.namespaces.pid == NsMode::kTarget) {
    input.pid_target = LN_TRY(CheckPidTarget(*pod, config.security.namespaces.target_id));
  }
  BuiltSpec built = LN_TRY(BuildContainerSpec(input));
  LN_TRY(runtime_->CheckContainer(pod->id, built.spec));

  ContainerRecord& record = container->record;
  record.id = container->id.str();
  record.pod_id = pod->id.str();
  record.created_at_ns = clock_.WallNanos();
  record.image_id = image->id.str();
  record.image_ref = image->repo_digests.empty() ? image->id.str() : image->repo_digests.front();
  record.image_name = !image->repo_tags.empty() ? image->repo_tags.front()
                      : !config.image.user_specified_image.empty()
                          ? config.image.user_specified_image
                          : config.image.image;
  record.stop_signal = built.stop_signal;
  record.user = built.user;
  record.config = config;
  if (!built.spec.log.path.empty()) {
    record.log_path = JoinPath(built.spec.log.directory, built.spec.log.path);
    LN_TRY_CTX(MakeDirs(Dirname(record.log_path), 0755), "log_path");
  }
  LN_TRY(ReplaceFile(JoinPath(container->directory, "config.json"), built.spec.spec.Dump()));
  LN_TRY(ReplaceFile(JoinPath(container->directory, "container.json"), DumpRecord(record)));
  container->process = std::make_shared<const oci::Process>(built.spec.spec.process);
  container->spec = std::make_unique<runtime::ContainerSpec>(std::move(built.spec));

  MutexLock lock(mu_);
  if (!pod->ready)
    return FailedPrecondition("pod sandbox \"" + pod->id.str() + "\" was stopped meanwhile");
  undo.Commit();
  container->undelivered = caller.gone();
  pod->containers.push_back(container);
  containers_.emplace(container->id.str(), container);
  return container->id.str();
}

// After a restart of the daemon: the spec of a container that was created and not yet started.
Result<std::unique_ptr<runtime::ContainerSpec>> Manager::RebuildSpec(
    const ContainerEntry& c) const {
  const std::shared_ptr<const oci::Image> image = images_.Find(c.record.image_id);
  if (!image) return NoImage(c.record.image_id);
  SpecInput input{.config = c.record.config,
                  .pod = c.pod->record.config,
                  .image = *image,
                  .id = c.id,
                  .pod_dir = c.pod->directory,
                  .container_dir = c.directory,
                  .cgroup_root = options_.cgroup_root,
                  .pod_id = c.pod->id.str(),
                  .netns_path = c.pod->record.netns_path,
                  .pid_target = {},
                  .devices = options_.devices};
  if (c.record.config.security.namespaces.pid == NsMode::kTarget) {
    input.pid_target =
        LN_TRY(CheckPidTarget(*c.pod, c.record.config.security.namespaces.target_id));
  }
  return std::make_unique<runtime::ContainerSpec>(LN_TRY(BuildContainerSpec(input)).spec);
}

Result<void> Manager::StartContainer(const std::string& id, const Caller& caller) {
  const ContainerPtr container = FindContainer(id);
  if (!container) return NoContainer(id);
  MutexLock op(container->op_mu);
  std::unique_ptr<runtime::ContainerSpec> spec;
  {
    MutexLock lock(mu_);
    if (container->removed) return NoContainer(id);
    if (container->phase != ContainerPhase::kCreated) {
      return FailedPrecondition("container \"" + id + "\" was started before");
    }
    if (!container->pod->ready) {
      return FailedPrecondition("pod sandbox \"" + container->pod->id.str() + "\" is not ready");
    }
    spec = std::move(container->spec);
  }
  Result<runtime::StartedContainer> started = [&]() -> Result<runtime::StartedContainer> {
    if (!spec) spec = LN_TRY(RebuildSpec(*container));
    return runtime_->StartContainer(container->pod->id, *spec, caller.deadline);
  }();
  if (!started) {
    ContainerRecord record;
    {
      MutexLock lock(mu_);
      container->phase = ContainerPhase::kExited;
      container->record.start_failed = true;
      container->record.finished_at_ns = clock_.WallNanos();
      container->record.exit_code = 128;
      container->record.reason = "StartError";
      container->record.message = started.error().message();
      record = container->record;
    }
    auto written =
        ReplaceFile(JoinPath(container->directory, "container.json"), DumpRecord(record));
    if (!written)
      log::Warn("record not written, ignoring", {{"ctr", id}, {"err", written.error()}});
    return std::move(started).error();
  }
  MutexLock lock(mu_);
  if (container->phase == ContainerPhase::kCreated) {  // it may have ended before this line
    container->phase = ContainerPhase::kRunning;
    container->pid = started->pid;
    container->started_at_ns = started->started_at_ns;
  }
  return Ok();
}

// The container is dead, its exit known, when this succeeds.
Result<void> Manager::KillAndWait(const ContainerEntry& c) {
  {
    MutexLock lock(mu_);
    if (c.phase != ContainerPhase::kRunning) return Ok();
  }
  LN_TRY(runtime_->Signal(c.pod->id, c.id, SIGKILL));
  auto exit = runtime_->WaitExit(c.pod->id, c.id, clock_.Now() + kKillTimeout);
  const ContainerPtr container = FindContainer(c.id.str());
  if (!container) return Ok();
  MutexLock lock(mu_);
  if (exit) {
    ApplyExit(*container, *exit);
  } else if (container->phase == ContainerPhase::kRunning &&
             !exit.error().Is(Code::kDeadlineExceeded)) {
    MarkLost(*container);  // nobody knows of it any more: it does not run
  } else if (container->phase == ContainerPhase::kRunning) {
    return std::move(exit).error();
  }
  return Ok();
}

Result<void> Manager::StopContainer(const std::string& id, std::chrono::seconds timeout,
                                    const Caller& /*caller*/) {
  const ContainerPtr container = FindContainer(id);
  if (!container) return Ok();
  int signal = SIGTERM;
  {
    MutexLock lock(mu_);
    if (container->phase != ContainerPhase::kRunning) return Ok();
    signal = container->record.stop_signal;
  }
  if (timeout.count() > 0) {
    LN_TRY(runtime_->Signal(container->pod->id, container->id, signal));
    // Another stop with a shorter time kills meanwhile, and this wait ends with it.
    auto exit = runtime_->WaitExit(container->pod->id, container->id, clock_.Now() + timeout);
    if (exit) {
      MutexLock lock(mu_);
      ApplyExit(*container, *exit);
      return Ok();
    }
  }
  return KillAndWait(*container);
}

Result<void> Manager::RemoveContainer(const std::string& id, const Caller& /*caller*/) {
  const ContainerPtr container = FindContainer(id);
  if (!container) return Ok();
  MutexLock op(container->op_mu);
  return RemoveContainerLocked(container);
}

Result<void> Manager::RemoveContainerLocked(const ContainerPtr& container) {
  {
    MutexLock lock(mu_);
    if (container->removed) return Ok();
  }
  LN_TRY(KillAndWait(*container));
  LN_TRY(runtime_->RemoveContainer(container->pod->id, container->id));
  // The record goes first: a directory without one is removed by recovery.
  LN_TRY(RemoveFile(JoinPath(container->directory, "container.json")));
  LN_TRY(RemoveAll(container->directory));
  MutexLock lock(mu_);
  container->removed = true;
  container->image_hold.reset();
  std::erase(container->pod->containers, container);
  containers_.erase(container->id.str());
  return Ok();
}

Result<void> Manager::UpdateContainer(const std::string& id, const Resources& resources) {
  LN_TRY(ValidateResources(resources));
  const ContainerPtr container = FindContainer(id);
  if (!container) return NoContainer(id);
  MutexLock op(container->op_mu);
  ContainerRecord record;
  bool running = false;
  {
    MutexLock lock(mu_);
    if (container->removed) return NoContainer(id);
    running = container->phase == ContainerPhase::kRunning;
    if (!running && container->phase != ContainerPhase::kCreated) {
      return FailedPrecondition("container \"" + id + "\" has ended");
    }
    record = container->record;
  }
  const Resources before = record.config.resources;
  record.config.resources = MergeResources(before, resources);
  if (running) {
    auto updated = runtime_->UpdateResources(container->pod->id, container->id,
                                             BuildResources(record.config.resources));
    if (!updated) {
      auto undone =
          runtime_->UpdateResources(container->pod->id, container->id, BuildResources(before));
      if (!undone)
        log::Warn("limits are half changed, ignoring", {{"ctr", id}, {"err", undone.error()}});
      return updated;
    }
  }
  LN_TRY(ReplaceFile(JoinPath(container->directory, "container.json"), DumpRecord(record)));
  MutexLock lock(mu_);
  container->record.config.resources = record.config.resources;
  container->spec.reset();  // a start to come builds it anew
  return Ok();
}

Result<void> Manager::ReopenLog(const std::string& id) {
  const ContainerPtr container = FindContainer(id);
  if (!container) return NoContainer(id);
  {
    MutexLock lock(mu_);
    if (container->phase != ContainerPhase::kRunning)
      return FailedPrecondition("container \"" + id + "\" is not running");
  }
  return runtime_->ReopenLog(container->pod->id, container->id);
}

Result<std::shared_ptr<const oci::Process>> Manager::ProcessOf(const ContainerPtr& container) {
  {
    MutexLock lock(mu_);
    if (container->process) return container->process;
  }
  const std::string text = LN_TRY(ReadFile(JoinPath(container->directory, "config.json")));
  auto process = std::make_shared<const oci::Process>(LN_TRY(oci::Spec::Parse(text)).process);
  MutexLock lock(mu_);
  container->process = process;
  return std::shared_ptr<const oci::Process>(std::move(process));
}

Result<ExecSyncResult> Manager::ExecSync(const std::string& id,
                                         const std::vector<std::string>& command,
                                         std::chrono::seconds timeout, const Caller& /*caller*/) {
  const ContainerPtr container = FindContainer(id);
  if (!container) return NoContainer(id);
  if (command.empty()) return InvalidArgument("cmd: must not be empty");
  {
    MutexLock lock(mu_);
    if (container->phase != ContainerPhase::kRunning)
      return FailedPrecondition("container \"" + id + "\" is not running");
  }
  oci::Process process = *LN_TRY(ProcessOf(container));
  process.args = command;
  process.terminal = false;
  runtime::ExecOutput out =
      LN_TRY(runtime_->ExecSync(container->pod->id, container->id, process, timeout));
  return ExecSyncResult{
      .exit_code = out.exit_code, .out = std::move(out.out), .err = std::move(out.err)};
}

}  // namespace linnet::pods
