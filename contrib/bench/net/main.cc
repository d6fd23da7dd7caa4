// linnet-bench-network: what the network of a pod costs, one driver at a time. The script
// contrib/bench/network calls it once for each and makes the table.
//
// Rows go to standard output: name, unit, median, 95th percentile, number of samples; tabs between.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

#include <CLI/CLI.hpp>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/text.h"

#include "../measure.h"
#include "driver.h"
#include "netlink/host_network.h"
#include "plugins/plugin.h"
#include "pods.h"
#include "traffic.h"

namespace linnet::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kWarmUp = 3;

struct Options {
  std::string driver = "engine";
  std::string config_file;
  DriverOptions drivers;
  int samples = 50, present = 0, pods = 200, threads = 16, rounds = 5, taken = 4000, seconds = 5;
  bool checks = true;
};

void PrintRow(const std::string& name, const std::string& unit, const Samples& samples) {
  std::printf("%s\t%s\t%.4g\t%.4g\t%zu\n", name.c_str(), unit.c_str(), samples.Median(),
              samples.Percentile(95), samples.count());
  std::fflush(stdout);
}

void PrintRow(const std::string& name, const std::string& unit, double value) {
  std::printf("%s\t%s\t%.4g\t\t1\n", name.c_str(), unit.c_str(), value);
  std::fflush(stdout);
}

// Milliseconds that this process, and the children that it waited for, had a processor.
double ProcessorMs() {
  double out = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    ::getrusage(who, &usage);
    for (const timeval& t : {usage.ru_utime, usage.ru_stime})
      out += static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3;
  }
  return out;
}

// Milliseconds that `work` takes.
Result<void> Time(Samples& samples, const std::function<Result<void>()>& work) {
  const auto begin = Clock::now();
  auto done = work();
  samples.Add(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  return done;
}

Result<std::unique_ptr<Driver>> MakeDriver(const Options& options) {
  if (options.driver == "engine") return MakeEngineDriver(options.drivers);
  if (options.driver == "exec") return MakeExecDriver(options.drivers);
  if (options.driver == "floor") return MakeFloorDriver(options.drivers);
  return InvalidArgument("no such driver: " + options.driver);
}

std::vector<HostPortSpec> PortOf(int number) {
  return {{static_cast<std::uint16_t>(10000 + number), 80}};
}

Result<void> NothingLeft(const Options& options) {
  const std::string left = LeftOverSoon(options.drivers.work);
  return left.empty() ? Ok() : Internal("left over:\n" + left);
}

// Kernel work that an operation leaves behind (a namespace that dies) must not meet the next one.
void LetSettle() { std::this_thread::sleep_for(std::chrono::milliseconds(80)); }

// One driver's part of a run with several: their samples alternate, so that what else the machine
// does hits all of them.
struct Contender {
  std::string name;
  std::unique_ptr<Driver> driver;
  std::vector<PodNamespace> present, pods;
  Samples add, check, del, add_processor;

  PodSpec Spec(std::size_t i) const { return pods[i].Spec(PortOf(static_cast<int>(i))); }
};

Result<Contender> MakeContender(const Options& options, const std::string& name) {
  Options own = options;
  own.driver = name;
  Contender out{.name = name, .driver = LN_TRY(MakeDriver(own))};
  for (int i = 0; i < options.present; ++i) {
    out.present.push_back(
        LN_TRY(PodNamespace::Make(*out.driver, name + "-present-" + std::to_string(i))));
    LN_TRY(out.driver->Add(out.present.back().Spec(PortOf(1000 + i))));
  }
  for (int i = 0; i < options.samples + kWarmUp; ++i)
    out.pods.push_back(LN_TRY(PodNamespace::Make(*out.driver, name + "-" + std::to_string(i))));
  return out;
}

Result<void> MeasureOperations(const Options& options, std::vector<Contender>& contenders) {
  Samples discard;
  const std::size_t count = contenders.front().pods.size();
  const auto each = [&](Samples Contender::*samples, auto operation) -> Result<void> {
    for (std::size_t i = 0; i < count; ++i) {
      for (Contender& c : contenders) {
        LN_TRY(Time(i < kWarmUp ? discard : c.*samples, [&] { return operation(c, i); }));
      }
    }
    return Ok();
  };
  const auto add = [](Contender& c, std::size_t i) -> Result<void> {
    const double before = ProcessorMs();
    LN_TRY(c.driver->Add(c.Spec(i)));
    if (i >= kWarmUp) c.add_processor.Add(ProcessorMs() - before);
    return Ok();
  };
  const auto check = [](Contender& c, std::size_t i) { return c.driver->Check(c.Spec(i)); };
  LN_TRY(each(&Contender::add, add));
  if (options.checks) LN_TRY(each(&Contender::check, check));
  for (std::size_t i = 0; i < count; ++i) {
    for (Contender& c : contenders) {
      LN_TRY(Time(i < kWarmUp ? discard : c.del, [&] { return c.driver->Del(c.Spec(i)); }));
      c.pods[i].Release();
      LetSettle();
    }
  }
  return Ok();
}

Result<void> Latency(const Options& options) {
  std::vector<Contender> contenders;
  for (const std::string& name : Split(options.driver, ','))
    contenders.push_back(LN_TRY(MakeContender(options, name)));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  LN_TRY(MeasureOperations(options, contenders));
  const std::string suffix =
      options.present == 0 ? "" : ", " + std::to_string(options.present) + " pods present";
  for (Contender& c : contenders) {
    const std::string prefix = contenders.size() > 1 ? c.name + ": " : "";
    PrintRow(prefix + "ADD" + suffix, "ms", c.add);
    PrintRow(prefix + "ADD, processor time" + suffix, "ms", c.add_processor);
    if (options.checks) PrintRow(prefix + "CHECK" + suffix, "ms", c.check);
    PrintRow(prefix + "DEL" + suffix, "ms", c.del);
  }
  if (options.present != 0) return Ok();  // the namespaces around us go as a whole
  for (Contender& c : contenders) c.driver->Settle();
  return NothingLeft(options);
}

// --- many at once

Result<void> OnThreads(int threads, std::size_t count,
                       const std::function<Result<void>(std::size_t)>& work) {
  std::atomic<std::size_t> next = 0;
  std::mutex mu;
  Result<void> first;
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&] {
        for (std::size_t i = next++; i < count; i = next++) {
          auto done = work(i);
          const std::lock_guard lock(mu);
          if (!done && first) first = std::move(done);
        }
      });
    }
  }
  return first;
}

