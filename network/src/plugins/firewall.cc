// The firewall plugin: iptables or firewalld let pods' packets pass, and bridges are kept apart.
#include <algorithm>
#include <set>

#include "linnet/base/log.h"
#include "linnet/base/rollback.h"

#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "netlink/names.h"
#include "netlink/route_socket.h"
#include "nft/elements.h"
#include "nft/iptables_filter.h"
#include "nft/nft_socket.h"
#include "nft/nft_table.h"
#include "plugins/firewall_plan.h"
#include "plugins/firewalld.h"
#include "plugins/plugin.h"

namespace linnet::network {
namespace {

std::string OwnerOf(const PluginRequest& request) {
  return OwnerText(AttachmentKey{request.container_id, request.ifname, request.network});
}

Result<FirewallConf> ConfOf(const PluginRequest& request) {
  return ParseFirewallConf(JsonView(*request.conf, "$", KeyMatch::kIgnoreCase));
}

bool UsesFirewalld(const HostNetwork& host, const FirewallConf& conf) {
  using Backend = FirewallConf::Backend;
  return conf.backend == Backend::kFirewalld ||
         (conf.backend == Backend::kAuto && FirewalldRuns(host.options().system_bus));
}

std::vector<IpAddress> AdmittedOf(const std::vector<NftElement>& elements) {
  std::vector<IpAddress> out;
  for (const NftElement& e : elements) {
    if (const auto ip = ParseAdmitted(e)) out.push_back(*ip);
  }
  return out;
}

std::vector<NftElement> ElementsOf(const std::vector<IpAddress>& pods) {
  std::vector<NftElement> out;
  for (const IpAddress& ip : pods) out.push_back(AdmittedElement(ip));
  return out;
}

class FirewallPlugin final : public Plugin {
 public:
  std::string_view type() const override { return "firewall"; }
  std::string_view since() const override { return "0.4.0"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    const FirewallConf conf = LN_TRY(ConfOf(request));
    if (!request.prev_result) return InvalidArgument("missing prevResult from earlier plugin");
    Rollback undo([](const std::string& what, const Error& error) {
      log::Debug("undo: " + what, {{"err", error}});
    });
    undo.Add("forget the pod", [&] { return Forget(context.host, conf, request); });
    LN_TRY(Apply(context.host, conf, request));
    undo.Commit();
    return *request.prev_result;
  }

  Result<void> Check(PluginContext& context, const PluginRequest& request) override {
    const FirewallConf conf = LN_TRY(ConfOf(request));
    if (!request.prev_result) return InvalidArgument("missing prevResult from earlier plugin");
    HostNetwork& host = context.host;
    const std::vector<IpAddress> pods = PodsOf(*request.prev_result);
    if (UsesFirewalld(host, conf)) {
      LN_TRY(CheckZone(host.options().system_bus, conf.zone, pods));
    } else {
      NftSocket socket = LN_TRY(NftSocket::Open());
      LN_TRY(CheckPods(socket, conf.admin_chain, pods));
    }
    if (!conf.policy) return Ok();
    const std::string bridge = LN_TRY(PolicyBridge(*request.prev_result, NameOf(*conf.policy)));
    const auto present = LN_TRY(host.nft().Of(PolicyOwner(bridge)));
    for (const NftElement& element : PolicyElements(bridge, *conf.policy)) {
      if (std::find(present.begin(), present.end(), element) == present.end()) {
        return FailedPrecondition("ingressPolicy of " + bridge + ": an element of nftables set " +
                                  element.set + " is missing");
      }
    }
    return Ok();
  }

  // Also without prevResult, which upstream's plugin needs: by owner.
  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    // A configuration that cannot be read any more is the usual one.
    const auto conf = ConfOf(request);
    return Forget(context.host, conf ? *conf : FirewallConf(), request);
  }

  Result<void> Gc(PluginContext& context, const PluginRequest& request,
                  const std::vector<ValidAttachment>& valid) override {
    const FirewallConf conf = LN_TRY(ConfOf(request));
    std::set<std::string> kept;
    for (const ValidAttachment& a : valid)
      kept.insert(OwnerText(AttachmentKey{a.container_id, a.ifname, request.network}));
    const std::string network = OwnerText(AttachmentKey{"", "", request.network}).substr(1);
    const auto gone = [&](const std::string& owner) {
      return owner.ends_with(network) && !kept.contains(owner);
    };
    std::vector<NftElement> doomed;
    for (const OwnedElement& e : LN_TRY(context.host.nft().Find(gone))) doomed.push_back(e.element);
    LN_TRY(Withdraw(context.host, conf, AdmittedOf(doomed)));
    return context.host.nft().RemoveIf(gone, NftTable::Part::kFirewall);
  }

