// The tuning plugin: sysctls of the pod's namespace and attributes of its interface.
#include <algorithm>
#include <cerrno>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/text.h"

#include "netlink/host_network.h"
#include "netlink/names.h"
#include "netlink/route_socket.h"
#include "netns.h"
#include "nft/guard.h"
#include "plugins/plugin.h"
#include "plugins/tuning_conf.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

constexpr const char* kAllowlist = "/etc/cni/tuning/allowlist.conf";
constexpr const char* kDataDir = "/run/cni/tuning";
constexpr std::size_t kMaxBackupBytes = 64U << 10;

std::string DataDir(const HostNetwork& host, const std::string& configured) {
  if (!configured.empty()) return configured;
  // Several daemons share a host: each keeps its own.
  const auto& options = host.options();
  if (options.mode == NftMode::kDaemon && !options.instance.empty() && !options.state_dir.empty())
    return JoinPath(options.state_dir, "tuning");
  return kDataDir;
}

Result<void> CheckAllowlist(const TuningConf& conf) {
  if (conf.sysctls.empty()) return Ok();
  auto text = ReadFile(kAllowlist);
  if (!text && text.error().Is(Code::kNotFound)) return Ok();
  if (!text) return std::move(text).error();
  return CheckAllowed(conf.sysctls, *text);
}

// The kernel writes "1\t2" where "1 2" was set.
std::string Normal(std::string_view value) { return Join(SplitFields(value), " "); }

LinkAttributes Before(const Link& link, const LinkAttributes& wanted) {
  LinkAttributes out;
  if (wanted.mac) out.mac = link.mac;
  if (wanted.promiscuous) out.promiscuous = link.promiscuous;
  if (wanted.mtu) out.mtu = link.mtu;
  if (wanted.all_multicast) out.all_multicast = link.all_multicast;
  if (wanted.tx_queue_length) out.tx_queue_length = link.tx_queue_length;
  return out;
}

// In the pod's namespace.
Result<void> WriteSysctls(const TuningConf& conf, const std::string& ifname) {
  for (const auto& [key, value] : conf.sysctls) {
    const std::string file = LN_TRY(SysctlFile(key, ifname));
    LN_TRY(WriteControlFile(file, value));
  }
  return Ok();
}

Result<void> CheckSysctls(const TuningConf& conf, const std::string& ifname) {
  for (const auto& [key, value] : conf.sysctls) {
    const std::string file = LN_TRY(SysctlFile(key, ifname));
    const std::string now = LN_TRY(ReadFile(file));
    if (Normal(now) == Normal(value)) continue;
    return FailedPrecondition("Error: Tuning configured value of " + file + " is " + value +
                              ", current value is " + std::string(Trim(now)));
  }
  return Ok();
}

PodSide& SideOf(const PluginRequest& request, PodSide& own) {
  return request.pod_side != nullptr ? *request.pod_side : own;
}

std::string Text(bool value) { return value ? "true" : "false"; }

Result<void> CheckLink(const LinkAttributes& wanted, const Link& link) {
  const auto differs = [&](const std::string& what, const std::string& configured,
                           const std::string& now) -> Result<void> {
    if (configured == now) return Ok();
    return FailedPrecondition("Error: Tuning configured " + what + " of " + link.name + " is " +
                              configured + ", current value is " + now);
  };
  if (wanted.mac)
    LN_TRY(differs("Ethernet", wanted.mac->str(), link.mac ? link.mac->str() : "absent"));
  // Also where it is not to be promiscuous: as upstream.
  LN_TRY(differs("promisc", Text(wanted.promiscuous.value_or(false)), Text(link.promiscuous)));
  if (wanted.mtu) LN_TRY(differs("MTU", std::to_string(*wanted.mtu), std::to_string(link.mtu)));
  if (wanted.all_multicast) {
    LN_TRY(differs("all-multicast mode", Text(*wanted.all_multicast), Text(link.all_multicast)));
  }
  if (wanted.tx_queue_length) {
    LN_TRY(differs("Transmit Queue Length", std::to_string(*wanted.tx_queue_length),
                   std::to_string(link.tx_queue_length)));
  }
  return Ok();
}

