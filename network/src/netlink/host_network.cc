#include "netlink/host_network.h"

#include <linux/if_bridge.h>
#include <net/if.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/mutex.h"

#include "netlink/bridge_device.h"
#include "netlink/link_messages.h"
#include "netlink/link_reaper.h"
#include "netlink/names.h"
#include "netlink/route_socket.h"
#include "netlink/sysctl.h"
#include "nft/elements.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

using std::chrono_literals::operator""ms;
// A pod's namespace dies with its keeper, some milliseconds after DEL: its link goes with it, for
// nothing.
constexpr auto kGrace = 150ms;

std::string ScopeOf(const HostNetworkOptions& options) {
  if (options.mode == NftMode::kExec) return "linnet-cni";
  return options.instance.empty() ? "linnet" : "linnet-" + options.instance;
}

}  // namespace

struct HostNetwork::Impl {
  HostNetworkOptions options;
  std::string scope;
  NetnsId own;
  std::unique_ptr<NftTable> nft;

  Mutex sockets_mu;
  std::vector<RouteSocket> idle LN_GUARDED_BY(sockets_mu);

  // Held while a bridge is made: pods that come at once must not race for it.
  Mutex bridges_mu;
  struct Known {
    BridgeSpec spec;
    BridgeState state;
  };
  std::map<std::string, Known> bridges LN_GUARDED_BY(bridges_mu);

  Mutex sysctl_mu;
  bool forwarding[2] LN_GUARDED_BY(sysctl_mu) = {false, false};
  std::set<std::uint32_t> localnet LN_GUARDED_BY(sysctl_mu);

  std::unique_ptr<LinkReaper> reaper;  // last: its thread uses the rest
};

Result<std::unique_ptr<HostNetwork>> HostNetwork::Create(const HostNetworkOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->scope = ScopeOf(options);
  impl->own = LN_TRY(OwnNetns());
  impl->nft = LN_TRY(NftTable::Create({.mode = options.mode, .name = impl->scope}));
  impl->reaper = std::make_unique<LinkReaper>(
      kGrace, [nft = impl->nft.get()](const std::string&, const std::string& owner) {
        if (owner.empty()) return;
        if (auto done = nft->Remove(owner, NftTable::Part::kAll); !done)
          log::Debug("forget a link", {{"err", done.error()}});
      });
  return std::unique_ptr<HostNetwork>(new HostNetwork(std::move(impl)));
}

