// CPU use now, from counters that were read when somebody asked: nothing ticks while nobody does.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace linnet::pods {

// The rate since the newest reading that is at least a second old; the first time, since the start.
// Several clients may ask: one that comes right after another gets the rate over the same time, not
// over the moment between them.
class CpuMeter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `age`: since the container or pod started. In billionths of a core; nullopt where no time has
  // passed.
  std::optional<std::uint64_t> Add(Time now, std::uint64_t cpu_ns, std::chrono::nanoseconds age) {
    if (!last_) {
      base_ = {now - age, 0};
      last_ = {now, cpu_ns};
    } else if (now - last_->at >= std::chrono::seconds(1)) {
      base_ = *last_;
      last_ = {now, cpu_ns};
    }
    const auto elapsed =
        std::chrono::duration_cast<std::chrono::nanoseconds>(now - base_.at).count();
    if (elapsed <= 0 || cpu_ns < base_.cpu_ns)
      return std::nullopt;  // a counter that went back: another cgroup
    return static_cast<std::uint64_t>(static_cast<double>(cpu_ns - base_.cpu_ns) * 1e9 /
                                      static_cast<double>(elapsed));
  }

 private:
  struct Reading {
    Time at;
    std::uint64_t cpu_ns = 0;
  };
  Reading base_;
  std::optional<Reading> last_;
};

}  // namespace linnet::pods
