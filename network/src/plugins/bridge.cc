// The bridge plugin: a veth from the pod to a bridge of the host. Layer 2 as upstream's plugin, or
// routed (decision 12).
#include <algorithm>
#include <cerrno>

#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "netlink/bridge_device.h"
#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "nft/guard.h"
#include "nft/nft_table.h"
#include "plugins/bridge_check.h"
#include "plugins/bridge_conf.h"
#include "plugins/bridge_plan.h"
#include "plugins/plugin.h"
#include "plugins/veth.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

// In a VLAN the gateway's addresses are not the bridge's own.
bool HasVlanGateway(const BridgeConf& conf) { return conf.vlan != 0 && conf.is_gateway; }

VlanGatewaySpec VlanGatewayOf(const BridgeConf& conf, const BridgeState& bridge,
                              const std::vector<Cidr>& gateways) {
  return {.bridge = {.name = conf.bridge,
                     .mtu = conf.mtu,
                     .force_address = conf.force_address,
                     .gateways = gateways},
          .state = bridge,
          .vid = conf.vlan,
          .preserve_default_vlan = conf.preserve_default_vlan};
}

// One ADD.
class Attach {
 public:
  Attach(PluginContext& context, const PluginRequest& request)
      : context_(context),
        host_(context.host),
        request_(request),
        own_pod_(request.netns),
        pod_(request.pod_side != nullptr ? *request.pod_side : own_pod_),
        owner_(OwnerText(KeyOf(request))),
        link_(host_.LinkName(request.container_id, request.ifname)) {}

  Result<cni::AddResult> Run() {
    conf_ = LN_TRY(ParseBridgeConf(request_));
    // A DHCP client needs the link; for every other IPAM plugin nothing is made before there is an
    // address.
    const bool link_first = conf_.ipam_type == "dhcp";
    if (link_first) {
      plan_ = LN_TRY(Plan(std::nullopt));
      LN_TRY(MakeLink());
    }
    std::optional<cni::AddResult> lease;
    if (!conf_.ipam_type.empty()) lease = LN_TRY(Acquire());
    const MacAddress mac = plan_.pod_mac;
    plan_ = LN_TRY(Plan(lease));
    if (link_first) {
      plan_.pod_mac = mac;
      bridge_ = LN_TRY(host_.EnsureBridge(Spec(), HostNetwork::Freshness::kCached));
    } else {
      LN_TRY(MakeLink());
    }
    LN_TRY(MakeVlanGateway(HostNetwork::Freshness::kCached));
    LN_TRY(GuardPort());
    LN_TRY(SetUpPod());
    LN_TRY(WaitForPort());
    undo_.Commit();
    return Finish();
  }

 private:
  Result<BridgePlan> Plan(const std::optional<cni::AddResult>& lease) const {
    return PlanBridge(conf_, lease, conf_.bridge, SettingOf(host_));
  }

  BridgeSpec Spec() const {
    return {.name = conf_.bridge,
            .mtu = conf_.mtu,
            .promiscuous = conf_.promiscuous,
            .vlan_filtering = conf_.vlan != 0 || !conf_.trunk.empty(),
            .force_address = conf_.force_address,
            .routed = conf_.routed,
            .gateways = HasVlanGateway(conf_) ? std::vector<Cidr>() : plan_.gateways};
  }

  Result<void> MakeVlanGateway(HostNetwork::Freshness freshness) {
    if (!HasVlanGateway(conf_)) return Ok();
    vlan_gateway_ =
        LN_TRY(host_.EnsureVlanGateway(VlanGatewayOf(conf_, bridge_, plan_.gateways), freshness));
    return Ok();
  }

  Result<cni::AddResult> Acquire() {
    // Also when ADD failed: it may have reserved an address all the same (CNI "Plugin Delegation").
    undo_.Add("release the address",
              [this] { return context_.delegates->Del(conf_.ipam_type, request_); });
    return context_.delegates->Add(conf_.ipam_type, request_);
  }

  Result<void> MakeLink() {
    bridge_ = LN_TRY(host_.EnsureBridge(Spec(), HostNetwork::Freshness::kCached));
    undo_.Add("delete link " + link_, [this] { return host_.RetireLink(link_, owner_); });
    auto made = TryLink();
    if (made) return SetVlans();
    if (made.error().IsErrno(EEXIST)) {
      if (LN_TRY(host_.ClearLink(link_))) return Retry();
      return AlreadyExists("container veth name provided (" + request_.ifname + ") already exists");
    }
    // The bridge may have been deleted, or deleted and made again.
    const std::uint32_t before = bridge_.index;
    bridge_ = LN_TRY(host_.EnsureBridge(Spec(), HostNetwork::Freshness::kAskKernel));
    if (bridge_.index == before) return made;
    return Retry();
  }

  Result<void> Retry() {
    LN_TRY(TryLink());
    return SetVlans();
  }

