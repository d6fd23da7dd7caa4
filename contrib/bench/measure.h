// Samples, processes, and the census of the host.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace linnet::bench {

// Milliseconds or any other unit; the median is what tables show.
class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  std::size_t count() const { return values_.size(); }
  double Percentile(double p) const;  // 0–100; 0 with no samples
  double Median() const { return Percentile(50); }
  double Min() const { return Percentile(0); }

 private:
  std::vector<double> values_;
};

// Busy time of all processors since boot, seconds (user, nice, system, irq, softirq).
double BusySeconds();
// CPU time of one process, seconds.
double ProcessSeconds(int pid);
// Proportional set size, KiB; 0 where it is gone.
std::uint64_t PssKib(int pid);
// Sum over all processes whose name (comm) is one of these.
std::uint64_t PssKibOf(const std::vector<std::string>& names);
std::uint64_t MemAvailableKib();

// What a pod makes in the kernel, counted: links, mounts, network namespaces, processes, cgroups,
// nftables elements.
struct Census {
  std::map<std::string, long> counts;
  static Census Take();
  // Differences, "links +2, mounts +1"; empty where there is none (fewer is fine).
  std::string Beyond(const Census& before) const;
};

}  // namespace linnet::bench
