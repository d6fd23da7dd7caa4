// Runs the verbs of the specification over the plugins of a network: built-in ones by a call,
// foreign ones by exec.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/unique_fd.h"

#include "cni/conf.h"
#include "cni/result.h"
#include "exec/plugin_exec.h"
#include "netlink/host_network.h"
#include "plugins/registry.h"

namespace linnet::network {

struct ChainOptions {
  std::string ipam_dir;
  std::string instance;
  std::vector<std::string> prefer_external;
};

// The attachment that a verb is about.
struct Subject {
  std::string container_id;
  std::string ifname;
  std::string netns_path;  // empty: gone
  FdRef netns{-1};
  PodSide* pod_side = nullptr;  // of `netns`; nullptr: the chain makes one
  std::string args;             // CNI_ARGS
  Json capability_args = Json::object();
  std::set<std::string> foreign;  // plugin types that are executed: as it was at ADD
  Deadline deadline = Deadline::max();
};

struct ChainResult {
  cni::AddResult result;
  std::string
      text;  // in the configuration's version; a foreign plugin's own bytes where it is the last
};

struct DelReport {
  std::optional<Error> builtin;  // first failure of each kind; all plugins were asked
  std::optional<Error> foreign;
};

// Thread-safe.
class Chain {
 public:
  Chain(HostNetwork& host, const PluginRegistry& registry, const PluginExec& exec,
        ChainOptions options)
      : host_(host), registry_(registry), exec_(exec), options_(std::move(options)) {}

  // Types of `network`, with IPAM plugins, that would be executed now.
  std::set<std::string> Foreign(const cni::NetworkConf& network) const;
  // In order, each with the result of the one before. Undoes nothing.
  Result<ChainResult> Add(const cni::NetworkConf& network, const Subject& subject) const;
  // In reverse, all of them whatever fails. `result`: the final one of ADD as cached, or empty.
  // Once a foreign plugin has failed, addresses are not released any more: they stay quarantined
  // until a later DEL succeeds.
  DelReport Del(const cni::NetworkConf& network, const Subject& subject,
                const std::string& result) const;
  Result<void> Check(const cni::NetworkConf& network, const Subject& subject,
                     const std::string& result) const;
  // All plugins are asked; the first error is returned. Success without a call below 1.1.0.
  Result<void> Gc(const cni::NetworkConf& network, const std::set<std::string>& foreign,
                  const std::vector<ValidAttachment>& valid, Deadline deadline) const;
  Result<void> Status(const cni::NetworkConf& network, const std::set<std::string>& foreign,
                      Deadline deadline) const;
  // Plugin::Restore of the built-in ones, in order. The first error is returned, all are asked.
  Result<void> Restore(const cni::NetworkConf& network, const Subject& subject,
                       const std::string& result) const;
  // Every type is built in, or can be found and does not say that it lacks the network's version.
  Result<void> Validate(const cni::NetworkConf& network, Deadline deadline) const;

 private:
  class Call;
  HostNetwork& host_;
  const PluginRegistry& registry_;
  const PluginExec& exec_;
  const ChainOptions options_;
};

}  // namespace linnet::network
