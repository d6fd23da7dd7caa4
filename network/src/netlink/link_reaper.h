// Deletes veths in the background: the kernel takes 20–36 ms for one and 3 ms each for a group.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/result.h"

#include "netlink/route_socket.h"

namespace linnet::network {

// Thread-safe. The thread starts with the first link and sleeps while there is none.
class LinkReaper {
 public:
  // `gone` is called on the reaper's thread for each link that is gone, with what Add() was given.
  using Gone = std::function<void(const std::string& name, const std::string& owner)>;
  // Links get `grace` to go with their namespace.
  LinkReaper(std::chrono::milliseconds grace, Gone gone);
  LinkReaper(const LinkReaper&) = delete;
  LinkReaper& operator=(const LinkReaper&) = delete;
  ~LinkReaper();  // finishes what is under way, leaves the rest to recovery

  void Add(std::string name, std::string owner);
  // Deletes what waits now, and returns when nothing waits any more.
  void Drain();
  // The link was deleted by somebody else, or a new one has its name.
  void Forget(const std::string& name);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Deletes several links at once. Those that are gone already are no error.
Result<void> DeleteLinks(RouteSocket& socket, const std::vector<std::string>& names);

}  // namespace linnet::network
