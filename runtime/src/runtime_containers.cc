#include <algorithm>
#include <csignal>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "host/sources.h"
#include "plan/process.h"
#include "runtime_impl.h"
#include "security/capabilities.h"

namespace linnet::runtime {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr auto kStartTime = seconds(60);  // a mount may wait for a network file system
constexpr auto kAnswerTime = seconds(10);
constexpr auto kRemoveTime =
    seconds(30);  // a process in an uninterruptible system call keeps it waiting
constexpr std::size_t kMaxPrograms = 64;

Deadline Within(seconds time, Deadline limit = Deadline::max()) {
  return std::min(limit, steady_clock::now() + time);
}

template <class Message>
Command ForContainer(Message message, const ContainerId& id) {
  CopyId(message.id, id.str());
  return MakeCommand(message);
}

Result<void> CheckCapabilities(const oci::Capabilities& capabilities) {
  const CapabilityMask possible = BoundingSet();
  for (const std::string& name : capabilities.permitted) {
    const auto number = FindCapability(name);
    if (!number || (possible >> *number & 1) != 0) continue;
    return FailedPrecondition("process.capabilities: " + name +
                              " is not in the daemon's own bounding set");
  }
  return Ok();
}

// A rule list that only says what a new cgroup has anyhow.
bool AllowsEverything(const std::vector<oci::DeviceRule>& rules) {
  return rules.size() == 1 && rules[0].allow && rules[0].type == "a" && !rules[0].major &&
         !rules[0].minor;
}

}  // namespace

// -------------------------------------------------------------------------------------------------------
// check

Result<void> RuntimeImpl::CheckContainer(const PodId& pod, const ContainerSpec& spec) {
  (void)LN_TRY(Get(pod));
  LN_TRY(plan::CheckContainerSpec(spec));
  const oci::Spec& oci = spec.spec;
  if (oci.process.capabilities) LN_TRY(CheckCapabilities(*oci.process.capabilities));
  if (oci.seccomp) {
    if (!features_.seccomp)
      return Error(Code::kUnimplemented, "linux.seccomp: this kernel has no seccomp filters");
    (void)LN_TRY_CTX(SeccompFilterFlags(*oci.seccomp), "linux.seccomp");
    (void)LN_TRY_CTX(SeccompProgram(*oci.seccomp),
                     "linux.seccomp");  // compiled here, not while the container starts
  }
  if (!oci.process.apparmor_profile.empty() && !features_.apparmor) {
    return Error(Code::kUnimplemented,
                 "process.apparmorProfile: AppArmor is not active on this machine");
  }
  if (!oci.process.selinux_label.empty() && !features_.selinux) {
    return Error(Code::kUnimplemented,
                 "process.selinuxLabel: SELinux is not active on this machine");
  }
  if (!oci.uid_mappings.empty() && !features_.user_namespaces) {
    return Error(Code::kUnimplemented, "linux.uidMappings: this kernel has no user namespaces");
  }
  if (!oci.resources.unified.empty() && cgroups_->layout() != CgroupLayout::kV2) {
    return Error(Code::kUnimplemented, "linux.resources.unified: needs cgroup v2");
  }
  for (std::size_t i = 0; i < oci.mounts.size(); ++i) {
    const auto& options = oci.mounts[i].options;
    if (std::find(options.begin(), options.end(), "rro") == options.end() ||
        features_.recursive_read_only)
      continue;
    return Error(Code::kUnimplemented, "RROUnsupported: mounts[" + std::to_string(i) +
                                           "]: needs mount_setattr (Linux 5.12)");
  }
  return Ok();
}

Result<std::shared_ptr<const UniqueFd>> RuntimeImpl::SeccompProgram(const oci::Seccomp& profile) {
  const std::string program = LN_TRY(seccomp_.Get(profile));
  {
    MutexLock lock(mu_);
    const auto it = programs_.find(program);
    if (it != programs_.end()) return it->second;
  }
  auto fd = std::make_shared<const UniqueFd>(
      LN_TRY(SealedMemfd("linnet-seccomp", program, MemfdUse::kData)));
  MutexLock lock(mu_);
  if (programs_.size() >= kMaxPrograms) programs_.clear();  // keepers hold what they need
  return programs_.emplace(program, std::move(fd)).first->second;
}

