#include "scenarios.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "linnet/base/unique_fd.h"

#include "cri_client.h"
#include "streams.h"

namespace linnet::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

double MillisSince(SteadyClock::time_point begin) {
  return std::chrono::duration<double, std::milli>(SteadyClock::now() - begin).count();
}

std::string UniqueName(const char* what) {
  static std::atomic<int> counter{0};
  return std::string(what) + "-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
}

void Say(const std::string& text) { std::fprintf(stderr, "  %s\n", text.c_str()); }

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options), client_(options.endpoint) {
    pod_.image = options.image;
    pod_.command = {"sleep", "100000"};
  }

  Result<std::vector<Row>> Run() {
    Say(LN_TRY(client_.Version()));
    LN_TRY(client_.Pull(options_.image));
    if (options_.streams) return RunStreams(options_, client_);
    LN_TRY(WarmUp());
    census_ = Census::Take();
    LN_TRY(AtPopulations());
    LN_TRY(Burst());
    LN_TRY(FirstByte());
    return std::move(rows_);
  }

  void CleanUp() {
    auto removed = client_.RemoveAll();
    if (!removed) Say("clean-up: " + removed.error().message());
  }

 private:
  // Bridges, tables and caches that the first pod of a runtime makes are not the price of a pod.
  Result<void> WarmUp() {
    for (int i = 0; i < 3; ++i) {
      const PodHandle pod = LN_TRY(client_.Start(pod_, UniqueName("warm")));
      LN_TRY(client_.ExecSync(pod.container, {"true"}));
      LN_TRY(client_.StopAndRemove(pod));
    }
    return Ok();
  }

  void Add(const std::string& name, const std::string& unit, const Samples& s,
           const std::string& note = "") {
    rows_.push_back({name, unit, s.Median(), s.Percentile(95), s.count(), note});
    Say(name + ": " + std::to_string(s.Median()) + " " + unit +
        (note.empty() ? "" : "  (" + note + ")"));
  }
  void Add(const std::string& name, const std::string& unit, double value,
           const std::string& note = "") {
    rows_.push_back({name, unit, value, 0, 1, note});
    Say(name + ": " + std::to_string(value) + " " + unit +
        (note.empty() ? "" : "  (" + note + ")"));
  }

  // A deletion counts only where the kernel holds nothing more than before it within a second.
  std::string AwaitCensus(const Census& before) {
    std::string beyond;
    const auto end = SteadyClock::now() + std::chrono::seconds(1);
    do {
      beyond = Census::Take().Beyond(before);
      if (beyond.empty()) return "";
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } while (SteadyClock::now() < end);
    return "left after 1 s: " + beyond;
  }

  Result<void> Latencies(int population) {
    const std::string with =
        population == 0 ? "" : ", " + std::to_string(population) + " pods running";
    Samples ready;
    Samples gone;
    Samples exec;
    const Census before = Census::Take();
    for (int i = 0; i < options_.samples; ++i) {
      auto begin = SteadyClock::now();
      const PodHandle pod = LN_TRY(client_.Start(pod_, UniqueName("pod")));
      ready.Add(MillisSince(begin));
      for (int n = 0; n < 3; ++n) {
        begin = SteadyClock::now();
        const int code = LN_TRY(client_.ExecSync(pod.container, {"true"}));
        exec.Add(MillisSince(begin));
        if (code != 0) return Internal("exec of true returned " + std::to_string(code));
      }
      begin = SteadyClock::now();
      LN_TRY(client_.StopAndRemove(pod));
      gone.Add(MillisSince(begin));
    }
    const std::string left = AwaitCensus(before);
    Add("pod ready, 1 client" + with, "ms", ready);
    Add("stop + remove" + with, "ms", gone, left);
    Add("ExecSync true" + with, "ms", exec);
    return Ok();
  }

  Result<void> AtPopulations() {
    std::vector<PodHandle> running;
    const std::uint64_t available = MemAvailableKib();
    if (options_.daemon_pid > 0)
      Add("daemon memory, no pods", "MiB", PssMib(options_.daemon_pid), "PSS");
    for (const int population : options_.populations) {
      while (static_cast<int>(running.size()) < population)
        running.push_back(LN_TRY(client_.Start(pod_, UniqueName("crowd"))));
      LN_TRY(Latencies(population));
      if (population > 0) Memory(population, available);
    }
    for (const PodHandle& pod : running) LN_TRY(client_.StopAndRemove(pod));
    const std::string left = AwaitCensus(census_);
    if (!left.empty()) Add("census after removing the crowd", "", 1, left);
    return Ok();
  }

  static double PssMib(int pid) { return static_cast<double>(PssKib(pid)) / 1024; }

  void Memory(int population, std::uint64_t available_before) {
    const std::string with = ", " + std::to_string(population) + " pods running";
    if (!options_.helper_names.empty()) {
      Add("memory per pod (helper processes)" + with, "MiB",
          static_cast<double>(PssKibOf(options_.helper_names)) / 1024 / population, "PSS");
    }
    const auto now = static_cast<double>(MemAvailableKib());
    Add("memory per pod (drop of MemAvailable)" + with, "MiB",
        (static_cast<double>(available_before) - now) / 1024 / population,
        "kernel, daemon and the workload included");
    if (options_.daemon_pid <= 0) return;
    Add("daemon memory" + with, "MiB", PssMib(options_.daemon_pid), "PSS");
    const double before = ProcessSeconds(options_.daemon_pid);
    std::this_thread::sleep_for(std::chrono::seconds(options_.idle_seconds));
    Add("daemon CPU when idle" + with, "%",
        (ProcessSeconds(options_.daemon_pid) - before) / options_.idle_seconds * 100);
  }

  // The kernel goes on taking down namespaces of removed pods long after they are out of sight:
  // that is not the price of the next pod.
  static void Settle() {
    constexpr double kQuiet = 0.1;  // seconds of CPU in one
    for (int i = 0; i < 30; ++i) {
      const double before = BusySeconds();
      std::this_thread::sleep_for(std::chrono::seconds(1));
      if (BusySeconds() - before < kQuiet) return;
    }
  }

  Result<void> Burst() {
    Settle();
    const Census before = Census::Take();
    std::vector<std::vector<PodHandle>> made(static_cast<std::size_t>(options_.clients));
    std::vector<std::unique_ptr<CriClient>> clients;
    for (int i = 0; i < options_.clients; ++i) {
      clients.push_back(std::make_unique<CriClient>(options_.endpoint));
      LN_TRY(clients.back()->Version());
    }
    std::atomic<int> next{0};
    std::atomic<int> failed{0};
    const double busy = BusySeconds();
    auto begin = SteadyClock::now();
    Parallel([&](std::size_t i) {
      while (next.fetch_add(1) < options_.burst) {
        auto pod = clients[i]->Start(pod_, UniqueName("burst"));
        if (pod) {
          made[i].push_back(*std::move(pod));
        } else {
          ++failed;
          Say(pod.error().message());
        }
      }
    });
    const double seconds = MillisSince(begin) / 1000;
    const double busy_delta = BusySeconds() - busy;
    if (failed > 0) return Internal(std::to_string(failed) + " pods failed to start");
    const std::string clients_text = std::to_string(options_.clients) + " clients";
    Add("pods started per second, " + clients_text, "1/s", options_.burst / seconds);
    Add("CPU time per pod started, " + clients_text, "s", busy_delta / options_.burst,
        "whole machine, this client included");
    begin = SteadyClock::now();
    Parallel([&](std::size_t i) {
      for (const PodHandle& pod : made[i]) {
        if (!clients[i]->StopAndRemove(pod)) ++failed;
      }
    });
    Add("pods removed per second, " + clients_text, "1/s",
        options_.burst / (MillisSince(begin) / 1000), AwaitCensus(before));
    return Ok();
  }

  template <class Work>
  void Parallel(Work work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < options_.clients; ++i)
      threads.emplace_back([&work, i] { work(static_cast<std::size_t>(i)); });
    for (auto& thread : threads) thread.join();
  }

  // From RunPodSandbox to the first byte that the container sends to a listener on the host.
  Result<void> FirstByte() {
    UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t size = sizeof address;
    if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener.get(), 16) != 0 ||
        getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      return Error::FromErrno(errno, "listen");
    }
    PodOptions options = pod_;
    options.command = {"sh", "-c",
                       "echo x | nc $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') " +
                           std::to_string(ntohs(address.sin_port)) + "; sleep 100000"};
    Samples samples;
    for (int i = 0; i < options_.samples; ++i) {
      const auto begin = SteadyClock::now();
      const PodHandle pod = LN_TRY(client_.Start(options, UniqueName("byte")));
      pollfd wait{.fd = listener.get(), .events = POLLIN, .revents = 0};
      const bool came = poll(&wait, 1, 10000) == 1;
      if (came) {
        UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        char byte = 0;
        if (read(peer.get(), &byte, 1) == 1) samples.Add(MillisSince(begin));
      }
      LN_TRY(client_.StopAndRemove(pod));
      if (!came) return Internal("no byte came from the pod within 10 s");
    }
    Add("RunPodSandbox to the container's first byte", "ms", samples,
        "sh, ip, sed and nc of the image included");
    return Ok();
  }

  BenchOptions options_;
  CriClient client_;
  PodOptions pod_;
  Census census_;
  std::vector<Row> rows_;
};

}  // namespace

Result<std::vector<Row>> RunAll(const BenchOptions& options) {
  Bench bench(options);
  auto rows = bench.Run();
  bench.CleanUp();
  return rows;
}

}  // namespace linnet::bench