  Result<void> TryLink() {
    RouteBatch batch;
    AddVeth(batch, {.host_name = link_,
                    .host_mac = HostMac(),
                    .master = bridge_.index,
                    .pod_netns = request_.netns,
                    .pod_name = request_.ifname,
                    .pod_mac = plan_.pod_mac,
                    .mtu = conf_.mtu});
    AddPortUp(batch, {.name = link_,
                      .alias = host_.LinkAliasFor(owner_),
                      .hairpin = conf_.hairpin,
                      .isolated = plan_.isolated});
    return host_.WithRoute([&](RouteSocket& socket) { return socket.Run(batch); });
  }

  MacAddress HostMac() const { return StableMac(link_); }

  Result<void> SetVlans() {
    if (conf_.vlan == 0 && conf_.trunk.empty()) return Ok();
    return host_.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const std::uint32_t index = socket.IndexOf(link_);
      RouteBatch batch;
      if (!conf_.preserve_default_vlan && bridge_.default_pvid != 0)
        DelPortVlan(batch, index, bridge_.default_pvid);
      if (conf_.vlan != 0) AddPortVlan(batch, index, conf_.vlan, true);
      for (const BridgeConf::Vlans& range : conf_.trunk)
        AddPortVlanTrunk(batch, index, {range.first, range.last});
      if (conf_.vlan == 0) AddPortVlan(batch, index, 1, true);
      auto done = socket.Run(batch);
      if (done) return done;
      return ExplainVlanError(std::move(done).error());
    });
  }

  // Before the pod's interface is up: it never sends unguarded.
  Result<void> GuardPort() {
    std::vector<NftElement> elements = plan_.masquerade;
    const auto guard = GuardElements(plan_.guard, link_, plan_.pod_mac, plan_.addresses());
    elements.insert(elements.end(), guard.begin(), guard.end());
    if (elements.empty()) return Ok();
    undo_.Add("remove nftables elements",
              [this] { return host_.nft().Remove(owner_, NftTable::Part::kNetwork); });
    return host_.nft().Add(owner_, elements);
  }

  Result<void> SetUpPod() {
    std::optional<RouteEvents> events;
    if (conf_.enable_dad) {
      events.emplace(LN_TRY(EventsIn(request_.netns, RouteEvents::Group::kAddresses6)));
    }
    RouteSocket* socket = LN_TRY_CTX(pod_.Route(), "set up " + request_.ifname);
    const std::uint32_t index = socket->IndexOf(request_.ifname);
    if (index == 0) return Internal(request_.ifname + " is not in the pod");
    LN_TRY_CTX(SetPodSysctls(pod_, request_.ifname,
                             {.host_is_router = conf_.is_gateway,
                              .ipv6 = plan_.has_v6(),
                              .duplicate_detection = conf_.enable_dad}),
               "set up " + request_.ifname);
    RouteBatch batch;
    if (!plan_.pod_addresses.empty()) SetArpNotify(batch, index);
    const Dad dad = conf_.enable_dad ? Dad::kYes : Dad::kNo;
    for (const Cidr& address : plan_.pod_addresses) AddAddress(batch, index, address, dad);
    if (!conf_.disable_container_interface) SetUp(batch, request_.ifname, index, true);
    for (const RouteSpec& route : plan_.pod_routes) AddRoute(batch, index, route);
    const auto link =
        LN_TRY_CTX(socket->RunAndFind(batch, request_.ifname), "set up " + request_.ifname);
    if (!conf_.disable_container_interface && !(link && link->running)) {
      LN_TRY(WaitForLink(*socket, request_.ifname, LinkDeadline(request_),
                         [this] { return EventsIn(request_.netns, RouteEvents::Group::kLinks); }));
    }
    if (!conf_.enable_dad || !plan_.has_v6()) return Ok();
    return WaitForAddresses(*socket, *events, index, LinkDeadline(request_));
  }

  Result<void> WaitForPort() {
    if (conf_.disable_container_interface) return Ok();
    return host_.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const auto subscribe = [] { return RouteEvents::Open(RouteEvents::Group::kLinks); };
      // Its first port gives the bridge its carrier.
      const std::vector<std::string> names = {link_, conf_.bridge};
      const auto links = LN_TRY(socket.FindLinks(names));
      for (std::size_t i = 0; i < names.size(); ++i) {
        if (!links[i] || !links[i]->running)
          LN_TRY(WaitForLink(socket, names[i], LinkDeadline(request_), subscribe));
      }
      if (!bridge_.settling) return Ok();
      auto events = LN_TRY(RouteEvents::Open(RouteEvents::Group::kAddresses6));
      LN_TRY_CTX(WaitForAddresses(socket, events, bridge_.index, LinkDeadline(request_)),
                 "bridge " + conf_.bridge);
      host_.BridgeSettled(conf_.bridge);
      return Ok();
    });
  }

  cni::AddResult Finish() {
    cni::AddResult result = std::move(plan_.result);
    result.interfaces = {{.name = conf_.bridge, .mac = bridge_.mac.str()},
                         {.name = link_, .mac = HostMac().str(), .mtu = conf_.mtu},
                         {.name = request_.ifname,
                          .mac = plan_.pod_mac.str(),
                          .mtu = conf_.mtu,
                          .sandbox = request_.netns_path}};
    if (vlan_gateway_) {
      result.interfaces.push_back(
          {.name = VlanGatewayName(conf_.bridge, conf_.vlan), .mac = vlan_gateway_->mac.str()});
    }
    return result;
  }

  PluginContext& context_;
  HostNetwork& host_;
  const PluginRequest& request_;
  PodSide own_pod_;
  PodSide& pod_;
  const std::string owner_, link_;
  BridgeConf conf_;
  BridgePlan plan_;
  BridgeState bridge_;
  std::optional<BridgeState> vlan_gateway_;
  Rollback undo_{[](const std::string& what, const Error& error) {
    log::Debug("undo: " + what, {{"err", error}});
  }};
};

