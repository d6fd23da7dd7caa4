// A pod's namespace, worked on from outside: what has to be opened inside it is opened in one visit
// and used from any thread.
#pragma once

#include <optional>
#include <string>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "netlink/route_socket.h"
#include "netlink/sysctl.h"

namespace linnet::network {

// Lazy: the visit (about 60 µs) comes with the first use. Keeps the namespace alive while it is
// open. Thread-compatible. Moving keeps what is open.
class PodSide {
 public:
  // Borrows the descriptor until the first use.
  explicit PodSide(FdRef netns) : netns_(netns) {}

  // The visit, and `lo` set up in it: what every pod needs, done before there is a pod.
  Result<void> Prepare();
  bool loopback_up() const { return loopback_up_; }

  Result<RouteSocket*> Route();
  // Success where the kernel has no such setting (IPv6 switched off).
  Result<void> SetSysctl(LinkSysctl sysctl, const std::string& link, int value);

 private:
  Result<void> Visit(bool loopback);

  FdRef netns_;
  std::optional<RouteSocket> route_;
  UniqueFd ipv6_links_;  // /proc/sys/net/ipv6/conf of the namespace; invalid: there is none
  bool loopback_up_ = false;
};

}  // namespace linnet::network
