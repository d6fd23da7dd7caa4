// What pods and containers use: read when asked, never in the background.
#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

#include "layer_usage.h"
#include "manager.h"

namespace linnet::pods {
namespace {

using std::chrono::steady_clock;

// A layer is counted again after 10 s at the earliest, and for at most a fiftieth of the time.
constexpr auto kLayerFresh = std::chrono::seconds(10);
constexpr int kLayerShare = 50;
// About a second of walking. What a layer has beyond is not counted.
constexpr std::size_t kMaxLayerInodes = 500'000;

constexpr std::string_view kDefaultInterface = "eth0";

// A cgroup without any went away between the decision to ask and the reading.
bool HasNumbers(const runtime::CgroupUsage& usage) {
  return usage.cpu_ns || usage.memory || usage.pids;
}

std::optional<std::uint64_t> Rate(CpuMeter& meter, const runtime::CgroupUsage& usage,
                                  std::int64_t age_ns) {
  if (!usage.cpu_ns) return std::nullopt;
  const std::chrono::nanoseconds age(
      std::max<std::int64_t>(age_ns, 0));  // the wall clock may have been set back
  return meter.Add(steady_clock::now(), *usage.cpu_ns, age);
}

}  // namespace

std::optional<LayerUsage> Manager::LayerUsageOf(const ContainerPtr& container) {
  const auto begin = steady_clock::now();
  {
    MutexLock lock(mu_);
    if (begin < container->next_layer_count) return container->layer;
    // Whoever asks meanwhile gets what was counted last.
    if (container->layer) container->next_layer_count = begin + kLayerFresh;
  }
  auto dir = OpenDir(JoinPath(container->directory, "upper"));
  if (!dir) return std::nullopt;  // not made before the start
  auto usage = MeasureTree(*dir, kMaxLayerInodes);
  if (!usage) {
    log::Debug("writable layer not counted, ignoring",
               {{"ctr", container->id}, {"err", usage.error()}});
    return std::nullopt;
  }
  if (!usage->whole)
    log::Debug("writable layer counted in part",
               {{"ctr", container->id}, {"inodes", usage->inodes}});
  const auto end = steady_clock::now();
  MutexLock lock(mu_);
  container->layer = LayerUsage{.taken_at_ns = clock_.WallNanos(),
                                .mountpoint = pods_dir_,
                                .used_bytes = usage->bytes,
                                .inodes_used = usage->inodes};
  container->next_layer_count =
      end + std::max<steady_clock::duration>(kLayerFresh, (end - begin) * kLayerShare);
  return container->layer;
}

Result<ContainerStats> Manager::StatsOf(const ContainerPtr& container) {
  ContainerStats out;
  bool running = false;
  std::int64_t started_at_ns = 0;
  {
    MutexLock lock(mu_);
    const ContainerRecord& record = container->record;
    out.id = container->id.str();
    out.pod_id = record.pod_id;
    out.metadata = record.config.metadata;
    out.labels = record.config.labels;
    out.annotations = record.config.annotations;
    running = container->phase == ContainerPhase::kRunning;
    started_at_ns = container->started_at_ns;
  }
  if (running) {
    auto usage = runtime_->ContainerUsage(container->pod->id, container->id);
    if (usage) {
      out.usage = *std::move(usage);
    } else if (!usage.error().Is(Code::kNotFound)) {
      return std::move(usage).error().With("container " + out.id);
    }
  }
  out.taken_at_ns = clock_.WallNanos();
  {
    MutexLock lock(mu_);
    out.nano_cores = Rate(container->cpu, out.usage, out.taken_at_ns - started_at_ns);
  }
  out.layer = LayerUsageOf(container);
  return out;
}

Result<ContainerStats> Manager::GetContainerStats(const std::string& id) {
  const ContainerPtr container = FindContainer(id);
  if (!container) return NotFound("container \"" + id + "\" does not exist");
  return StatsOf(container);
}

std::vector<ContainerStats> Manager::ListContainerStats(const ContainerFilter& filter) {
  std::vector<ContainerPtr> running;
  {
    MutexLock lock(mu_);
    for (const auto& [id, container] : containers_) {
      if (container->phase == ContainerPhase::kRunning && Matches(*container, filter))
        running.push_back(container);
    }
  }
  std::vector<ContainerStats> out;
  out.reserve(running.size());
  for (const ContainerPtr& container : running) {
    auto stats = StatsOf(container);
    if (!stats) {
      log::Warn("container left out of statistics",
                {{"ctr", container->id}, {"err", stats.error()}});
      continue;
    }
    if (HasNumbers(stats->usage)) out.push_back(*std::move(stats));
  }
  return out;
}

void Manager::AddInterfaces(const std::vector<PodPtr>& pods, std::vector<PodStats>& stats) const {
  std::vector<UniqueFd> owned;
  std::vector<FdRef> namespaces;
  std::vector<std::size_t> whose;
  {
    MutexLock lock(mu_);
    for (std::size_t i = 0; i < pods.size(); ++i) {
      if (!pods[i]->ready || !pods[i]->netns.fd) continue;
      auto copy = Dup(pods[i]->netns.fd);
      if (!copy) continue;  // out of descriptors: the rest is worth telling
      namespaces.push_back(copy->ref());
      owned.push_back(*std::move(copy));
      whose.push_back(i);
    }
  }
  auto all = network::ReadCounters(namespaces);
  const std::int64_t now_ns = clock_.WallNanos();
  for (std::size_t k = 0; k < all.size(); ++k) {
    if (!all[k]) {
      log::Debug("interfaces not read, ignoring",
                 {{"pod", pods[whose[k]]->id}, {"err", all[k].error()}});
      continue;
    }
    std::vector<network::InterfaceCounters>& counters = *all[k];
    std::erase_if(counters, [](const network::InterfaceCounters& c) { return c.name == "lo"; });
    std::stable_partition(
        counters.begin(), counters.end(),
        [](const network::InterfaceCounters& c) { return c.name == kDefaultInterface; });
    stats[whose[k]].interfaces = std::move(counters);
    stats[whose[k]].network_taken_at_ns = now_ns;
  }
}

Result<PodStats> Manager::StatsOf(const PodPtr& pod) {
  PodStats out;
  bool ready = false;
  std::int64_t created_at_ns = 0;
  std::string cgroup_parent;
  std::vector<ContainerPtr> running;
  {
    MutexLock lock(mu_);
    const PodRecord& record = pod->record;
    out.id = pod->id.str();
    out.metadata = record.config.metadata;
    out.labels = record.config.labels;
    out.annotations = record.config.annotations;
    created_at_ns = record.created_at_ns;
    cgroup_parent = record.config.cgroup_parent;
    ready = pod->ready;
    for (const ContainerPtr& container : pod->containers) {
      if (container->phase == ContainerPhase::kRunning) running.push_back(container);
    }
  }
  if (ready) {
    auto usage = runtime_->PodUsage(pod->id, cgroup_parent);
    if (usage) {
      out.usage = *std::move(usage);
    } else if (!usage.error().Is(Code::kNotFound)) {
      return std::move(usage).error().With("pod " + out.id);
    }
  }
  out.taken_at_ns = clock_.WallNanos();
  {
    MutexLock lock(mu_);
    out.nano_cores = Rate(pod->cpu, out.usage, out.taken_at_ns - created_at_ns);
  }
  for (const ContainerPtr& container : running) {
    auto stats = StatsOf(container);
    if (stats && HasNumbers(stats->usage)) out.containers.push_back(*std::move(stats));
  }
  return out;
}

Result<PodStats> Manager::GetPodStats(const std::string& id) {
  const PodPtr pod = FindPod(id);
  if (!pod) return NotFound("pod sandbox \"" + id + "\" does not exist");
  std::vector<PodStats> stats;
  stats.push_back(LN_TRY(StatsOf(pod)));
  AddInterfaces({pod}, stats);
  return std::move(stats.front());
}

std::vector<PodStats> Manager::ListPodStats(const PodFilter& filter) {
  std::vector<PodPtr> ready;
  {
    MutexLock lock(mu_);
    for (const auto& [id, pod] : pods_) {
      if (pod->ready && Matches(*pod, filter)) ready.push_back(pod);
    }
  }
  std::vector<PodPtr> told;
  std::vector<PodStats> out;
  out.reserve(ready.size());
  for (const PodPtr& pod : ready) {
    auto stats = StatsOf(pod);
    if (!stats) {
      log::Warn("pod left out of statistics", {{"pod", pod->id}, {"err", stats.error()}});
      continue;
    }
    MutexLock lock(mu_);
    if (!pod->ready) continue;  // stopped meanwhile
    told.push_back(pod);
    out.push_back(*std::move(stats));
  }
  AddInterfaces(told, out);
  return out;
}

}  // namespace linnet::pods
