// cgroups, v1, hybrid and v2, with the cgroupfs driver.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/runtime_spec.h"
#include "linnet/runtime/usage.h"

namespace linnet::runtime {

enum class CgroupLayout : std::uint8_t {
  kV1,      // controllers on v1 hierarchies, no v2 tree
  kHybrid,  // controllers on v1, and a v2 tree that has cgroup.kill
  kV2,
};

// Where one cgroup lives: a path below the root of every hierarchy in use.
struct CgroupPaths {
  std::string path;  // "/linnet/pods/<pod>/<container>"
};

// What the child needs to put itself in: descriptors in the order of entering.
//   v2 and hybrid: `v2_dir` for CLONE_INTO_CGROUP (and its cgroup.procs for the fall-back)
//   v1: `tasks` files, one per hierarchy; the child writes "0" into each (KERNEL.md: a parent pays
//   8–11 ms, a child 0.2)
struct CgroupEntry {
  UniqueFd v2_dir;
  std::vector<UniqueFd> v1_tasks;
};

// Thread-safe.
class CgroupManager {
 public:
  static Result<std::unique_ptr<CgroupManager>> Create();
  virtual ~CgroupManager() = default;
  virtual CgroupLayout layout() const = 0;
  // mkdir in every hierarchy (controllers enabled from the top on v2; cpuset files copied from the
  // parent on v1).
  virtual Result<void> Make(const std::string& path) = 0;
  // Writes limits; a controller that is missing and asked for is kUnimplemented naming it. Order of
  // memory and swap writes is right for growing and shrinking.
  virtual Result<void> SetResources(const std::string& path, const oci::Resources& resources) = 0;
  // v1: devices.deny a + allow list; v2: an eBPF device program attached to the directory.
  virtual Result<void> SetDevices(const std::string& path,
                                  const std::vector<oci::DeviceRule>& rules) = 0;
  virtual Result<CgroupEntry> OpenEntry(const std::string& path) = 0;
  // Everything in it and below: cgroup.kill where there is a v2 directory, else freeze, signal,
  // thaw; returns at once.
  virtual Result<void> Kill(const std::string& path) = 0;
  virtual Result<bool> Populated(const std::string& path) = 0;
  // rmdir of it and everything below; waits for the last process at most until kill settled
  // (bounded). Absent: success.
  virtual Result<void> Remove(const std::string& path) = 0;
  // Count of OOM kills so far (v1 memory.oom_control oom_kill, v2 memory.events oom_kill).
  virtual Result<std::uint64_t> OomKills(const std::string& path) = 0;
  // What it and everything below it uses. kNotFound: no such cgroup.
  virtual Result<CgroupUsage> ReadUsage(const std::string& path) = 0;
  // Names directly below `path` in any hierarchy. Absent: empty.
  virtual Result<std::vector<std::string>> Children(const std::string& path) = 0;
};

}  // namespace linnet::runtime
