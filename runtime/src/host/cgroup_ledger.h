// Which cgroups below a parent that a client made are a pod's: such a parent may hold those of
// others, and their names say nothing of the pod. One link per cgroup, <directory>/<pod>/<name> →
// path: as short-lived as the cgroups themselves, and there before they are. Pods below the
// daemon's own cgroup need none.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/ids.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::runtime {

// Thread-safe.
class CgroupLedger {
 public:
  // Makes the directory.
  static Result<CgroupLedger> Open(const std::string& directory);
  // `name`: the container's id, or the pod's for its holder. Repeating it is fine.
  Result<void> Note(const PodId& pod, const std::string& name, const std::string& cgroup) const;
  // Absent is success.
  Result<void> Forget(const PodId& pod, const std::string& name) const;
  Result<void> ForgetPod(const PodId& pod) const;
  struct Entry {
    std::string name, cgroup;
  };
  Result<std::vector<Entry>> List(const PodId& pod) const;
  Result<std::vector<PodId>> Pods() const;

 private:
  explicit CgroupLedger(UniqueFd directory) : directory_(std::move(directory)) {}
  UniqueFd directory_;
};

}  // namespace linnet::runtime
