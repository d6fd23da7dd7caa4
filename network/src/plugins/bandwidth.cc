// The bandwidth plugin: token buckets on the host's end of the pod's veth (what the pod receives)
// and on an ifb to which what the pod sends is redirected.
#include <linux/pkt_sched.h>

#include <cerrno>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "netlink/names.h"
#include "netlink/route_socket.h"
#include "plugins/bandwidth_conf.h"
#include "plugins/plugin.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

std::string OwnerOf(const PluginRequest& request) {
  return OwnerText(AttachmentKey{request.container_id, request.ifname, request.network});
}

Result<Bandwidth> ConfOf(const PluginRequest& request) {
  return ParseBandwidth(JsonView(*request.conf, "$", KeyMatch::kIgnoreCase));
}

double Ticks() {
  static const double ticks =
      TicksPerMicrosecond(ReadFile("/proc/net/psched").value_or("").c_str());
  return ticks;
}

// The other end of the pod's interface, which the result has to name.
Result<Link> HostEnd(RouteSocket& host, const PluginRequest& request) {
  const auto& interfaces = request.prev_result->interfaces;
  if (interfaces.empty()) return FailedPrecondition("no interfaces provided");
  PodSide own(request.netns);
  PodSide& pod = request.pod_side != nullptr ? *request.pod_side : own;
  RouteSocket* inside = LN_TRY(pod.Route());
  const auto own_end = LN_TRY(inside->FindLink(request.ifname));
  const std::uint32_t peer = own_end && own_end->kind == "veth" ? own_end->peer : 0;
  if (peer == 0)
    return FailedPrecondition("container interface " + request.ifname + " has no veth peer");
  auto link = LN_TRY(host.FindLink(peer));
  if (!link) {
    return FailedPrecondition("veth peer with index " + std::to_string(peer) +
                              " is not in host ns");
  }
  for (const cni::Interface& interface : interfaces) {
    if (interface.sandbox.empty() && interface.name == link->name) return *std::move(link);
  }
  return FailedPrecondition("no veth peer of container interface found in host ns");
}

Result<void> CheckBucket(RouteSocket& socket, const Link& link, const TokenBucket& wanted) {
  const auto qdisc = LN_TRY(socket.FindQdisc(link.index, TC_H_ROOT));
  if (!qdisc || !qdisc->token_bucket)
    return FailedPrecondition("Failed to find qdisc of " + link.name);
  const TokenBucket& have = *qdisc->token_bucket;
  if (have.rate_bytes != wanted.rate_bytes)
    return FailedPrecondition("Rate doesn't match on " + link.name);
  if (have.limit_bytes != wanted.limit_bytes)
    return FailedPrecondition("Limit doesn't match on " + link.name);
  if (have.buffer_ticks != wanted.buffer_ticks)
    return FailedPrecondition("Buffer doesn't match on " + link.name);
  return Ok();
}

