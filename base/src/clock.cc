#include "linnet/base/clock.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet {

std::chrono::steady_clock::time_point SystemClock::Now() const {
  return std::chrono::steady_clock::now();
}

std::int64_t SystemClock::WallNanos() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string FormatRfc3339Nano(std::int64_t wall_nanos) {
  constexpr std::int64_t kBillion = 1'000'000'000;
  std::int64_t seconds = wall_nanos / kBillion;
  std::int64_t nanos = wall_nanos % kBillion;
  if (nanos < 0) {
    nanos += kBillion;
    --seconds;
  }
  const auto time = static_cast<std::time_t>(seconds);
  std::tm tm{};
  gmtime_r(&time, &tm);
  std::array<char, 64> out{};
  std::snprintf(out.data(), out.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%09lldZ", tm.tm_year + 1900,
                tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                static_cast<long long>(nanos));  // NOLINT(google-runtime-int): printf
  return out.data();
}

Result<std::chrono::nanoseconds> ParseDuration(std::string_view text) {
  struct Unit {
    std::string_view name;
    double nanos;
  };
  // The micro sign and the Greek letter, as Go.
  constexpr std::array<Unit, 8> kUnits = {{{"ns", 1},
                                           {"us", 1e3},
                                           {"\u00b5s", 1e3},
                                           {"\u03bcs", 1e3},
                                           {"ms", 1e6},
                                           {"s", 1e9},
                                           {"m", 60e9},
                                           {"h", 3600e9}}};
  const auto bad = [&] {
    return InvalidArgument("\"" + std::string(text) +
                           "\" is not a duration (such as 250ms, 10s, 1m30s)");
  };
  std::string_view rest = text;
  bool negative = false;
  if (!rest.empty() && (rest.front() == '-' || rest.front() == '+')) {
    negative = rest.front() == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return std::chrono::nanoseconds(0);
  if (rest.empty()) return bad();
  double total = 0;
  while (!rest.empty()) {
    const std::size_t digits = rest.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return bad();
    double value = 0;
    const std::string_view number = rest.substr(0, digits);
    const auto [end, ec] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (ec != std::errc() || end != number.data() + number.size()) return bad();
    rest.remove_prefix(digits);
    const Unit* unit = nullptr;
    for (const Unit& u : kUnits) {
      const std::size_t word = rest.find_first_of("0123456789.");
      if (rest.substr(0, word) == u.name) unit = &u;
    }
    if (unit == nullptr) return bad();
    rest.remove_prefix(unit->name.size());
    total += value * unit->nanos;
  }
  if (!(total < static_cast<double>(std::numeric_limits<std::int64_t>::max()))) return bad();
  const auto nanos = static_cast<std::int64_t>(std::llround(total));
  return std::chrono::nanoseconds(negative ? -nanos : nanos);
}

Result<std::string> BootId() {
  return std::string(Trim(LN_TRY(ReadFile("/proc/sys/kernel/random/boot_id", 256))));
}

}  // namespace linnet
