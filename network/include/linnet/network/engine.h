// The CNI engine: attaches pods to networks with built-in plugins called in process and foreign
// plugins executed.
//
// Zero configuration gives the default network; a conflist in `conf_dir` takes its place and is
// reloaded when files or the whole directory change. Every attachment has a record in libcni's
// cache format, written before the answer; DEL works from the record alone. Thread-safe: operations
// of different pods run side by side, those of one pod one after another (the engine serialises
// them by container id); GC excludes ADD and DEL.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/ids.h"
#include "linnet/base/ip.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/network/inspect.h"

namespace linnet::network {

struct EngineOptions {
  std::string instance;  // "" or 4 base32 digits: part of every shared name (decision 1)
  std::string conf_dir = "/etc/cni/net.d";
  std::vector<std::string> bin_dirs = {"/opt/cni/bin"};
  std::vector<std::string>
      prefer_external;  // plugin types for which an executable wins over the built-in
  std::string cache_dir = "/var/lib/cni";  // …/results: libcni's cache
  std::string ipam_dir = "/var/lib/cni/networks";
  std::string state_dir = "/run/linnet";  // cni-bin/ links, remembered sysctls
  std::string netns_dir = "/run/netns";   // pins are <netns_dir>/linnet[-<instance>]-<pod>
  std::string linnet_cni_path;            // the executable behind <state_dir>/cni-bin
  std::string cgroup_root;                // foreign plugins run below it; empty: not confined
  // The default network.
  std::string bridge;                // empty: "linnet0", with an instance "ln<instance>0"
  std::vector<std::string> subnets;  // empty: 10.83.0.0/16 or the next free, and an IPv6 ULA prefix
  int pool_size = 4;                 // ready network namespaces
  std::chrono::seconds plugin_timeout{120};  // of one foreign plugin's run
};

struct PortMapping {
  std::uint16_t host_port = 0;  // 1–65535
  std::uint16_t container_port = 0;
  std::string protocol = "tcp";  // "tcp" "udp" "sctp"
  std::string host_ip;           // empty: every address of the host
};

struct AttachRequest {
  PodId pod;
  FdRef netns{-1};         // the pod's namespace
  std::string netns_path;  // where it is pinned: CNI_NETNS of foreign plugins
  std::vector<PortMapping> ports;
  // K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_INFRA_CONTAINER_ID, K8S_POD_UID, IgnoreUnknown:
  // CNI_ARGS, in this order.
  std::vector<std::pair<std::string, std::string>> args;
  std::string cgroup_path;  // capability "cgroupPath"
  std::optional<std::uint64_t> ingress_bits_per_second,
      egress_bits_per_second;  // capability "bandwidth"
  Deadline deadline = Deadline::max();
};

struct Attachment {
  std::string network;  // its name
  std::string interface_name = "eth0";
  std::vector<Cidr> addresses;  // of eth0, primary first
  std::string result_json;      // the final CNI result, as cached
};

struct EngineStatus {
  bool ready = false;
  std::string reason;   // "NetworkPluginNotReady"
  std::string message;  // for humans
  std::string network;  // name of the network that new pods get
  std::string source;   // "built-in" or the file it came from
};

// A namespace handed out to a pod: pinned at `path`, the descriptor open for as long as this lives.
struct PodNetns {
  UniqueFd fd;
  std::string path;
  std::uint64_t device = 0, inode = 0;  // identity, for records
};

class Engine {
 public:
  // Prepares the default network lazily at the first Attach, loads the configuration, starts the
  // watcher and the pool. Blocks a few milliseconds. `known` are the pods that recovery keeps:
  // everything else of this instance (links, address files, nftables elements, pins, cache entries)
  // is removed by Recover().
  static Result<std::unique_ptr<Engine>> Create(const EngineOptions& options);
  virtual ~Engine() = default;

  // --- namespaces
  // From the pool, or made; pinned at <netns_dir>/linnet[-<instance>]-<pod>.
  virtual Result<PodNetns> TakeNetns(const PodId& pod) = 0;
  // Pins a namespace that somebody else made (pods with a user namespace).
  virtual Result<PodNetns> AdoptNetns(const PodId& pod, FdRef netns) = 0;
  // The pinned one again, after a restart. kNotFound: gone, or not a network namespace any more.
  virtual Result<PodNetns> OpenNetns(const PodId& pod) = 0;
  // Unpins. Absent: success. The kernel frees the namespace when its last holder goes.
  virtual Result<void> ReleaseNetns(const PodId& pod) = 0;

  // --- attachments
  // Loopback, then the network's chain. All or nothing: a failed chain is undone by DEL of the
  // whole list before return. A repeated call for an attached pod returns the stored result.
  // Errors: kUnavailable no usable network; kAlreadyExists a host port is taken (message names port
  // and owner); kResourceExhausted no address.
  virtual Result<Attachment> Attach(const AttachRequest& request) = 0;
  // From the record only: works without configuration, plugin binaries or the namespace. No record:
  // success. Foreign plugins that fail are retried in the background, their address quarantined;
  // that is still success.
  virtual Result<void> Detach(const PodId& pod) = 0;
  virtual std::optional<Attachment> Find(const PodId& pod) const = 0;
  virtual Result<void> Check(const PodId& pod) = 0;

  // After a restart: adopts the attachments of `known` pods, removes everything of this instance
  // that belongs to others, and restores the nftables table from the records. Call once, before the
  // first Attach.
  virtual Result<void> Recover(const std::vector<PodId>& known) = 0;

  // Removes what belongs to no attachment: links, nftables elements and addresses of this
  // instance's pods and networks; foreign plugins get GC. Waits for operations under way, others
  // wait for it. Returns what went ("address 10.83.0.7 of pod x").
  virtual Result<std::vector<std::string>> CollectGarbage() = 0;

  // --- for operators; nothing is changed
  // CHECK of every attachment.
  virtual std::vector<PodCheck> CheckAll() = 0;
  virtual Result<NetworkView> View() = 0;
  // Addresses in use, of every network below ipam_dir.
  virtual Result<std::vector<AddressView>> Addresses() = 0;
  virtual std::vector<Finding> Diagnose() = 0;

  // STATUS of the network that new pods get; what it says is remembered for five seconds.
  virtual EngineStatus Status() = 0;
  // From UpdateRuntimeConfig: "10.1.2.0/24" or "10.1.2.0/24,fd00:1::/64". Replaces the default
  // network's subnets for new pods; idempotent; ignored (with a debug line) where a conflist rules.
  virtual Result<void> SetPodCidr(const std::string& cidrs) = 0;
};

}  // namespace linnet::network
