#include "plugins/bridge_conf.h"

#include "cni/args.h"
#include "plugins/veth.h"

namespace linnet::network {
namespace {

constexpr std::int32_t kMaxVlan = 4094;

Result<std::uint16_t> VlanId(std::int64_t id) {
  if (id < 0 || id > kMaxVlan) {
    return InvalidArgument("invalid VLAN ID " + std::to_string(id) +
                           " (must be between 0 and 4094)");
  }
  return static_cast<std::uint16_t>(id);
}

Result<std::uint16_t> TrunkId(std::int64_t id, const char* name) {
  if (id <= 0 || id > kMaxVlan)
    return InvalidArgument(std::string("incorrect trunk ") + name + " parameter");
  return static_cast<std::uint16_t>(id);
}

Result<std::vector<BridgeConf::Vlans>> ParseTrunk(const JsonView& conf) {
  std::vector<BridgeConf::Vlans> out;
  for (const JsonView& item : LN_TRY(conf.Array("vlanTrunk"))) {
    const auto id = LN_TRY(item.Maybe<std::int64_t>("id"));
    const auto first = LN_TRY(item.Maybe<std::int64_t>("minID"));
    const auto last = LN_TRY(item.Maybe<std::int64_t>("maxID"));
    if (first.has_value() != last.has_value()) {
      return InvalidArgument(std::string("minID and maxID should be configured simultaneously, ") +
                             (first ? "maxID" : "minID") + " is missing");
    }
    if (first) {
      const std::uint16_t from = LN_TRY(TrunkId(*first, "minID"));
      const std::uint16_t to = LN_TRY(TrunkId(*last, "maxID"));
      if (to < from) return InvalidArgument("minID is greater than maxID in trunk parameter");
      out.push_back({from, to});
    }
    if (id) {
      const std::uint16_t vid = LN_TRY(TrunkId(*id, "id"));
      out.push_back({vid, vid});
    }
  }
  return out;
}

Result<std::optional<MacAddress>> ParseMac(const JsonView& conf, const std::string& args) {
  std::string text;
  if (const auto runtime = LN_TRY(conf.Find("runtimeConfig")))
    text = LN_TRY(runtime->Optional<std::string>("mac", ""));
  if (text.empty()) {
    if (const auto section = LN_TRY(conf.Find("args"))) {
      if (const auto cni_args = LN_TRY(section->Find("cni")))
        text = LN_TRY(cni_args->Optional<std::string>("mac", ""));
    }
  }
  if (text.empty()) {
    const cni::Args pairs = LN_TRY(cni::ParseArgs(args));
    text = cni::FindArg(pairs, "MAC").value_or("");
  }
  if (text.empty()) return std::optional<MacAddress>();
  return std::optional<MacAddress>(LN_TRY_CTX(MacAddress::Parse(text), "mac"));
}

Result<void> Check(const BridgeConf& conf) {
  if (conf.hairpin && conf.promiscuous) {
    return InvalidArgument("cannot set hairpin mode and promiscuous mode at the same time");
  }
  if (conf.disable_container_interface && !conf.ipam_type.empty()) {
    return InvalidArgument("cannot use IPAM when DisableContainerInterface flag is set");
  }
  if (conf.routed && conf.ipam_type.empty())
    return InvalidArgument("linnetRouted needs an ipam section");
  if (conf.routed && (conf.vlan != 0 || !conf.trunk.empty()))
    return InvalidArgument("linnetRouted and VLANs exclude each other");
  if (conf.bridge.empty() || conf.bridge.size() > 15)
    return InvalidArgument("bridge: \"" + conf.bridge + "\" is no link name");
  return Ok();
}

}  // namespace

Result<BridgeConf> ParseBridgeConf(const PluginRequest& request) {
  const JsonView v(*request.conf, "$", KeyMatch::kIgnoreCase);
  BridgeConf conf;
  conf.bridge = LN_TRY(v.Optional<std::string>("bridge", ""));
  if (conf.bridge.empty()) conf.bridge = "cni0";
  conf.is_default_gateway = LN_TRY(v.Optional<bool>("isDefaultGateway", false));
  conf.routed = LN_TRY(v.Optional<bool>("linnetRouted", false));
  conf.is_gateway =
      LN_TRY(v.Optional<bool>("isGateway", false)) || conf.is_default_gateway || conf.routed;
  conf.force_address = LN_TRY(v.Optional<bool>("forceAddress", false));
  conf.ip_masq = LN_TRY(v.Optional<bool>("ipMasq", false));
  LN_TRY(CheckMasqueradeBackend(v));
  conf.mtu = LN_TRY(v.Optional<std::uint32_t>("mtu", 0));
  conf.hairpin = LN_TRY(v.Optional<bool>("hairpinMode", false));
  conf.promiscuous = LN_TRY(v.Optional<bool>("promiscMode", false));
  conf.port_isolation = LN_TRY(v.Optional<bool>("portIsolation", false));
  const auto vlan = LN_TRY(v.Optional<std::int64_t>("vlan", 0));
  conf.vlan = LN_TRY(VlanId(vlan));
  conf.trunk = LN_TRY(ParseTrunk(v));
  conf.preserve_default_vlan = LN_TRY(v.Optional<bool>("preserveDefaultVlan", false));
  conf.mac_spoof_check = LN_TRY(v.Optional<bool>("macspoofchk", false));
  conf.enable_dad = LN_TRY(v.Optional<bool>("enabledad", false));
  conf.disable_container_interface = LN_TRY(v.Optional<bool>("disableContainerInterface", false));
  conf.anti_spoof = LN_TRY(v.Maybe<bool>("linnetAntiSpoof"));
  conf.dns = LN_TRY(ParseDns(v));
  if (const auto ipam = LN_TRY(v.Find("ipam")))
    conf.ipam_type = LN_TRY(ipam->Optional<std::string>("type", ""));
  conf.mac = LN_TRY(ParseMac(v, request.args));
  LN_TRY(Check(conf));
  return conf;
}

std::string IpamTypeOf(const PluginRequest& request) {
  if (request.conf == nullptr) return {};
  const JsonView v(*request.conf, "$", KeyMatch::kIgnoreCase);
  const auto ipam = v.Find("ipam");
  if (!ipam || !*ipam) return {};
  return (*ipam)->Optional<std::string>("type", "").value_or("");
}

}  // namespace linnet::network
