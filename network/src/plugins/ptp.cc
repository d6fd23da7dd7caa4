// The ptp plugin: a veth between pod and host, without a bridge; the host routes.
#include <algorithm>
#include <cerrno>

#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "netlink/sysctl.h"
#include "nft/elements.h"
#include "nft/nft_table.h"
#include "plugins/bridge_check.h"
#include "plugins/plugin.h"
#include "plugins/ptp_plan.h"
#include "plugins/veth.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

std::vector<NftElement> ElementsOf(const PtpPlan& plan, const std::string& link) {
  std::vector<NftElement> out = plan.masquerade;
  if (!plan.guarded) return out;
  const auto guard = SourceElements(link, plan.addresses());
  out.insert(out.end(), guard.begin(), guard.end());
  return out;
}

// One ADD.
class Attach {
 public:
  Attach(PluginContext& context, const PluginRequest& request)
      : context_(context),
        host_(context.host),
        request_(request),
        owner_(OwnerText(KeyOf(request))),
        link_(host_.LinkName(request.container_id, request.ifname)) {}

  Result<cni::AddResult> Run() {
    conf_ = LN_TRY(ParsePtpConf(*request_.conf));
    undo_.Add("release the address",
              [this] { return context_.delegates->Del(conf_.ipam_type, request_); });
    const cni::AddResult lease = LN_TRY(context_.delegates->Add(conf_.ipam_type, request_));
    plan_ = LN_TRY(PlanPtp(conf_, lease, request_.network, SettingOf(host_)));
    for (const Family family : {Family::kV4, Family::kV6}) {
      if (plan_.has(family))
        LN_TRY_CTX(host_.EnableForwarding(family), "Could not enable IP forwarding");
    }
    LN_TRY(MakeLink());
    LN_TRY(SetUpHost());
    LN_TRY(Guard());
    LN_TRY(SetUpPod());
    undo_.Commit();
    cni::AddResult result = std::move(plan_.result);
    result.interfaces = {{.name = link_, .mac = HostMac().str(), .mtu = conf_.mtu},
                         {.name = request_.ifname,
                          .mac = plan_.pod_mac.str(),
                          .mtu = conf_.mtu,
                          .sandbox = request_.netns_path}};
    return result;
  }

 private:
  // Every pod sees the gateway behind an address of its own link: the host's end of it.
  MacAddress HostMac() const { return StableMac(link_); }

  Result<void> MakeLink() {
    undo_.Add("delete link " + link_, [this] { return host_.RetireLink(link_, owner_); });
    auto made = TryLink();
    if (made || !made.error().IsErrno(EEXIST)) return made;
    if (LN_TRY(host_.ClearLink(link_))) return TryLink();
    return AlreadyExists("container veth name provided (" + request_.ifname + ") already exists");
  }

  Result<void> TryLink() {
    RouteBatch batch;
    AddVeth(batch, {.host_name = link_,
                    .host_mac = HostMac(),
                    .master = 0,
                    .pod_netns = request_.netns,
                    .pod_name = request_.ifname,
                    .pod_mac = plan_.pod_mac,
                    .mtu = conf_.mtu});
    return host_.WithRoute([&](RouteSocket& socket) { return socket.Run(batch); });
  }

  Result<void> SetUpHost() {
    if (plan_.has(Family::kV6)) {
      // Before it is up: the host neither learns routes from the pod nor waits for its own address.
      LN_TRY(SetSysctl(LinkSysctl::kAcceptRa, link_, 0));
      LN_TRY(SetSysctl(LinkSysctl::kAcceptRedirects, link_, 0));
      LN_TRY(SetSysctl(LinkSysctl::kDisableIpv6, link_, 0));
    }
    return host_.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const std::uint32_t index = socket.IndexOf(link_);
      if (index == 0) return Unavailable("link " + link_ + " was deleted while it was set up");
      RouteBatch batch;
      AddPortUp(batch, {.name = link_, .alias = host_.LinkAliasFor(owner_)});
      for (const Cidr& address : plan_.host_addresses) AddAddress(batch, index, address);
      for (const RouteSpec& route : plan_.host_routes) AddRoute(batch, index, route);
      return socket.Run(batch);
    });
  }

  // Before the pod's interface is up: it never sends unguarded.
  Result<void> Guard() {
    const std::vector<NftElement> elements = ElementsOf(plan_, link_);
    if (elements.empty()) return Ok();
    undo_.Add("remove nftables elements",
              [this] { return host_.nft().Remove(owner_, NftTable::Part::kNetwork); });
    return host_.nft().Add(owner_, elements);
  }

  Result<void> SetUpPod() {
    PodSide own(request_.netns);
    PodSide& pod = request_.pod_side != nullptr ? *request_.pod_side : own;
    RouteSocket* socket = LN_TRY_CTX(pod.Route(), "set up " + request_.ifname);
    const std::uint32_t index = socket->IndexOf(request_.ifname);
    if (index == 0) return Internal(request_.ifname + " is not in the pod");
    LN_TRY_CTX(
        SetPodSysctls(
            pod, request_.ifname,
            {.host_is_router = true, .ipv6 = plan_.has(Family::kV6), .duplicate_detection = false}),
        "set up " + request_.ifname);
    RouteBatch batch;
    SetArpNotify(batch, index);
    for (const Cidr& address : plan_.pod_addresses)
      AddAddress(batch, index, address, Dad::kNo, SubnetRoute::kNo);
    SetUp(batch, request_.ifname, index, true);
    for (const RouteSpec& route : plan_.pod_routes) AddRoute(batch, index, route);
    const auto link =
        LN_TRY_CTX(socket->RunAndFind(batch, request_.ifname), "set up " + request_.ifname);
    if (!link || !link->running) {
      LN_TRY(WaitForLink(*socket, request_.ifname, LinkDeadline(request_),
                         [this] { return EventsIn(request_.netns, RouteEvents::Group::kLinks); }));
    }
    return host_.WithRoute([&](RouteSocket& host) {
      return WaitForLink(host, link_, LinkDeadline(request_),
                         [] { return RouteEvents::Open(RouteEvents::Group::kLinks); });
    });
  }

  PluginContext& context_;
  HostNetwork& host_;
  const PluginRequest& request_;
  const std::string owner_, link_;
  PtpConf conf_;
  PtpPlan plan_;
  Rollback undo_{[](const std::string& what, const Error& error) {
    log::Debug("undo: " + what, {{"err", error}});
  }};
};

