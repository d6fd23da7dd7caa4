// The portmap plugin: host ports as elements of constant nftables maps.
#include <netinet/in.h>

#include <algorithm>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/rollback.h"
#include "linnet/base/text.h"

#include "netlink/conntrack.h"
#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "netlink/names.h"
#include "nft/nft_table.h"
#include "plugins/plugin.h"
#include "plugins/portmap_plan.h"

namespace linnet::network {
namespace {

AttachmentKey KeyOf(const PluginRequest& request) {
  return {request.container_id, request.ifname, request.network};
}

Result<PortmapConf> ConfOf(const PluginRequest& request) {
  return ParsePortmapConf(JsonView(*request.conf, "$", KeyMatch::kIgnoreCase));
}

bool BridgesCallNetfilter() {
  for (const char* name : {"iptables", "ip6tables"}) {
    const auto text = ReadFile(std::string("/proc/sys/net/bridge/bridge-nf-call-") + name);
    if (text && Trim(*text) == "1") return true;
  }
  return false;
}

bool IsRoutedBridge(NftTable& nft, const std::string& bridge) {
  const auto elements = nft.Of("@" + bridge);
  return elements && std::any_of(elements->begin(), elements->end(),
                                 [](const NftElement& e) { return e.set == "routed"; });
}

// Where netfilter sees bridged frames (bridge-nf-call-iptables), it sends a frame for a host port
// on to the pod's port directly: the way back to the port that it came from (hairpin) and to
// isolated ports has to be open.
Result<void> OpenPort(HostNetwork& host, RouteSocket& socket, const Link& port,
                      const std::string& name) {
  if (name.empty()) return Ok();  // the bridge went away: CHECK will say so
  PortFlags flags;
  if (IsRoutedBridge(host.nft(), name)) {
    if (port.isolated) flags.isolated = false;
    if (!port.hairpin) flags.hairpin = true;
  } else {
    LN_TRY(host.nft().Add("@" + name, {HairpinBridgeElement(name)}));
    if (!port.hairpin && BridgesCallNetfilter()) flags.hairpin = true;
  }
  if (!flags.hairpin && !flags.isolated) return Ok();
  RouteBatch batch;
  SetPortFlags(batch, port.name, flags);
  return socket.Run(batch);
}

// The bridge whose ports they are and over which the host reaches them; 0: none.
Result<std::uint32_t> OpenPorts(HostNetwork& host, const cni::AddResult& result) {
  std::uint32_t bridge = 0;
  auto done = host.WithRoute([&](RouteSocket& socket) -> Result<void> {
    std::vector<std::string> names;
    for (const cni::Interface& interface : result.interfaces) {
      if (interface.sandbox.empty()) names.push_back(interface.name);
    }
    const auto links = LN_TRY(socket.FindLinks(names));
    // The result of the bridge plugin names the bridge, too.
    const auto name_of = [&](std::uint32_t index) {
      const auto found = std::find_if(links.begin(), links.end(), [&](const auto& link) {
        return link && link->index == index;
      });
      return found == links.end() ? socket.NameOf(index) : (*found)->name;
    };
    std::string bridge_name;
    for (const auto& link : links) {
      if (!link || link->master == 0 || link->kind != "veth") continue;
      bridge = link->master;
      bridge_name = name_of(bridge);
      LN_TRY(OpenPort(host, socket, *link, bridge_name));
    }
    // In a VLAN the host's own address is on another link, "<bridge>.<vid>".
    for (const auto& link : links) {
      if (!link || link->master != 0 || bridge == 0 || !link->name.starts_with(bridge_name + "."))
        continue;
      LN_TRY(host.nft().Add("@" + link->name, {HairpinBridgeElement(link->name)}));
      bridge = 0;
    }
    return Ok();
  });
  if (!done) return std::move(done).error();
  return bridge;
}

// The kernel goes on sending the datagrams of a known flow to where it went before.
void ForgetFlows(const std::vector<HostPort>& ports) {
  for (const HostPort& port : ports) {
    if (port.protocol != IPPROTO_UDP) continue;
    if (auto done = ForgetConnections(port.pod.family(), port.protocol, port.port); !done) {
      log::Debug("forget connections, ignoring", {{"port", port.port}, {"err", done.error()}});
    }
  }
}

class PortmapPlugin final : public Plugin {
 public:
  std::string_view type() const override { return "portmap"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    if (!request.prev_result) return InvalidArgument("must be called as chained plugin");
    const PortmapPlan plan = LN_TRY(PlanFor(request));
    if (plan.ports.empty()) return *request.prev_result;
    HostNetwork& host = context.host;
    const std::string owner = OwnerText(KeyOf(request));
    Rollback undo([](const std::string& what, const Error& error) {
      log::Debug("undo: " + what, {{"err", error}});
    });
    undo.Add("remove host ports",
             [&] { return host.nft().Remove(owner, NftTable::Part::kHostPorts); });
    LN_TRY(host.nft().Add(owner, plan.elements));
    LN_TRY(OpenWay(host, request));
    undo.Commit();
    ForgetFlows(plan.ports);
    return *request.prev_result;
  }

