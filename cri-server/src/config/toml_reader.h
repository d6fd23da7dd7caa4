// A TOML file as flat keys with lines: everything that the configuration wants to know of TOML.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::cri {

struct TomlEntry {
  std::string key;  // "network.bridge"
  std::variant<std::string, std::int64_t, bool, std::vector<std::string>> value;
  std::string where;  // "/etc/linnet/linnet.toml:7"
};

// Errors name file and line: syntax, and values of other types (dates, floats, lists of anything
// but strings).
Result<std::vector<TomlEntry>> ReadToml(const std::string& path);

}  // namespace linnet::cri