class PtpPlugin final : public Plugin {
 public:
  std::string_view type() const override { return "ptp"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    return Attach(context, request).Run();
  }

  Result<void> Check(PluginContext& context, const PluginRequest& request) override {
    const PtpConf conf = LN_TRY(ParsePtpConf(*request.conf));
    LN_TRY(context.delegates->Check(conf.ipam_type, request));
    if (!request.prev_result) return InvalidArgument("ptp: Required prevResult missing");
    LN_TRY(CheckPodSide(request, LinkState::kUp));
    const PtpPlan plan = LN_TRY(PlanOf(context.host, conf, request));
    LN_TRY(CheckHostSide(context.host, plan, request));
    const auto present = LN_TRY(context.host.nft().Of(OwnerText(KeyOf(request))));
    const std::string link = context.host.LinkName(request.container_id, request.ifname);
    for (const NftElement& element : ElementsOf(plan, link)) {
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
    const PtpConf conf = LN_TRY(ParsePtpConf(*request.conf));
    return context.delegates->Status(conf.ipam_type, request);
  }

  Result<void> Restore(PluginContext& context, const PluginRequest& request) override {
    if (!request.prev_result) return Ok();
    const PtpConf conf = LN_TRY(ParsePtpConf(*request.conf));
    const PtpPlan plan = LN_TRY(PlanOf(context.host, conf, request));
    const std::string link = context.host.LinkName(request.container_id, request.ifname);
    return context.host.nft().Add(OwnerText(KeyOf(request)), ElementsOf(plan, link));
  }

 private:
  // Of an attachment that lives, from its final result.
  static Result<PtpPlan> PlanOf(const HostNetwork& host, const PtpConf& conf,
                                const PluginRequest& request) {
    const cni::AddResult& result = *request.prev_result;
    cni::AddResult own{.routes = result.routes};
    for (const cni::IpConfig& ip : result.ips) {
      const auto index = static_cast<std::size_t>(ip.interface.value_or(0));
      if (ip.interface &&
          (index >= result.interfaces.size() || result.interfaces[index].name != request.ifname))
        continue;
      own.ips.push_back(ip);
    }
    return PlanPtp(conf, own, request.network, SettingOf(host));
  }

  static Result<void> CheckHostSide(HostNetwork& host, const PtpPlan& plan,
                                    const PluginRequest& request) {
    const std::string name = host.LinkName(request.container_id, request.ifname);
    return host.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const auto link = LN_TRY(socket.FindLink(name));
      // Made by another implementation: CHECK of the pod's side has to be enough.
      if (!link) {
        const auto& all = request.prev_result->interfaces;
        const bool ours = std::any_of(all.begin(), all.end(),
                                      [&](const cni::Interface& i) { return i.name == name; });
        return ours ? FailedPrecondition("link " + name + " is missing") : Ok();
      }
      const auto routes = LN_TRY(socket.ListRoutes(link->index));
      for (const RouteSpec& wanted : plan.host_routes) {
        if (std::none_of(routes.begin(), routes.end(),
                         [&](const LinkRoute& r) { return r.dst == wanted.dst; })) {
          return FailedPrecondition("route to " + wanted.dst.str() + " is missing on the host");
        }
      }
      return Ok();
    });
  }
};

}  // namespace

std::unique_ptr<Plugin> MakePtpPlugin() { return std::make_unique<PtpPlugin>(); }

}  // namespace linnet::network