class BandwidthPlugin final : public Plugin {
 public:
  std::string_view type() const override { return "bandwidth"; }
  std::string_view since() const override { return "0.3.0"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    const Bandwidth wanted = LN_TRY(ConfOf(request));
    if (!request.prev_result) return InvalidArgument("must be called as chained plugin");
    if (wanted.empty()) return *request.prev_result;
    HostNetwork& host = context.host;
    cni::AddResult result = *request.prev_result;
    auto done = host.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const Link port = LN_TRY(HostEnd(socket, request));
      Rollback undo([](const std::string& what, const Error& error) {
        log::Debug("undo: " + what, {{"err", error}});
      });
      if (wanted.ingress_rate > 0) {
        undo.Add("delete qdisc", [&]() -> Result<void> {
          RouteBatch batch;
          DelRootQdisc(batch, port.index);
          return socket.Run(batch);
        });
        RouteBatch batch;
        SetTokenBucket(batch, port.index,
                       MakeTokenBucket(wanted.ingress_rate, wanted.ingress_burst, Ticks()));
        LN_TRY(socket.Run(batch));
      }
      if (wanted.egress_rate > 0)
        result.interfaces.push_back(LN_TRY(LimitEgress(host, socket, undo, request, port, wanted)));
      undo.Commit();
      return Ok();
    });
    if (!done) return std::move(done).error();
    return result;
  }

  Result<void> Check(PluginContext& context, const PluginRequest& request) override {
    const Bandwidth wanted = LN_TRY(ConfOf(request));
    if (!request.prev_result) return InvalidArgument("must be called as a chained plugin");
    return context.host.WithRoute([&](RouteSocket& socket) -> Result<void> {
      const Link port = LN_TRY(HostEnd(socket, request));
      if (wanted.ingress_rate > 0) {
        LN_TRY(CheckBucket(socket, port,
                           MakeTokenBucket(wanted.ingress_rate, wanted.ingress_burst, Ticks())));
      }
      if (wanted.egress_rate == 0) return Ok();
      const std::uint32_t target = LN_TRY(socket.RedirectOf(port.index));
      if (target == 0)
        return FailedPrecondition("what the pod sends is not redirected from " + port.name);
      const auto ifb = LN_TRY(socket.FindLink(target));
      if (!ifb || ifb->kind != "ifb") return FailedPrecondition("get ifb device: Link not found");
      return CheckBucket(socket, *ifb,
                         MakeTokenBucket(wanted.egress_rate, wanted.egress_burst, Ticks()));
    });
  }

  // The qdiscs go with the veth. By name and owner, whatever the configuration says now.
  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    HostNetwork& host = context.host;
    const std::string alias = host.LinkAliasFor(OwnerOf(request));
    std::vector<std::string> doomed;
    auto listed = host.WithRoute([&](RouteSocket& socket) -> Result<void> {
      for (const std::string& name : Names(request)) {
        const auto link = LN_TRY(socket.FindLink(name));
        // Without an owner: made by another implementation.
        if (link && link->kind == "ifb" && (link->alias.empty() || link->alias == alias))
          doomed.push_back(name);
      }
      return Ok();
    });
    if (!listed) return listed;
    for (const std::string& name : doomed) LN_TRY(host.DiscardLink(name));
    return Ok();
  }

  Result<void> Gc(PluginContext& context, const PluginRequest& request,
                  const std::vector<ValidAttachment>& valid) override {
    std::set<std::string> kept;
    for (const ValidAttachment& a : valid)
      kept.insert(OwnerText(AttachmentKey{a.container_id, a.ifname, request.network}));
    const std::string network = OwnerText(AttachmentKey{"", "", request.network}).substr(1);
    return context.host.RemoveLinksIf([&](const std::string& owner) {
      return owner.ends_with(network) && !kept.contains(owner);
    });
  }

  Result<void> Status(PluginContext&, const PluginRequest& request) override {
    LN_TRY(ConfOf(request));
    return Ok();
  }

 private:
  static std::vector<std::string> Names(const PluginRequest& request) {
    return {IfbName(request.network, request.container_id),
            IfbName(request.network, request.container_id, request.ifname)};
  }

  // The container's usual name, unless its other interface has it.
  static Result<std::string> FreeName(HostNetwork& host, RouteSocket& socket,
                                      const PluginRequest& request) {
    const std::string alias = host.LinkAliasFor(OwnerOf(request));
    for (const std::string& name : Names(request)) {
      const auto link = LN_TRY(socket.FindLink(name));
      if (!link) return name;
      if (link->kind != "ifb" || link->alias != alias) continue;
      LN_TRY(host.ClearLink(name));  // of an earlier ADD
      return name;
    }
    return AlreadyExists("adding link: ifb " + Names(request).front() + " exists");
  }

  static Result<cni::Interface> LimitEgress(HostNetwork& host, RouteSocket& socket, Rollback& undo,
                                            const PluginRequest& request, const Link& port,
                                            const Bandwidth& wanted) {
    const std::string name = LN_TRY(FreeName(host, socket, request));
    undo.Add("delete link " + name, [&host, name] { return host.DiscardLink(name); });
    RouteBatch create;
    AddIfb(create, name, port.mtu);
    SetAlias(create, name, host.LinkAliasFor(OwnerOf(request)));
    SetUp(create, name, 0, true);
    auto created = socket.Run(create);
    if (!created) {
      if (created.error().IsErrno(EOPNOTSUPP))
        return std::move(created).error().With("egressRate needs a kernel with CONFIG_IFB");
      return std::move(created).error();
    }
    const auto ifb = LN_TRY(socket.FindLink(name));
    if (!ifb) return Unavailable("link " + name + " was deleted while it was set up");
    undo.Add("delete ingress qdisc", [&socket, index = port.index]() -> Result<void> {
      RouteBatch batch;
      DelIngressQdisc(batch, index);
      return socket.Run(batch);
    });
    RouteBatch batch;
    SetTokenBucket(batch, ifb->index,
                   MakeTokenBucket(wanted.egress_rate, wanted.egress_burst, Ticks()));
    AddIngressQdisc(batch, port.index);
    AddRedirect(batch, port.index, ifb->index);
    LN_TRY(socket.Run(batch));
    return cni::Interface{.name = name, .mac = ifb->mac ? ifb->mac->str() : std::string()};
  }
};

}  // namespace

std::unique_ptr<Plugin> MakeBandwidthPlugin() { return std::make_unique<BandwidthPlugin>(); }

}  // namespace linnet::network
