// Tells when a directory may have changed: its files, and itself, which need not exist.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::network {

// While the directory is missing, the nearest parent that exists is watched for it. One thread
// ("ln-confwatch").
class DirWatcher {
 public:
  // `changed` is called on the watcher's thread, once for what comes within some milliseconds.
  static Result<std::unique_ptr<DirWatcher>> Create(std::string directory,
                                                    std::function<void()> changed);
  DirWatcher(const DirWatcher&) = delete;
  DirWatcher& operator=(const DirWatcher&) = delete;
  ~DirWatcher();
  // Compares the watched directory with the one that has the name now, and arms anew where they
  // differ: a link that was flipped, or a parent renamed, sends no event. One stat; for callers
  // that come by anyway.
  void Verify();

 private:
  DirWatcher(std::string directory, std::function<void()> changed, UniqueFd wake)
      : directory_(std::move(directory)), changed_(std::move(changed)), wake_(std::move(wake)) {}
  void Loop();
  Result<void> Arm();

  const std::string directory_;
  const std::function<void()> changed_;
  UniqueFd wake_;     // eventfd: stop, or arm anew
  UniqueFd inotify_;  // the thread's own
  Mutex mu_;
  bool stop_ LN_GUARDED_BY(mu_) = false;
  bool rearm_ LN_GUARDED_BY(mu_) = false;
  std::uint64_t device_ LN_GUARDED_BY(mu_) = 0, inode_
                                                LN_GUARDED_BY(mu_) = 0;  // watched; 0: a parent is
  std::thread thread_;
};

}  // namespace linnet::network
