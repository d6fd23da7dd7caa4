// The host's side of the data path: rtnetlink, nftables, sysctls and conntrack, shared by the
// built-in plugins.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/ids.h"
#include "linnet/base/ip.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "netns.h"

namespace linnet::network {

class NftTable;
class RouteSocket;
struct BridgeSpec;  // netlink/bridge_device.h
struct BridgeState;
struct VlanGatewaySpec;

enum class NftMode : std::uint8_t {
  kDaemon,  // table inet linnet[-i]: this process is the only writer, mirror in memory
  kExec,    // table inet linnet-cni: many writers, compare-and-delete by generation id
};

struct HostNetworkOptions {
  std::string instance;
  NftMode mode = NftMode::kDaemon;
  std::string state_dir;  // remembers sysctl values it changed; empty: they are not remembered
  std::string system_bus = "/run/dbus/system_bus_socket";  // where firewalld is asked for
};

struct OwnedLink {
  std::string name, owner;  // OwnerText
};

// Thread-safe. Create() opens sockets only: nothing is made in the kernel before the first ADD that
// needs it.
class HostNetwork {
 public:
  static Result<std::unique_ptr<HostNetwork>> Create(const HostNetworkOptions& options);
  HostNetwork(const HostNetwork&) = delete;
  HostNetwork& operator=(const HostNetwork&) = delete;
  ~HostNetwork();  // waits for links that are being deleted in the background

  const HostNetworkOptions& options() const;
  NftTable& nft();
  // The namespace of the host; a pod's must be another.
  const NetnsId& own_netns() const;

  // Runs `use` with a socket of the host's namespace that nobody else uses meanwhile.
  Result<void> WithRoute(const std::function<Result<void>(RouteSocket&)>& use);

  // --- bridges
  // Makes the bridge and its addresses as `spec` says, or returns what is known of it from an
  // earlier call; `again` asks the kernel in any case (the bridge may have been deleted behind our
  // back).
  enum class Freshness : std::uint8_t { kCached, kAskKernel };
  Result<BridgeState> EnsureBridge(const BridgeSpec& spec, Freshness freshness);
  // The gateway of a VLAN on the bridge, which is there.
  Result<BridgeState> EnsureVlanGateway(const VlanGatewaySpec& spec, Freshness freshness);
  // Its addresses have been seen ready: later answers of EnsureBridge say so.
  void BridgeSettled(const std::string& name);

  // What Status does every few seconds: the tables are built again where somebody flushed them, and
  // iptables goes on forwarding for the bridges.
  Result<void> Heal();

  // --- host ends of pods
  // The veth's end on the host: the same for the same attachment, at most 15 bytes, recognisable by
  // sweeps.
  std::string LinkName(std::string_view container_id, std::string_view ifname) const;
  // Takes the link out of use at once (microseconds): nothing passes it any more. It is deleted
  // with its namespace, else in the background within half a second, and then its owner's last
  // nftables elements; kExec does all of that before it returns. Absent: success. `owner`:
  // OwnerText (netlink/names.h), with or without the network.
  Result<void> RetireLink(const std::string& name, const std::string& owner);
  // Deletes a link of ours that is no veth: at once, or (kDaemon) in the background. Absent:
  // success.
  Result<void> DiscardLink(const std::string& name);
  // Deletes the veths and ifbs whose owner (OwnerText) `gone` wants gone.
  Result<void> RemoveLinksIf(const std::function<bool(const std::string& owner)>& gone);
  // The host ends of this instance's pods.
  Result<std::vector<OwnedLink>> OwnedLinks();
  // ifalias of a link: says whose it is.
  std::string LinkAliasFor(const std::string& owner) const;
  // A new link of this name is to be made: what is left of an earlier one (a repeated ADD) is
  // deleted now. Says whether there was one.
  Result<bool> ClearLink(const std::string& name);
  // Waits until no retired link is left: tests and clean shutdown.
  void DrainRetired();

  // --- sysctls of the host
  // ip_forward or conf/all/forwarding; earlier values go to <state_dir>/sysctls. Before IPv6
  // forwarding starts, interfaces that learn from router advertisements (accept_ra=1) get
  // accept_ra=2: else they would lose their routes.
  Result<void> EnableForwarding(Family family);
  // route_localnet on the interface that leads to `pod`, so that 127.0.0.1:<host port> works. The
  // table's raw chain drops what others send to or from 127.0.0.0/8. `bridge`: whose port the pod
  // is, 0 where that is not known; saves the look-up where it was dealt with before.
  Result<void> AllowLocalnet(const IpAddress& pod, std::uint32_t bridge = 0);

  // Recovery: removes links and nftables elements of this instance whose owner is not in `known`;
  // makes the mirror from what the kernel has. Elements that the kernel lost come back when the
  // plugins' Restore() is called for each attachment.
  Result<void> Recover(const std::vector<std::string>& known_container_ids);

 private:
  struct Impl;
  explicit HostNetwork(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::network
