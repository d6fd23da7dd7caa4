// The host's side of the data path: rtnetlink, nftables and the pool of namespaces, shared by the built-in plugins.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "linnet/base/ids.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::network {

enum class NftMode : std::uint8_t {
  kDaemon,  // table inet linnet[-i]: this process is the only writer, mirror in memory
  kExec,    // table inet linnet-cni: many writers, compare-and-delete by generation id
};

struct HostNetworkOptions {
  std::string instance;
  NftMode mode = NftMode::kDaemon;
  std::string state_dir;  // remembers sysctl values it changed
};

// Thread-safe. The netlink helper completes this class: a RouteSocket of the host's namespace, the NftTable, link names
// derived from (container id, ifname), conntrack flushing, sysctls.
class HostNetwork {
 public:
  static Result<std::unique_ptr<HostNetwork>> Create(const HostNetworkOptions& options);
  virtual ~HostNetwork() = default;
  // Recovery: removes links and nftables elements of this instance whose owner is not in `known`; rebuilds the table.
  virtual Result<void> Recover(const std::vector<std::string>& known_container_ids) = 0;
};

}  // namespace linnet::network
