#include "manager.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

namespace linnet::pods {
namespace {

bool HasLabels(const StringMap& labels, const StringMap& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& want) {
    const auto it = labels.find(want.first);
    return it != labels.end() && it->second == want.second;
  });
}

}  // namespace

std::string PodKey(const PodMetadata& m) {
  return m.name + "_" + m.ns + "_" + m.uid + "_" + std::to_string(m.attempt);
}

Result<std::unique_ptr<PodManager>> PodManager::Create(
    const PodManagerOptions& options, const runtime::RuntimeOptions& runtime_options,
    network::Engine& network, oci::ImageStore& images) {
  auto manager = std::make_unique<Manager>(options, network, images);
  LN_TRY(manager->Start([&](runtime::RuntimeEvents events) {
    return runtime::Runtime::Create(runtime_options, std::move(events));
  }));
  return std::unique_ptr<PodManager>(std::move(manager));
}

Manager::Manager(PodManagerOptions options, network::Engine& network, oci::ImageStore& images)
    : options_(std::move(options)),
      pods_dir_(JoinPath(options_.root, "pods")),
      network_(network),
      images_(images) {}

Result<void> Manager::Start(const RuntimeFactory& make_runtime) {
  LN_TRY(MakeDirs(pods_dir_, 0700));
  runtime::RuntimeEvents events;
  events.on_exit = [this](const PodId& pod, const runtime::ContainerExit& exit) {
    OnExit(pod, exit);
  };
  events.on_keeper_lost = [this](const PodId& pod) { OnKeeperLost(pod); };
  runtime_ = LN_TRY(make_runtime(std::move(events)));
  return Ok();
}

Manager::PodPtr Manager::FindPod(const std::string& id) const {
  MutexLock lock(mu_);
  const auto it = pods_.find(id);
  return it == pods_.end() ? nullptr : it->second;
}

Manager::ContainerPtr Manager::FindContainer(const std::string& id) const {
  MutexLock lock(mu_);
  const auto it = containers_.find(id);
  return it == containers_.end() ? nullptr : it->second;
}

Result<std::string> Manager::SingleFlight(const std::string& key, const Caller& caller,
                                          const std::function<Result<std::string>()>& make) {
  std::shared_ptr<Flight> flight;
  {
    MutexLock lock(mu_);
    auto [it, leader] = flights_.try_emplace(key);
    if (!leader) {
      flight = it->second;
      while (!flight->done) {
        if (caller.deadline == Deadline::max()) {
          flight_done_.Wait(mu_);
        } else if (flight_done_.WaitUntil(mu_, caller.deadline) == std::cv_status::timeout &&
                   !flight->done) {
          return Error(Code::kDeadlineExceeded, "\"" + key + "\" is still being made");
        }
      }
      return *flight->result;
    }
    flight = it->second = std::make_shared<Flight>();
  }
  Result<std::string> result = make();
  MutexLock lock(mu_);
  flight->result = result;
  flight->done = true;
  flights_.erase(key);
  flight_done_.NotifyAll();
  return result;
}

Result<PodStatus> Manager::GetPod(const std::string& id) const {
  const PodPtr pod = FindPod(id);
  if (!pod) return NotFound("pod sandbox \"" + id + "\" does not exist");
  PodStatus status;
  {
    MutexLock lock(mu_);
    status.id = id;
    status.state = pod->ready ? PodState::kReady : PodState::kNotReady;
    status.created_at_ns = pod->record.created_at_ns;
    status.config = pod->record.config;
    status.ips = pod->record.ips;
    status.netns_path = pod->record.netns_path;
  }
  if (const auto attachment = network_.Find(pod->id))
    status.cni_result_json = attachment->result_json;
  return status;
}

bool Manager::Matches(const PodEntry& pod, const PodFilter& filter) const {
  if (!filter.id.empty() && !pod.id.str().starts_with(filter.id)) return false;
  if (filter.state && *filter.state != (pod.ready ? PodState::kReady : PodState::kNotReady))
    return false;
  return HasLabels(pod.record.config.labels, filter.labels);
}

bool Manager::Matches(const ContainerEntry& c, const ContainerFilter& filter) const {
  if (!filter.id.empty() && !c.id.str().starts_with(filter.id)) return false;
  if (!filter.pod_id.empty() && !c.record.pod_id.starts_with(filter.pod_id)) return false;
  if (filter.state && *filter.state != c.phase) return false;
  return HasLabels(c.record.config.labels, filter.labels);
}