  Result<void> Check(PluginContext& context, const PluginRequest& request) override {
    if (!request.prev_result) return InvalidArgument("Required prevResult missing");
    const PortmapPlan plan = LN_TRY(PlanFor(request));
    if (plan.elements.empty()) return Ok();
    const auto present = LN_TRY(context.host.nft().Of(OwnerText(KeyOf(request))));
    for (const NftElement& element : plan.elements) {
      if (std::find(present.begin(), present.end(), element) != present.end()) continue;
      const auto port = ParseHostPort(element);
      return FailedPrecondition((port ? Describe(*port) : "an element of set " + element.set) +
                                " is missing in nftables");
    }
    return Ok();
  }

  // By owner, not by configuration: runtimes call DEL without the mappings.
  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    const std::string owner = OwnerText(KeyOf(request));
    std::vector<HostPort> ports;
    for (const NftElement& element : LN_TRY(context.host.nft().Of(owner))) {
      if (const auto port = ParseHostPort(element)) ports.push_back(*port);
    }
    LN_TRY(context.host.nft().Remove(owner, NftTable::Part::kHostPorts));
    ForgetFlows(ports);
    return Ok();
  }

  Result<void> Gc(PluginContext& context, const PluginRequest& request,
                  const std::vector<ValidAttachment>& valid) override {
    std::set<std::string> kept;
    for (const ValidAttachment& a : valid)
      kept.insert(OwnerText(AttachmentKey{a.container_id, a.ifname, request.network}));
    const std::string network = OwnerText(AttachmentKey{"", "", request.network}).substr(1);
    return context.host.nft().RemoveIf(
        [&](const std::string& owner) { return owner.ends_with(network) && !kept.contains(owner); },
        NftTable::Part::kHostPorts);
  }

  Result<void> Status(PluginContext& context, const PluginRequest&) override {
    return context.host.Heal();
  }

  Result<void> Restore(PluginContext& context, const PluginRequest& request) override {
    if (!request.prev_result) return Ok();
    const PortmapPlan plan = LN_TRY(PlanFor(request));
    if (plan.ports.empty()) return Ok();
    LN_TRY(context.host.nft().Add(OwnerText(KeyOf(request)), plan.elements));
    return OpenWay(context.host, request);
  }

 private:
  static Result<PortmapPlan> PlanFor(const PluginRequest& request) {
    const PortmapConf conf = LN_TRY(ConfOf(request));
    return PlanPortmap(conf, AddressesOf(*request.prev_result, request.ifname));
  }

  static Result<void> OpenWay(HostNetwork& host, const PluginRequest& request) {
    const std::uint32_t bridge = LN_TRY(OpenPorts(host, *request.prev_result));
    const PortmapConf conf = LN_TRY(ConfOf(request));
    const PodAddresses pod = AddressesOf(*request.prev_result, request.ifname);
    if (conf.snat && pod.v4) return host.AllowLocalnet(*pod.v4, bridge);
    return Ok();
  }
};

}  // namespace

std::unique_ptr<Plugin> MakePortmapPlugin() { return std::make_unique<PortmapPlugin>(); }

}  // namespace linnet::network
