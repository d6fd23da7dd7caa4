// Files of a cgroup that a keeper is given besides the way in, and how a container's /sys/fs/cgroup
// is put together.
#pragma once

#include <string>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"

namespace linnet::runtime {

class CgroupFiles {
 public:
  static Result<CgroupFiles> Open(CgroupLayout layout);
  // memory.events or memory.oom_control; invalid where there is no memory controller.
  UniqueFd OpenOomCounter(const std::string& path) const;
  // The directory in the freezer hierarchy, where only that can kill a group; else invalid.
  UniqueFd OpenFreezer(const std::string& path) const;
  // "cpu,cpuacct;memory;…;unified" (see plan::OpKind::kCgroup); empty with v2 alone.
  const std::string& hierarchies() const { return text_; }

 private:
  CgroupFiles(CgroupLayout layout, Hierarchies hierarchies);
  const Hierarchy* Find(Controller c) const;

  CgroupLayout layout_;
  Hierarchies hierarchies_;
  std::string text_;
};

}  // namespace linnet::runtime