// -------------------------------------------------------------------------------------------------------
// start

Result<void> RuntimeImpl::MakeContainerCgroup(const std::string& path,
                                              const oci::Resources& resources) const {
  LN_TRY(cgroups_->Make(path));
  LN_TRY_CTX(cgroups_->SetResources(path, resources), "linux.resources");
  if (resources.devices.empty() || AllowsEverything(resources.devices)) return Ok();
  LN_TRY_CTX(cgroups_->SetDevices(path, resources.devices), "linux.resources.devices");
  return Ok();
}

Result<StartedContainer> RuntimeImpl::StartContainer(const PodId& pod_id, const ContainerSpec& spec,
                                                     Deadline deadline) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  if (const auto known = pod->keeper->Find(spec.id)) {
    if (known->state == ContainerState::kRunning)
      return StartedContainer{known->pid, known->started_at_ns};
    return FailedPrecondition("container " + spec.id.str() + " was started before");
  }
  const Deadline limit = Within(kStartTime, deadline);
  const std::vector<plan::ParsedMount> mounts = LN_TRY(plan::ParseMounts(spec.spec));
  plan::ContainerInput input{
      .spec = spec, .mounts = mounts, .v1_hierarchies = cgroup_files_->hierarchies()};
  std::shared_ptr<const UniqueFd> program;
  if (spec.spec.seccomp) {
    program = LN_TRY_CTX(SeccompProgram(*spec.spec.seccomp), "linux.seccomp");
    input.seccomp = *program;
    input.seccomp_flags = LN_TRY(SeccompFilterFlags(*spec.spec.seccomp));
  }
  Sources sources = LN_TRY(OpenSources(spec, mounts));
  input.mount_trees = std::move(sources.mount_trees);
  input.device_nodes = std::move(sources.device_nodes);
  input.lower = std::move(sources.lower);
  input.upper = std::move(sources.upper);
  input.work = std::move(sources.work);
  input.plain = std::move(sources.plain);
  const UniqueFd exit_dir = LN_TRY(OpenDir(spec.directory));
  input.exit_dir = exit_dir;
  UniqueFd log_dir;
  if (!spec.log.path.empty()) {
    log_dir = LN_TRY_CTX(OpenDir(spec.log.directory), "log directory");
    input.log_dir = log_dir;
  }

  const std::string cgroup = spec.spec.cgroups_path.empty()
                                 ? JoinPath(OwnPodCgroup(pod_id), spec.id.str())
                                 : spec.spec.cgroups_path;
  Rollback undo([](const std::string& what, const Error& error) {
    log::Warn("undo failed, ignoring", {{"what", what}, {"err", error}});
  });
  undo.Add("remove cgroup " + cgroup, [&]() -> Result<void> {
    (void)cgroups_->Kill(cgroup);  // what it cannot kill shows in the removal
    LN_TRY(cgroups_->Remove(cgroup));
    return ledger_->Forget(pod_id, spec.id.str());
  });
  LN_TRY(NoteCgroup(*pod, spec.id.str(), cgroup));
  LN_TRY(MakeContainerCgroup(cgroup, spec.spec.resources));
  std::vector<UniqueFd> cgroup_fds;
  cgroup_fds.reserve(16);
  input.cgroup = LN_TRY(OpenCgroup(cgroup, cgroup_fds));

  plan::Writer writer;
  const std::string bytes = LN_TRY(plan::BuildContainer(input, writer));
  keeper::StartContainer message;
  CopyId(message.id, spec.id.str());
  auto answer =
      pod->keeper->Call(LN_TRY(MakeCommand(message, bytes, {}, writer.fds())), limit, spec.id);
  if (!answer) {
    if (answer.error().Is(Code::kDeadlineExceeded)) {
      // It may start yet: nobody would know of it.
      auto removed =
          pod->keeper->Call(ForContainer(keeper::RemoveContainer{}, spec.id), Within(kAnswerTime));
      if (!removed)
        log::Warn("late container not removed, ignoring",
                  {{"ctr", spec.id}, {"err", removed.error()}});
      pod->keeper->Forget(spec.id);
    }
    return std::move(answer).error();
  }
  const auto started = LN_TRY(answer->As<keeper::Started>());
  undo.Commit();
  return StartedContainer{.pid = started.pid, .started_at_ns = started.started_at};
}

