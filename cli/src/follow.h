// Reading a container's log, as the CRI writes it: "TIME stdout|stderr F|P TEXT".
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

#include "client.h"

namespace linnet::cli {

struct LogLine {
  std::string_view time, text;
  bool error = false;    // stderr
  bool partial = false;  // the line goes on in the next entry
};
// nullopt: not a log line.
std::optional<LogLine> ParseLogLine(std::string_view line);

struct LogOptions {
  bool follow = false, timestamps = false;
  std::optional<std::uint64_t> tail;  // lines; absent: all
};

// Prints to standard output and standard error. With `follow`, goes on until `ended` says that no
// more will come and everything written has been printed; survives rotation. A missing file is an
// empty log while `ended` is false.
Result<void> PrintLog(const std::string& path, const LogOptions& options,
                      const std::function<bool()>& ended);

// The container's whole output, then its exit code. The first SIGINT or SIGTERM asks the container
// to stop, the second kills it.
Result<int> FollowToEnd(Client& client, const cri::ContainerStatus& status);

}  // namespace linnet::cli
