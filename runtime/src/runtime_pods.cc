#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "runtime_impl.h"

namespace linnet::runtime {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

// What a keeper may take at most; all are a thousand times what it takes.
constexpr auto kSetUpTime = seconds(30);
constexpr auto kAnswerTime = seconds(10);
constexpr auto kEndTime = seconds(5);

Deadline Within(seconds time, Deadline limit = Deadline::max()) {
  return std::min(limit, steady_clock::now() + time);
}

void LogUndoFailure(const std::string& what, const Error& error) {
  log::Warn("undo failed, ignoring", {{"what", what}, {"err", error}});
}

}  // namespace

std::shared_ptr<KeeperClient> RuntimeImpl::MakeClient(const PodPtr& pod, UniqueFd socket) {
  // The pod owns the client: its callbacks must not own the pod.
  KeeperClient::Callbacks callbacks{.on_exit =
                                        [this, id = pod->id](const ContainerExit& exit) {
                                          if (events_.on_exit) events_.on_exit(id, exit);
                                        },
                                    .on_lost = [this, id = pod->id] { OnKeeperLost(id); }};
  return std::make_shared<KeeperClient>(std::move(socket), *loop_, std::move(callbacks),
                                        [this, id = pod->id] { return launcher_->Connect(id); });
}

// Kills what the keeper left; it is nobody's child any more.
void RuntimeImpl::OnKeeperLost(const PodId& id) {
  log::Err("keeper lost", {{"pod", id}});
  std::vector<std::string> cgroups = {OwnPodCgroup(id)};
  if (const PodPtr pod = Find(id)) {
    MutexLock lock(pod->mu);
    for (const auto& [name, cgroup] : pod->cgroups) {
      if (!IsOwn(id, cgroup)) cgroups.push_back(cgroup);
    }
  }
  for (const std::string& cgroup : cgroups) {
    auto killed = cgroups_->Kill(cgroup);
    if (!killed)
      log::Err("lost pod's processes not killed", {{"pod", id}, {"err", killed.error()}});
  }
  auto removed = launcher_->RemoveSocket(id);
  if (!removed) log::Warn("socket not removed, ignoring", {{"pod", id}, {"err", removed.error()}});
  if (events_.on_keeper_lost) events_.on_keeper_lost(id);
}

// -------------------------------------------------------------------------------------------------------
// start

Result<void> RuntimeImpl::SetUpPod(Pod& pod, const PodSpec& spec, Deadline deadline) {
  // Greeting and plan go out at once: the keeper reads them when it has started.
  const KeeperClient::Number hello =
      LN_TRY(pod.keeper->Send(MakeCommand(keeper::Hello{}), deadline));
  std::vector<UniqueFd> owned;
  plan::PodInput input{.spec = spec, .cgroup = {}};
  const std::string parent = spec.cgroup_parent.empty() ? OwnPodCgroup(pod.id) : spec.cgroup_parent;
  const auto send = [&]() -> Result<KeeperClient::Number> {
    if (spec.pid == NamespaceMode::kPod) {
      const std::string holder = JoinPath(parent, pod.id.str());
      LN_TRY(NoteCgroup(pod, pod.id.str(), holder));
      LN_TRY(cgroups_->Make(holder));
      input.cgroup = LN_TRY(OpenCgroup(holder, owned));
    } else if (spec.cgroup_parent.empty()) {
      LN_TRY(cgroups_->Make(parent));
    }
    plan::Writer writer;
    const std::string bytes = LN_TRY(plan::BuildPod(input, writer));
    return pod.keeper->Send(LN_TRY(MakeCommand(keeper::SetupPod{}, bytes, {}, writer.fds())),
                            deadline);
  };
  auto setup = send();
  auto greeted = pod.keeper->Wait(hello, deadline);
  const KeeperClient::Number number = LN_TRY(std::move(setup));
  auto done = pod.keeper->Wait(number, deadline);
  LN_TRY_CTX(std::move(greeted), "start keeper");
  LN_TRY(std::move(done));
  return Ok();
}

