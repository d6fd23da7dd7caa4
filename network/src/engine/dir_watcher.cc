#include "engine/dir_watcher.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

namespace linnet::network {
namespace {

constexpr std::uint32_t kDirEvents = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM |
                                     IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
                                     IN_ONLYDIR;
constexpr std::uint32_t kParentEvents =
    IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// A file that is being written shows as IN_CREATE first and IN_CLOSE_WRITE last: what follows
// closely is one change.
constexpr int kQuietMs = 10;
constexpr auto kLongest = std::chrono::milliseconds(200);

void DrainEvents(FdRef inotify) {
  std::array<char, 8192> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
  while (read(inotify.get(), buffer.data(), buffer.size()) > 0) {
  }
}

// The directory, or the nearest parent that exists; watched when this returns.
Result<std::string> WatchNearest(FdRef inotify, const std::string& directory) {
  for (;;) {
    std::string target = directory;
    std::string missing;
    int watch = -1;
    while ((watch = inotify_add_watch(inotify.get(), target.c_str(),
                                      target == directory ? kDirEvents : kParentEvents)) < 0) {
      if ((errno != ENOENT && errno != ENOTDIR) || target == "/")
        return Error::FromErrno(errno, "watch " + target);
      missing = target;
      target = Dirname(target);
    }
    // Made between the two looks: no event told of it.
    struct stat st {};
    if (missing.empty() || stat(missing.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return target;
    (void)inotify_rm_watch(inotify.get(), watch);
  }
}

}  // namespace

Result<std::unique_ptr<DirWatcher>> DirWatcher::Create(std::string directory,
                                                       std::function<void()> changed) {
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return Error::FromErrno(errno, "eventfd");
  std::unique_ptr<DirWatcher> out(
      new DirWatcher(CleanPath(directory), std::move(changed), std::move(wake)));
  LN_TRY(out->Arm());
  out->thread_ = std::thread([watcher = out.get()] { watcher->Loop(); });
  pthread_setname_np(out->thread_.native_handle(), "ln-confwatch");
  return out;
}

DirWatcher::~DirWatcher() {
  {
    MutexLock lock(mu_);
    stop_ = true;
  }
  const std::uint64_t one = 1;
  (void)!write(wake_.get(), &one,
               sizeof one);  // an eventfd refuses only when it is readable already
  if (thread_.joinable()) thread_.join();
}

// A fresh inotify descriptor each time: no watch of the past survives.
Result<void> DirWatcher::Arm() {
  {
    MutexLock lock(mu_);
    device_ = inode_ = ~std::uint64_t{0};  // until it is armed: Verify tries again
  }
  inotify_.Reset(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_) return Error::FromErrno(errno, "inotify");
  const std::string target = LN_TRY(WatchNearest(inotify_, directory_));
  struct stat st {};
  const bool there = target == directory_ && stat(directory_.c_str(), &st) == 0;
  // Folders within hold more plugins of a network: <directory>/<network>/*.conf.
  if (there) {
    auto names = ListDir(directory_);
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
      (void)inotify_add_watch(inotify_.get(), JoinPath(directory_, name).c_str(),
                              kDirEvents);  // files say ENOTDIR
    }
  }
  MutexLock lock(mu_);
  device_ = there ? st.st_dev : 0;
  inode_ = there ? st.st_ino : 0;
  return Ok();
}

void DirWatcher::Verify() {
  struct stat st {};
  const bool there = stat(directory_.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
  {
    MutexLock lock(mu_);
    if (there ? (device_ == st.st_dev && inode_ == st.st_ino) : inode_ == 0) return;
    rearm_ = true;
  }
  const std::uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);
}

void DirWatcher::Loop() {
  using Steady = std::chrono::steady_clock;
  for (;;) {
    std::array<pollfd, 2> wait = {{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                   {.fd = inotify_.get(), .events = POLLIN, .revents = 0}}};
    if (poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR) return;
    std::uint64_t count = 0;
    (void)!read(wake_.get(), &count, sizeof count);
    {
      MutexLock lock(mu_);
      if (stop_) return;
      if (wait[1].revents == 0 && !rearm_) continue;
      rearm_ = false;
    }
    const auto start = Steady::now();
    DrainEvents(inotify_);
    pollfd more{.fd = inotify_.get(), .events = POLLIN, .revents = 0};
    while (Steady::now() - start < kLongest && poll(&more, 1, kQuietMs) > 0) DrainEvents(inotify_);
    // Armed before the directory is read: what changes in between shows as an event.
    auto armed = Arm();
    if (!armed) log::Debug("configuration is not watched", {{"err", armed.error()}});
    changed_();
  }
}

}  // namespace linnet::network