HostNetwork::HostNetwork(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HostNetwork::~HostNetwork() = default;

const HostNetworkOptions& HostNetwork::options() const { return impl_->options; }
NftTable& HostNetwork::nft() { return *impl_->nft; }
const NetnsId& HostNetwork::own_netns() const { return impl_->own; }

Result<void> HostNetwork::WithRoute(const std::function<Result<void>(RouteSocket&)>& use) {
  std::optional<RouteSocket> socket;
  {
    const MutexLock lock(impl_->sockets_mu);
    if (!impl_->idle.empty()) {
      socket.emplace(std::move(impl_->idle.back()));
      impl_->idle.pop_back();
    }
  }
  if (!socket) socket.emplace(LN_TRY(RouteSocket::Open()));
  auto done = use(*socket);
  constexpr std::size_t kMostIdle = 8;
  const MutexLock lock(impl_->sockets_mu);
  if (impl_->idle.size() < kMostIdle) impl_->idle.push_back(*std::move(socket));
  return done;
}

// --- bridges

Result<BridgeState> HostNetwork::EnsureBridge(const BridgeSpec& spec, Freshness freshness) {
  const MutexLock lock(impl_->bridges_mu);
  const auto known = impl_->bridges.find(spec.name);
  if (freshness == Freshness::kCached && known != impl_->bridges.end() &&
      known->second.spec == spec) {
    return known->second.state;
  }
  BridgeState state;
  auto made = WithRoute([&](RouteSocket& socket) -> Result<void> {
    state = LN_TRY(MakeBridge(socket, spec));
    return Ok();
  });
  if (!made) return std::move(made).error();
  for (const Cidr& gateway : spec.gateways) LN_TRY(EnableForwarding(gateway.family()));
  if (impl_->options.mode == NftMode::kDaemon) {
    const auto use = spec.routed ? BridgeUse::kRouted : BridgeUse::kLayer2;
    LN_TRY(impl_->nft->Add("@" + spec.name, BridgeElements(spec.name, state.mac, use)));
    if (!spec.gateways.empty()) LN_TRY(impl_->nft->AdmitForwarding(spec.name));
  }
  impl_->bridges.insert_or_assign(spec.name, Impl::Known{spec, state});
  return state;
}

Result<BridgeState> HostNetwork::EnsureVlanGateway(const VlanGatewaySpec& spec,
                                                   Freshness freshness) {
  const std::string name = VlanGatewayName(spec.bridge.name, spec.vid);
  const MutexLock lock(impl_->bridges_mu);
  const auto known = impl_->bridges.find(name);
  if (freshness == Freshness::kCached && known != impl_->bridges.end() &&
      known->second.spec == spec.bridge) {
    return known->second.state;
  }
  BridgeState state;
  auto made = WithRoute([&](RouteSocket& socket) -> Result<void> {
    state = LN_TRY(MakeVlanGateway(socket, spec));
    return Ok();
  });
  if (!made) return std::move(made).error();
  for (const Cidr& gateway : spec.bridge.gateways) LN_TRY(EnableForwarding(gateway.family()));
  if (impl_->options.mode == NftMode::kDaemon) {
    LN_TRY(impl_->nft->Add("@" + name, BridgeElements(name, state.mac, BridgeUse::kLayer2)));
    LN_TRY(impl_->nft->AdmitForwarding(name));
  }
  impl_->bridges.insert_or_assign(name, Impl::Known{spec.bridge, state});
  return state;
}

void HostNetwork::BridgeSettled(const std::string& name) {
  const MutexLock lock(impl_->bridges_mu);
  if (const auto known = impl_->bridges.find(name); known != impl_->bridges.end())
    known->second.state.settling = false;
}

Result<void> HostNetwork::Heal() {
  LN_TRY(impl_->nft->Verify());
  if (impl_->options.mode == NftMode::kExec) return Ok();
  std::vector<std::string> forwarded;
  {
    const MutexLock lock(impl_->bridges_mu);
    for (const auto& [name, known] : impl_->bridges) {
      if (!known.spec.gateways.empty()) forwarded.push_back(name);
    }
  }
  for (const std::string& name : forwarded) LN_TRY(impl_->nft->AdmitForwarding(name));
  return Ok();
}

// --- host ends

std::string HostNetwork::LinkName(std::string_view container_id, std::string_view ifname) const {
  return HostLinkName(impl_->scope, container_id, ifname);
}

std::string HostNetwork::LinkAliasFor(const std::string& owner) const {
  return LinkAlias(impl_->scope, owner);
}

Result<void> HostNetwork::RetireLink(const std::string& name, const std::string& owner) {
  if (impl_->options.mode == NftMode::kExec) {
    LN_TRY(WithRoute([&](RouteSocket& socket) { return DeleteLinks(socket, {name}); }));
    return impl_->nft->Remove(owner, NftTable::Part::kAll);
  }
  bool there = true;
  LN_TRY(WithRoute([&](RouteSocket& socket) -> Result<void> {
    RouteBatch batch;
    SetPortFlags(batch, name, {.state = BR_STATE_DISABLED});
    auto done = socket.Run(batch);
    if (!done && done.error().IsErrno(ENODEV)) {
      there = false;
      return Ok();
    }
    if (done) return done;
    RouteBatch down;  // no bridge's port (any more)
    SetUp(down, name, 0, false);
    done = socket.Run(down);
    if (!done && done.error().IsErrno(ENODEV)) there = false;
    return there ? std::move(done) : Ok();
  }));
  if (!there) return impl_->nft->Remove(owner, NftTable::Part::kAll);
  impl_->reaper->Add(name, owner);
  return Ok();
}

Result<void> HostNetwork::DiscardLink(const std::string& name) {
  return WithRoute([&](RouteSocket& socket) -> Result<void> {
    if (socket.IndexOf(name) == 0) return Ok();
    if (impl_->options.mode == NftMode::kExec) return DeleteLinks(socket, {name});
    impl_->reaper->Add(name, {});
    return Ok();
  });
}

Result<bool> HostNetwork::ClearLink(const std::string& name) {
  impl_->reaper->Forget(name);
  bool there = false;
  auto done = WithRoute([&](RouteSocket& socket) {
    there = socket.IndexOf(name) != 0;
    return there ? DeleteLinks(socket, {name}) : Ok();
  });
  if (!done) return std::move(done).error();
  return there;
}

void HostNetwork::DrainRetired() { impl_->reaper->Drain(); }

Result<void> HostNetwork::RemoveLinksIf(const std::function<bool(const std::string&)>& gone) {
  return WithRoute([&](RouteSocket& socket) -> Result<void> {
    std::vector<std::string> doomed;
    for (const char* kind : {"veth", "ifb"}) {
      for (const Link& link : LN_TRY(socket.ListLinks(kind))) {
        const auto owner = OwnerOfAlias(impl_->scope, link.alias);
        if (owner && gone(*owner)) doomed.push_back(link.name);
      }
    }
    return DeleteLinks(socket, doomed);
  });
}

Result<std::vector<OwnedLink>> HostNetwork::OwnedLinks() {
  std::vector<OwnedLink> out;
  auto listed = WithRoute([&](RouteSocket& socket) -> Result<void> {
    for (const Link& link : LN_TRY(socket.ListLinks("veth"))) {
      if (auto owner = OwnerOfAlias(impl_->scope, link.alias))
        out.push_back({link.name, *std::move(owner)});
    }
    return Ok();
  });
  if (!listed) return std::move(listed).error();
  return out;
}

// --- sysctls

Result<void> HostNetwork::EnableForwarding(Family family) {
  const MutexLock lock(impl_->sysctl_mu);
  bool& done = impl_->forwarding[family == Family::kV4 ? 0 : 1];
  if (done) return Ok();
  const std::string& dir = impl_->options.state_dir;
  if (!dir.empty()) LN_TRY(MakeDirs(dir, 0711));
  LN_TRY(TurnForwardingOn(family, dir.empty() ? std::string() : JoinPath(dir, "sysctls")));
  done = true;
  return Ok();
}

Result<void> HostNetwork::AllowLocalnet(const IpAddress& pod, std::uint32_t bridge) {
  if (!pod.is_v4()) return Ok();  // ::1 is never forwarded: no sysctl changes that
  {
    const MutexLock lock(impl_->sysctl_mu);
    if (impl_->localnet.contains(bridge)) return Ok();
  }
  std::uint32_t index = 0;
  return WithRoute([&](RouteSocket& socket) -> Result<void> {
    index = LN_TRY(socket.LinkTowards(pod));
    {
      const MutexLock lock(impl_->sysctl_mu);
      if (impl_->localnet.contains(index)) return Ok();
    }
    const std::string name = socket.NameOf(index);
    if (name.empty()) return Unavailable("the link towards " + pod.str() + " was deleted");
    // The guard first.
    LN_TRY(impl_->nft->Add("@localnet", {LocalnetElement(name)}));
    RouteBatch batch;
    SetRouteLocalnet(batch, index);
    LN_TRY(socket.Run(batch));
    const MutexLock lock(impl_->sysctl_mu);
    impl_->localnet.insert(index);
    return Ok();
  });
}

// --- recovery

Result<void> HostNetwork::Recover(const std::vector<std::string>& known_container_ids) {
  std::set<std::string, std::less<>> known;
  for (const std::string& id : known_container_ids) known.insert(OwnerContainer(id));
  const auto keep = [&](const std::string& owner) { return known.contains(ContainerOf(owner)); };
  {
    const MutexLock lock(impl_->bridges_mu);
    impl_->bridges.clear();
  }
  LN_TRY(RemoveLinksIf([&](const std::string& owner) { return !keep(owner); }));
  return impl_->nft->Recover(keep);
}

}  // namespace linnet::network
