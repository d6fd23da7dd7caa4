// The loopback plugin: `lo` is up.
#include "netlink/host_network.h"
#include "netlink/link_messages.h"
#include "netlink/route_socket.h"
#include "plugins/plugin.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

constexpr const char* kName = "lo";

PodSide& SideOf(const PluginRequest& request, PodSide& own) {
  return request.pod_side != nullptr ? *request.pod_side : own;
}

Result<void> SetLoopback(RouteSocket& socket, bool up) {
  RouteBatch batch;
  SetUp(batch, kName, socket.IndexOf(kName), up);
  return socket.Run(batch);
}

class LoopbackPlugin final : public Plugin {
 public:
  std::string_view type() const override { return "loopback"; }

  Result<cni::AddResult> Add(PluginContext&, const PluginRequest& request) override {
    PodSide own(request.netns);
    RouteSocket& socket = *LN_TRY(SideOf(request, own).Route());
    LN_TRY(SetLoopback(socket, true));
    if (request.prev_result) return *request.prev_result;
    cni::AddResult result;
    result.interfaces = {
        {.name = kName, .mac = "00:00:00:00:00:00", .sandbox = request.netns_path}};
    for (const LinkAddress& a : LN_TRY(socket.ListAddresses(socket.IndexOf(kName)))) {
      if (!a.address.address().IsLoopback())
        return FailedPrecondition("lo interface has a non-loopback address");
      result.ips.push_back({.interface = 0, .address = a.address});
    }
    return result;
  }

  Result<void> Check(PluginContext&, const PluginRequest& request) override {
    PodSide own(request.netns);
    RouteSocket& socket = *LN_TRY(SideOf(request, own).Route());
    const auto link = LN_TRY(socket.FindLink(kName));
    return link && link->up ? Ok() : FailedPrecondition("loopback interface is down");
  }

  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    // In the daemon the namespace goes next: taking `lo` down first is work for nothing.
    if (!request.netns.valid() || context.host.options().mode == NftMode::kDaemon) return Ok();
    PodSide own(request.netns);
    RouteSocket& socket = *LN_TRY(SideOf(request, own).Route());
    return SetLoopback(socket, false);
  }

  Result<void> Gc(PluginContext&, const PluginRequest&,
                  const std::vector<ValidAttachment>&) override {
    return Ok();
  }
  Result<void> Status(PluginContext&, const PluginRequest&) override { return Ok(); }
};

}  // namespace

std::unique_ptr<Plugin> MakeLoopbackPlugin() { return std::make_unique<LoopbackPlugin>(); }

}  // namespace linnet::network