Result<void> Parallel(const Options& options) {
  const auto driver = LN_TRY(MakeDriver(options));
  Samples adds;
  Samples dels;
  for (int round = 0; round < options.rounds; ++round) {
    std::vector<PodNamespace> pods;
    for (int i = 0; i < options.pods; ++i) {
      pods.push_back(LN_TRY(
          PodNamespace::Make(*driver, "many-" + std::to_string(round) + "-" + std::to_string(i))));
    }
    LetSettle();
    std::vector<std::string> addresses(pods.size());
    const auto spec = [&](std::size_t i) { return pods[i].Spec(PortOf(static_cast<int>(i))); };
    const auto rate = [&](Clock::time_point begin) {
      return static_cast<double>(pods.size()) /
             std::chrono::duration<double>(Clock::now() - begin).count();
    };
    auto begin = Clock::now();
    LN_TRY(OnThreads(options.threads, pods.size(), [&](std::size_t i) -> Result<void> {
      addresses[i] = LN_TRY(driver->Add(spec(i)));
      return Ok();
    }));
    adds.Add(rate(begin));
    const std::set<std::string> different(addresses.begin(), addresses.end());
    if (different.size() != pods.size() || different.contains(""))
      return Internal("an address was given twice");
    begin = Clock::now();
    LN_TRY(OnThreads(options.threads, pods.size(),
                     [&](std::size_t i) { return driver->Del(spec(i)); }));
    dels.Add(rate(begin));
    pods.clear();
    LN_TRY(NothingLeft(options));
  }
  const std::string what =
      std::to_string(options.pods) + " pods, " + std::to_string(options.threads) + " threads";
  PrintRow(what + ": ADD", "1/s", adds);
  PrintRow(what + ": DEL", "1/s", dels);
  return Ok();
}

// --- what a tracer counts

// A system call that nobody else makes: the tracer's output is cut here.
void Mark(const std::string& name) { (void)::access(("/linnet-bench/" + name).c_str(), F_OK); }

Result<void> Trace(const Options& options) {
  const auto driver = LN_TRY(MakeDriver(options));
  for (int i = 0; i < kWarmUp + options.samples; ++i) {
    PodNamespace pod = LN_TRY(PodNamespace::Make(*driver, "traced-" + std::to_string(i)));
    const PodSpec spec = pod.Spec(PortOf(i));
    const bool counted = i >= kWarmUp;
    const auto traced = [&](const char* name, const std::function<Result<void>()>& work) {
      if (counted) Mark(name);
      auto done = work();
      if (counted) Mark("end");
      return done;
    };
    LN_TRY(traced("ADD", [&]() -> Result<void> {
      LN_TRY(driver->Add(spec));
      return Ok();
    }));
    if (options.checks) LN_TRY(traced("CHECK", [&] { return driver->Check(spec); }));
    LN_TRY(traced("DEL", [&] { return driver->Del(spec); }));
  }
  return Ok();
}

// --- host-local

Result<void> Fill(const std::string& directory, int taken) {
  LN_TRY(MakeDirs(directory, 0755));
  for (int i = 0; i < taken; ++i) {
    const std::string name =
        "10.100." + std::to_string(i / 250) + "." + std::to_string(2 + i % 250);
    LN_TRY(ReplaceFile(JoinPath(directory, name), "other-" + std::to_string(i) + "\r\neth0", 0600));
  }
  return Ok();
}

