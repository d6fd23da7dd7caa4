#include "lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::cri {
namespace {

// A daemon that was killed a moment ago may still be on its way out.
constexpr int kWaitForHolderMs = 1000;

// True: the process has ended by now.
bool HolderEnds(const std::string& pid_text) {
  const auto pid = ParseNumber<pid_t>(Trim(pid_text));
  if (!pid) return false;
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
  if (!pidfd) return errno == ESRCH;
  pollfd ended{pidfd.get(), POLLIN, 0};
  return ::poll(&ended, 1, kWaitForHolderMs) == 1;
}

}  // namespace

Result<UniqueFd> LockDirectory(const std::string& directory, mode_t mode) {
  LN_TRY(MakeDirs(directory, mode));
  const std::string path = JoinPath(directory, "linnetd.lock");
  UniqueFd fd = LN_TRY(Open(path, O_RDWR | O_CREAT, 0600));
  for (bool again = true; ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0; again = false) {
    if (errno != EWOULDBLOCK) return Error::FromErrno(errno, "lock " + path);
    const std::string pid = ReadFile(path, 64).value_or("");
    if (again && HolderEnds(pid)) continue;
    return AlreadyExists("another linnetd" + (pid.empty() ? "" : " (pid " + std::string(Trim(pid)) + ")") + " uses " + directory +
                         " (stop it, or use other values of --root and --state)");
  }
  if (::ftruncate(fd.get(), 0) != 0) return Error::FromErrno(errno, "truncate " + path);
  LN_TRY(WriteAll(fd, std::to_string(::getpid()) + "\n"));
  return fd;
}

}  // namespace linnet::cri
