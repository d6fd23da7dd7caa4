// From specs to launch plans. Pure: what is named by descriptor was opened before (host/sources.h),
// what depends on the machine comes as data, so the same code answers CheckContainer (with
// placeholders for descriptors).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/runtime/runtime.h"

#include "plan/mounts.h"
#include "plan/plan.h"
#include "plan/writer.h"

namespace linnet::runtime::plan {

struct CgroupInput {
  FdRef v2_dir{-1}, freezer_dir{-1}, oom_counter{-1};
  std::vector<FdRef> v1_tasks;
};

struct PodInput {
  const PodSpec& spec;
  CgroupInput cgroup;  // of the holder
};
// Errors: kInvalidArgument naming the field (a sysctl that is not the pod's own, host name,
// mappings).
Result<std::string> BuildPod(const PodInput& input, Writer& writer);

// A directory of the host: `path` below the detached mount `tree` ("": its root).
struct TreePath {
  FdRef tree{-1};
  std::string path;
};

struct ContainerInput {
  const ContainerSpec& spec;
  const std::vector<ParsedMount>& mounts;  // of spec.spec.mounts, in order
  std::vector<FdRef> mount_trees;          // one for each mount; of binds
  std::vector<FdRef> device_nodes;         // with a user namespace: one for each device
  std::vector<TreePath> lower;
  TreePath upper, work, plain;
  FdRef seccomp{-1};
  std::uint32_t seccomp_flags = 0;
  CgroupInput cgroup;
  std::string v1_hierarchies;  // ';' between them; empty: v2 alone
  FdRef exit_dir{-1}, log_dir{-1};
};
Result<std::vector<ParsedMount>> ParseMounts(const oci::Spec& spec);
Result<std::string> BuildContainer(const ContainerInput& input, Writer& writer);

Result<std::string> BuildExec(const oci::Process& process, Writer& writer);

// The same checks without anything opened. Errors: kInvalidArgument naming the field;
// kUnimplemented.
Result<void> CheckContainerSpec(const ContainerSpec& spec);

}  // namespace linnet::runtime::plan
