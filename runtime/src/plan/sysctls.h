// Which sysctls a pod may set: those of a namespace that is its own.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::runtime::plan {

struct OwnNamespaces {
  bool network = false, ipc = false, uts = false, user = false;
};

// "net.ipv4.ip_forward" or "net/ipv4/ip_forward" → with slashes; the first separator tells which of
// the two it is (sysctl(8): "net/ipv4/conf/eth0.1/forwarding" is
// "net.ipv4.conf.eth0/1.forwarding"). Errors: kInvalidArgument for anything that is not a plain
// path, and for what is not namespaced or not the pod's own.
Result<std::string> SysctlPath(const std::string& key, const OwnNamespaces& own);

}  // namespace linnet::runtime::plan
