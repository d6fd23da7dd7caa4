// linnet-bench: drives any CRI socket and prints what a pod costs there.
#include <cstdio>
#include <fstream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "scenarios.h"

namespace {

void PrintTable(const std::string& label, const std::vector<linnet::bench::Row>& rows) {
  std::printf("| %s | median | p95 | n | note |\n|---|---|---|---|---|\n", label.c_str());
  for (const auto& r : rows) {
    std::printf("| %s | %.3g %s | ", r.name.c_str(), r.value, r.unit.c_str());
    if (r.samples > 1) std::printf("%.3g", r.p95);
    std::printf(" | %zu | %s |\n", r.samples, r.note.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  linnet::bench::BenchOptions options;
  std::string json_file;
  CLI::App app{
      "Measures a container runtime through its CRI socket.\n"
      "Run it on a quiet machine; compare runtimes in one session, one after another, several "
      "rounds."};
  app.add_option("--endpoint", options.endpoint,
                 "CRI socket, for example unix:///run/linnet/linnet.sock")
      ->required();
  app.add_option("--image", options.image, "image with sh, sleep, true, ip, sed and nc (busybox)")
      ->required();
  app.add_option("--label", options.label, "name of the runtime in the table");
  app.add_option("--daemon-pid", options.daemon_pid,
                 "process whose memory and CPU time are reported");
  app.add_option("--helpers", options.helper_names,
                 "names of the processes that belong to pods (keeper, shim, pause)")
      ->delimiter(',');
  app.add_option("--populations", options.populations, "numbers of running pods to measure at")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--samples", options.samples, "samples of each latency")->capture_default_str();
  app.add_option("--burst", options.burst, "pods started for the throughput row")
      ->capture_default_str();
  app.add_option("--clients", options.clients, "clients of the throughput row")
      ->capture_default_str();
  app.add_option("--idle-seconds", options.idle_seconds,
                 "how long the daemon is watched doing nothing")
      ->capture_default_str();
  app.add_flag("--streams", options.streams, "only exec, port-forward and idle sessions");
  app.add_option("--stream-samples", options.stream_samples, "samples of each row of streams")
      ->capture_default_str();
  app.add_option("--sessions", options.sessions, "idle exec sessions; 0: no such row")
      ->capture_default_str();
  app.add_option("--json", json_file, "file for the figures");
  CLI11_PARSE(app, argc, argv);
  if (options.label.empty()) options.label = options.endpoint;

  auto rows = linnet::bench::RunAll(options);
  if (!rows) {
    std::fprintf(stderr, "linnet-bench: %s\n", rows.error().message().c_str());
    return 1;
  }
  PrintTable(options.label, *rows);
  if (!json_file.empty()) {
    nlohmann::json out = {{"label", options.label}, {"rows", nlohmann::json::array()}};
    for (const auto& r : *rows) {
      out["rows"].push_back({{"name", r.name},
                             {"unit", r.unit},
                             {"median", r.value},
                             {"p95", r.p95},
                             {"n", r.samples},
                             {"note", r.note}});
    }
    std::ofstream(json_file) << out.dump(2) << "\n";
  }
  return 0;
}
