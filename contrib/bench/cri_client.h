// A small CRI client: one pod with one container, as a benchmark needs it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::bench {

struct PodHandle {
  std::string pod, container;
};

struct PodOptions {
  std::string image;
  std::vector<std::string> command;
  int host_port = 0;  // 0: none
};

// One connection; thread-compatible: each measuring thread has its own.
class CriClient {
 public:
  explicit CriClient(const std::string& endpoint);
  ~CriClient();
  CriClient(const CriClient&) = delete;
  CriClient& operator=(const CriClient&) = delete;

  Result<std::string> Version();
  Result<void> Pull(const std::string& image);
  Result<std::string> RunPod(const PodOptions& options, const std::string& name);
  // RunPodSandbox + CreateContainer + StartContainer.
  Result<PodHandle> Start(const PodOptions& options, const std::string& name);
  Result<void> StopAndRemove(const PodHandle& pod);
  Result<int> ExecSync(const std::string& container, const std::vector<std::string>& command);
  // URLs of streams: with stdout, and stdin where asked for.
  Result<std::string> ExecUrl(const std::string& container, const std::vector<std::string>& command,
                              bool with_stdin);
  Result<std::string> PortForwardUrl(const std::string& pod, int port);
  Result<std::size_t> CountPods();
  // Every pod that this benchmark made (namespace "linnet-bench").
  Result<void> RemoveAll();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::bench
