// What the plugins that make a veth (bridge, ptp) share.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"

#include "netlink/names.h"
#include "netlink/route_socket.h"
#include "plugins/bridge_plan.h"
#include "plugins/plugin.h"

namespace linnet::network {

Setting SettingOf(const HostNetwork& host);
AttachmentKey KeyOf(const PluginRequest& request);
// "" or one of upstream's back ends; masquerading is nftables' in any case. Errors:
// kInvalidArgument.
Result<void> CheckMasqueradeBackend(const JsonView& conf);
// "dns" of the configuration, where any of its keys is set: takes the place of the IPAM plugin's.
Result<std::optional<cni::Dns>> ParseDns(const JsonView& conf);

// No link wants more patience than this to come up.
Deadline LinkDeadline(const PluginRequest& request);
// Until the kernel's link watch has seen the carrier, a bridge does not forward for the port, and
// the pod's interface drops what it should send. Asking for the link makes it look now (since 6.8);
// older kernels take a fraction of a millisecond, or longer under load. `subscribe` opens
// notifications of links in the socket's namespace. Errors: kUnavailable the link is gone.
Result<void> WaitForLink(RouteSocket& socket, const std::string& name, Deadline deadline,
                         const std::function<Result<RouteEvents>()>& subscribe);
// Until duplicate address detection has passed all addresses of the link.
Result<void> WaitForAddresses(RouteSocket& socket, RouteEvents& events, std::uint32_t index,
                              Deadline deadline);
Result<RouteEvents> EventsIn(FdRef netns, RouteEvents::Group group);

struct PodSysctls {
  bool host_is_router = false;  // another one that announces itself is an attack (CVE-2020-10749)
  bool ipv6 = false;
  bool duplicate_detection = false;
};
Result<void> SetPodSysctls(PodSide& pod, const std::string& link, const PodSysctls& wanted);

// DEL: the link is taken out of use, nftables forget the attachment, and then the address may be
// given away. All steps are tried; the first error is returned with their number.
Result<void> DelVeth(PluginContext& context, const PluginRequest& request);
// GC of links, nftables elements and addresses of the network that no valid attachment has.
Result<void> GcVeths(PluginContext& context, const PluginRequest& request,
                     const std::vector<ValidAttachment>& valid);

}  // namespace linnet::network
