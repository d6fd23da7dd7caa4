// Which cgroup hierarchies there are, and directories below them by descriptor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::runtime {

// The controllers that linnet uses; others (net_cls, perf_event, rdma, named hierarchies) are left
// alone.
enum class Controller : std::uint8_t {
  kCpu,
  kCpuacct,
  kCpuset,
  kMemory,
  kPids,
  kDevices,
  kFreezer,
  kBlkio,
  kHugetlb
};
inline constexpr int kControllerCount = 9;

class ControllerSet {
 public:
  void Add(Controller c) { bits_ |= Bit(c); }
  void Remove(Controller c) { bits_ &= ~Bit(c); }
  bool Has(Controller c) const { return (bits_ & Bit(c)) != 0; }
  bool empty() const { return bits_ == 0; }
  bool Covers(ControllerSet other) const { return (other.bits_ & ~bits_) == 0; }
  bool operator==(const ControllerSet&) const = default;

 private:
  static std::uint32_t Bit(Controller c) { return 1U << static_cast<unsigned>(c); }
  std::uint32_t bits_ = 0;
};

std::string_view ControllerName(Controller c);  // v1's: "cpu", "blkio", …; v2 says "io" for blkio
// "cpu,cpuacct" or "cpuset cpu io": the known names in it.
ControllerSet ParseControllers(std::string_view text, char separator);

// A mount found in mountinfo, before anything is opened.
struct HierarchyMount {
  bool v2 = false;
  ControllerSet controllers;  // v1 only; v2 says them in cgroup.controllers
  std::string mount_point;
  std::string root;  // what of the hierarchy the mount shows, as seen from our cgroup namespace
};
// Candidates in the order of preference: of several mounts of one hierarchy, those that show its
// root first, later ones (which may cover earlier ones) before earlier ones.
std::vector<HierarchyMount> ParseCgroupMounts(std::string_view mountinfo);

struct Hierarchy {
  ControllerSet controllers;
  std::string mount_point;
  UniqueFd dir;
};

struct Hierarchies {
  std::vector<Hierarchy> v1;
  std::optional<Hierarchy> v2;
};
// Opens them; what is covered by another mount is passed over. Errors: kFailedPrecondition where
// there is none.
Result<Hierarchies> OpenHierarchies();

// "a/b" of "/a/b": relative to a hierarchy's root. Errors: kInvalidArgument for "/", "..", "." and
// control characters.
Result<std::string> RelativePath(const std::string& path);

// `visit(dir, relative path)` for the cgroup at `path` and all below it, children before parents.
// Absent: nothing.
using VisitCgroup = std::function<Result<void>(FdRef dir, const std::string& path)>;
Result<void> ForEachBelow(FdRef root, const std::string& path, const VisitCgroup& visit);

// Names of the directories in it.
Result<std::vector<std::string>> ChildDirs(FdRef dir);

}  // namespace linnet::runtime
