// Network configurations: lists of plugins, from *.conflist files, and single plugins from *.conf
// and *.json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/json_view.h"
#include "linnet/base/result.h"

namespace linnet::network::cni {

struct PluginConf {
  std::string type;
  std::string text;  // as written
  Json json;         // parsed, with the list's name and cniVersion, without "capabilities"
  std::vector<std::string> capabilities;  // declared and true
  std::string ipam_type;                  // empty: no address management
};

struct NetworkConf {
  std::string name;
  std::string version;  // the highest that both sides know; "" is 0.1.0
  bool disable_check = false, disable_gc = false;
  std::vector<PluginConf> plugins;  // not empty
  // The list with every plugin in it, also those from a directory: what the cache keeps. Parses to
  // the same again.
  std::string text;
  std::string source;  // file, or "built-in"
};

// Errors say where: "$.plugins[1].type: required key "type" is missing".
Result<NetworkConf> ParseConfList(std::string_view text);
// One plugin, taken as a list of one.
Result<NetworkConf> ParseConf(std::string_view text);
// By the file's ending. To a list, the plugins in <directory>/<network name>/*.conf are appended,
// unless it says loadOnlyInlinedPlugins. Errors start with the file's path.
Result<NetworkConf> LoadConf(const std::string& path);

// What plugin `index` gets on standard input: its text as written, with the list's name and version
// put in, and runtimeConfig and prevResult (JSON texts) where they are not empty; `extra` is
// ",\"k\":v" put at the end.
Result<std::string> PluginInput(const NetworkConf& network, const PluginConf& plugin,
                                std::string_view runtime_config, std::string_view prev_result,
                                std::string_view extra = {});

}  // namespace linnet::network::cni
