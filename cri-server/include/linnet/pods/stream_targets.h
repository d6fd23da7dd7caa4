// What streams lead to: processes and containers to speak with, sockets in pods.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/runtime/runtime.h"

namespace linnet::pods {

// A process to speak with. Streams are lent: pipes whose other ends the caller keeps; none with a
// terminal.
struct ExecRequest {
  std::vector<std::string> command;
  bool terminal = false;
  std::uint16_t rows = 0, columns = 0;  // of the terminal from the beginning; 0: unknown
  FdRef stdin_fd{-1}, stdout_fd{-1}, stderr_fd{-1};
};

// Thread-safe; calls block.
class StreamTargets {
 public:
  virtual ~StreamTargets() = default;
  // Errors of both: kNotFound, kFailedPrecondition not running.
  virtual Result<std::unique_ptr<runtime::ExecSession>> Exec(const std::string& id,
                                                             const ExecRequest& request) = 0;
  virtual Result<runtime::Attachment> Attach(const std::string& id,
                                             const runtime::AttachSpec& spec) = 0;
  // A TCP socket inside the pod's network (or the node's, where the pod uses that), not connected,
  // non-blocking.
  virtual Result<UniqueFd> OpenSocket(const std::string& pod_id, Family family) = 0;
};

}  // namespace linnet::pods
