// Time: a seam for tests, and texts.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "linnet/base/result.h"

namespace linnet {

using Deadline = std::chrono::steady_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::chrono::steady_clock::time_point Now() const = 0;
  // Nanoseconds since 1970.
  virtual std::int64_t WallNanos() const = 0;
};

// The kernel's clocks. Thread-safe.
class SystemClock final : public Clock {
 public:
  std::chrono::steady_clock::time_point Now() const override;
  std::int64_t WallNanos() const override;
};

// "2026-01-02T03:04:05.123456789Z"
std::string FormatRfc3339Nano(std::int64_t wall_nanos);
// "250ms", "10s", "1m30s", "2h" as in Go's time.ParseDuration.
Result<std::chrono::nanoseconds> ParseDuration(std::string_view text);
// /proc/sys/kernel/random/boot_id: changes at each boot.
Result<std::string> BootId();

}  // namespace linnet
