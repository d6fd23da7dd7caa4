// The built-in plugins by name.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "plugins/plugin.h"

namespace linnet::network {

// Thread-safe: constant after construction.
class PluginRegistry {
 public:
  explicit PluginRegistry(std::vector<std::unique_ptr<Plugin>> plugins)
      : plugins_(std::move(plugins)) {}
  Plugin* Find(std::string_view type) const;  // nullptr: not built in
  std::vector<std::string> Types() const;

 private:
  std::vector<std::unique_ptr<Plugin>> plugins_;
};

std::unique_ptr<Plugin> MakeStaticPlugin();

// "cni.dev/valid-attachments" of a GC's configuration. Errors: code 7 where the key is absent: that
// says nothing, and must not be taken for "none is valid".
Result<std::vector<ValidAttachment>> ParseValidAttachments(const Json& conf);

}  // namespace linnet::network
