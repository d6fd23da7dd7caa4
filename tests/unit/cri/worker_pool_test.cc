#include "service/worker_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>

#include <gtest/gtest.h>

namespace linnet::cri {
namespace {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals

auto Soon() { return std::chrono::steady_clock::now() + 10s; }

// Holds tasks until Open().
class Gate {
 public:
  void Pass() {
    std::unique_lock lock(mu_);
    ++inside_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void Open() {
    const std::lock_guard lock(mu_);
    open_ = true;
    changed_.notify_all();
  }
  bool WaitInside(int n) {
    std::unique_lock lock(mu_);
    return changed_.wait_until(lock, Soon(), [&] { return inside_ >= n; });
  }
  int inside() {
    const std::lock_guard lock(mu_);
    return inside_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool open_ = false;
  int inside_ = 0;
};

TEST(WorkerPool, Tasks_AllRun) {
  std::atomic<int> ran = 0;
  WorkerPool pool;
  for (int i = 0; i < 1000; ++i)
    ASSERT_TRUE(pool.Submit(i % 2 == 0 ? Work::kShort : Work::kWait, [&] { ++ran; }));
  ASSERT_TRUE(pool.WaitIdle(Soon()));
  EXPECT_EQ(ran, 1000);
}

TEST(WorkerPool, HundredWaits_DoNotHinderOthers) {
  Gate gate;
  WorkerPool pool;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.Submit(Work::kWait, [&] { gate.Pass(); }));
  ASSERT_TRUE(gate.WaitInside(100)) << "they wait side by side";
  Gate other;
  ASSERT_TRUE(pool.Submit(Work::kShort, [&] { other.Pass(); }));
  EXPECT_TRUE(other.WaitInside(1));
  other.Open();
  gate.Open();
}

TEST(WorkerPool, WaitsBeyondTheirLimit_LeaveThreadsForTheRest) {
  Gate gate;
  std::atomic<int> ran = 0;
  WorkerPool pool({.max_threads = 4, .max_waiting = 2});
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(pool.Submit(Work::kWait, [&] {
      gate.Pass();
      ++ran;
    }));
  }
  ASSERT_TRUE(gate.WaitInside(2));
  Gate other;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(pool.Submit(Work::kShort, [&] { other.Pass(); }));
  EXPECT_TRUE(other.WaitInside(2));
  EXPECT_EQ(gate.inside(), 2);
  other.Open();
  gate.Open();
  ASSERT_TRUE(pool.WaitIdle(Soon()));
  EXPECT_EQ(ran, 5);
}

TEST(WorkerPool, TooMuchQueued_IsRefused) {
  Gate gate;
  WorkerPool pool({.max_threads = 1, .max_waiting = 1, .max_queued = 2});
  ASSERT_TRUE(pool.Submit(Work::kShort, [&] { gate.Pass(); }));
  ASSERT_TRUE(gate.WaitInside(1));
  EXPECT_TRUE(pool.Submit(Work::kShort, [] {}));
  EXPECT_TRUE(pool.Submit(Work::kShort, [] {}));
  EXPECT_FALSE(pool.Submit(Work::kShort, [] {}));
  gate.Open();
}

TEST(WorkerPool, IdleThreads_EndAllButAFew) {
  Gate gate;
  WorkerPool pool({.kept_threads = 2, .idle_time = 1ms});
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pool.Submit(Work::kShort, [&] { gate.Pass(); }));
  ASSERT_TRUE(gate.WaitInside(20));
  EXPECT_EQ(pool.threads(), 20U);
  gate.Open();
  const auto end = Soon();
  while (pool.threads() > 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(pool.threads(), 2U);
  std::atomic<bool> ran = false;
  ASSERT_TRUE(pool.Submit(Work::kShort, [&] { ran = true; }));
  ASSERT_TRUE(pool.WaitIdle(Soon()));
  EXPECT_TRUE(ran);
}

TEST(WorkerPool, AfterWork_IdleThreadsSayItOnce) {
  std::atomic<int> idle = 0;
  WorkerPool pool({.kept_threads = 1, .idle_time = 1ms, .on_idle = [&] { ++idle; }});
  for (int expected = 1; expected <= 3; ++expected) {
    ASSERT_TRUE(pool.Submit(Work::kShort, [] {}));
    const auto end = Soon();
    while (idle < expected && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    ASSERT_EQ(idle, expected);
  }
}

TEST(WorkerPool, WaitIdle_TellsWhenSomethingRuns) {
  Gate gate;
  WorkerPool pool;
  ASSERT_TRUE(pool.Submit(Work::kWait, [&] { gate.Pass(); }));
  EXPECT_FALSE(pool.WaitIdle(std::chrono::steady_clock::now() + 1ms));
  gate.Open();
  EXPECT_TRUE(pool.WaitIdle(Soon()));
}

}  // namespace
}  // namespace linnet::cri
