#include "lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::cri {
namespace {

using std::chrono::steady_clock;

// A daemon that was killed a moment ago may still be on its way out, and so may a child that it was
// just starting: until execve that holds copies of all descriptors.
constexpr auto kWaitForHolder = std::chrono::seconds(1);
constexpr int kAgainMs = 5;

int MsUntil(steady_clock::time_point end) {
  return static_cast<int>(std::max<std::int64_t>(
      0, std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now()).count()));
}

// Until the process has ended, or the time is over.
void WaitForEnd(const std::string& pid_text, steady_clock::time_point end) {
  const auto pid = ParseNumber<pid_t>(Trim(pid_text));
  const UniqueFd pidfd(pid ? static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)) : -1);
  pollfd ended{pidfd.get(), POLLIN, 0};
  if (pidfd) ::poll(&ended, 1, MsUntil(end));
}

}  // namespace

Result<UniqueFd> LockDirectory(const std::string& directory, mode_t mode) {
  LN_TRY(MakeDirs(directory, mode));
  const std::string path = JoinPath(directory, "linnetd.lock");
  UniqueFd fd = LN_TRY(Open(path, O_RDWR | O_CREAT, 0600));
  const auto end = steady_clock::now() + kWaitForHolder;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error::FromErrno(errno, "lock " + path);
    const std::string pid = ReadFile(path, 64).value_or("");
    if (steady_clock::now() >= end) {
      return AlreadyExists("another linnetd" +
                           (pid.empty() ? "" : " (pid " + std::string(Trim(pid)) + ")") + " uses " +
                           directory + " (stop it, or use other values of --root and --state)");
    }
    WaitForEnd(pid, end);
    ::poll(nullptr, 0, std::min(kAgainMs, MsUntil(end)));  // there is no flock with a deadline
  }
  if (::ftruncate(fd.get(), 0) != 0) return Error::FromErrno(errno, "truncate " + path);
  LN_TRY(WriteAll(fd, std::to_string(::getpid()) + "\n"));
  return fd;
}

}  // namespace linnet::cri
