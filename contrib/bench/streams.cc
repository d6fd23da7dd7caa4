#include "streams.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "spdy_stream.h"

namespace linnet::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kMiB = 1U << 20;
constexpr std::uint64_t kBigFile = 256 * kMiB, kSmallFile = 32 * kMiB;
constexpr int kTimes = 4;  // 1 GiB
constexpr int kConnections = 32;

constexpr int kBigPort = 8080, kSmallPort = 8100;

// /big and /small in the container; port 8080 says 1 GiB, ports 8100 and 31 more say 32 MiB each
// (nc has no queue for several clients).
constexpr const char* kServer =
    "dd if=/dev/zero of=/big bs=1M count=256 2>/dev/null; dd if=/dev/zero of=/small bs=1M count=32 "
    "2>/dev/null; nc -ll -p 8080 -e cat /big /big /big /big & i=0; while [ $i -lt 32 ]; do nc -ll "
    "-p $((8100+i)) -e cat /small & i=$((i+1)); done; sleep 1; touch /ready; sleep 100000";

class Streams {
 public:
  Streams(const BenchOptions& options, CriClient& client) : options_(options), client_(client) {}

  Result<std::vector<Row>> Run() {
    const PodHandle pod = LN_TRY(
        client_.Start({.image = options_.image, .command = {"sh", "-c", kServer}, .host_port = 0},
                      "streams-" + std::to_string(getpid())));
    LN_TRY(AwaitReady(pod));
    LN_TRY(Measure("exec: cat of 1 GiB", [&] { return Exec(pod); }));
    LN_TRY(Measure("port-forward: 1 GiB over 1 connection",
                   [&] { return Forward(pod, kBigPort, 1); }));
    LN_TRY(Measure("port-forward: 1 GiB over 32 connections",
                   [&] { return Forward(pod, kSmallPort, kConnections); }));
    if (options_.sessions > 0) LN_TRY(IdleSessions(pod));
    LN_TRY(client_.StopAndRemove(pod));
    return std::move(rows_);
  }

 private:
  Result<void> AwaitReady(const PodHandle& pod) {
    for (int i = 0; i < 300; ++i) {
      const auto code = client_.ExecSync(pod.container, {"test", "-e", "/ready"});
      if (code && *code == 0) return Ok();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return Internal("the pod's files were not there after 30 s");
  }

  template <class F>
  Result<void> Measure(const std::string& name, F run) {
    Samples rate, cpu;
    for (int i = 0; i < options_.stream_samples + 1; ++i) {
      const double daemon = DaemonSeconds();
      const auto begin = SteadyClock::now();
      const std::uint64_t bytes = LN_TRY(run());
      const double seconds = std::chrono::duration<double>(SteadyClock::now() - begin).count();
      if (i == 0) continue;  // files get into memory
      const double mib = static_cast<double>(bytes) / kMiB;
      rate.Add(mib / seconds);
      cpu.Add((DaemonSeconds() - daemon) / mib * 1024);
    }
    Add(name, "MiB/s", rate);
    if (options_.daemon_pid > 0) Add(name + ", the daemon's CPU time", "s", cpu);
    return Ok();
  }
  double DaemonSeconds() const {
    return options_.daemon_pid > 0 ? ProcessSeconds(options_.daemon_pid) : 0;
  }

  Result<std::uint64_t> Exec(const PodHandle& pod) {
    const std::string url =
        LN_TRY(client_.ExecUrl(pod.container, {"cat", "/big", "/big", "/big", "/big"}, false));
    SpdyStream stream = LN_TRY(OpenExec(url, false));
    std::map<std::uint32_t, std::uint64_t> counted = {{3, 0}};
    LN_TRY(stream.Count(counted, 1));
    return Checked(counted[3], kBigFile * kTimes);
  }

  // Each to a port of its own, from `port` on.
  Result<std::uint64_t> Forward(const PodHandle& pod, int port, int connections) {
    const std::string url = LN_TRY(client_.PortForwardUrl(pod.pod, port));
    SpdyStream stream = LN_TRY(SpdyStream::Open(url, "portforward.k8s.io"));
    std::map<std::uint32_t, std::uint64_t> counted;
    for (int i = 0; i < connections; ++i) {
      std::vector<std::pair<std::string, std::string>> headers = {
          {"streamtype", "error"},
          {"port", std::to_string(port + i)},
          {"requestid", std::to_string(i)}};
      LN_TRY(stream.NewStream(headers, true));
      headers[0].second = "data";
      counted[LN_TRY(stream.NewStream(headers, false))] = 0;
    }
    LN_TRY(stream.Count(counted, counted.size()));
    std::uint64_t total = 0;
    for (const auto& [id, bytes] : counted) total += bytes;
    return Checked(total, connections == 1 ? kBigFile * kTimes
                                           : kSmallFile * static_cast<unsigned>(connections));
  }
  static Result<std::uint64_t> Checked(std::uint64_t bytes, std::uint64_t expected) {
    if (bytes == expected) return bytes;
    return Error(Code::kDataLoss,
                 std::to_string(bytes) + " of " + std::to_string(expected) + " bytes came");
  }

  // Sessions of a process that waits for input, which nobody gives.
  Result<void> IdleSessions(const PodHandle& pod) {
    std::vector<SpdyStream> sessions;
    const auto open = [&]() -> Result<void> {
      const std::string url = LN_TRY(client_.ExecUrl(pod.container, {"cat"}, true));
      sessions.push_back(LN_TRY(OpenExec(url, true)));
      return Ok();
    };
    LN_TRY(open());
    std::this_thread::sleep_for(std::chrono::seconds(1));
    const std::uint64_t before = PssKib(options_.daemon_pid);
    while (static_cast<int>(sessions.size()) <= options_.sessions) LN_TRY(open());
    std::this_thread::sleep_for(std::chrono::seconds(2));
    const std::uint64_t after = PssKib(options_.daemon_pid);
    Samples each;
    each.Add(static_cast<double>(after - before) / options_.sessions);
    Add("daemon memory per idle exec session, " + std::to_string(options_.sessions) + " of them",
        "KiB", each);
    const double cpu = DaemonSeconds();
    std::this_thread::sleep_for(std::chrono::seconds(2));
    Samples idle;
    idle.Add((DaemonSeconds() - cpu) / 2 * 100);
    Add("daemon CPU with them", "%", idle);
    sessions.clear();
    const auto begin = SteadyClock::now();
    while (true) {  // only the shell, the servers and sleep are left
      const auto code = client_.ExecSync(pod.container, {"sh", "-c", "! pidof cat"});
      if (code && *code == 0) break;
      if (SteadyClock::now() - begin > std::chrono::seconds(60))
        return Internal("sessions of clients that have gone are there after a minute");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    Samples gone;
    gone.Add(std::chrono::duration<double>(SteadyClock::now() - begin).count());
    Add("until all their processes have ended, once the clients have gone", "s", gone);
    return Ok();
  }

  void Add(const std::string& name, const std::string& unit, const Samples& s) {
    rows_.push_back({name, unit, s.Median(), s.Percentile(95), s.count(), ""});
    std::fprintf(stderr, "  %s: %.4g %s\n", name.c_str(), s.Median(), unit.c_str());
  }

  const BenchOptions& options_;
  CriClient& client_;
  std::vector<Row> rows_;
};

}  // namespace

Result<std::vector<Row>> RunStreams(const BenchOptions& options, CriClient& client) {
  return Streams(options, client).Run();
}

}  // namespace linnet::bench
