// The unix socket: from systemd, or made here.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::cri {

struct ListenSocket {
  UniqueFd fd;
  bool activated = false;  // systemd's: it stays when we go
};

// The socket that systemd passed, else a new one at `path`, mode 0660. What lies there is replaced
// when nobody listens on it. Clients may connect from now on; they wait until the daemon accepts.
// Errors: kAlreadyExists where a live process listens, or where there is something other than a
// socket.
Result<ListenSocket> OpenSocket(const std::string& path);

// Hands over connections as they come, from a thread of its own. Ends with the object.
class Acceptor {
 public:
  // `on_connection` gets a non-blocking descriptor.
  static Result<std::unique_ptr<Acceptor>> Start(FdRef socket,
                                                 std::function<void(UniqueFd)> on_connection);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  Acceptor(FdRef socket, UniqueFd stop, std::function<void(UniqueFd)> on_connection);
  void Loop();

  const FdRef socket_;
  const UniqueFd stop_;
  const std::function<void(UniqueFd)> on_connection_;
  std::thread thread_;
};

}  // namespace linnet::cri
