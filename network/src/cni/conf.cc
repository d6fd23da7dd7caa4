#include "cni/conf.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "cni/names.h"
#include "cni/raw_json.h"
#include "cni/version.h"

namespace linnet::network::cni {
namespace {

constexpr std::size_t kMaxConfBytes = 1U << 20;
constexpr std::size_t kMaxPlugins = 64;

bool SameKey(std::string_view a, std::string_view b) { return ToLower(a) == ToLower(b); }

// true, false, "true", "FALSE": what libcni takes.
Result<bool> BoolOrText(const JsonView& view, std::string_view key) {
  const std::optional<JsonView> value = LN_TRY(view.Find(key));
  if (!value) return false;
  if (!value->raw().is_string()) return value->As<bool>();
  const std::string text = ToLower(LN_TRY(value->As<std::string>()));
  if (text == "true") return true;
  if (text == "false") return false;
  return value->Fail("\"" + text + "\" is neither true nor false");
}

Result<std::string> ChooseVersion(const JsonView& view) {
  const auto stated = LN_TRY(view.Optional<std::string>("cniVersion", ""));
  const Version newest = *ParseVersion(kNewestVersion);
  std::optional<Version> best;
  std::string best_text = stated;
  const auto offer = [&](const std::string& text) -> Result<void> {
    const Version version = LN_TRY(ParseVersion(text));
    if (version <= newest && (!best || version > *best)) {
      best = version;
      best_text = text;
    }
    return Ok();
  };
  const std::vector<JsonView> more = LN_TRY(view.Array("cniVersions"));
  for (const JsonView& item : more) {
    const std::string text = LN_TRY(item.As<std::string>());
    LN_TRY_CTX(offer(text), item.path());
  }
  if (!more.empty() && !stated.empty()) LN_TRY_CTX(offer(stated), view.path() + ".cniVersion");
  const Version version = LN_TRY_CTX(ParseVersion(best_text), view.path() + ".cniVersion");
  for (const std::string_view known : SupportedVersions()) {
    if (*ParseVersion(known) == version)
      return best_text.empty() ? std::string() : std::string(known);
  }
  return view.Fail("cniVersion \"" + best_text + "\" is not supported (" +
                   std::string(SupportedVersions().front()) + " to " +
                   std::string(SupportedVersions().back()) + " are)");
}

Result<PluginConf> ParsePlugin(const JsonView& view, std::string_view text,
                               const NetworkConf& network) {
  if (!view.is_object()) return view.Fail("a plugin is an object");
  PluginConf out;
  out.type = LN_TRY(view.Required<std::string>("type"));
  LN_TRY_CTX(CheckPluginType(out.type), view.path() + ".type");
  if (const auto capabilities = LN_TRY(view.Find("capabilities"))) {
    if (!capabilities->is_object()) return capabilities->Fail("an object of booleans is expected");
    for (const auto& [key, value] : capabilities->raw().items()) {
      if (!value.is_boolean()) return capabilities->Fail(key + ": a boolean is expected");
      if (value.get<bool>()) out.capabilities.push_back(key);
    }
  }
  if (const auto ipam = LN_TRY(view.Find("ipam"))) {
    out.ipam_type = LN_TRY(ipam->Optional<std::string>("type", ""));
    if (!out.ipam_type.empty()) LN_TRY_CTX(CheckPluginType(out.ipam_type), ipam->path() + ".type");
  }
  out.text = text;
  out.json = view.raw();
  out.json["name"] = network.name;
  out.json["cniVersion"] = network.version;
  out.json.erase("capabilities");
  return out;
}

Result<void> CheckName(const JsonView& view, const std::string& name) {
  if (name.empty()) return view.Fail("error parsing configuration list: no name");
  LN_TRY_CTX(CheckNetworkName(name), view.path() + ".name");
  return Ok();
}

// The list's text with `plugins` in the place of its own.
Result<std::string> WithPlugins(std::string_view list, const std::vector<std::string>& plugins) {
  std::string out = "{";
  for (const RawMember& member : LN_TRY(RawMembers(list))) {
    if (SameKey(member.key, "plugins") || SameKey(member.key, "loadOnlyInlinedPlugins")) continue;
    out += QuotedKey(member.key) + std::string(member.value) + ",";
  }
  return out + "\"loadOnlyInlinedPlugins\":true,\"plugins\":[" + Join(plugins, ",") + "]}";
}

struct ParsedList {
  NetworkConf network;
  bool only_inlined = false;
};

Result<ParsedList> ParseList(std::string_view text) {
  const Json document = LN_TRY(ParseJson(text, {.max_bytes = kMaxConfBytes}));
  const JsonView view(document, "$", KeyMatch::kIgnoreCase);
  if (!view.is_object()) return view.Fail("a network configuration is an object");
  ParsedList out;
  NetworkConf& network = out.network;
  network.name = LN_TRY(view.Optional<std::string>("name", ""));
  LN_TRY(CheckName(view, network.name));
  network.version = LN_TRY(ChooseVersion(view));
  network.disable_check = LN_TRY(BoolOrText(view, "disableCheck"));
  network.disable_gc = LN_TRY(BoolOrText(view, "disableGC"));
  out.only_inlined = LN_TRY(BoolOrText(view, "loadOnlyInlinedPlugins"));
  network.text = text;
  const std::optional<JsonView> list = LN_TRY(view.Find("plugins"));
  if (!list) {
    if (out.only_inlined) return view.Fail("required key \"plugins\" is missing");
    return out;
  }
  std::string_view raw_list;
  for (const RawMember& member : LN_TRY(RawMembers(text))) {
    if (SameKey(member.key, "plugins")) raw_list = member.value;
  }
  const std::vector<JsonView> plugins = LN_TRY(list->Elements());
  const std::vector<std::string_view> raws = LN_TRY(RawElements(raw_list));
  if (plugins.empty() || plugins.size() != raws.size()) return list->Fail("no plugins in list");
  if (plugins.size() > kMaxPlugins)
    return list->Fail("more than " + std::to_string(kMaxPlugins) + " plugins");
  for (std::size_t i = 0; i < plugins.size(); ++i) {
    network.plugins.push_back(LN_TRY(ParsePlugin(plugins[i], raws[i], network)));
  }
  return out;
}

bool EndsIn(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

Result<void> AppendDirectory(const std::string& directory, NetworkConf& network) {
  auto names = ListDir(directory);
  if (!names && (names.error().IsErrno(ENOENT) || names.error().IsErrno(ENOTDIR)))
    return Ok();  // there mostly is none
  if (!names) return std::move(names).error();
  bool found = false;
  for (const std::string& name : *names) {
    if (!EndsIn(name, ".conf")) continue;
    const std::string path = JoinPath(directory, name);
    struct stat st {};
    if (stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) continue;
    auto text = ReadFile(path, kMaxConfBytes);
    if (!text) return std::move(text).error();
    const Json document = LN_TRY_CTX(ParseJson(*text, {.max_bytes = kMaxConfBytes}), path);
    const JsonView view(document, "$", KeyMatch::kIgnoreCase);
    network.plugins.push_back(LN_TRY_CTX(ParsePlugin(view, Trim(*text), network), path));
    found = true;
  }
  if (!found) return Ok();
  if (network.plugins.size() > kMaxPlugins) {
    return InvalidArgument(directory + ": more than " + std::to_string(kMaxPlugins) +
                           " plugins in network " + network.name);
  }
  std::vector<std::string> texts;
  for (const PluginConf& plugin : network.plugins) texts.push_back(plugin.text);
  network.text = LN_TRY(WithPlugins(network.text, texts));
  return Ok();
}

Result<NetworkConf> LoadList(const std::string& path, std::string_view text) {
  ParsedList list = LN_TRY(ParseList(text));
  if (!list.only_inlined)
    LN_TRY(AppendDirectory(JoinPath(Dirname(path), list.network.name), list.network));
  if (list.network.plugins.empty()) return InvalidArgument("$.plugins: no plugin configs found");
  return std::move(list.network);
}

}  // namespace

Result<NetworkConf> ParseConfList(std::string_view text) {
  ParsedList list = LN_TRY(ParseList(text));
  if (list.network.plugins.empty()) return InvalidArgument("$.plugins: no plugins in list");
  return std::move(list.network);
}

Result<NetworkConf> ParseConf(std::string_view text) {
  const Json document = LN_TRY(ParseJson(text, {.max_bytes = kMaxConfBytes}));
  const JsonView view(document, "$", KeyMatch::kIgnoreCase);
  if (!view.is_object()) return view.Fail("a network configuration is an object");
  NetworkConf network;
  network.name = LN_TRY(view.Optional<std::string>("name", ""));
  if (LN_TRY(view.Find("plugins")) && !LN_TRY(view.Find("type"))) {
    return view.Fail(
        "required key \"type\" is missing (a list of plugins belongs in a file that ends in "
        ".conflist)");
  }
  LN_TRY(CheckName(view, network.name));
  network.version = LN_TRY(ChooseVersion(view));
  network.plugins.push_back(LN_TRY(ParsePlugin(view, Trim(text), network)));
  network.text = "{" + QuotedKey("cniVersion") + DumpJson(Json(network.version)) + "," +
                 QuotedKey("name") + DumpJson(Json(network.name)) +
                 ",\"loadOnlyInlinedPlugins\":true,\"plugins\":[" + network.plugins[0].text + "]}";
  return network;
}

Result<NetworkConf> LoadConf(const std::string& path) {
  const std::string text = LN_TRY(ReadFile(path, kMaxConfBytes));
  NetworkConf network = EndsIn(path, ".conflist") ? LN_TRY_CTX(LoadList(path, text), path)
                                                  : LN_TRY_CTX(ParseConf(text), path);
  network.source = path;
  return network;
}

Result<std::string> PluginInput(const NetworkConf& network, const PluginConf& plugin,
                                std::string_view runtime_config, std::string_view prev_result,
                                std::string_view extra) {
  std::string out = "{\"cniVersion\":" + DumpJson(Json(network.version)) +
                    ",\"name\":" + DumpJson(Json(network.name));
  for (const RawMember& member : LN_TRY(RawMembers(plugin.text))) {
    const bool replaced = SameKey(member.key, "cniVersion") || SameKey(member.key, "name") ||
                          SameKey(member.key, "capabilities") ||
                          SameKey(member.key, "prevResult") ||
                          (SameKey(member.key, "runtimeConfig") && !runtime_config.empty());
    if (replaced) continue;
    out += "," + QuotedKey(member.key) + std::string(member.value);
  }
  if (!runtime_config.empty()) out += ",\"runtimeConfig\":" + std::string(runtime_config);
  if (!prev_result.empty()) out += ",\"prevResult\":" + std::string(prev_result);
  return out + std::string(extra) + "}";
}

}  // namespace linnet::network::cni