std::vector<PodStatus> Manager::ListPods(const PodFilter& filter) const {
  std::vector<PodStatus> out;
  {
    MutexLock lock(mu_);
    for (const auto& [id, pod] : pods_) {
      if (!Matches(*pod, filter)) continue;
      PodStatus& status = out.emplace_back();
      status.id = id;
      status.state = pod->ready ? PodState::kReady : PodState::kNotReady;
      status.created_at_ns = pod->record.created_at_ns;
      status.config = pod->record.config;
      status.ips = pod->record.ips;
      status.netns_path = pod->record.netns_path;
    }
  }
  std::sort(out.begin(), out.end(), [](const PodStatus& a, const PodStatus& b) {
    return std::tie(b.created_at_ns, a.id) < std::tie(a.created_at_ns, b.id);  // newest first
  });
  return out;
}

ContainerStatus Manager::StatusOf(const ContainerEntry& c) const {
  ContainerStatus out;
  const ContainerRecord& r = c.record;
  out.id = c.id.str();
  out.pod_id = r.pod_id;
  out.phase = c.phase;
  out.created_at_ns = r.created_at_ns;
  out.started_at_ns = c.started_at_ns;
  out.finished_at_ns = r.finished_at_ns;
  out.exit_code = r.exit_code;
  out.reason = r.reason;
  out.message = r.message;
  out.image_name = r.image_name;
  out.image_ref = r.image_ref;
  out.image_id = r.image_id;
  out.log_path = r.log_path;
  out.stop_signal = r.stop_signal;
  out.pid = c.phase == ContainerPhase::kRunning ? c.pid : 0;
  out.user = r.user;
  out.resources = r.config.resources;
  out.runtime_spec_path = JoinPath(c.directory, "config.json");
  out.config = r.config;
  return out;
}

Result<ContainerStatus> Manager::GetContainer(const std::string& id) const {
  const ContainerPtr container = FindContainer(id);
  if (!container) return NotFound("container \"" + id + "\" does not exist");
  MutexLock lock(mu_);
  return StatusOf(*container);
}

std::vector<ContainerStatus> Manager::ListContainers(const ContainerFilter& filter) const {
  std::vector<ContainerStatus> out;
  {
    MutexLock lock(mu_);
    for (const auto& [id, container] : containers_) {
      if (Matches(*container, filter)) out.push_back(StatusOf(*container));
    }
  }
  std::sort(out.begin(), out.end(), [](const ContainerStatus& a, const ContainerStatus& b) {
    return std::tie(b.created_at_ns, a.id) < std::tie(a.created_at_ns, b.id);
  });
  return out;
}

void Manager::ApplyExit(ContainerEntry& c, const runtime::ContainerExit& exit) {
  if (c.phase == ContainerPhase::kExited) return;
  c.phase = ContainerPhase::kExited;
  c.pid = 0;
  if (exit.started_at_ns != 0) c.started_at_ns = exit.started_at_ns;
  c.record.finished_at_ns = std::max(exit.finished_at_ns, c.started_at_ns);
  c.record.exit_code = exit.exit_code;
  c.record.reason = exit.oom_killed ? "OOMKilled" : exit.exit_code == 0 ? "Completed" : "Error";
  c.record.message.clear();
}

void Manager::MarkLost(ContainerEntry& c) {
  if (c.phase == ContainerPhase::kExited || c.phase == ContainerPhase::kCreated) return;
  c.phase = ContainerPhase::kExited;
  c.pid = 0;
  c.record.finished_at_ns = clock_.WallNanos();
  c.record.exit_code = 137;
  c.record.reason = "Unknown";
  c.record.message = "the pod's keeper process ended; how the container ended is not known";
}

void Manager::OnExit(const PodId& pod, const runtime::ContainerExit& exit) {
  const ContainerPtr container = FindContainer(exit.id.str());
  if (!container) return;
  {
    MutexLock lock(mu_);
    ApplyExit(*container, exit);
  }
  log::Info("container exited",
            {{"pod", pod}, {"ctr", exit.id}, {"code", exit.exit_code}, {"oom", exit.oom_killed}});
}

void Manager::OnKeeperLost(const PodId& id) {
  const PodPtr pod = FindPod(id.str());
  if (!pod) return;
  MutexLock lock(mu_);
  if (pod->torn_down) return;
  pod->ready = false;
  for (const ContainerPtr& container : pod->containers) {
    auto exit = runtime::ReadExitRecord(container->id, container->directory);
    if (exit) {
      ApplyExit(*container, *exit);
    } else {
      MarkLost(*container);
    }
  }
  log::Err("keeper lost", {{"pod", id}});
}

Result<oci::FsUsage> Manager::ContainerFsUsage() const {
  struct statvfs fs {};
  if (statvfs(pods_dir_.c_str(), &fs) != 0) return Error::FromErrno(errno, "statvfs " + pods_dir_);
  oci::FsUsage usage;
  usage.mountpoint = pods_dir_;
  usage.used_bytes = (fs.f_blocks - fs.f_bfree) * fs.f_frsize;
  usage.inodes_used = fs.f_files - fs.f_ffree;
  return usage;
}

}  // namespace linnet::pods
