// Which network new pods get: the configuration directory, looked at in one piece.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cni/conf.h"

namespace linnet::network {

// Of the files *.conflist, *.conf and *.json, in the order of their names' bytes, the first that
// parses rules.
//   - No such file (or no directory): the built-in network rules.
//   - A file that does not parse is passed over and named in `note`. But where it is the one that
//   rules now, its last good
//     contents go on to rule: a slip of an editor moves no pod to another network. `error` says so,
//     and Status is not ready until it is mended.
//   - Files, and none parses: what ruled before goes on (at start: nothing), with `error`. Never
//   the built-in network: who
//     puts a file there wants another one.
enum class Rules : std::uint8_t { kNothing, kBuiltin, kFile };

struct Selection {
  Rules rules = Rules::kNothing;
  std::shared_ptr<const cni::NetworkConf> network;  // of kFile
  std::string
      error;  // "/etc/cni/net.d/10-x.conflist: $.plugins[1].type: required key "type" is missing"
  std::string note;
};

Selection SelectNetwork(const std::string& directory, const Selection& before);

}  // namespace linnet::network
