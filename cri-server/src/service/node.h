// What the services know of the daemon they run in.
#pragma once

#include <string>

#include "linnet/base/json_view.h"

namespace linnet::cri {

struct Node {
  std::string version;   // "0.1.0"
  std::string instance;  // "": that of the default directories
  std::string root, state, socket;
  std::string preload_dir;
  Json config;  // effective configuration, for Status with verbose
  std::vector<std::string> handlers = {"", "linnet"};
};

}  // namespace linnet::cri
