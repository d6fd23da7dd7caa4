// Threads for calls that block. gRPC's own threads only translate and answer from memory.
//
// Threads are made when work waits and none is idle, and end after some idle time, all but a few.
// Work that waits long (exec, stop, pull) has a limit of its own below the number of threads, so
// that it never takes all of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "linnet/base/mutex.h"

namespace linnet::cri {

enum class Work : std::uint8_t {
  kShort,  // bounded by what the kernel does: milliseconds to a few seconds
  kWait,   // waits for a process or a registry: as long as the client likes
};

// Thread-safe.
class WorkerPool {
 public:
  struct Options {
    std::size_t max_threads = 320;
    std::size_t max_waiting = 256;  // threads that kWait may take
    std::size_t max_queued = 4096;  // of each kind
    std::size_t kept_threads = 2;
    std::chrono::milliseconds idle_time{10'000};
    // Called by a thread that had work and then none for `idle_time`: to give memory back.
    std::function<void()> on_idle = [] {};
  };
  WorkerPool() : WorkerPool(Options()) {}
  explicit WorkerPool(const Options& options) : options_(options) {}
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  // Runs what is queued, then ends.
  ~WorkerPool();

  // False: too much is queued, or no thread can be made; the task was not taken.
  [[nodiscard]] bool Submit(Work work, std::move_only_function<void()> task) LN_EXCLUDES(mu_);
  // Until nothing runs and nothing is queued; false: the time is over.
  [[nodiscard]] bool WaitIdle(std::chrono::steady_clock::time_point deadline) LN_EXCLUDES(mu_);
  std::size_t threads() const LN_EXCLUDES(mu_);

 private:
  using Task = std::move_only_function<void()>;

  // How many tasks a thread could take now.
  std::size_t Runnable() const LN_REQUIRES(mu_) {
    return short_.size() + std::min(waits_.size(), options_.max_waiting - waiting_);
  }
  bool StartThread() LN_REQUIRES(mu_);
  void RunThread() LN_EXCLUDES(mu_);
  void RunOne() LN_REQUIRES(mu_);

  const Options options_;
  mutable Mutex mu_;
  CondVar work_, idle_changed_;
  std::deque<Task> short_ LN_GUARDED_BY(mu_), waits_ LN_GUARDED_BY(mu_);
  std::size_t threads_ LN_GUARDED_BY(mu_) = 0;
  std::size_t idle_ LN_GUARDED_BY(mu_) = 0;
  std::size_t waiting_ LN_GUARDED_BY(mu_) = 0;
  bool ending_ LN_GUARDED_BY(mu_) = false;
  std::vector<std::thread> ended_ LN_GUARDED_BY(mu_);  // to be joined
  std::vector<std::thread> running_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::cri