// -----------------------------------------------------------------------------------------------------
// the rest

Result<void> RuntimeImpl::Signal(const PodId& pod_id, const ContainerId& id, int signal) {
  const PodPtr pod = Find(pod_id);
  if (!pod) return Ok();
  keeper::Signal message;
  message.signal = signal;
  auto done = pod->keeper->Call(ForContainer(message, id), Within(kAnswerTime));
  // Not known any more, or lost with the keeper, whose cgroups were killed: gone already.
  if (done || done.error().Is(Code::kNotFound) || pod->keeper->lost()) return Ok();
  return std::move(done).error();
}

Result<ContainerExit> RuntimeImpl::WaitExit(const PodId& pod_id, const ContainerId& id,
                                            Deadline deadline) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  return pod->keeper->WaitExit(id, deadline);
}

Result<void> RuntimeImpl::RemoveContainer(const PodId& pod_id, const ContainerId& id) {
  const PodPtr pod = Find(pod_id);
  std::string cgroup = JoinPath(OwnPodCgroup(pod_id), id.str());
  if (pod) {
    cgroup = CgroupOf(*pod, id);
    auto removed =
        pod->keeper->Call(ForContainer(keeper::RemoveContainer{}, id), Within(kRemoveTime));
    if (!removed && !pod->keeper->lost()) return std::move(removed).error();
  } else {
    for (const CgroupLedger::Entry& entry : LN_TRY(ledger_->List(pod_id))) {
      if (entry.name == id.str()) cgroup = entry.cgroup;
    }
  }
  (void)cgroups_->Kill(cgroup);  // what it cannot kill shows in the removal
  LN_TRY(cgroups_->Remove(cgroup));
  LN_TRY(ledger_->Forget(pod_id, id.str()));
  if (!pod) return Ok();
  pod->keeper->Forget(id);
  MutexLock lock(pod->mu);
  pod->cgroups.erase(id.str());
  return Ok();
}

Result<void> RuntimeImpl::ReopenLog(const PodId& pod_id, const ContainerId& id) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  auto done = pod->keeper->Call(ForContainer(keeper::ReopenLog{}, id), Within(kAnswerTime));
  if (done) return Ok();
  if (done.error().IsErrno(ESRCH) || done.error().IsErrno(ENOENT)) {
    const auto known = pod->keeper->Find(id);
    if (!known || known->state != ContainerState::kRunning) {
      return FailedPrecondition("container " + id.str() + " is not running");
    }
  }
  return std::move(done).error();
}

Result<void> RuntimeImpl::UpdateResources(const PodId& pod_id, const ContainerId& id,
                                          const oci::Resources& resources) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  const auto known = pod->keeper->Find(id);
  if (!known || known->state != ContainerState::kRunning) {
    return FailedPrecondition("container " + id.str() + " is not running");
  }
  return cgroups_->SetResources(CgroupOf(*pod, id), resources);
}

Result<std::vector<ContainerInfo>> RuntimeImpl::ListContainers(const PodId& pod_id) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  return pod->keeper->Containers();
}

Result<CgroupUsage> RuntimeImpl::ContainerUsage(const PodId& pod_id, const ContainerId& id) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  return cgroups_->ReadUsage(CgroupOf(*pod, id));
}

Result<CgroupUsage> RuntimeImpl::PodUsage(const PodId& pod, const std::string& cgroup_parent) {
  return cgroups_->ReadUsage(cgroup_parent.empty() ? OwnPodCgroup(pod) : cgroup_parent);
}

}  // namespace linnet::runtime
