#include "pod_side.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "linnet/base/file.h"

#include "netns.h"

namespace linnet::network {
namespace {

// The loopback plugin looks after a namespace in which this failed.
bool BringLoopbackUp(RouteSocket& socket) {
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;
  return socket.Control(SIOCSIFFLAGS, &request);
}

}  // namespace

Result<void> PodSide::Visit(bool loopback) {
  return VisitNetns(netns_, [&]() -> Result<void> {
    auto socket = LN_TRY(RouteSocket::Open());
    // A directory of /proc/sys/net below the namespace's own part keeps showing that namespace:
    // its entries are looked up in it, not in the namespace of whoever asks
    // (fs/proc/proc_sysctl.c).
    auto links = OpenDir("/proc/sys/net/ipv6/conf");
    if (!links && !links.error().IsErrno(ENOENT)) return std::move(links).error();
    if (links) ipv6_links_ = *std::move(links);
    if (loopback) loopback_up_ = BringLoopbackUp(socket);
    route_.emplace(std::move(socket));
    return Ok();
  });
}

Result<void> PodSide::Prepare() { return Visit(true); }

Result<RouteSocket*> PodSide::Route() {
  if (!route_) LN_TRY(Visit(false));
  return &*route_;
}

Result<void> PodSide::SetSysctl(LinkSysctl sysctl, const std::string& link, int value) {
  LN_TRY(Route());
  if (!ipv6_links_) return Ok();
  auto done = WriteControlFileAt(ipv6_links_, link + "/" + NameOf(sysctl), std::to_string(value));
  if (!done && done.error().Is(Code::kNotFound)) return Ok();
  return done;
}

}  // namespace linnet::network
