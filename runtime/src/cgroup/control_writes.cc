#include "cgroup/control_writes.h"

#include <algorithm>
#include <cmath>

#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

ControlStep One(Controller controller, std::string file, std::string value) {
  return {controller, {{std::move(file), std::move(value)}}};
}

std::string BytesV1(std::int64_t bytes) { return bytes < 0 ? "-1" : std::to_string(bytes); }
std::string BytesV2(std::int64_t bytes) { return bytes < 0 ? "max" : std::to_string(bytes); }
std::string Pids(std::int64_t limit) { return limit <= 0 ? "max" : std::to_string(limit); }

Result<void> CheckMemory(const oci::Resources& r) {
  if (!r.memory_limit || !r.memory_swap || *r.memory_swap < 0) return Ok();
  if (*r.memory_limit < 0 || *r.memory_swap < *r.memory_limit) {
    return InvalidArgument("memory and swap together (" + std::to_string(*r.memory_swap) +
                           ") are less than the memory limit (" +
                           (*r.memory_limit < 0 ? "unlimited" : std::to_string(*r.memory_limit)) +
                           ")");
  }
  return Ok();
}

void PlanMemoryV1(const oci::Resources& r, std::vector<ControlStep>& out) {
  ControlStep step{.controller = Controller::kMemory, .writes = {}};
  if (r.memory_limit) step.writes.push_back({"memory.limit_in_bytes", BytesV1(*r.memory_limit)});
  std::optional<std::int64_t> swap = r.memory_swap;
  if (!swap && r.memory_limit && *r.memory_limit < 0)
    swap = -1;  // no limit of memory fits no limit of both
  if (swap) {
    // Without swap accounting the file is missing, and there is nothing to be limited where no swap
    // was to be had.
    const bool nothing_lost = r.memory_limit && (*swap < 0 || *swap == *r.memory_limit);
    step.writes.push_back({"memory.memsw.limit_in_bytes", BytesV1(*swap), nothing_lost});
  }
  if (!step.writes.empty()) out.push_back(std::move(step));
  if (r.memory_reservation) {
    out.push_back(
        One(Controller::kMemory, "memory.soft_limit_in_bytes", BytesV1(*r.memory_reservation)));
  }
}

// v2 counts swap alone, the specification memory and swap together.
Result<std::string> SwapV2(const oci::Resources& r, const ReadControl& read) {
  if (*r.memory_swap < 0) return std::string("max");
  std::int64_t memory = 0;
  if (r.memory_limit) {
    memory = *r.memory_limit;
  } else {
    const std::string text = LN_TRY(read("memory.max"));
    if (Trim(text) == "max")
      return FailedPrecondition("a limit of memory and swap needs a limit of memory");
    memory = LN_TRY_CTX(ParseNumber<std::int64_t>(Trim(text)), "memory.max");
    if (memory > *r.memory_swap) {
      return InvalidArgument("memory and swap together (" + std::to_string(*r.memory_swap) +
                             ") are less than the memory limit (" + std::to_string(memory) + ")");
    }
  }
  return std::to_string(*r.memory_swap - memory);
}

Result<void> PlanMemoryV2(const oci::Resources& r, const ReadControl& read,
                          std::vector<ControlStep>& out) {
  std::optional<std::string> swap;
  if (r.memory_swap) {
    swap = LN_TRY(SwapV2(r, read));
  } else if (r.memory_limit && *r.memory_limit < 0) {
    swap = "max";
  }
  if (swap) {
    const bool nothing_lost = *swap == "0" || *swap == "max";
    out.push_back({Controller::kMemory, {{"memory.swap.max", *swap, nothing_lost}}});
  }
  if (r.memory_limit)
    out.push_back(One(Controller::kMemory, "memory.max", BytesV2(*r.memory_limit)));
  if (r.memory_reservation)
    out.push_back(One(Controller::kMemory, "memory.low", BytesV2(*r.memory_reservation)));
  return Ok();
}

void PlanCpuV1(const oci::Resources& r, std::vector<ControlStep>& out) {
  if (r.cpu_shares && *r.cpu_shares > 0) {
    out.push_back(One(Controller::kCpu, "cpu.shares", std::to_string(*r.cpu_shares)));
  }
  ControlStep step{.controller = Controller::kCpu, .writes = {}};
  if (r.cpu_period && *r.cpu_period > 0)
    step.writes.push_back({"cpu.cfs_period_us", std::to_string(*r.cpu_period)});
  if (r.cpu_quota && *r.cpu_quota != 0) {
    step.writes.push_back(
        {"cpu.cfs_quota_us", *r.cpu_quota < 0 ? "-1" : std::to_string(*r.cpu_quota)});
  }
  if (!step.writes.empty()) out.push_back(std::move(step));
}

