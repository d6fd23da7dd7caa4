#include "linnet/runtime/runtime.h"

#include "linnet/base/file.h"

#include "host/features.h"
#include "runtime_impl.h"

namespace linnet::runtime {

Result<std::unique_ptr<Runtime>> Runtime::Create(const RuntimeOptions& options,
                                                 RuntimeEvents events) {
  RuntimeImpl::Parts parts;
  parts.cgroups = LN_TRY(CgroupManager::Create());
  parts.cgroup_files =
      std::make_unique<CgroupFiles>(LN_TRY(CgroupFiles::Open(parts.cgroups->layout())));
  parts.ledger = std::make_unique<CgroupLedger>(
      LN_TRY(CgroupLedger::Open(JoinPath(options.state_dir, "cgroups"))));
  parts.launcher =
      LN_TRY(KeeperLauncher::Create({.keeper_path = options.keeper_path,
                                     .directory = JoinPath(options.state_dir, "keepers"),
                                     .cgroup = JoinPath(options.cgroup_root, "keepers")},
                                    *parts.cgroups));
  parts.loop = LN_TRY(EventLoop::Create());
  return std::unique_ptr<Runtime>(
      std::make_unique<RuntimeImpl>(options, std::move(events), std::move(parts)));
}

RuntimeImpl::RuntimeImpl(RuntimeOptions options, RuntimeEvents events, Parts parts)
    : options_(std::move(options)),
      events_(std::move(events)),
      cgroups_(std::move(parts.cgroups)),
      cgroup_files_(std::move(parts.cgroup_files)),
      ledger_(std::move(parts.ledger)),
      launcher_(std::move(parts.launcher)),
      features_(ProbeFeatures(cgroups_->layout())),
      seccomp_(options_.cache_dir),
      loop_(std::move(parts.loop)) {}

// Keepers go on: the next daemon adopts them.
RuntimeImpl::~RuntimeImpl() {
  std::unordered_map<PodId, PodPtr> pods;
  {
    MutexLock lock(mu_);
    pods.swap(pods_);
  }
  pods.clear();  // while the loop, which they leave, is there
  loop_.reset();
}

RuntimeImpl::PodPtr RuntimeImpl::Find(const PodId& pod) const {
  MutexLock lock(mu_);
  const auto it = pods_.find(pod);
  return it == pods_.end() ? nullptr : it->second;
}

Result<RuntimeImpl::PodPtr> RuntimeImpl::Get(const PodId& pod) const {
  PodPtr found = Find(pod);
  if (!found) return NotFound("pod " + pod.str() + " does not run");
  return found;
}

// ------------------------------------------------------------------------------------------------------
// cgroups

std::string RuntimeImpl::OwnPodCgroup(const PodId& pod) const {
  return JoinPath(JoinPath(options_.cgroup_root, "pods"), pod.str());
}

bool RuntimeImpl::IsOwn(const PodId& pod, const std::string& cgroup) const {
  return CleanPath(cgroup).starts_with(OwnPodCgroup(pod) + "/");
}

Result<void> RuntimeImpl::NoteCgroup(Pod& pod, const std::string& name, const std::string& cgroup) {
  if (!IsOwn(pod.id, cgroup)) LN_TRY(ledger_->Note(pod.id, name, cgroup));
  MutexLock lock(pod.mu);
  pod.cgroups[name] = cgroup;
  return Ok();
}

std::string RuntimeImpl::CgroupOf(Pod& pod, const ContainerId& id) const {
  MutexLock lock(pod.mu);
  const auto it = pod.cgroups.find(id.str());
  return it != pod.cgroups.end() ? it->second : JoinPath(OwnPodCgroup(pod.id), id.str());
}

Result<plan::CgroupInput> RuntimeImpl::OpenCgroup(const std::string& path,
                                                  std::vector<UniqueFd>& owned) const {
  CgroupEntry entry = LN_TRY_CTX(cgroups_->OpenEntry(path), "cgroup " + path);
  plan::CgroupInput out;
  const auto keep = [&owned](UniqueFd fd) {
    if (!fd) return FdRef(-1);
    owned.push_back(std::move(fd));
    return owned.back().ref();
  };
  out.v2_dir = keep(std::move(entry.v2_dir));
  out.freezer_dir = keep(cgroup_files_->OpenFreezer(path));
  out.oom_counter = keep(cgroup_files_->OpenOomCounter(path));
  for (UniqueFd& tasks : entry.v1_tasks) out.v1_tasks.push_back(keep(std::move(tasks)));
  return out;
}

Result<void> RuntimeImpl::RemoveCgroups(const PodId& pod, Pod* known) {
  Result<void> first;
  const auto remove = [&](const std::string& cgroup) {
    (void)cgroups_->Kill(cgroup);  // what it cannot kill shows in the removal
    auto removed = cgroups_->Remove(cgroup);
    if (!removed && first) first = std::move(removed);
    return removed.has_value();
  };
  // The daemon's own: everything below belongs to the pod.
  (void)remove(OwnPodCgroup(pod));
  std::map<std::string, std::string> others;
  if (auto entries = ledger_->List(pod)) {
    for (CgroupLedger::Entry& entry : *entries)
      others.emplace(std::move(entry.name), std::move(entry.cgroup));
  }
  if (known != nullptr) {
    MutexLock lock(known->mu);
    for (const auto& [name, cgroup] : known->cgroups) {
      if (!IsOwn(pod, cgroup)) others.emplace(name, cgroup);
    }
  }
  for (const auto& [name, cgroup] : others) (void)remove(cgroup);
  LN_TRY(std::move(first));
  return ledger_->ForgetPod(pod);
}

}  // namespace linnet::runtime
