#include "engine/retry_queue.h"

#include <pthread.h>

#include <algorithm>

namespace linnet::network {
namespace {

constexpr std::chrono::milliseconds kLongestDelay = std::chrono::minutes(5);

}  // namespace

void RetryQueue::Add(const std::string& key, std::string why) {
  MutexLock lock(mu_);
  if (stop_) return;
  entries_.insert_or_assign(
      key, Entry{std::chrono::steady_clock::now() + first_delay_, first_delay_, std::move(why)});
  if (!thread_.joinable()) {
    thread_ = std::thread([this] { Loop(); });
    pthread_setname_np(thread_.native_handle(), "ln-del-retry");
  }
  changed_.NotifyAll();
}

bool RetryQueue::Contains(const std::string& key) const {
  MutexLock lock(mu_);
  return entries_.contains(key);
}

std::map<std::string, std::string> RetryQueue::Failures() const {
  MutexLock lock(mu_);
  std::map<std::string, std::string> out;
  for (const auto& [key, entry] : entries_) out[key] = entry.why;
  return out;
}

void RetryQueue::Stop() {
  std::thread thread;
  {
    MutexLock lock(mu_);
    stop_ = true;
    thread = std::move(thread_);
    changed_.NotifyAll();
  }
  if (thread.joinable()) thread.join();
}

void RetryQueue::Loop() {
  MutexLock lock(mu_);
  while (!stop_) {
    const auto next =
        std::min_element(entries_.begin(), entries_.end(),
                         [](const auto& a, const auto& b) { return a.second.due < b.second.due; });
    if (next == entries_.end()) {
      changed_.Wait(mu_);
      continue;
    }
    if (std::chrono::steady_clock::now() < next->second.due) {
      (void)changed_.WaitUntil(mu_, next->second.due);
      continue;
    }
    const std::string key = next->first;
    mu_.Unlock();
    auto done = attempt_(key);
    mu_.Lock();
    const auto entry = entries_.find(key);
    if (entry == entries_.end()) continue;
    if (done) {
      entries_.erase(entry);
      continue;
    }
    entry->second.why = done.error().message();
    entry->second.delay = std::min(entry->second.delay * 2, kLongestDelay);
    entry->second.due = std::chrono::steady_clock::now() + entry->second.delay;
  }
}

}  // namespace linnet::network
