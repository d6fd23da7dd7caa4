// How a built-in plugin calls another one: in process where that is built in, else by exec.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "exec/plugin_exec.h"
#include "plugins/registry.h"

namespace linnet::network {

// Thread-compatible: one for each operation.
class PluginDelegates final : public Delegates {
 public:
  // `foreign`: types that are executed although they are built in, or because they are not.
  PluginDelegates(const PluginRegistry& registry, const PluginExec& exec,
                  const std::set<std::string>& foreign, PluginContext context)
      : registry_(registry), exec_(exec), foreign_(foreign), context_(context) {
    context_.delegates = this;
  }
  PluginDelegates(const PluginDelegates&) = delete;
  PluginDelegates& operator=(const PluginDelegates&) = delete;

  PluginContext& context() { return context_; }
  bool IsForeign(const std::string& type) const { return foreign_.contains(type); }
  Result<Plugin*> Builtin(const std::string& type) const;

  // From here on Del() releases nothing.
  void QuarantineAddresses() { quarantine_ = true; }
  // In place of an error of Del(): a foreign plugin that fails must not keep the caller from
  // cleaning up the rest.
  void CollectForeignFailures() { collect_ = true; }
  std::optional<Error> TakeForeignFailure() {
    return std::exchange(foreign_failure_, std::nullopt);
  }

  Result<cni::AddResult> Add(const std::string& type, const PluginRequest& request) override;
  Result<void> Check(const std::string& type, const PluginRequest& request) override;
  Result<void> Del(const std::string& type, const PluginRequest& request) override;
  Result<void> Gc(const std::string& type, const PluginRequest& request) override;
  Result<void> Status(const std::string& type, const PluginRequest& request) override;

 private:
  Result<std::string> Exec(const char* command, const std::string& type,
                           const PluginRequest& request) const;
  const PluginRegistry& registry_;
  const PluginExec& exec_;
  const std::set<std::string>& foreign_;
  PluginContext context_;
  bool quarantine_ = false, collect_ = false;
  std::optional<Error> foreign_failure_;
};

}  // namespace linnet::network
