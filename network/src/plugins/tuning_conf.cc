#include "plugins/tuning_conf.h"

#include <set>

#include <re2/re2.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "cni/args.h"
#include "cni/raw_json.h"

namespace linnet::network {
namespace {

constexpr std::string_view kSysctlRoot = "/proc/sys/net/";

// "sysctl" twice the same key: the reader of JSON would keep the last.
Result<void> RefuseRepeatedSysctls(std::string_view text) {
  if (text.empty()) return Ok();
  for (const cni::RawMember& member : LN_TRY(cni::RawMembers(text))) {
    if (ToLower(member.key) != "sysctl" || !member.value.starts_with('{')) continue;
    std::set<std::string> seen;
    for (const cni::RawMember& sysctl : LN_TRY(cni::RawMembers(member.value))) {
      if (!seen.insert(sysctl.key).second)
        return InvalidArgument("duplicated sysctl keys are not allowed");
    }
  }
  return Ok();
}

// Where a number or a flag is absent or null, what was there before stays.
Result<void> ReadAttributes(const JsonView& view, LinkAttributes& out) {
  if (const auto promiscuous = LN_TRY(view.Maybe<bool>("promisc"))) out.promiscuous = promiscuous;
  if (const auto mtu = LN_TRY(view.Maybe<std::uint32_t>("mtu"))) out.mtu = mtu;
  if (const auto length = LN_TRY(view.Maybe<std::uint32_t>("txQLen"))) out.tx_queue_length = length;
  if (const auto all = LN_TRY(view.Maybe<bool>("allmulti"))) out.all_multicast = all;
  return Ok();
}

Result<void> ReadArgs(const JsonView& conf, TuningConf& out) {
  const auto args = LN_TRY(conf.Find("args"));
  if (!args) return Ok();
  const auto cni = LN_TRY(args->Find("cni"));
  if (!cni) return Ok();
  for (auto& [key, value] : LN_TRY(cni->StringMap("sysctl"))) out.sysctls[key] = value;
  if (const auto mac = LN_TRY(cni->Maybe<std::string>("mac"))) out.mac_text = *mac;
  return ReadAttributes(*cni, out.link);
}

Json Optional(const std::optional<std::uint32_t>& value) { return value ? Json(*value) : Json(); }

}  // namespace

Result<TuningConf> ParseTuningConf(const PluginRequest& request) {
  LN_TRY(RefuseRepeatedSysctls(request.raw_text));
  const JsonView conf(*request.conf, "$", KeyMatch::kIgnoreCase);
  TuningConf out;
  out.data_dir = LN_TRY(conf.Optional<std::string>("dataDir", ""));
  out.sysctls = LN_TRY(conf.StringMap("sysctl"));
  out.mac_text = LN_TRY(conf.Optional<std::string>("mac", ""));
  LN_TRY(ReadAttributes(conf, out.link));
  const cni::Args pairs = LN_TRY(cni::ParseArgs(request.args));
  if (const auto mac = cni::FindArg(pairs, "MAC"); mac && !mac->empty()) out.mac_text = *mac;
  if (const auto runtime = LN_TRY(conf.Find("runtimeConfig"))) {
    const auto mac = LN_TRY(runtime->Optional<std::string>("mac", ""));
    if (!mac.empty()) out.mac_text = mac;
  }
  LN_TRY(ReadArgs(conf, out));
  if (!out.mac_text.empty()) {
    auto mac = MacAddress::Parse(out.mac_text);
    if (!mac) return std::move(mac).error().With("invalid args " + out.mac_text + " for MAC addr");
    out.link.mac = *mac;
  }
  // As upstream: false and 0 say "as it is".
  if (out.link.promiscuous && !*out.link.promiscuous) out.link.promiscuous.reset();
  if (out.link.mtu && *out.link.mtu == 0) out.link.mtu.reset();
  return out;
}

std::string DataDirOf(const PluginRequest& request) {
  if (request.conf == nullptr) return {};
  const JsonView conf(*request.conf, "$", KeyMatch::kIgnoreCase);
  return conf.Optional<std::string>("dataDir", "").value_or("");
}

Result<std::string> SysctlFile(std::string_view key, std::string_view ifname) {
  std::string path(key);
  for (char& c : path) {
    if (c == '.') c = '/';
  }
  constexpr std::string_view kPlace = "IFNAME";
  if (const auto at = path.find(kPlace); at != std::string::npos)
    path.replace(at, kPlace.size(), ifname);
  const std::string file = CleanPath("/proc/sys/" + path);
  if (!file.starts_with(kSysctlRoot))
    return InvalidArgument("invalid net sysctl key: \"" + path + "\"");
  return file;
}

Result<void> CheckAllowed(const std::map<std::string, std::string>& sysctls,
                          std::string_view allowlist) {
  std::vector<std::string> lines;
  std::vector<std::unique_ptr<re2::RE2>> expressions;
  for (const std::string& line : Split(allowlist, '\n')) {
    if (Trim(line).empty()) continue;
    lines.emplace_back(Trim(line));
    expressions.push_back(std::make_unique<re2::RE2>(lines.back(), re2::RE2::Quiet));
  }
  for (const auto& [key, value] : sysctls) {
    bool allowed = false;
    for (const auto& expression : expressions) {
      if (!expression->ok()) {
        return InvalidArgument("error parsing regexp: " + expression->error() + ": `" +
                               expression->pattern() + "`");
      }
      if (re2::RE2::PartialMatch(key, *expression)) {
        allowed = true;
        break;
      }
    }
    if (allowed) continue;
    return Error(Code::kPermissionDenied,
                 "Sysctl " + key + " is not allowed. Only the following sysctls are allowed: [" +
                     Join(lines, " ") + "]");
  }
  return Ok();
}

std::string DumpBackup(const LinkAttributes& before, const std::string& network) {
  Json json = Json::object();
  if (before.mac) json["mac"] = before.mac->str();
  if (before.promiscuous) json["promisc"] = *before.promiscuous;
  if (before.mtu) json["mtu"] = Optional(before.mtu);
  if (before.all_multicast) json["allmulti"] = *before.all_multicast;
  if (before.tx_queue_length) json["txQLen"] = Optional(before.tx_queue_length);
  json["linnet"] = {{"network", network}};
  return DumpJson(json, 1);
}

Result<Backup> ParseBackup(std::string_view text) {
  const Json json = LN_TRY(ParseJson(text));
  const JsonView view(json, "$", KeyMatch::kIgnoreCase);
  Backup out;
  LN_TRY(ReadAttributes(view, out.before));
  if (const auto mac = LN_TRY(view.Optional<std::string>("mac", "")); !mac.empty())
    out.before.mac = LN_TRY(MacAddress::Parse(mac));
  if (const auto ours = LN_TRY(view.Find("linnet")))
    out.network = LN_TRY(ours->Optional<std::string>("network", ""));
  return out;
}

std::string BackupName(const std::string& container_id, const std::string& ifname) {
  return container_id + "_" + ifname + ".json";
}

}  // namespace linnet::network
