#include "listener.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <systemd/sd-daemon.h>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

namespace linnet::cri {
namespace {

constexpr int kBacklog = 1024;
constexpr mode_t kSocketMode = 0660;

Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return InvalidArgument("socket " + path + ": longer than " +
                           std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

Result<UniqueFd> NewSocket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::FromErrno(errno, "socket");
  return fd;
}

Result<void> CheckFree(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return Ok();
    return Error::FromErrno(errno, "look at " + path);
  }
  if (!S_ISSOCK(st.st_mode))
    return AlreadyExists("socket " + path + ": there is something else that is not a socket");
  const sockaddr_un address = LN_TRY(AddressOf(path));
  const UniqueFd probe = LN_TRY(NewSocket());
  const int rc =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  // EAGAIN: its queue is full, so somebody listens.
  if (rc == 0 || errno == EAGAIN)
    return AlreadyExists("socket " + path + ": another process listens on it");
  return Ok();
}

Result<std::optional<UniqueFd>> ActivatedSocket() {
  const int count = ::sd_listen_fds(/*unset_environment=*/1);
  if (count < 0) return Error::FromErrno(-count, "socket activation");
  if (count == 0) return std::optional<UniqueFd>();
  if (count > 1)
    return InvalidArgument("socket activation: one socket is expected, not " +
                           std::to_string(count));
  UniqueFd fd(SD_LISTEN_FDS_START);
  if (::sd_is_socket(fd.get(), AF_UNIX, SOCK_STREAM, /*listening=*/1) <= 0) {
    return InvalidArgument("socket activation: not a listening unix stream socket");
  }
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0)
    return Error::FromErrno(errno, "socket activation: O_NONBLOCK");
  return std::optional<UniqueFd>(std::move(fd));
}

}  // namespace

Result<ListenSocket> OpenSocket(const std::string& path) {
  if (auto activated = LN_TRY(ActivatedSocket()))
    return ListenSocket{.fd = *std::move(activated), .activated = true};
  LN_TRY(MakeDirs(Dirname(path), 0711));
  LN_TRY(CheckFree(path));
  // Under another name first: nobody ever meets a socket with the wrong mode, or none.
  const std::string temporary = path + ".new";
  LN_TRY(RemoveFile(temporary));
  const sockaddr_un address = LN_TRY(AddressOf(temporary));
  UniqueFd fd = LN_TRY(NewSocket());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Error::FromErrno(errno, "bind " + temporary);
  }
  if (::chmod(temporary.c_str(), kSocketMode) != 0)
    return Error::FromErrno(errno, "chmod " + temporary);
  if (::listen(fd.get(), kBacklog) != 0) return Error::FromErrno(errno, "listen " + temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return Error::FromErrno(errno, "rename " + temporary + " to " + path);
  return ListenSocket{.fd = std::move(fd), .activated = false};
}

Result<std::unique_ptr<Acceptor>> Acceptor::Start(FdRef socket,
                                                  std::function<void(UniqueFd)> on_connection) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return Error::FromErrno(errno, "eventfd");
  return std::unique_ptr<Acceptor>(new Acceptor(socket, std::move(stop), std::move(on_connection)));
}

Acceptor::Acceptor(FdRef socket, UniqueFd stop, std::function<void(UniqueFd)> on_connection)
    : socket_(socket),
      stop_(std::move(stop)),
      on_connection_(std::move(on_connection)),
      thread_([this] { Loop(); }) {}

Acceptor::~Acceptor() {
  const std::uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);  // cannot fail: the counter is far from full
  thread_.join();
}

void Acceptor::Loop() {
  pthread_setname_np(pthread_self(), "accept");
  pollfd fds[] = {{socket_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  while (true) {
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection) {
      on_connection_(std::move(connection));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      log::Err("no connection accepted for now", {{"err", std::strerror(errno)}});
      ::poll(&fds[1], 1, 100);  // the client stays in the queue; ends early when we are to stop
    }
  }
}

}  // namespace linnet::cri
