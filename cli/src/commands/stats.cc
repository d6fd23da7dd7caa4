// stats: what pods and their containers use.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "linnet/base/text.h"

#include "app.h"
#include "format.h"
#include "lookup.h"

namespace linnet::cli {
namespace {

constexpr auto kBetween = std::chrono::milliseconds(500);
constexpr auto kWatchPause = std::chrono::milliseconds(1500);

struct StatsOptions {
  std::vector<std::string> pods;
  bool watch = false;
};

// By id of pod or container.
using CpuReadings = std::map<std::string, cri::CpuUsage>;

Result<std::vector<cri::PodSandboxStats>> Read(Client& client, const std::set<std::string>& ids) {
  auto all = LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ListPodSandboxStats,
                                cri::ListPodSandboxStatsRequest()));
  std::vector<cri::PodSandboxStats> out;
  for (auto& pod : *all.mutable_stats()) {
    if (ids.empty() || ids.contains(pod.attributes().id())) out.push_back(std::move(pod));
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::tie(a.attributes().metadata().name(), a.attributes().id()) <
           std::tie(b.attributes().metadata().name(), b.attributes().id());
  });
  return out;
}

CpuReadings CpuOf(const std::vector<cri::PodSandboxStats>& pods) {
  CpuReadings out;
  for (const auto& pod : pods) {
    out[pod.attributes().id()] = pod.linux().cpu();
    for (const auto& c : pod.linux().containers()) out[c.attributes().id()] = c.cpu();
  }
  return out;
}

// Percent of one core; negative: not known.
double CpuPercent(const CpuReadings& before, const std::string& id, const cri::CpuUsage& now) {
  const auto it = before.find(id);
  if (it == before.end() || !now.has_usage_core_nano_seconds()) return -1;
  const double used = static_cast<double>(now.usage_core_nano_seconds().value()) -
                      static_cast<double>(it->second.usage_core_nano_seconds().value());
  const double time = static_cast<double>(now.timestamp() - it->second.timestamp());
  return time > 0 && used >= 0 ? used / time * 100 : -1;
}

std::string PercentText(double percent) {
  if (percent < 0) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", percent);
  return text;
}

// The limit is what is used and what is left.
std::optional<std::uint64_t> LimitOf(const cri::MemoryUsage& memory) {
  if (!memory.has_available_bytes()) return std::nullopt;
  return memory.working_set_bytes().value() + memory.available_bytes().value();
}

std::string MemoryText(const cri::MemoryUsage& memory) {
  if (!memory.has_working_set_bytes()) return "-";
  const auto limit = LimitOf(memory);
  return FormatBytes(memory.working_set_bytes().value()) + " / " +
         (limit ? FormatBytes(*limit) : "-");
}

struct Traffic {
  std::uint64_t in = 0, out = 0;
};
Traffic TrafficOf(const cri::NetworkUsage& network) {
  Traffic sum{network.default_interface().rx_bytes().value(),
              network.default_interface().tx_bytes().value()};
  for (const auto& i : network.interfaces()) {
    sum.in += i.rx_bytes().value();
    sum.out += i.tx_bytes().value();
  }
  return sum;
}

void PrintTable(const CpuReadings& before, const std::vector<cri::PodSandboxStats>& pods) {
  Table table({"POD", "CONTAINER", "CPU%", "MEMORY/LIMIT", "PIDS", "NET IN/OUT"});
  for (const auto& pod : pods) {
    const std::string& name = pod.attributes().metadata().name();
    const auto& usage = pod.linux();
    // Processes and network are the pod's: they stand in its first line.
    std::string pids = usage.process().has_process_count()
                           ? std::to_string(usage.process().process_count().value())
                           : "-";
    std::string traffic = "-";
    if (usage.has_network()) {
      const Traffic sum = TrafficOf(usage.network());
      traffic = FormatBytes(sum.in) + " / " + FormatBytes(sum.out);
    }
    if (usage.containers().empty()) {
      table.Add({name, "-", PercentText(CpuPercent(before, pod.attributes().id(), usage.cpu())),
                 MemoryText(usage.memory()), pids, traffic});
    }
    for (const auto& c : usage.containers()) {
      table.Add({name, c.attributes().metadata().name(),
                 PercentText(CpuPercent(before, c.attributes().id(), c.cpu())),
                 MemoryText(c.memory()), std::exchange(pids, ""), std::exchange(traffic, "")});
    }
  }
  table.Print();
}

Json UsageJson(const CpuReadings& before, const std::string& id, const cri::CpuUsage& cpu,
               const cri::MemoryUsage& memory) {
  const double percent = CpuPercent(before, id, cpu);
  const auto limit = LimitOf(memory);
  return {{"cpu_percent", percent < 0 ? Json() : Json(percent)},
          {"cpu_nanoseconds", cpu.usage_core_nano_seconds().value()},
          {"memory_bytes", memory.working_set_bytes().value()},
          {"memory_limit_bytes", limit ? Json(*limit) : Json()}};
}

Json ToJson(const CpuReadings& before, const std::vector<cri::PodSandboxStats>& pods) {
  Json out = Json::array();
  for (const auto& pod : pods) {
    const auto& usage = pod.linux();
    Json entry = UsageJson(before, pod.attributes().id(), usage.cpu(), usage.memory());
    entry["id"] = pod.attributes().id();
    entry["name"] = pod.attributes().metadata().name();
    entry["pids"] = usage.process().process_count().value();
    if (usage.has_network()) {
      const Traffic sum = TrafficOf(usage.network());
      entry["network"] = {{"in_bytes", sum.in}, {"out_bytes", sum.out}};
    }
    entry["containers"] = Json::array();
    for (const auto& c : usage.containers()) {
      Json container = UsageJson(before, c.attributes().id(), c.cpu(), c.memory());
      container["id"] = c.attributes().id();
      container["name"] = c.attributes().metadata().name();
      container["layer_bytes"] = c.writable_layer().used_bytes().value();
      entry["containers"].push_back(std::move(container));
    }
    out.push_back(std::move(entry));
  }
  return out;
}

Result<int> Stats(const App& app, const StatsOptions& o) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  std::set<std::string> ids;
  for (const std::string& name : o.pods) ids.insert(LN_TRY(FindPod(*client, name)).id());
  CpuReadings before = CpuOf(LN_TRY(Read(*client, ids)));
  std::this_thread::sleep_for(kBetween);
  for (;;) {
    const std::vector<cri::PodSandboxStats> pods = LN_TRY(Read(*client, ids));
    if (app.json()) {
      PrintJson(ToJson(before, pods));
    } else {
      if (o.watch && ::isatty(STDOUT_FILENO) == 1) std::printf("\033[H\033[2J");
      PrintTable(before, pods);
    }
    std::fflush(stdout);
    if (!o.watch) return 0;
    if (std::ferror(stdout) != 0) return 0;  // the reader has gone
    before = CpuOf(pods);
    std::this_thread::sleep_for(kWatchPause);
  }
}

}  // namespace

void AddStats(App& app) {
  auto options = std::make_shared<StatsOptions>();
  CLI::App* stats = app.root().add_subcommand(
      "stats",
      "what pods and containers use: CPU in percent of one core, memory, processes, network");
  stats->add_option("POD", options->pods, "these only");
  stats->add_flag("-w,--watch", options->watch, "again and again, until interrupted");
  app.OnRun(stats, [&app, options] { return Stats(app, *options); });
}

}  // namespace linnet::cli