Result<void> Ipam(const Options& options) {
  const std::string data = JoinPath(options.drivers.work, "ipam");
  LN_TRY(Fill(JoinPath(data, "bench"), options.taken));
  const std::string text = R"({"cniVersion":"1.0.0","name":"bench","type":"host-local","ipam":{)"
                           R"("type":"host-local","subnet":"10.100.0.0/16","dataDir":")" +
                           data + R"("}})";
  const Json conf = LN_TRY(ParseJson(text));
  const auto host = LN_TRY(network::HostNetwork::Create({}));
  const auto plugin = network::MakeHostLocalPlugin();
  network::PluginContext context{
      .host = *host, .ipam_dir = data, .instance = {}, .delegates = nullptr};
  std::unique_ptr<Driver> executed;
  if (options.driver == "exec") {
    DriverOptions exec = options.drivers;
    exec.config = R"({"cniVersion":"1.0.0","name":"bench","plugins":[)" + text + "]}";
    executed = LN_TRY(MakeExecDriver(exec));
  }
  const PodNamespace pod = LN_TRY(PodNamespace::Make("ipam"));  // upstream wants a path that exists
  Samples add;
  Samples check;
  Samples del;
  Samples first;
  for (int i = 0; i <= options.samples; ++i) {
    network::PluginRequest request;
    PodSpec spec = pod.Spec({});
    spec.id = request.container_id = "ipam-" + std::to_string(i);
    request.ifname = "eth0";
    request.network = "bench";
    request.cni_version = "1.0.0";
    request.conf = &conf;
    LN_TRY(Time(i == 0 ? first : add, [&]() -> Result<void> {
      if (executed) {
        LN_TRY(executed->Add(spec));
      } else {
        LN_TRY(plugin->Add(context, request));
      }
      return Ok();
    }));
    LN_TRY(Time(i == 0 ? first : check, [&] {
      return executed ? executed->Check(spec) : plugin->Check(context, request);
    }));
    LN_TRY(Time(i == 0 ? first : del,
                [&] { return executed ? executed->Del(spec) : plugin->Del(context, request); }));
  }
  const std::string suffix = ", " + std::to_string(options.taken) + " addresses taken";
  PrintRow("host-local ADD" + suffix, "ms", add);
  PrintRow("host-local CHECK" + suffix, "ms", check);
  PrintRow("host-local DEL" + suffix, "ms", del);
  return Ok();
}

Result<void> Traffic(const Options& options) {
  const auto driver = LN_TRY(MakeDriver(options));
  for (const Figure& f : LN_TRY(MeasureTraffic(*driver, options.present, options.seconds)))
    PrintRow(f.name, f.unit, f.value);
  return Ok();
}

}  // namespace
}  // namespace linnet::bench

int main(int argc, char** argv) {
  using linnet::bench::Options;
  Options options;
  CLI::App app{
      "Measures what a pod's network costs. Called by contrib/bench/network, as root, in "
      "namespaces of its own (contrib/lib/isolated)."};
  app.add_option("--driver", options.driver,
                 "engine, exec (plugins of a directory), floor; `latency`: a list");
  app.add_option("--config", options.config_file, "the conflist; none: linnet's built-in network");
  app.add_option("--plugins", options.drivers.plugins, "directory of CNI executables");
  app.add_option("--work", options.drivers.work, "an empty directory")->required();
  app.add_option("--samples", options.samples, "samples of each operation");
  app.add_option("--present", options.present, "pods (traffic: host ports) that are there already");
  app.add_option("--pods", options.pods, "pods of `parallel`");
  app.add_option("--threads", options.threads, "threads of `parallel`");
  app.add_option("--rounds", options.rounds, "rounds of `parallel`");
  app.add_option("--taken", options.taken, "addresses in use for `ipam`");
  app.add_option("--seconds", options.seconds, "length of each measurement of `traffic`");
  app.add_flag("!--no-checks", options.checks, "leave CHECK out");
  using Command = linnet::Result<void> (*)(const Options&);
  const std::pair<const char*, Command> commands[] = {{"latency", linnet::bench::Latency},
                                                      {"parallel", linnet::bench::Parallel},
                                                      {"trace", linnet::bench::Trace},
                                                      {"ipam", linnet::bench::Ipam},
                                                      {"traffic", linnet::bench::Traffic}};
  for (const auto& [name, command] : commands) app.add_subcommand(name)->fallthrough();
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  if (!options.config_file.empty()) {
    auto text = linnet::ReadFile(options.config_file);
    if (!text) {
      std::fprintf(stderr, "linnet-bench-network: %s\n", text.error().message().c_str());
      return 1;
    }
    options.drivers.config = *std::move(text);
  }
  for (const auto& [name, command] : commands) {
    if (!app.got_subcommand(name)) continue;
    if (auto done = command(options); !done) {
      std::fprintf(stderr, "linnet-bench-network %s: %s\n", name, done.error().message().c_str());
      return 1;
    }
  }
  return 0;
}