  // iptables' tables may have been flushed or restored by others: pods that live are admitted
  // again.
  Result<void> Status(PluginContext& context, const PluginRequest& request) override {
    HostNetwork& host = context.host;
    LN_TRY(host.Heal());
    const FirewallConf conf = LN_TRY(ConfOf(request));
    const std::string network = OwnerText(AttachmentKey{"", "", request.network}).substr(1);
    std::vector<NftElement> present;
    for (const OwnedElement& e : LN_TRY(
             host.nft().Find([&](const std::string& owner) { return owner.ends_with(network); })))
      present.push_back(e.element);
    return Admit(host, conf, AdmittedOf(present));
  }

  Result<void> Restore(PluginContext& context, const PluginRequest& request) override {
    if (!request.prev_result) return Ok();
    return Apply(context.host, LN_TRY(ConfOf(request)), request);
  }

 private:
  // A bridge's policy outlives its pods, as with upstream.
  static std::string PolicyOwner(const std::string& bridge) { return "@policy/" + bridge; }

  static Result<void> Admit(HostNetwork& host, const FirewallConf& conf,
                            const std::vector<IpAddress>& pods) {
    if (pods.empty()) return Ok();
    if (UsesFirewalld(host, conf)) return AddToZone(host.options().system_bus, conf.zone, pods);
    NftSocket socket = LN_TRY(NftSocket::Open());
    return AdmitPods(socket, conf.admin_chain, pods);
  }

  // From both: which one it was may have changed since ADD.
  static Result<void> Withdraw(HostNetwork& host, const FirewallConf& conf,
                               const std::vector<IpAddress>& pods) {
    if (pods.empty()) return Ok();
    if (conf.backend != FirewallConf::Backend::kIptables)
      LN_TRY(RemoveFromZone(host.options().system_bus, conf.zone, pods));
    NftSocket socket = LN_TRY(NftSocket::Open());
    return ForgetPods(socket, pods);
  }

  static Result<void> Apply(HostNetwork& host, const FirewallConf& conf,
                            const PluginRequest& request) {
    const std::vector<IpAddress> pods = PodsOf(*request.prev_result);
    // Before the act: DEL and GC go by these.
    LN_TRY(host.nft().Add(OwnerOf(request), ElementsOf(pods)));
    LN_TRY(Admit(host, conf, pods));
    if (!conf.policy) return Ok();
    const std::string bridge = LN_TRY(PolicyBridge(*request.prev_result, NameOf(*conf.policy)));
    LN_TRY(host.nft().Add(PolicyOwner(bridge), PolicyElements(bridge, *conf.policy)));
    return *conf.policy == BridgePolicy::kClosed ? IsolatePorts(host, request) : Ok();
  }

  // Frames from port to port pass no rule where bridges do not call netfilter.
  static Result<void> IsolatePorts(HostNetwork& host, const PluginRequest& request) {
    return host.WithRoute([&](RouteSocket& socket) -> Result<void> {
      for (const cni::Interface& interface : request.prev_result->interfaces) {
        if (!interface.sandbox.empty()) continue;
        const auto link = LN_TRY(socket.FindLink(interface.name));
        if (!link || link->master == 0 || link->kind != "veth" || link->isolated) continue;
        RouteBatch batch;
        SetPortFlags(batch, link->name, {.hairpin = {}, .isolated = true, .state = {}});
        LN_TRY(socket.Run(batch));
      }
      return Ok();
    });
  }

  static Result<void> Forget(HostNetwork& host, const FirewallConf& conf,
                             const PluginRequest& request) {
    std::vector<IpAddress> pods = AdmittedOf(LN_TRY(host.nft().Of(OwnerOf(request))));
    if (request.prev_result) {
      // What another implementation made has no owner.
      for (const IpAddress& ip : PodsOf(*request.prev_result)) {
        if (std::find(pods.begin(), pods.end(), ip) == pods.end()) pods.push_back(ip);
      }
    }
    LN_TRY(Withdraw(host, conf, pods));
    return host.nft().Remove(OwnerOf(request), NftTable::Part::kFirewall);
  }
};

}  // namespace

std::unique_ptr<Plugin> MakeFirewallPlugin() { return std::make_unique<FirewallPlugin>(); }

}  // namespace linnet::network
