// std::mutex with clang's thread-safety annotations.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define LN_TSA(x) __attribute__((x))
#else
#define LN_TSA(x)
#endif
#define LN_GUARDED_BY(m) LN_TSA(guarded_by(m))
#define LN_REQUIRES(...) LN_TSA(requires_capability(__VA_ARGS__))
#define LN_EXCLUDES(...) LN_TSA(locks_excluded(__VA_ARGS__))

namespace linnet {

class LN_TSA(capability("mutex")) Mutex {
 public:
  void Lock() LN_TSA(acquire_capability()) { mu_.lock(); }
  void Unlock() LN_TSA(release_capability()) { mu_.unlock(); }
  bool TryLock() LN_TSA(try_acquire_capability(true)) { return mu_.try_lock(); }
  // BasicLockable, for std::condition_variable_any.
  void lock() LN_TSA(acquire_capability()) { mu_.lock(); }
  void unlock() LN_TSA(release_capability()) { mu_.unlock(); }

 private:
  std::mutex mu_;
};

class LN_TSA(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mu) LN_TSA(acquire_capability(mu)) : mu_(mu) { mu_.Lock(); }
  ~MutexLock() LN_TSA(release_capability()) { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

// Wait(mu) with the mutex held; spurious wake-ups happen: loop on the condition.
class CondVar {
 public:
  void Wait(Mutex& mu) LN_REQUIRES(mu) { cv_.wait(mu); }
  template <class Clock, class Duration>
  std::cv_status WaitUntil(Mutex& mu, const std::chrono::time_point<Clock, Duration>& t)
      LN_REQUIRES(mu) {
    return cv_.wait_until(mu, t);
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable_any cv_;
};

}  // namespace linnet
