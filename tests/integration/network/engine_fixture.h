// An engine on a host of the test's own: directories of its own, plugins as shell scripts, and all
// that can be seen of it from outside as one text.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/network/engine.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "engine/engine_impl.h"
#include "netns.h"

namespace linnet::network {

inline PodId PodNamed(const std::string& name) { return *PodId::Parse(name); }

// What the command prints, errors included; a failing command ends in "[failed]".
std::string Shell(const std::string& command);

// Waits for what other threads do.
template <class F>
bool Eventually(F condition, std::chrono::milliseconds limit = std::chrono::seconds(10)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class EngineHost : public ::testing::Test {
 protected:
  EngineHost();
  ~EngineHost() override;
  // Skips where the test does not run in namespaces of its own.
  void SetUp() override;
  // Takes every pod and every link away; what is left then is a failure.
  void TearDown() override;

  void Start();
  void Stop() { engine_.reset(); }
  // In the pod's namespace, which is made where there is none yet.
  Result<Attachment> Attach(const std::string& pod, std::vector<PortMapping> ports = {});
  Result<void> Detach(const std::string& pod) { return engine_->Detach(PodNamed(pod)); }
  static PortMapping Tcp(std::uint16_t host_port, std::uint16_t port) {
    return {.host_port = host_port, .container_port = port, .protocol = "tcp", .host_ip = ""};
  }

  // Files of the configuration directory and of the plugin directory.
  void Conf(const std::string& name, const std::string& text);
  void Script(const std::string& name, const std::string& body);
  // A script that logs "NAME COMMAND CONTAINER IFNAME INPUT" and answers `answer` to ADD.
  void LoggingPlugin(const std::string& name, const std::string& answer);
  std::vector<std::string> Log() const;
  // "NAME COMMAND" of each line of the log.
  std::vector<std::string> Calls() const;
  void ForgetLog();
  bool NetworkIs(const std::string& name);

  static std::vector<std::string> Names(const std::string& dir);
  std::vector<std::string> Leases(const std::string& network = "linnet") const;
  // Links, addresses, routes, the ruleset, files and pins, of the host and of the pods' namespaces.
  std::string Snapshot();

  testing::TempDir dir_;
  EngineOptions options_;
  std::chrono::milliseconds first_retry_{20};
  std::unique_ptr<EngineImpl> engine_;
  HostNetwork* host_ = nullptr;  // the engine's
  std::map<std::string, PodNetns> netns_;
};

}  // namespace linnet::network
