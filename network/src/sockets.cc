#include "linnet/network/sockets.h"

#include <sys/socket.h>

#include <cerrno>

#include "netns.h"

namespace linnet::network {

Result<UniqueFd> OpenTcpSocket(FdRef netns, Family family) {
  UniqueFd out;
  LN_TRY(VisitNetns(netns, [&]() -> Result<void> {
    const int domain = family == Family::kV4 ? AF_INET : AF_INET6;
    out = UniqueFd(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!out) return Error::FromErrno(errno, "socket");
    return Ok();
  }));
  return out;
}

}  // namespace linnet::network
