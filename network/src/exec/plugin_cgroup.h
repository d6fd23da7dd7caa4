// Cgroups that foreign plugins run in, one per pod: what a plugin left running can be found and
// killed.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::network {

// Thread-safe.
class PluginCgroups {
 public:
  // `root` is the daemon's group ("/linnet"), in the v2 hierarchy where one is mounted, else in a
  // v1 one. Empty: plugins are not confined.
  explicit PluginCgroups(std::string_view root);
  // <root>/plugins/<pod>/cgroup.procs, open for writing; made where needed. Not confined: an
  // invalid descriptor.
  Result<UniqueFd> Open(std::string_view pod) const;
  // Removes the group where nothing runs in it; else leaves it.
  void Leave(std::string_view pod) const;
  // Kills everything in it, waits until it is empty, removes it. Absent: success.
  // Errors: kDeadlineExceeded a process does not die.
  Result<void> Kill(std::string_view pod, Deadline deadline) const;
  // Kill for every group but those of `pods`.
  Result<void> KillOthers(const std::set<std::string>& pods, Deadline deadline) const;

 private:
  std::string PathOf(std::string_view pod) const;
  std::string directory_;  // <mount point><root>/plugins
};

}  // namespace linnet::network
