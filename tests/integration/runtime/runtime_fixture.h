// A Runtime with a busybox image, whose keepers, cgroups and descriptors are counted at the end.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "linnet/base/mutex.h"
#include "linnet/runtime/runtime.h"
#include "linnet/runtime/security.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::runtime::test {

// What the runtime said without being asked.
class Heard {
 public:
  void Exit(const PodId& pod, const ContainerExit& exit);
  void Lost(const PodId& pod);
  // Waits a while for it.
  std::optional<ContainerExit> WaitExit(const ContainerId& id);
  bool WaitLost(const PodId& pod);
  std::size_t lost_count();

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<ContainerExit> exits_ LN_GUARDED_BY(mu_);
  std::vector<PodId> lost_ LN_GUARDED_BY(mu_);
};

Deadline In(std::chrono::milliseconds time);

class RuntimeTest : public ::testing::Test {
 protected:
  static constexpr const char* kCgroupRoot = "/linnet-test";

  void SetUp() override;
  void TearDown() override;

  // The daemon: may be destroyed and made again.
  void StartRuntime();
  void StopRuntime() { runtime_.reset(); }

  PodSpec MakePod(NamespaceMode pid = NamespaceMode::kContainer);
  // `sh -c script`, with the defaults that CRI's users get.
  ContainerSpec MakeContainer(const PodId& pod, const std::string& script);
  // Pod and container, started. Reports failures.
  struct Started {
    PodId pod;
    ContainerId container;
    std::string directory;
  };
  Started Run(const std::string& script, NamespaceMode pid = NamespaceMode::kContainer);
  oci::Process ExecProcess(const std::string& script);
  Result<ExecOutput> Exec(const Started& s, const std::string& script,
                          std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    return runtime_->ExecSync(s.pod, s.container, ExecProcess(script), timeout);
  }
  std::string ReadLog(const Started& s);

  static std::vector<pid_t> Keepers();
  static bool CgroupsLeft();
  static std::size_t OpenFds();
  // Processes of the machine (these namespaces) whose command line holds `text`.
  static std::size_t CountProcesses(const std::string& text);

  testing::TempDir dir_;
  Heard heard_;
  std::unique_ptr<Runtime> runtime_;

 private:
  std::map<std::string, UniqueFd> netns_;
  std::size_t fds_before_ = 0;
};

}  // namespace linnet::runtime::test
