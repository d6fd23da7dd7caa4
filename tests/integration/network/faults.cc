#include "faults.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <mutex>

namespace linnet::testing {
namespace {

std::atomic<bool> active{false};
std::atomic<int> count{0};
Fault wanted = Fault::kNone;
int wanted_at = 0;
std::mutex name_mu;
std::string name;
thread_local bool mine = false;

}  // namespace

void ArmFault(Fault fault, int at) {
  wanted = fault;
  wanted_at = at;
  count = 0;
  {
    const std::lock_guard lock(name_mu);
    name.clear();
  }
  mine = true;
  active = true;
}

int DisarmFault() {
  active = false;
  mine = false;
  return count;
}

std::string FaultStep() {
  const std::lock_guard lock(name_mu);
  return name;
}

// One call of a wrapped function.
class FaultPoint {
 public:
  FaultPoint(int error, const char* call, const char* object) : error_(error) {
    if (!active || !mine) return;
    const int number = ++count;
    if (number != wanted_at || wanted == Fault::kNone) return;
    if (wanted == Fault::kDieBefore) {
      ::raise(SIGKILL);
    }
    before_ = wanted == Fault::kFailBefore;
    after_ = wanted == Fault::kFailAfter;
    const std::lock_guard lock(name_mu);
    name = std::to_string(number) + ": " + call + " " + (object == nullptr ? "" : object);
  }
  bool before() const {
    if (before_) errno = error_;
    return before_;
  }
  bool after() const {
    if (after_) errno = error_;
    return after_;
  }
  // A thread that enters a namespace works for whoever armed.
  static void Join() {
    if (active) mine = true;
  }

 private:
  int error_;
  bool before_ = false, after_ = false;
};

namespace {

const char* ProtocolOf(int fd) {
  int protocol = -1;
  socklen_t size = sizeof(protocol);
  if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0) return "";
  return protocol == NETLINK_NETFILTER ? "nftables" : protocol == NETLINK_ROUTE ? "route" : "";
}

}  // namespace
}  // namespace linnet::testing

using linnet::testing::FaultPoint;

// The linker sends calls of F to __wrap_F; __real_F is the C library's.
// NOLINTBEGIN(readability-identifier-naming): the linker's names
extern "C" {

ssize_t __real_sendto(int, const void*, size_t, int, const sockaddr*, socklen_t);
ssize_t __real_sendmsg(int, const msghdr*, int);
ssize_t __real_send(int, const void*, size_t, int);
int __real_openat(int, const char*, int, ...);
ssize_t __real_write(int, const void*, size_t);
int __real_renameat(int, const char*, int, const char*);
int __real_unlinkat(int, const char*, int);
int __real_unlink(const char*);
int __real_mkdir(const char*, mode_t);
int __real_mount(const char*, const char*, const char*, unsigned long, const void*);
int __real_umount2(const char*, int);
int __real_setns(int, int);
int __real_flock(int, int);
int __real_socket(int, int, int);

ssize_t __wrap_sendto(int fd, const void* data, size_t size, int flags, const sockaddr* to,
                      socklen_t length) {
  const FaultPoint point(ENOBUFS, "sendto", linnet::testing::ProtocolOf(fd));
  if (point.before()) return -1;
  const ssize_t sent = __real_sendto(fd, data, size, flags, to, length);
  return point.after() ? -1 : sent;
}

ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  const FaultPoint point(ENOBUFS, "sendmsg", linnet::testing::ProtocolOf(fd));
  if (point.before()) return -1;
  const ssize_t sent = __real_sendmsg(fd, message, flags);
  return point.after() ? -1 : sent;
}

ssize_t __wrap_send(int fd, const void* data, size_t size, int flags) {
  const FaultPoint point(ENOBUFS, "send", linnet::testing::ProtocolOf(fd));
  if (point.before()) return -1;
  const ssize_t sent = __real_send(fd, data, size, flags);
  return point.after() ? -1 : sent;
}

int __wrap_openat(int dir, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = va_arg(arguments, mode_t);
  va_end(arguments);
  const FaultPoint point(EMFILE, (flags & O_CREAT) != 0 ? "create" : "open", path);
  // The kernel takes a descriptor first: what fails has made no file.
  if (point.before() || point.after()) return -1;
  return __real_openat(dir, path, flags, mode);
}

ssize_t __wrap_write(int fd, const void* data, size_t size) {
  const FaultPoint point(ENOSPC, "write", "");
  if (point.before()) return -1;
  const ssize_t written = __real_write(fd, data, size);
  return point.after() ? -1 : written;
}

int __wrap_renameat(int from_dir, const char* from, int to_dir, const char* to) {
  const FaultPoint point(ENOSPC, "rename", to);
  if (point.before()) return -1;
  const int done = __real_renameat(from_dir, from, to_dir, to);
  return point.after() ? -1 : done;
}

int __wrap_unlinkat(int dir, const char* path, int flags) {
  const FaultPoint point(EIO, "unlinkat", path);
  if (point.before()) return -1;
  const int done = __real_unlinkat(dir, path, flags);
  return point.after() ? -1 : done;
}

int __wrap_unlink(const char* path) {
  const FaultPoint point(EIO, "unlink", path);
  if (point.before()) return -1;
  const int done = __real_unlink(path);
  return point.after() ? -1 : done;
}

int __wrap_mkdir(const char* path, mode_t mode) {
  const FaultPoint point(ENOSPC, "mkdir", path);
  if (point.before()) return -1;
  const int done = __real_mkdir(path, mode);
  return point.after() ? -1 : done;
}

int __wrap_mount(const char* source, const char* target, const char* type, unsigned long flags,
                 const void* data) {
  const FaultPoint point(ENOMEM, "mount", target);
  if (point.before()) return -1;
  const int done = __real_mount(source, target, type, flags, data);
  return point.after() ? -1 : done;
}

int __wrap_umount2(const char* target, int flags) {
  const FaultPoint point(ENOMEM, "umount", target);
  if (point.before()) return -1;
  const int done = __real_umount2(target, flags);
  return point.after() ? -1 : done;
}

int __wrap_setns(int fd, int type) {
  FaultPoint::Join();
  const FaultPoint point(ENOMEM, "setns", "");
  if (point.before() || point.after()) return -1;
  return __real_setns(fd, type);
}

int __wrap_flock(int fd, int operation) {
  const FaultPoint point(ENOLCK, "flock", "");
  if (point.before()) return -1;
  const int done = __real_flock(fd, operation);
  return point.after() ? -1 : done;
}

int __wrap_socket(int family, int type, int protocol) {
  const FaultPoint point(ENFILE, "socket", "");
  if (point.before()) return -1;
  const int fd = __real_socket(family, type, protocol);
  if (point.after()) {
    ::close(fd);
    errno = ENFILE;
    return -1;
  }
  return fd;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
