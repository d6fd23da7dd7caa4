// What a container takes from the host's file systems, opened: layers, volumes, device nodes.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/runtime/runtime.h"

#include "plan/build.h"
#include "plan/mounts.h"

namespace linnet::runtime {

struct Sources {
  std::vector<UniqueFd> owned;
  std::vector<FdRef> mount_trees;   // one for each mount; -1 where it is no bind
  std::vector<FdRef> device_nodes;  // with a user namespace only
  std::vector<plan::TreePath> lower;
  plan::TreePath upper, work, plain;
};

// Each as a detached mount (open_tree with OPEN_TREE_CLONE), which keeps the propagation of its
// source. Makes the upper and work directories. A bind's source is opened without following links:
// it was resolved when the container was created, and what a container may have put there since is
// not obeyed. Links above the pod's own directory (two levels above `spec.directory`) are followed
// for what is below it: nobody but the daemon writes there. Errors name the field:
// "mounts[3].source: …".
Result<Sources> OpenSources(const ContainerSpec& spec,
                            const std::vector<plan::ParsedMount>& mounts);

// The deepest directory that is above (or equal to) all of them. Absolute, clean paths; not empty.
std::string CommonParent(const std::vector<std::string>& paths);

}  // namespace linnet::runtime
