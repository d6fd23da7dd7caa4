#include "netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <thread>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/mutex.h"

namespace linnet::network {
namespace {

constexpr const char* kThreadNetns = "/proc/thread-self/ns/net";
constexpr std::size_t kInstanceLength = 4;

// NSIO is nsfs's own: everything else refuses it.
bool IsNetns(FdRef fd) { return ::ioctl(fd.get(), NS_GET_NSTYPE) == CLONE_NEWNET; }

// Runs `work` on a thread that ends with it: what it does to its own namespace has not to be
// undone.
Result<void> OnThrowAwayThread(const std::function<Result<void>()>& work) {
  std::optional<Error> error;
  try {
    std::thread([&] {
      if (Result<void> done = work(); !done) error = std::move(done).error();
    }).join();
  } catch (const std::system_error& e) {
    return Error::FromErrno(e.code().value(), "start a thread for a namespace");
  }
  if (error) return std::move(*error);
  return Ok();
}

Result<void> Unmount(const std::string& path) {
  constexpr int kMostStackedMounts = 8;
  for (int i = 0; i < kMostStackedMounts; ++i) {
    if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
    // EINVAL: no mount (any more); ENOENT: nothing there.
    if (errno == EINVAL || errno == ENOENT) return Ok();
    return Error::FromErrno(errno, "unmount " + path);
  }
  return Ok();
}

bool IsInstance(std::string_view text) {
  if (text.size() != kInstanceLength) return false;
  for (const char c : text) {
    if ((c < 'a' || c > 'z') && (c < '2' || c > '7')) return false;
  }
  return true;
}

std::string PinPrefix(std::string_view instance) {
  std::string prefix = "linnet-";
  if (!instance.empty()) prefix.append(instance) += '-';
  return prefix;
}

}  // namespace

Result<UniqueFd> NewNetns() {
  UniqueFd out;
  auto made = OnThrowAwayThread([&]() -> Result<void> {
    if (::unshare(CLONE_NEWNET) < 0) return Error::FromErrno(errno, "make a network namespace");
    out = LN_TRY(Open(kThreadNetns, O_RDONLY));
    return Ok();
  });
  if (!made) return std::move(made).error();
  return out;
}

Result<UniqueFd> OpenNetns(const std::string& path) {
  UniqueFd fd = LN_TRY(Open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  if (!IsNetns(fd)) return NotFound(path + " is not a network namespace");
  return fd;
}

Result<NetnsId> IdentityOf(FdRef netns) {
  if (!IsNetns(netns)) return FailedPrecondition("the descriptor is not a network namespace");
  struct stat st {};
  if (::fstat(netns.get(), &st) < 0) return Error::FromErrno(errno, "stat a network namespace");
  return NetnsId{st.st_dev, st.st_ino};
}

Result<NetnsId> OwnNetns() {
  const UniqueFd fd = LN_TRY(Open(kThreadNetns, O_RDONLY));
  return IdentityOf(fd);
}

Result<void> VisitNetns(FdRef netns, const std::function<Result<void>()>& visit) {
  return OnThrowAwayThread([&]() -> Result<void> {
    if (::setns(netns.get(), CLONE_NEWNET) < 0)
      return Error::FromErrno(errno, "enter the network namespace");
    return visit();
  });
}

void VisitEachNetns(std::span<const FdRef> all, const std::function<void(std::size_t)>& visit,
                    const std::function<void(std::size_t, Error)>& failed) {
  std::size_t next = 0;
  auto done = OnThrowAwayThread([&]() -> Result<void> {
    for (; next < all.size(); ++next) {
      if (::setns(all[next].get(), CLONE_NEWNET) < 0) {
        failed(next, Error::FromErrno(errno, "enter the network namespace"));
      } else {
        visit(next);
      }
    }
    return Ok();
  });
  // No thread was to be had.
  for (; !done && next < all.size(); ++next) failed(next, done.error());
}

namespace {

// What a pod's namespace needs in any case, done before there is a pod.
Result<ReadyNetns> NewReadyNetns() {
  ReadyNetns out{.fd = LN_TRY(NewNetns()), .side = nullptr};
  out.side = std::make_unique<PodSide>(out.fd);
  LN_TRY(out.side->Prepare());
  return out;
}

}  // namespace

std::string PinPath(const std::string& netns_dir, std::string_view instance, std::string_view pod) {
  return JoinPath(netns_dir, PinPrefix(instance).append(pod));
}

Result<void> Pin(const std::string& path, FdRef netns) {
  const auto create = [&] { return Open(path, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444); };
  auto file = create();
  if (!file && file.error().IsErrno(ENOENT)) {
    LN_TRY(MakeDirs(Dirname(path), 0755));
    file = create();
  }
  if (!file && file.error().IsErrno(EEXIST)) {
    LN_TRY(Unpin(path));
    file = create();
  }
  if (!file) return std::move(file).error();
  file->Reset();
  if (::mount(FdPath(netns).c_str(), path.c_str(), nullptr, MS_BIND, nullptr) < 0) {
    Error error = Error::FromErrno(errno, "mount a network namespace on " + path);
    (void)::unlink(path.c_str());  // ours, made above; the mount's error is what matters
    return error;
  }
  // Nothing is mounted below a file: this only keeps the mount out of later propagation. A refusal
  // does no harm.
  (void)::mount(nullptr, path.c_str(), nullptr, MS_PRIVATE, nullptr);
  return Ok();
}

Result<void> Unpin(const std::string& path) {
  LN_TRY(Unmount(path));
  return RemoveFile(path);
}

Result<std::vector<std::string>> ListPins(const std::string& netns_dir, std::string_view instance) {
  auto names = ListDir(netns_dir);
  if (!names) {
    if (names.error().Is(Code::kNotFound)) return std::vector<std::string>();
    return std::move(names).error();
  }
  const std::string prefix = PinPrefix(instance);
  std::vector<std::string> pods;
  for (const std::string& name : *names) {
    if (!name.starts_with(prefix)) continue;
    std::string pod = name.substr(prefix.size());
    // "linnet-ab3d-…" belongs to the instance "ab3d", not to the one without a name.
    const bool other = instance.empty() && pod.size() > kInstanceLength &&
                       pod[kInstanceLength] == '-' &&
                       IsInstance(std::string_view(pod).substr(0, kInstanceLength));
    if (!other && !pod.empty()) pods.push_back(std::move(pod));
  }
  return pods;
}

struct NetnsPool::State {
  Mutex mu;
  CondVar changed;
  std::vector<ReadyNetns> stock LN_GUARDED_BY(mu);
  bool stop LN_GUARDED_BY(mu) = false;
  bool failing LN_GUARDED_BY(mu) = false;  // the last refill failed: the next Take() tries again
  std::size_t size = 0;
  std::jthread refill;

  void Refill() {
    mu.Lock();
    while (!stop) {
      if (stock.size() >= size || failing) {
        changed.Wait(mu);
        continue;
      }
      mu.Unlock();
      auto made = NewReadyNetns();
      mu.Lock();
      if (made) {
        stock.push_back(*std::move(made));
      } else {
        failing = true;
      }
    }
    mu.Unlock();
  }
};

NetnsPool::NetnsPool(int size) : state_(std::make_unique<State>()) {
  state_->size = size > 0 ? static_cast<std::size_t>(size) : 0;
  if (state_->size == 0) return;
  state_->refill = std::jthread([state = state_.get()] {
    (void)::pthread_setname_np(::pthread_self(), "netns-pool");
    state->Refill();
  });
}

NetnsPool::~NetnsPool() {
  {
    const MutexLock lock(state_->mu);
    state_->stop = true;
  }
  state_->changed.NotifyAll();
}

Result<ReadyNetns> NetnsPool::Take() {
  {
    const MutexLock lock(state_->mu);
    state_->failing = false;
    if (!state_->stock.empty()) {
      ReadyNetns ready = std::move(state_->stock.back());
      state_->stock.pop_back();
      state_->changed.NotifyOne();
      return ready;
    }
  }
  state_->changed.NotifyOne();
  return NewReadyNetns();
}

std::size_t NetnsPool::ready() const {
  const MutexLock lock(state_->mu);
  return state_->stock.size();
}

}  // namespace linnet::network