class BridgePlugin final : public Plugin {
 public:
  std::string_view type() const override { return "bridge"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    return Attach(context, request).Run();
  }

  Result<void> Check(PluginContext& context, const PluginRequest& request) override {
    const BridgeConf conf = LN_TRY(ParseBridgeConf(request));
    if (!conf.ipam_type.empty()) LN_TRY(context.delegates->Check(conf.ipam_type, request));
    if (!request.prev_result) return InvalidArgument("Required prevResult missing");
    LN_TRY(CheckBridge(context.host, conf, request));
    const BridgePlan plan =
        LN_TRY(PlanFromResult(conf, *request.conf, *request.prev_result, request.ifname,
                              conf.bridge, SettingOf(context.host)));
    std::vector<NftElement> wanted = Elements(context.host, plan, request);
    const auto present = LN_TRY(context.host.nft().Of(OwnerText(KeyOf(request))));
    for (const NftElement& element : wanted) {
      if (std::find(present.begin(), present.end(), element) == present.end()) {
        return FailedPrecondition("nftables: an element of set " + element.set + " is missing");
      }
    }
    return Ok();
  }

  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    return DelVeth(context, request);
  }

  Result<void> Gc(PluginContext& context, const PluginRequest& request,
                  const std::vector<ValidAttachment>& valid) override {
    return GcVeths(context, request, valid);
  }

  Result<void> Status(PluginContext& context, const PluginRequest& request) override {
    LN_TRY(context.host.Heal());
    const BridgeConf conf = LN_TRY(ParseBridgeConf(request));
    return conf.ipam_type.empty() ? Ok() : context.delegates->Status(conf.ipam_type, request);
  }

  Result<void> Restore(PluginContext& context, const PluginRequest& request) override {
    if (!request.prev_result) return Ok();
    HostNetwork& host = context.host;
    const BridgeConf conf = LN_TRY(ParseBridgeConf(request));
    const BridgePlan plan = LN_TRY(PlanFromResult(conf, *request.conf, *request.prev_result,
                                                  request.ifname, conf.bridge, SettingOf(host)));
    const BridgeState bridge = LN_TRY(
        host.EnsureBridge({.name = conf.bridge,
                           .mtu = conf.mtu,
                           .promiscuous = conf.promiscuous,
                           .vlan_filtering = conf.vlan != 0 || !conf.trunk.empty(),
                           .force_address = false,
                           .routed = conf.routed,
                           .gateways = HasVlanGateway(conf) ? std::vector<Cidr>() : plan.gateways},
                          HostNetwork::Freshness::kCached));
    if (HasVlanGateway(conf)) {
      LN_TRY(host.EnsureVlanGateway(VlanGatewayOf(conf, bridge, plan.gateways),
                                    HostNetwork::Freshness::kCached));
    }
    const std::string owner = OwnerText(KeyOf(request));
    const std::vector<NftElement> elements = Elements(host, plan, request);
    LN_TRY(host.nft().Add(owner, elements));
    LN_TRY(DropMacsExcept(host.nft(), owner, elements));
    return Reattach(host, conf, plan, bridge, host.LinkName(request.container_id, request.ifname));
  }

 private:
  static std::vector<NftElement> Elements(const HostNetwork& host, const BridgePlan& plan,
                                          const PluginRequest& request) {
    std::vector<NftElement> out = plan.masquerade;
    const auto guard =
        GuardElements(plan.guard, host.LinkName(request.container_id, request.ifname), plan.pod_mac,
                      plan.addresses());
    out.insert(out.end(), guard.begin(), guard.end());
    return out;
  }

  // The bridge was deleted and made again: its ports have to come back.
  static Result<void> Reattach(HostNetwork& host, const BridgeConf& conf, const BridgePlan& plan,
                               const BridgeState& bridge, const std::string& name) {
    return host.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const auto link = LN_TRY(socket.FindLink(name));
      if (!link || link->master == bridge.index) return Ok();
      RouteBatch batch;
      SetMaster(batch, name, bridge.index);
      SetPortFlags(batch, name, {.hairpin = conf.hairpin, .isolated = plan.isolated});
      return socket.Run(batch);
    });
  }
};

}  // namespace

std::unique_ptr<Plugin> MakeBridgePlugin() { return std::make_unique<BridgePlugin>(); }

}  // namespace linnet::network
