// What a cgroup uses, as plain data. What the machine cannot tell (no controller, no PSI, no limit)
// is absent.
#pragma once

#include <cstdint>
#include <optional>

namespace linnet::runtime {

// Pressure stall information: the share of the last 10, 60 and 300 seconds in percent, and the sum.
struct Pressure {
  struct Line {
    double avg10 = 0, avg60 = 0, avg300 = 0;
    std::uint64_t total_us = 0;
  };
  Line some, full;
};

struct CgroupUsage {
  struct Memory {
    std::uint64_t usage_bytes = 0;
    std::uint64_t working_set_bytes = 0;  // usage without file pages that were not used lately
    std::uint64_t rss_bytes = 0;
    std::uint64_t page_faults = 0, major_page_faults = 0;
    std::optional<std::uint64_t> limit_bytes;  // the group's own
  };
  std::optional<std::uint64_t> cpu_ns;  // since the group was made
  std::optional<Memory> memory;
  std::optional<std::uint64_t> swap_bytes, swap_limit_bytes;
  std::optional<std::uint64_t> pids;  // threads count, as the kernel's limit does
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;
};

}  // namespace linnet::runtime
