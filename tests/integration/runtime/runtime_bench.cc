// What the verbs cost: medians and the 95th percentile, printed. Not a pass or a fail, but for
// gross surprises.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <thread>

#include "linnet/base/text.h"

#include "runtime_fixture.h"

namespace linnet::runtime::test {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class Times {
 public:
  template <class F>
  auto Take(const char* name, F run) {
    const auto begin = steady_clock::now();
    auto result = run();
    times_[name].push_back(
        std::chrono::duration_cast<microseconds>(steady_clock::now() - begin).count());
    return result;
  }
  void Print(const char* title) {
    std::printf("%s\n", title);
    for (auto& [name, list] : times_) {
      std::sort(list.begin(), list.end());
      std::printf("  %-24s min %6lld  p50 %6lld  p95 %6lld us (n=%zu)\n", name.c_str(),
                  static_cast<long long>(list.front()),
                  static_cast<long long>(list[list.size() / 2]),
                  static_cast<long long>(list[list.size() * 95 / 100]), list.size());
    }
  }

 private:
  std::map<std::string, std::vector<std::int64_t>> times_;
};

std::uint64_t Pss(pid_t pid) {
  const auto text = ReadFile("/proc/" + std::to_string(pid) + "/smaps_rollup");
  if (!text) return 0;
  for (const std::string& line : Split(*text, '\n')) {
    const auto fields = SplitFields(line);
    if (fields.size() > 1 && fields[0] == "Pss:") return *ParseNumber<std::uint64_t>(fields[1]);
  }
  return 0;
}

class RuntimeBench : public RuntimeTest {
 protected:
  void Cycle(NamespaceMode pid, std::chrono::milliseconds gap, int rounds, const char* title) {
    Times times;
    for (int i = 0; i < rounds; ++i) {
      const PodSpec pod = MakePod(pid);
      ContainerSpec c = MakeContainer(pod.id, "");
      c.pid = pid;
      c.spec.process.args = {"sleep", "1000"};
      oci::Process process = ExecProcess("");
      process.args = {"true"};
      std::this_thread::sleep_for(gap);
      LN_ASSERT_OK(
          times.Take("1 StartPod", [&] { return runtime_->StartPod(pod, In(seconds(5))); }));
      LN_ASSERT_OK(
          times.Take("2 CheckContainer", [&] { return runtime_->CheckContainer(pod.id, c); }));
      LN_ASSERT_OK(times.Take("3 StartContainer",
                              [&] { return runtime_->StartContainer(pod.id, c, In(seconds(5))); }));
      std::this_thread::sleep_for(gap);
      LN_ASSERT_OK(times.Take("4 ExecSync true", [&] {
        return runtime_->ExecSync(pod.id, c.id, process, seconds(5));
      }));
      std::this_thread::sleep_for(gap);
      LN_ASSERT_OK(times.Take("5 SIGKILL + WaitExit", [&]() -> Result<ContainerExit> {
        LN_TRY(runtime_->Signal(pod.id, c.id, 9));
        return runtime_->WaitExit(pod.id, c.id, In(seconds(5)));
      }));
      LN_ASSERT_OK(
          times.Take("6 RemoveContainer", [&] { return runtime_->RemoveContainer(pod.id, c.id); }));
      LN_ASSERT_OK(times.Take("7 RemovePod", [&] { return runtime_->RemovePod(pod.id, ""); }));
    }
    times.Print(title);
  }
};

TEST_F(RuntimeBench, OwnPid) {
  Cycle(NamespaceMode::kContainer, std::chrono::milliseconds(3), 100,
        "pid: container's own, gaps of 3 ms");
}
TEST_F(RuntimeBench, PodPid) {
  Cycle(NamespaceMode::kPod, std::chrono::milliseconds(3), 100, "pid: the pod's, gaps of 3 ms");
}
TEST_F(RuntimeBench, AfterIdle) {
  Cycle(NamespaceMode::kContainer, std::chrono::milliseconds(300), 20,
        "pid: container's own, gaps of 300 ms");
}

TEST_F(RuntimeBench, FourClients) {
  constexpr int kEach = 50;
  std::vector<PodSpec> pods;
  for (int i = 0; i < 4 * kEach; ++i) pods.push_back(MakePod());
  const auto begin = steady_clock::now();
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const PodSpec& pod = pods[static_cast<std::size_t>(t * kEach + i)];
        LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
        ContainerSpec c = MakeContainer(pod.id, "");
        c.spec.process.args = {"sleep", "1000"};
        LN_EXPECT_OK(runtime_->CheckContainer(pod.id, c));
        LN_EXPECT_OK(runtime_->StartContainer(pod.id, c, In(seconds(5))));
        LN_EXPECT_OK(runtime_->Signal(pod.id, c.id, 9));
        LN_EXPECT_OK(runtime_->WaitExit(pod.id, c.id, In(seconds(5))));
        LN_EXPECT_OK(runtime_->RemovePod(pod.id, ""));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  const double time = std::chrono::duration<double>(steady_clock::now() - begin).count();
  std::printf("four clients: %.0f pods/s started, killed and removed\n", 4 * kEach / time);
}

TEST_F(RuntimeBench, MemoryAndIdle) {
  std::vector<Started> pods;
  for (int i = 0; i < 50; ++i) pods.push_back(Run("exec sleep 1000"));
  std::uint64_t sum = 0;
  const std::vector<pid_t> keepers = Keepers();
  for (const pid_t pid : keepers) sum += Pss(pid);
  std::printf("keepers: %zu, PSS %llu KiB each\n", keepers.size(),
              static_cast<unsigned long long>(sum / keepers.size()));
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_SELF, &before);
  std::this_thread::sleep_for(seconds(2));
  getrusage(RUSAGE_SELF, &after);
  std::printf("idle with 50 pods: %ld voluntary context switches in 2 s\n",
              after.ru_nvcsw - before.ru_nvcsw);
  EXPECT_LE(after.ru_nvcsw - before.ru_nvcsw, 3);  // the sleep itself
}

}  // namespace
}  // namespace linnet::runtime::test