Result<void> RuntimeImpl::StartPod(const PodSpec& spec, Deadline deadline) {
  if (Find(spec.id)) return AlreadyExists("pod " + spec.id.str() + " runs");
  const Deadline limit = Within(kSetUpTime, deadline);
  auto pod = std::make_shared<Pod>(spec.id);
  Rollback undo(LogUndoFailure);
  undo.Add("remove the keeper's socket", [&] { return launcher_->RemoveSocket(spec.id); });
  undo.Add("remove cgroups", [&] { return RemoveCgroups(spec.id, pod.get()); });
  auto started = launcher_->Start(spec.id);
  if (!started) {
    if (started.error().Is(Code::kAlreadyExists))
      undo.Commit();  // what is there is not ours to undo
    return std::move(started).error();
  }
  pod->keeper = MakeClient(pod, std::move(started->socket));
  undo.Add("end the keeper", [&]() -> Result<void> {
    pod->keeper->ExpectEnd();
    pod->keeper->Kill();
    return pod->keeper->WaitEnd(Within(kEndTime));
  });
  LN_TRY(pod->keeper->Watch(std::move(started->pidfd)));
  LN_TRY(SetUpPod(*pod, spec, limit));
  {
    MutexLock lock(mu_);
    if (!pods_.emplace(spec.id, pod).second) return AlreadyExists("pod " + spec.id.str() + " runs");
  }
  if (!pod->keeper->Publish()) {  // dead between its answer and this line
    MutexLock lock(mu_);
    pods_.erase(spec.id);
    return Unavailable("the pod's keeper ended");
  }
  undo.Commit();
  return Ok();
}

Result<UniqueFd> RuntimeImpl::PodNetns(const PodId& id) {
  const PodPtr pod = LN_TRY(Get(id));
  keeper::GetPodNamespace command;
  command.kind = keeper::NamespaceKind::kNetwork;
  KeeperClient::Answer answer =
      LN_TRY(pod->keeper->Call(MakeCommand(command), Within(kAnswerTime)));
  if (!answer.fd) return Internal("keeper sent no network namespace");
  return std::move(answer.fd);
}

// -------------------------------------------------------------------------------------------------------
// adopt

Result<RuntimeImpl::PodPtr> RuntimeImpl::ConnectPod(const PodId& id, Deadline deadline) {
  UniqueFd socket = LN_TRY(launcher_->Connect(id));
  auto pod = std::make_shared<Pod>(id);
  pod->keeper = MakeClient(pod, std::move(socket));
  LN_TRY(pod->keeper->Watch({}));
  LN_TRY(pod->keeper->Greet(deadline));
  for (CgroupLedger::Entry& entry : LN_TRY(ledger_->List(id))) {
    MutexLock lock(pod->mu);
    pod->cgroups.emplace(std::move(entry.name), std::move(entry.cgroup));
  }
  return pod;
}

namespace {

std::vector<ContainerId> Starting(const KeeperClient& keeper) {
  std::vector<ContainerId> out;
  for (const ContainerInfo& c : keeper.Containers()) {
    if (c.state == ContainerState::kCreated) out.push_back(c.id);
  }
  return out;
}

// Starts that were under way when the daemon died: decided within milliseconds, or else (a mount
// that hangs) undone. The client was told nothing of them, and may ask again.
Result<void> SettleStarts(KeeperClient& keeper, Deadline deadline) {
  for (int i = 0; i < 100 && !Starting(keeper).empty(); ++i) {
    (void)LN_TRY(keeper.Call(MakeCommand(keeper::ListContainers{}), deadline));
  }
  for (const ContainerId& id : Starting(keeper)) {
    keeper::RemoveContainer remove;
    CopyId(remove.id, id.str());
    (void)LN_TRY(keeper.Call(MakeCommand(remove), deadline));
    keeper.Forget(id);
  }
  return Ok();
}

}  // namespace

