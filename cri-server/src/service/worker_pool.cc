#include "worker_pool.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace linnet::cri {

WorkerPool::~WorkerPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mu_);
    ending_ = true;
    work_.NotifyAll();
    while (threads_ > 0) idle_changed_.Wait(mu_);
    threads = std::move(ended_);
  }
  for (std::thread& thread : threads) thread.join();
}

std::size_t WorkerPool::threads() const {
  MutexLock lock(mu_);
  return threads_;
}

bool WorkerPool::Submit(Work work, Task task) {
  std::vector<std::thread> ended;
  bool taken = false;
  {
    MutexLock lock(mu_);
    auto& queue = work == Work::kWait ? waits_ : short_;
    if (!ending_ && queue.size() < options_.max_queued) {
      queue.push_back(std::move(task));
      taken = true;
      work_.NotifyOne();
      if (idle_ < Runnable() && threads_ < options_.max_threads && !StartThread() &&
          threads_ == 0) {
        queue.pop_back();
        taken = false;
      }
    }
    ended.swap(ended_);
  }
  for (std::thread& thread : ended) thread.join();  // they are past their last line
  return taken;
}

bool WorkerPool::StartThread() {
  try {
    running_.emplace_back([this] { RunThread(); });
  } catch (const std::system_error&) {
    return false;  // no more threads for this process: those that exist take the work
  }
  ++threads_;
  return true;
}

void WorkerPool::RunOne() {
  const bool is_wait = short_.empty();
  auto& queue = is_wait ? waits_ : short_;
  Task task = std::move(queue.front());
  queue.pop_front();
  if (is_wait) ++waiting_;
  mu_.Unlock();
  task();
  task = nullptr;  // what it holds may take locks of its own
  mu_.Lock();
  if (is_wait) {
    --waiting_;
    if (!waits_.empty()) work_.NotifyOne();
  }
}

void WorkerPool::RunThread() {
  pthread_setname_np(pthread_self(), "work");
  MutexLock lock(mu_);
  bool worked = false;
  while (true) {
    if (Runnable() > 0) {
      RunOne();
      worked = true;
      continue;
    }
    ++idle_;
    idle_changed_.NotifyAll();
    if (ending_) break;
    if (!worked && threads_ <= options_.kept_threads) {
      work_.Wait(mu_);
    } else if (work_.WaitUntil(mu_, std::chrono::steady_clock::now() + options_.idle_time) ==
                   std::cv_status::timeout &&
               Runnable() == 0 && !ending_) {
      mu_.Unlock();
      if (worked) options_.on_idle();
      mu_.Lock();
      worked = false;
      if (threads_ > options_.kept_threads && Runnable() == 0) break;
    }
    --idle_;
  }
  --idle_;
  --threads_;
  idle_changed_.NotifyAll();
  const auto self = std::find_if(running_.begin(), running_.end(), [](const std::thread& t) {
    return t.get_id() == std::this_thread::get_id();
  });
  ended_.push_back(std::move(*self));
  running_.erase(self);
}

bool WorkerPool::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while (idle_ < threads_ || !short_.empty() || !waits_.empty()) {
    if (idle_changed_.WaitUntil(mu_, deadline) == std::cv_status::timeout) return false;
  }
  return true;
}

}  // namespace linnet::cri
