// From a container's resources to writes of cgroup files: pure, for both versions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/oci/runtime_spec.h"

#include "cgroup/hierarchy.h"

namespace linnet::runtime {

struct ControlWrite {
  std::string file;
  std::string value;
  bool may_be_missing = false;  // the kernel was built without it, and nothing is lost
};

// One file, or two that bound each other (memory.limit_in_bytes ≤ memory.memsw.limit_in_bytes,
// quota and period): these are written in the order given, and in the other order where the kernel
// says that the first does not fit the second's old value. So neither growing nor shrinking needs
// to know what was there.
struct ControlStep {
  Controller controller = Controller::kCpu;
  std::vector<ControlWrite> writes;
};

// cpu.shares (2…262144, default 1024) to cpu.weight (1…10000, default 100) by the quadratic formula
// that runc 1.4 and crun 1.23 use, which keeps the default at the default: 10^((l² + 125·l) / 612 −
// 7/34) with l = log2(shares).
std::uint64_t CpuWeight(std::uint64_t shares);

Result<std::vector<ControlStep>> PlanV1(const oci::Resources& resources);
// `read` gives the present contents of a file of the cgroup, for updates that name half of a pair.
using ReadControl = std::function<Result<std::string>(const std::string& file)>;
Result<std::vector<ControlStep>> PlanV2(const oci::Resources& resources, const ReadControl& read);
// Of both plans, for a hybrid whose only hugetlb controller is on v2.
std::vector<ControlStep> PlanHugetlbV1(const oci::Resources& resources);
std::vector<ControlStep> PlanHugetlbV2(const oci::Resources& resources);

}  // namespace linnet::runtime