Result<std::vector<ContainerInfo>> RuntimeImpl::AdoptPod(const PodId& id, Deadline deadline) {
  if (const PodPtr known = Find(id)) return known->keeper->Containers();
  const Deadline limit = Within(kAnswerTime, deadline);
  const auto bury = [&](Error error) -> Error {
    (void)launcher_->KillByName(id);
    auto removed = RemoveCgroups(id, nullptr);
    if (!removed)
      log::Warn("left-over cgroups not removed, ignoring", {{"pod", id}, {"err", removed.error()}});
    auto gone = launcher_->RemoveSocket(id);
    if (!gone) log::Warn("socket not removed, ignoring", {{"pod", id}, {"err", gone.error()}});
    return std::move(error).As(Code::kNotFound);
  };
  auto pod = ConnectPod(id, limit);
  if (!pod) return bury(std::move(pod).error());
  KeeperClient& keeper = *(*pod)->keeper;
  if (!keeper.pod_is_set_up())
    return bury(NotFound("keeper of pod " + id.str() + " has not been set up"));
  LN_TRY(SettleStarts(keeper, limit));
  {
    MutexLock lock(mu_);
    pods_.emplace(id, *pod);
  }
  if (!keeper.Publish()) {
    {
      MutexLock lock(mu_);
      pods_.erase(id);
    }
    return bury(NotFound("keeper of pod " + id.str() + " has ended"));
  }
  return keeper.Containers();
}

// ------------------------------------------------------------------------------------------------------
// remove

// Orderly, else by force. Afterwards it is dead, unless the kernel cannot kill it.
void RuntimeImpl::EndKeeper(Pod& pod) {
  pod.keeper->ExpectEnd();
  auto ended = pod.keeper->Call(MakeCommand(keeper::ExitPod{}), Within(kEndTime));
  // kUnavailable: it ended with the answer under way, or before.
  if (!ended && !ended.error().Is(Code::kUnavailable)) {
    log::Warn("keeper does not end, killing it", {{"pod", pod.id}, {"err", ended.error()}});
    pod.keeper->Kill();
  }
  auto gone = pod.keeper->WaitEnd(Within(seconds(1)));
  if (gone) return;
  pod.keeper->Kill();
  gone = pod.keeper->WaitEnd(Within(kEndTime));
  if (!gone) log::Err("keeper was killed and still runs", {{"pod", pod.id}});
}

Result<void> RuntimeImpl::RemovePod(const PodId& id, const std::string& cgroup_parent) {
  PodPtr pod;
  {
    MutexLock lock(mu_);
    const auto it = pods_.find(id);
    if (it != pods_.end()) {
      pod = std::move(it->second);
      pods_.erase(it);
    }
  }
  if (!pod) {  // of an earlier daemon, or already removed
    auto connected = ConnectPod(id, Within(kAnswerTime));
    if (connected) {
      pod = *std::move(connected);
    } else if (!connected.error().Is(Code::kNotFound)) {
      (void)launcher_->KillByName(id);
    }
  }
  if (pod) EndKeeper(*pod);
  if (!cgroup_parent.empty() && !pod) {  // its holder's, if the ledger has lost it
    const std::string holder = JoinPath(cgroup_parent, id.str());
    (void)cgroups_->Kill(holder);
    LN_TRY(cgroups_->Remove(holder));
  }
  auto removed = RemoveCgroups(id, pod.get());
  LN_TRY(launcher_->RemoveSocket(id));
  return removed;
}

Result<void> RuntimeImpl::Sweep(const std::vector<PodId>& known) {
  std::vector<PodId> found = LN_TRY(launcher_->Pods());
  for (const PodId& pod : LN_TRY(ledger_->Pods())) found.push_back(pod);
  for (const std::string& name :
       LN_TRY(cgroups_->Children(JoinPath(options_.cgroup_root, "pods")))) {
    if (auto pod = PodId::Parse(name)) found.push_back(*std::move(pod));
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  Result<void> first;
  for (const PodId& pod : found) {
    if (std::find(known.begin(), known.end(), pod) != known.end()) continue;
    auto removed = RemovePod(pod, "");
    log::Info("left-over pod swept", {{"pod", pod}, {"done", removed.has_value()}});
    if (!removed && first) first = std::move(removed).error().With("sweep pod " + pod.str());
  }
  return first;
}

}  // namespace linnet::runtime
