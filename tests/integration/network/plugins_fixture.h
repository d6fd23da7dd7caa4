// A chain of built-in plugins behind a pod's bridge, called one by one.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "net_fixture.h"

namespace linnet::network {

class PluginsTest : public NetTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Behind what the pod has so far; the pod's result becomes the plugin's.
  Result<void> AddTo(Pod& pod, const std::string& type, const std::string& conf);
  Result<void> CheckOf(const Pod& pod, const std::string& type);
  // `with_result` false: as a runtime that has lost it.
  Result<void> DelOf(const Pod& pod, const std::string& type, bool with_result = true);
  Result<void> GcOf(const std::string& type, const std::string& conf,
                    const std::vector<std::string>& valid);
  Result<void> StatusOf(const std::string& type, const std::string& conf);
  // A pod whose own plugin is `type` (ptp).
  Pod AddOwn(const std::string& id, const std::string& type, const std::string& conf);

  // `command` in the pod's namespace: "ip …" and the like.
  std::string In(const Pod& pod, const std::string& command);

  std::map<std::string, Json> confs_;  // by "<pod>/<type>"
  std::vector<std::unique_ptr<Plugin>> plugins_ = MakeBuiltinPlugins();
  Plugin& Find(const std::string& type);
};

}  // namespace linnet::network
