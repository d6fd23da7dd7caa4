#include "plugin_main.h"

#include <algorithm>
#include <set>
#include <vector>

#include "linnet/base/text.h"

#include "cni/args.h"
#include "cni/conf.h"
#include "cni/error.h"
#include "cni/names.h"
#include "cni/version.h"
#include "exec/plugin_delegates.h"
#include "netlink/host_network.h"
#include "netns.h"

namespace linnet::network {
namespace {

using cni::CniError;
using cni::ErrorCode;

// What the specification's commands need; CNI_ARGS is always optional.
struct Command {
  std::string_view name;
  bool container, netns, ifname;
  std::string_view since;  // version of the configuration
};
constexpr Command kCommands[] = {
    {"ADD", true, true, true, ""},
    {"CHECK", true, true, true, "0.4.0"},
    {"DEL", true, false, true, ""},
    {"GC", false, false, false, "1.1.0"},
    {"STATUS", false, false, false, "1.1.0"},
};

struct Environment {
  std::string container_id, netns, ifname, args, path;
};

// The versions that a plugin takes, oldest first.
std::vector<std::string> VersionsOf(const Plugin& plugin) {
  std::vector<std::string> out;
  for (const std::string_view v : cni::SupportedVersions()) {
    if (cni::AtLeast(v, plugin.since())) out.emplace_back(v);
  }
  return out;
}

std::string VersionAnswer(const Plugin& plugin) {
  const Json versions = VersionsOf(plugin);
  return DumpJson(
             {{"cniVersion", std::string(cni::kNewestVersion)}, {"supportedVersions", versions}}) +
         "\n";
}

std::string SupportedList(const Plugin& plugin) {
  return "\"" + Join(VersionsOf(plugin), "\" \"") + "\"";
}

Result<Environment> ReadEnvironment(const Command& command, const PluginIo& io) {
  Environment out;
  std::vector<std::string> missing;
  const auto take = [&](const char* name, std::string& value, bool required) {
    value = io.env(name).value_or("");
    if (required && value.empty()) missing.emplace_back(name);
  };
  take("CNI_CONTAINERID", out.container_id, command.container);
  take("CNI_NETNS", out.netns, command.netns);
  take("CNI_IFNAME", out.ifname, command.ifname);
  take("CNI_ARGS", out.args, false);
  take("CNI_PATH", out.path, true);
  if (!missing.empty()) {
    return CniError(ErrorCode::kInvalidEnvironment,
                    "required env variables [" + Join(missing, ",") + "] missing");
  }
  if (command.container) LN_TRY(cni::CheckContainerId(out.container_id));
  if (command.ifname) LN_TRY(cni::CheckInterfaceName(out.ifname));
  return out;
}

struct Input {
  std::string text;
  Json conf;
  std::string name, version;
  std::optional<cni::AddResult> prev;
};

Result<Input> ReadConf(const Plugin& plugin, const Command& command, const PluginIo& io) {
  Input out;
  out.text = LN_TRY(io.read_input());
  auto conf = ParseJson(out.text);
  if (!conf)
    return CniError(ErrorCode::kDecode,
                    "error unmarshall network config: " + conf.error().message());
  out.conf = *std::move(conf);
  const JsonView view(out.conf, "$", KeyMatch::kIgnoreCase);
  if (!view.is_object())
    return CniError(ErrorCode::kDecode, "error unmarshall network config: not an object");
  const auto decode = [](Error error) {
    return CniError(ErrorCode::kDecode, "error unmarshall network config: " + error.message());
  };
  auto name = view.Optional<std::string>("name", "");
  auto version = view.Optional<std::string>("cniVersion", "");
  if (!name) return decode(std::move(name).error());
  if (!version) return decode(std::move(version).error());
  out.name = *name;
  out.version = *version;
  LN_TRY(cni::CheckNetworkName(out.name));
  if (!cni::IsSupported(out.version) || !cni::AtLeast(out.version, plugin.since())) {
    return CniError(ErrorCode::kIncompatibleVersion, "incompatible CNI versions; config is \"" +
                                                         out.version + "\", plugin supports [" +
                                                         SupportedList(plugin) + "]");
  }
  if (!command.since.empty() && !cni::AtLeast(out.version, command.since)) {
    return CniError(ErrorCode::kIncompatibleVersion,
                    "config version does not allow " + std::string(command.name));
  }
  if (const auto prev = LN_TRY(view.Find("prevResult"))) {
    out.prev = LN_TRY_CTX(cni::ParseResult(*prev, out.version), "could not parse prevResult");
  }
  return out;
}

// The pod's namespace. It must be another one than ours, checked before anything is touched.
Result<UniqueFd> OpenPod(const Command& command, const Environment& environment,
                         const PluginIo& io) {
  if (environment.netns.empty()) return UniqueFd();
  auto netns = OpenNetns(environment.netns);
  if (!netns && netns.error().Is(Code::kNotFound) && command.name == "DEL") return UniqueFd();
  if (!netns)
    return std::move(netns).error().With("failed to open netns \"" + environment.netns + "\"");
  const std::string allow = ToLower(io.env("CNI_NETNS_OVERRIDE").value_or(""));
  if (allow != "1" && allow != "true" && LN_TRY(IdentityOf(*netns)) == LN_TRY(OwnNetns())) {
    return CniError(ErrorCode::kInvalidNetns,
                    "plugin's netns and netns from CNI_NETNS should not be the same");
  }
  return netns;
}

ExecOptions DelegateOptions(const Environment& environment, const PluginIo& io) {
  ExecOptions out;
  out.bin_dirs = Split(environment.path, ':');
  std::erase(out.bin_dirs, "");
  for (const char* name : {"LINNET_IPAM_DIR", "LINNET_INSTANCE", "LINNET_STATE_DIR"}) {
    if (const auto value = io.env(name))
      out.environment.push_back(std::string(name) + "=" + *value);
  }
  return out;
}

// A delegate that is not built in is looked for in CNI_PATH.
std::set<std::string> ForeignDelegates(const PluginRegistry& registry, const Json& conf) {
  const JsonView view(conf, "$", KeyMatch::kIgnoreCase);
  auto ipam = view.Find("ipam");
  if (!ipam || !*ipam) return {};
  const std::string type = (*ipam)->Optional<std::string>("type", "").value_or("");
  if (type.empty() || registry.Find(type) != nullptr) return {};
  return {type};
}

Result<std::string> Call(Plugin& plugin, const Command& command, PluginContext& context,
                         const PluginRequest& request) {
  if (command.name == "ADD") {
    const cni::AddResult result = LN_TRY(plugin.Add(context, request));
    return DumpJson(LN_TRY(cni::ResultToJson(result, request.cni_version)), 4);
  }
  if (command.name == "CHECK") LN_TRY(plugin.Check(context, request));
  if (command.name == "DEL") LN_TRY(plugin.Del(context, request));
  if (command.name == "STATUS") LN_TRY(plugin.Status(context, request));
  if (command.name == "GC") {
    const std::vector<ValidAttachment> valid = LN_TRY(ParseValidAttachments(*request.conf));
    LN_TRY(plugin.Gc(context, request, valid));
  }
  return std::string();
}

// The version is known as soon as the configuration is read; errors are printed in it.
Result<std::string> Run(std::string_view type, const std::string& name,
                        const PluginRegistry& registry, const PluginIo& io, std::string& version) {
  const auto* command = std::find_if(std::begin(kCommands), std::end(kCommands),
                                     [&](const Command& c) { return c.name == name; });
  if (command == std::end(kCommands))
    return CniError(ErrorCode::kInvalidEnvironment, "unknown CNI_COMMAND: " + name);
  Plugin* plugin = registry.Find(type);
  if (plugin == nullptr) return NotFound("no plugin \"" + std::string(type) + "\"");
  const Environment environment = LN_TRY(ReadEnvironment(*command, io));
  const Input input = LN_TRY(ReadConf(*plugin, *command, io));
  version = input.version;
  // DEL takes away whatever it was asked for.
  if (command->name == "ADD" || command->name == "CHECK")
    LN_TRY(cni::CheckArgs(type, environment.args));
  const UniqueFd netns = LN_TRY(OpenPod(*command, environment, io));

  const std::string instance = io.env("LINNET_INSTANCE").value_or("");
  HostNetworkOptions options{.instance = instance,
                             .mode = NftMode::kExec,
                             .state_dir = io.env("LINNET_STATE_DIR").value_or("/run/linnet")};
  constexpr std::string_view kUnixPath = "unix:path=";
  const std::string bus = io.env("DBUS_SYSTEM_BUS_ADDRESS").value_or("");
  if (bus.starts_with(kUnixPath))
    options.system_bus = bus.substr(kUnixPath.size(), bus.find(',') - kUnixPath.size());
  const auto host = LN_TRY(HostNetwork::Create(options));
  const PluginExec exec(DelegateOptions(environment, io));
  const std::set<std::string> foreign = ForeignDelegates(registry, input.conf);
  PluginDelegates delegates(
      registry, exec, foreign,
      {.host = *host, .ipam_dir = io.env("LINNET_IPAM_DIR").value_or(""), .instance = instance});
  PluginRequest request;
  request.container_id = environment.container_id;
  request.ifname = environment.ifname;
  request.netns_path = environment.netns;
  request.netns = netns;
  request.args = environment.args;
  request.network = input.name;
  request.cni_version = input.version;
  request.conf = &input.conf;
  request.conf_text = input.text;
  request.raw_text = input.text;
  request.prev_result = input.prev;
  return Call(*plugin, *command, delegates.context(), request);
}

}  // namespace

int RunPlugin(std::string_view type, const PluginRegistry& registry, const PluginIo& io) {
  const Plugin* plugin = registry.Find(type);
  if (plugin == nullptr) {
    *io.err += "no plugin \"" + std::string(type) + "\"\n";
    return 1;
  }
  const std::string command = io.env("CNI_COMMAND").value_or("");
  if (command.empty()) {
    *io.err += "CNI plugin " + std::string(type) + " of linnet\nCNI protocol versions supported: ";
    *io.err += Join(VersionsOf(*plugin), ", ") + "\n";
    return 0;
  }
  if (command == "VERSION") {
    *io.out += VersionAnswer(*plugin);
    return 0;
  }
  std::string version;
  auto output = Run(type, command, registry, io, version);
  if (output) {
    *io.out += *output;
    return 0;
  }
  *io.out += cni::DumpError(output.error(),
                            version.empty() ? cni::kNewestVersion : std::string_view(version));
  return 1;
}

}  // namespace linnet::network
