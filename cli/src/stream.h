// The other end of the daemon's streams: exec and attach over a WebSocket (v5.channel.k8s.io).
#pragma once

#include <string>

#include "linnet/base/result.h"

namespace linnet::cli {

struct StreamOptions {
  bool stdin_open = false;
  bool tty = false;  // standard input becomes raw meanwhile, and its size is the terminal's
};

// Between the URL that Exec or Attach answered and this process's standard streams, until the
// daemon ends it. The command's exit code; 0 for an attachment whose container has ended.
Result<int> RunStream(const std::string& url, const StreamOptions& options);

}  // namespace linnet::cli
