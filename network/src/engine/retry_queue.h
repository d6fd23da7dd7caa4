// Work that failed and is tried again in the background: DELs of foreign plugins.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

namespace linnet::network {

// Thread-safe. One thread ("ln-del-retry"), started with the first entry.
class RetryQueue {
 public:
  // `attempt` is called on the thread, without locks held; success takes the key from the queue.
  RetryQueue(std::function<Result<void>(const std::string& key)> attempt,
             std::chrono::milliseconds first_delay)
      : attempt_(std::move(attempt)), first_delay_(first_delay) {}
  RetryQueue(const RetryQueue&) = delete;
  RetryQueue& operator=(const RetryQueue&) = delete;
  ~RetryQueue() { Stop(); }
  // The delay doubles with each failure, up to five minutes.
  void Add(const std::string& key, std::string why);
  bool Contains(const std::string& key) const;
  // key → the last failure.
  std::map<std::string, std::string> Failures() const;
  // Waits for an attempt that is under way.
  void Stop();

 private:
  struct Entry {
    std::chrono::steady_clock::time_point due;
    std::chrono::milliseconds delay;
    std::string why;
  };
  void Loop();

  const std::function<Result<void>(const std::string&)> attempt_;
  const std::chrono::milliseconds first_delay_;
  mutable Mutex mu_;
  CondVar changed_;
  std::map<std::string, Entry> entries_ LN_GUARDED_BY(mu_);
  bool stop_ LN_GUARDED_BY(mu_) = false;
  std::thread thread_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::network
