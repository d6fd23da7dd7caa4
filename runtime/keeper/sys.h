// System calls that the C library lacks, and the little text work a keeper needs without stdio.
#pragma once

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <initializer_list>

namespace linnet::runtime::keeper {

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif

struct CloneArgs {  // struct clone_args, version 2
  std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};

inline int OpenAt2(int dir, const char* path, std::uint64_t flags, std::uint64_t mode,
                   std::uint64_t resolve) {
  open_how how = {};
  how.flags = flags | O_CLOEXEC;
  how.mode = mode;
  how.resolve = resolve;
  for (int attempt = 0;; ++attempt) {  // EAGAIN: something was renamed meanwhile
    const auto fd = static_cast<int>(syscall(SYS_openat2, dir, path, &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN || attempt == 64) return fd;
  }
}
// Links are followed as if `root` were "/".
inline int OpenInRoot(int root, const char* path, std::uint64_t flags) {
  return OpenAt2(root, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}
inline int OpenTree(int dir, const char* path, unsigned flags) {
  return static_cast<int>(syscall(SYS_open_tree, dir, path, flags | O_CLOEXEC));
}
// Attaches what `from` (a detached tree) is at what `to` is.
inline int MoveMountFd(int from, int to) {
  return static_cast<int>(
      syscall(SYS_move_mount, from, "", to, "", 0x4U | 0x40U /* F_EMPTY_PATH | T_EMPTY_PATH */));
}
inline int MoveMountTo(int from, const char* to) {
  return static_cast<int>(syscall(SYS_move_mount, from, "", AT_FDCWD, to, 0x4U));
}
inline int PivotRoot(const char* new_root, const char* put_old) {
  return static_cast<int>(syscall(SYS_pivot_root, new_root, put_old));
}
inline int PidfdOpen(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }
inline void CloseFd(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

inline std::int64_t WallNanos() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}
inline std::int64_t MonotonicMillis() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

// A text of bounded size; what does not fit is cut off.
template <std::size_t kCapacity>
class Line {
 public:
  Line& Add(const char* text) {
    while (*text != '\0' && size_ + 1 < kCapacity) buffer_[size_++] = *text++;
    buffer_[size_] = '\0';
    return *this;
  }
  Line& Add(std::int64_t number) {
    char digits[24];
    int at = sizeof digits;
    digits[--at] = '\0';
    const bool negative = number < 0;
    std::uint64_t rest =
        negative ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
    do digits[--at] = static_cast<char>('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (negative) digits[--at] = '-';
    return Add(digits + at);
  }
  const char* text() const { return buffer_; }
  std::size_t size() const { return size_; }
  bool full() const { return size_ + 1 >= kCapacity; }

 private:
  char buffer_[kCapacity] = {};
  std::size_t size_ = 0;
};

using FdPath = Line<32>;
// Short enough to build anew each time: "/proc/self/fd/N".
inline FdPath PathOfFd(int fd) {
  FdPath path;
  path.Add("/proc/self/fd/").Add(fd);
  return path;
}

// One open, one write. errno of what failed.
inline int WriteFileAt(int dir, const char* path, const char* data, std::size_t size) {
  const int fd = openat(dir, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno;
  const ssize_t written = write(fd, data, size);
  const int err = written < 0 ? errno : 0;
  close(fd);
  return err;
}

}  // namespace linnet::runtime::keeper