Result<void> PlanCpuV2(const oci::Resources& r, const ReadControl& read,
                       std::vector<ControlStep>& out) {
  if (r.cpu_shares && *r.cpu_shares > 0) {
    out.push_back(One(Controller::kCpu, "cpu.weight", std::to_string(CpuWeight(*r.cpu_shares))));
  }
  const bool quota = r.cpu_quota && *r.cpu_quota != 0;
  const bool period = r.cpu_period && *r.cpu_period > 0;
  if (!quota && !period) return Ok();
  // "$QUOTA $PERIOD"; the quota alone leaves the period as it is (kernel/sched/core.c
  // cpu_period_quota_parse).
  std::string value;
  if (quota) {
    value = *r.cpu_quota < 0 ? "max" : std::to_string(*r.cpu_quota);
  } else {
    const std::string present = LN_TRY(read("cpu.max"));
    value = present.substr(0, present.find(' '));
  }
  if (period) value += " " + std::to_string(*r.cpu_period);
  out.push_back(One(Controller::kCpu, "cpu.max", value));
  return Ok();
}

void PlanCpuset(const oci::Resources& r, std::vector<ControlStep>& out) {
  if (!r.cpuset_cpus.empty()) out.push_back(One(Controller::kCpuset, "cpuset.cpus", r.cpuset_cpus));
  if (!r.cpuset_mems.empty()) out.push_back(One(Controller::kCpuset, "cpuset.mems", r.cpuset_mems));
}

Result<std::optional<Controller>> ControllerOfFile(const std::string& file) {
  const std::string name = file.substr(0, file.find('.'));
  const ControllerSet set = ParseControllers(name, ' ');
  for (int i = 0; i < kControllerCount; ++i) {
    if (set.Has(static_cast<Controller>(i)))
      return std::optional<Controller>(static_cast<Controller>(i));
  }
  return Error(Code::kUnimplemented,
               "unified: \"" + file + "\" is of no cgroup controller that is known");
}

Result<void> PlanUnified(const oci::Resources& r, std::vector<ControlStep>& out) {
  for (const auto& [file, value] : r.unified) {
    // Files of the cgroup core (cgroup.procs, cgroup.kill, …) are no resources.
    if (file.find('/') != std::string::npos || file.find('.') == std::string::npos ||
        file.starts_with("cgroup.")) {
      return InvalidArgument("unified: \"" + file + "\" is not a resource file of cgroup v2");
    }
    const std::optional<Controller> controller = LN_TRY(ControllerOfFile(file));
    // io.max and its like take one device a write.
    for (const std::string& line : Split(value, '\n')) {
      if (!line.empty()) out.push_back(One(*controller, file, line));
    }
  }
  return Ok();
}

std::vector<ControlStep> PlanHugetlb(const oci::Resources& r, const char* limit,
                                     const char* reserved) {
  std::vector<ControlStep> out;
  for (const oci::Resources::HugepageLimit& page : r.hugepage_limits) {
    const std::string value = std::to_string(page.limit);
    // Reservations (mmap without touching) came with Linux 5.7.
    out.push_back({Controller::kHugetlb, {{"hugetlb." + page.page_size + reserved, value, true}}});
    out.push_back(One(Controller::kHugetlb, "hugetlb." + page.page_size + limit, value));
  }
  return out;
}

void Append(std::vector<ControlStep> more, std::vector<ControlStep>& out) {
  for (ControlStep& step : more) out.push_back(std::move(step));
}

}  // namespace

std::uint64_t CpuWeight(std::uint64_t shares) {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
  // Less than a rounding error below, so that 2^exact stays exact: 1024 is 100 and not 101.
  return static_cast<std::uint64_t>(std::ceil(std::pow(10.0, exponent) - 1e-9));
}

std::vector<ControlStep> PlanHugetlbV1(const oci::Resources& resources) {
  return PlanHugetlb(resources, ".limit_in_bytes", ".rsvd.limit_in_bytes");
}

std::vector<ControlStep> PlanHugetlbV2(const oci::Resources& resources) {
  return PlanHugetlb(resources, ".max", ".rsvd.max");
}

Result<std::vector<ControlStep>> PlanV1(const oci::Resources& resources) {
  if (!resources.unified.empty()) {
    return Error(Code::kUnimplemented,
                 "unified: \"" + resources.unified.begin()->first + "\" needs cgroup v2");
  }
  LN_TRY(CheckMemory(resources));
  std::vector<ControlStep> out;
  PlanCpuset(resources, out);
  PlanCpuV1(resources, out);
  PlanMemoryV1(resources, out);
  if (resources.pids_limit)
    out.push_back(One(Controller::kPids, "pids.max", Pids(*resources.pids_limit)));
  return out;
}

Result<std::vector<ControlStep>> PlanV2(const oci::Resources& resources, const ReadControl& read) {
  LN_TRY(CheckMemory(resources));
  std::vector<ControlStep> out;
  PlanCpuset(resources, out);
  LN_TRY(PlanCpuV2(resources, read, out));
  LN_TRY(PlanMemoryV2(resources, read, out));
  if (resources.pids_limit)
    out.push_back(One(Controller::kPids, "pids.max", Pids(*resources.pids_limit)));
  Append(PlanHugetlbV2(resources), out);
  LN_TRY(PlanUnified(resources, out));
  return out;
}

}  // namespace linnet::runtime
