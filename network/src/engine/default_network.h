// The network of a node that has no configuration, made in memory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

#include "cni/conf.h"

namespace linnet::network {

struct DefaultNetworkOptions {
  std::string name;                  // "linnet", with an instance "linnet-<instance>"
  std::string bridge;                // "linnet0"
  std::vector<std::string> subnets;  // configured; empty: chosen
  std::string ipam_dir;              // <ipam_dir>/<name>/subnets.json remembers choice and pod CIDR
};

// The configuration list as text: bridge (routed), host-local with one range per subnet, portmap.
std::string DefaultConfList(const std::string& name, const std::string& bridge,
                            const std::vector<Cidr>& subnets);

// 10.83.0.0/16, or the first of 10.84 to 10.99 that overlaps none of `routes`. Errors:
// kResourceExhausted.
Result<Cidr> ChooseV4(const std::vector<Cidr>& routes);
// A /64 of fd + 40 bits of a hash of `machine_id` and `name`.
Cidr ChooseV6(std::string_view machine_id, std::string_view name);
// IPv4 destinations of /proc/net/route, without default routes and those of `own_bridge`.
std::vector<Cidr> ParseRouteTable(std::string_view text, std::string_view own_bridge);

// Thread-safe.
class DefaultNetwork {
 public:
  explicit DefaultNetwork(DefaultNetworkOptions options) : options_(std::move(options)) {}
  const std::string& name() const { return options_.name; }
  // Chooses subnets at the first call: the pod CIDR set last, else the configured ones, else those
  // chosen before, else new ones.
  Result<std::shared_ptr<const cni::NetworkConf>> Get();
  // As Get, but null where no subnets were ever chosen: nothing can be left over of it.
  std::shared_ptr<const cni::NetworkConf> Known();
  // Why Get failed the last time; empty: it did not, or was never asked.
  std::string failure() const;
  // "10.1.2.0/24" or "10.1.2.0/24,fd00:1::/64": for new pods, remembered. The same again: nothing
  // happens.
  Result<void> SetPodCidr(const std::string& cidrs);

 private:
  Result<std::shared_ptr<const cni::NetworkConf>> Make() LN_REQUIRES(mu_);
  Result<std::vector<Cidr>> Subnets() LN_REQUIRES(mu_);
  Result<void> Store(const char* source, const std::vector<Cidr>& subnets) const;
  std::string StatePath() const;

  const DefaultNetworkOptions options_;
  mutable Mutex mu_;
  std::string failure_ LN_GUARDED_BY(mu_);
  std::shared_ptr<const cni::NetworkConf> network_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::network
