// The plugin's side of the exec protocol: environment and standard input in, result or error out.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "plugins/registry.h"

namespace linnet::network {

struct PluginIo {
  std::function<std::optional<std::string>(const char* name)> env;
  std::function<Result<std::string>()> read_input;
  std::string* out;  // standard output
  std::string* err;  // standard error
};

// One call of the built-in plugin `type`. Returns the exit code: 0 or 1.
int RunPlugin(std::string_view type, const PluginRegistry& registry, const PluginIo& io);

}  // namespace linnet::network
