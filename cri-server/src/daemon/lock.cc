#include "lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::cri {

Result<UniqueFd> LockDirectory(const std::string& directory, mode_t mode) {
  LN_TRY(MakeDirs(directory, mode));
  const std::string path = JoinPath(directory, "linnetd.lock");
  UniqueFd fd = LN_TRY(Open(path, O_RDWR | O_CREAT, 0600));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error::FromErrno(errno, "lock " + path);
    auto pid = ReadAll(fd, 64);
    return AlreadyExists("another linnetd" + (pid ? " (pid " + std::string(Trim(*pid)) + ")" : "") + " uses " + directory +
                         " (stop it, or use other values of --root and --state)");
  }
  if (::ftruncate(fd.get(), 0) != 0) return Error::FromErrno(errno, "truncate " + path);
  LN_TRY(WriteAll(fd, std::to_string(::getpid()) + "\n"));
  return fd;
}

}  // namespace linnet::cri
