#include "plugins/veth.h"

#include <algorithm>
#include <cerrno>
#include <set>

#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "netlink/sysctl.h"
#include "netns.h"
#include "nft/nft_table.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

constexpr auto kLinkUpLimit = std::chrono::seconds(5);

Result<bool> IsUp(RouteSocket& socket, const std::string& name) {
  const auto link = LN_TRY(socket.FindLink(name));
  if (!link) return Unavailable("link " + name + " was deleted while it was set up");
  return link->running;
}

// What another implementation of the plugin made: its name on the host is not ours to know.
Result<void> DeletePodLink(const PluginRequest& request) {
  return VisitNetns(request.netns, [&]() -> Result<void> {
    RouteSocket socket = LN_TRY(RouteSocket::Open());
    if (socket.IndexOf(request.ifname) == 0) return Ok();
    RouteBatch batch;
    DelLink(batch, request.ifname);
    auto done = socket.Run(batch);
    return !done && done.error().IsErrno(ENODEV) ? Ok() : std::move(done);
  });
}

}  // namespace

Setting SettingOf(const HostNetwork& host) {
  return host.options().mode == NftMode::kExec ? Setting::kExec : Setting::kDaemon;
}

AttachmentKey KeyOf(const PluginRequest& request) {
  return {request.container_id, request.ifname, request.network};
}

Result<void> CheckMasqueradeBackend(const JsonView& conf) {
  const std::string backend = LN_TRY(conf.Optional<std::string>("ipMasqBackend", ""));
  if (backend.empty() || backend == "iptables" || backend == "nftables") return Ok();
  return InvalidArgument("unknown ipmasq backend \"" + backend + "\"");
}

Result<std::optional<cni::Dns>> ParseDns(const JsonView& conf) {
  const auto section = LN_TRY(conf.Find("dns"));
  if (!section) return std::optional<cni::Dns>();
  cni::Dns dns;
  bool set = false;
  for (const auto& [key, list] :
       {std::pair("nameservers", &dns.nameservers), std::pair("search", &dns.search),
        std::pair("options", &dns.options)}) {
    if (LN_TRY(section->Find(key))) set = true;  // an empty list counts, as upstream
    *list = LN_TRY(section->Strings(key));
  }
  dns.domain = LN_TRY(section->Optional<std::string>("domain", ""));
  if (!set && dns.domain.empty()) return std::optional<cni::Dns>();
  return std::optional<cni::Dns>(std::move(dns));
}

Deadline LinkDeadline(const PluginRequest& request) {
  return std::min(request.deadline, std::chrono::steady_clock::now() + kLinkUpLimit);
}

Result<void> WaitForLink(RouteSocket& socket, const std::string& name, Deadline deadline,
                         const std::function<Result<RouteEvents>()>& subscribe) {
  if (LN_TRY(IsUp(socket, name))) return Ok();
  auto events = LN_TRY(subscribe());
  while (!LN_TRY(IsUp(socket, name)))
    LN_TRY_CTX(events.Wait(deadline), "link " + name + " does not come up");
  return Ok();
}

Result<void> WaitForAddresses(RouteSocket& socket, RouteEvents& events, std::uint32_t index,
                              Deadline deadline) {
  for (;;) {
    const auto addresses = LN_TRY(socket.ListAddresses(index));
    // All of them: with an address the MAC is another's too, and with that the link-local address,
    // which says less. The kernel lists it last.
    if (std::none_of(addresses.begin(), addresses.end(),
                     [](const LinkAddress& a) { return a.tentative && !a.duplicate; })) {
      const auto duplicate = std::find_if(addresses.begin(), addresses.end(),
                                          [](const LinkAddress& a) { return a.duplicate; });
      if (duplicate == addresses.end()) return Ok();
      return FailedPrecondition(duplicate->address.str() + " is in use by another station");
    }
    LN_TRY_CTX(events.Wait(deadline), "wait for duplicate address detection");
  }
}

Result<RouteEvents> EventsIn(FdRef netns, RouteEvents::Group group) {
  std::optional<RouteEvents> events;
  auto visited = VisitNetns(netns, [&]() -> Result<void> {
    events.emplace(LN_TRY(RouteEvents::Open(group)));
    return Ok();
  });
  if (!visited) return std::move(visited).error();
  return *std::move(events);
}

Result<void> SetPodSysctls(PodSide& pod, const std::string& link, const PodSysctls& wanted) {
  if (wanted.host_is_router) {
    LN_TRY(pod.SetSysctl(LinkSysctl::kAcceptRa, link, 0));
    LN_TRY(pod.SetSysctl(LinkSysctl::kAcceptRedirects, link, 0));
  }
  if (!wanted.ipv6) return Ok();
  LN_TRY(pod.SetSysctl(LinkSysctl::kDisableIpv6, "lo", 0));
  LN_TRY(pod.SetSysctl(LinkSysctl::kDisableIpv6, link, 0));
  LN_TRY(pod.SetSysctl(LinkSysctl::kKeepAddresses, link, 1));
  if (wanted.duplicate_detection) LN_TRY(pod.SetSysctl(LinkSysctl::kEnhancedDad, link, 1));
  return pod.SetSysctl(LinkSysctl::kAcceptDad, link, wanted.duplicate_detection ? 1 : 0);
}

Result<void> DelVeth(PluginContext& context, const PluginRequest& request) {
  HostNetwork& host = context.host;
  const std::string owner = OwnerText(KeyOf(request));
  // The address may be given away only when the old port cannot answer for it any more.
  auto first = host.RetireLink(host.LinkName(request.container_id, request.ifname), owner);
  int failures = first ? 0 : 1;
  const auto also = [&](Result<void> done) {
    if (done) return;
    if (++failures == 1) first = std::move(done);
  };
  also(host.nft().Remove(owner, NftTable::Part::kNetwork));
  if (host.options().mode == NftMode::kExec && request.netns.valid()) also(DeletePodLink(request));
  if (first) {
    if (const std::string type = IpamTypeOf(request); !type.empty())
      also(context.delegates->Del(type, request));
  }
  if (failures > 1) {
    return std::move(first).error().With(std::to_string(failures) +
                                         " steps of DEL failed, the first");
  }
  return first;
}

Result<void> GcVeths(PluginContext& context, const PluginRequest& request,
                     const std::vector<ValidAttachment>& valid) {
  std::set<std::string> kept;
  for (const ValidAttachment& a : valid)
    kept.insert(OwnerText(AttachmentKey{a.container_id, a.ifname, request.network}));
  // "//<network>": the end of every owner of this network.
  const std::string network = OwnerText(AttachmentKey{"", "", request.network}).substr(1);
  const auto gone = [&](const std::string& owner) {
    return owner.ends_with(network) && !kept.contains(owner);
  };
  LN_TRY(context.host.RemoveLinksIf(gone));
  // The firewall plugin's turn comes later in the chain.
  LN_TRY(context.host.nft().RemoveIf(gone, NftTable::Part::kButFirewall));
  if (const std::string type = IpamTypeOf(request); !type.empty())
    return context.delegates->Gc(type, request);
  return Ok();
}

}  // namespace linnet::network
