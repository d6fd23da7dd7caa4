// A built-in CNI plugin. The same code runs inside the daemon and in the executable linnet-cni.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/json_view.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "cni/result.h"

namespace linnet::network {

class PodSide;      // pod_side.h: the pod's namespace, opened once for the whole chain
class HostNetwork;  // netlink/host_network.h: rtnetlink sockets and nftables writer of the host's
                    // namespace

// One operation on one attachment, as the specification's environment and standard input give it.
struct PluginRequest {
  std::string container_id;
  std::string ifname;
  std::string netns_path;       // CNI_NETNS; may be empty on DEL
  FdRef netns{-1};              // open namespace, or -1 where it is gone (DEL only)
  PodSide* pod_side = nullptr;  // of `netns`; nullptr: the plugin makes one for itself
  std::string args;             // CNI_ARGS
  std::string network;          // "name" of the configuration
  std::string cni_version;      // of the configuration
  const Json* conf =
      nullptr;            // complete plugin configuration: runtimeConfig and prevResult included
  std::string conf_text;  // the same as bytes, for delegates
  std::string raw_text;   // the plugin's configuration as it was written: repeated keys show
  std::optional<cni::AddResult> prev_result;
  Deadline deadline = Deadline::max();
};

// GC: what is still in use; nullopt: the key was absent.
struct ValidAttachment {
  std::string container_id, ifname;
};

// What a plugin may use besides its request.
struct PluginContext {
  HostNetwork& host;
  std::string ipam_dir;  // default of host-local's dataDir
  std::string instance;
  // Calls the plugin named in `type` (an IPAM plugin) with the caller's request: built-in or
  // foreign.
  class Delegates* delegates = nullptr;
};

class Delegates {
 public:
  virtual ~Delegates() = default;
  virtual Result<cni::AddResult> Add(const std::string& type, const PluginRequest& request) = 0;
  virtual Result<void> Check(const std::string& type, const PluginRequest& request) = 0;
  virtual Result<void> Del(const std::string& type, const PluginRequest& request) = 0;
  virtual Result<void> Gc(const std::string& type, const PluginRequest& request) = 0;
  virtual Result<void> Status(const std::string& type, const PluginRequest& request) = 0;
};

// Thread-safe: one object serves all pods. DEL must succeed when what it would remove is gone
// already.
class Plugin {
 public:
  virtual ~Plugin() = default;
  virtual std::string_view type() const = 0;  // "bridge"
  // The oldest version of configurations that it takes.
  virtual std::string_view since() const { return "0.1.0"; }
  virtual Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) = 0;
  virtual Result<void> Check(PluginContext& context, const PluginRequest& request) = 0;
  virtual Result<void> Del(PluginContext& context, const PluginRequest& request) = 0;
  virtual Result<void> Gc(PluginContext& context, const PluginRequest& request,
                          const std::vector<ValidAttachment>& valid) = 0;
  virtual Result<void> Status(PluginContext& context, const PluginRequest& request) = 0;
  // Makes the host's side fit a final result. After a chain with foreign plugins, which may have
  // changed what this plugin made (another MAC address); in recovery, after HostNetwork::Recover,
  // where the host lost something of an attachment that lives on (somebody flushed nftables while
  // we were away). The request is as for DEL: recorded configuration and final result. Repeatable;
  // costs no system call where nothing is missing.
  virtual Result<void> Restore(PluginContext&, const PluginRequest&) { return Ok(); }
};

// Every built-in, made once. bridge, loopback, host-local, portmap, …
std::vector<std::unique_ptr<Plugin>> MakeBuiltinPlugins();

std::unique_ptr<Plugin> MakeBandwidthPlugin();
std::unique_ptr<Plugin> MakeBridgePlugin();
std::unique_ptr<Plugin> MakeFirewallPlugin();
std::unique_ptr<Plugin> MakeLoopbackPlugin();
std::unique_ptr<Plugin> MakePortmapPlugin();
std::unique_ptr<Plugin> MakeHostLocalPlugin();
std::unique_ptr<Plugin> MakePtpPlugin();
std::unique_ptr<Plugin> MakeTuningPlugin();

}  // namespace linnet::network