class TuningPlugin final : public Plugin {
 public:
  std::string_view type() const override { return "tuning"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    const TuningConf conf = LN_TRY(ParseTuningConf(request));
    LN_TRY(CheckAllowlist(conf));
    if (!request.prev_result) return InvalidArgument("Required prevResult missing");
    if (!conf.sysctls.empty())
      LN_TRY(VisitNetns(request.netns, [&] { return WriteSysctls(conf, request.ifname); }));
    cni::AddResult result = *request.prev_result;
    if (conf.link.empty()) return result;
    PodSide own(request.netns);
    RouteSocket* socket = LN_TRY(SideOf(request, own).Route());
    const auto link = LN_TRY(socket->FindLink(request.ifname));
    if (!link) return NotFound("failed to get \"" + request.ifname + "\": Link not found");
    const std::string dir = DataDir(context.host, conf.data_dir);
    LN_TRY_CTX(MakeDirs(dir, 0700), "failed to create backup directory");
    LN_TRY_CTX(ReplaceFile(JoinPath(dir, BackupName(request.container_id, request.ifname)),
                           DumpBackup(Before(*link, conf.link), request.network), 0600),
               "failed to save file " + request.ifname + ".json");
    // The guard of the port on the bridge knows the old address: both are right while it changes.
    std::optional<GuardChange> guard;
    if (conf.link.mac && link->mac != conf.link.mac) {
      guard = LN_TRY(AdmitMac(context.host.nft(), OwnerOf(request), *conf.link.mac));
    }
    RouteBatch batch;
    SetAttributes(batch, request.ifname, conf.link);
    LN_TRY(socket->Run(batch));
    if (guard) LN_TRY(DropOldMac(context.host.nft(), OwnerOf(request), *guard));
    for (cni::Interface& interface : result.interfaces) {
      if (interface.name != request.ifname) continue;
      if (conf.link.mac) interface.mac = conf.mac_text;
      if (conf.link.mtu && interface.mtu != 0) interface.mtu = *conf.link.mtu;
    }
    return result;
  }

  Result<void> Check(PluginContext&, const PluginRequest& request) override {
    const TuningConf conf = LN_TRY(ParseTuningConf(request));
    if (!request.prev_result) return InvalidArgument("Required prevResult missing");
    if (!conf.sysctls.empty())
      LN_TRY(VisitNetns(request.netns, [&] { return CheckSysctls(conf, request.ifname); }));
    PodSide own(request.netns);
    RouteSocket* socket = LN_TRY(SideOf(request, own).Route());
    const auto link = LN_TRY(socket->FindLink(request.ifname));
    if (!link) return NotFound("Cannot find container link " + request.ifname);
    return CheckLink(conf.link, *link);
  }

  // What the link was comes back, for it may outlive the pod (host-device). Nothing of that is
  // reason enough to fail.
  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    const std::string file = JoinPath(DataDir(context.host, DataDirOf(request)),
                                      BackupName(request.container_id, request.ifname));
    const auto text = ReadFile(file, kMaxBackupBytes);
    if (!text) return Ok();
    const auto backup = ParseBackup(*text);
    if (backup && request.netns.valid() && !GoesWithThePod(context.host, request)) {
      if (auto done = PutBack(request, backup->before); !done) {
        log::Debug("link not as it was before, ignoring",
                   {{"link", request.ifname}, {"err", done.error()}});
      }
    }
    return RemoveFile(file);
  }

  Result<void> Gc(PluginContext& context, const PluginRequest& request,
                  const std::vector<ValidAttachment>& valid) override {
    std::set<std::string> kept;
    for (const ValidAttachment& a : valid) kept.insert(BackupName(a.container_id, a.ifname));
    const std::string dir = DataDir(context.host, DataDirOf(request));
    auto names = ListDir(dir);
    if (!names) return names.error().Is(Code::kNotFound) ? Ok() : Result<void>(names.error());
    for (const std::string& name : *names) {
      if (!name.ends_with(".json") || kept.contains(name)) continue;
      const std::string file = JoinPath(dir, name);
      const auto text = ReadFile(file, kMaxBackupBytes);
      if (!text) continue;
      // The directory is shared by networks and runtimes.
      const auto backup = ParseBackup(*text);
      if (backup && backup->network == request.network) LN_TRY(RemoveFile(file));
    }
    return Ok();
  }

  Result<void> Status(PluginContext&, const PluginRequest& request) override {
    const TuningConf conf = LN_TRY(ParseTuningConf(request));
    for (const auto& [key, value] : conf.sysctls) LN_TRY(SysctlFile(key, "eth0"));
    return CheckAllowlist(conf);
  }

 private:
  static std::string OwnerOf(const PluginRequest& request) {
    return OwnerText(AttachmentKey{request.container_id, request.ifname, request.network});
  }

  // A veth of ours: DEL of the plugin before deletes it.
  static bool GoesWithThePod(const HostNetwork& host, const PluginRequest& request) {
    if (!request.prev_result) return false;
    const std::string name = host.LinkName(request.container_id, request.ifname);
    const auto& interfaces = request.prev_result->interfaces;
    return std::any_of(interfaces.begin(), interfaces.end(), [&](const cni::Interface& i) {
      return i.sandbox.empty() && i.name == name;
    });
  }

  static Result<void> PutBack(const PluginRequest& request, const LinkAttributes& before) {
    PodSide own(request.netns);
    RouteSocket* socket = LN_TRY(SideOf(request, own).Route());
    if (socket->IndexOf(request.ifname) == 0) return Ok();
    RouteBatch batch;
    SetAttributes(batch, request.ifname, before);
    return socket->Run(batch);
  }
};

}  // namespace

std::unique_ptr<Plugin> MakeTuningPlugin() { return std::make_unique<TuningPlugin>(); }

}  // namespace linnet::network
