// Values of options. Pure. Errors: kInvalidArgument that shows what was expected.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "linnet/base/result.h"

namespace linnet::cli {

struct PortSpec {
  std::string address;  // empty: every one of the host
  int host = 0, container = 0;
  std::string protocol = "tcp";
};
// "8080:80", "127.0.0.1:8080:80/udp", "[::1]:8080:80"
Result<PortSpec> ParsePort(const std::string& text);

struct VolumeSpec {
  std::string host, container;  // absolute
  bool readonly = false, recursive = false;
  std::string propagation;  // "" "rslave" "rshared"
};
Result<VolumeSpec> ParseVolume(const std::string& text);

Result<std::pair<std::string, std::string>> ParsePair(const std::string& text);  // KEY=VALUE
// KEY=VALUE, or KEY: this process's value of it; nullopt where it has none.
Result<std::optional<std::pair<std::string, std::string>>> ParseEnv(const std::string& text);
Result<std::uint64_t> ParseBytes(const std::string& text);  // "64m" "1.5g" "4096"
Result<std::int64_t> ParseCpus(const std::string& text);  // "0.5" → microseconds of a 100 ms period
Result<std::int64_t> ParseSeconds(const std::string& text);  // "10", "1m30s"

}  // namespace linnet::cli
