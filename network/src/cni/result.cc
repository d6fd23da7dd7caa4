#include "cni/result.h"

#include "cni/version.h"

namespace linnet::network::cni {
namespace {

// --- from JSON

Result<std::optional<IpAddress>> MaybeIp(const JsonView& view, std::string_view key) {
  const auto text = LN_TRY(view.Optional<std::string>(key, ""));
  if (text.empty()) return std::optional<IpAddress>();
  auto ip = IpAddress::Parse(text);
  if (!ip) return view.Fail(std::string(key) + ": " + ip.error().message());
  return std::optional<IpAddress>(*ip);
}

Result<Cidr> RequiredCidr(const JsonView& view, std::string_view key) {
  const auto text = LN_TRY(view.Required<std::string>(key));
  auto cidr = Cidr::Parse(text);
  if (!cidr) return view.Fail(std::string(key) + ": " + cidr.error().message());
  return *std::move(cidr);
}

Result<Route> ParseRoute(const JsonView& view) {
  Route route{.dst = LN_TRY(RequiredCidr(view, "dst")), .gw = LN_TRY(MaybeIp(view, "gw"))};
  route.mtu = LN_TRY(view.Optional<std::uint32_t>("mtu", 0));
  route.adv_mss = LN_TRY(view.Optional<std::uint32_t>("advmss", 0));
  route.priority = LN_TRY(view.Optional<std::uint32_t>("priority", 0));
  route.table = LN_TRY(view.Maybe<std::uint32_t>("table"));
  route.scope = LN_TRY(view.Maybe<std::uint32_t>("scope"));
  return route;
}

Result<Dns> ParseDns(const JsonView& parent) {
  Dns dns;
  const std::optional<JsonView> view = LN_TRY(parent.Find("dns"));
  if (!view) return dns;
  dns.nameservers = LN_TRY(view->Strings("nameservers"));
  dns.search = LN_TRY(view->Strings("search"));
  dns.options = LN_TRY(view->Strings("options"));
  dns.domain = LN_TRY(view->Optional<std::string>("domain", ""));
  return dns;
}

Result<Interface> ParseInterface(const JsonView& view) {
  Interface out;
  out.name = LN_TRY(view.Optional<std::string>("name", ""));
  out.mac = LN_TRY(view.Optional<std::string>("mac", ""));
  out.mtu = LN_TRY(view.Optional<std::uint32_t>("mtu", 0));
  out.sandbox = LN_TRY(view.Optional<std::string>("sandbox", ""));
  out.socket_path = LN_TRY(view.Optional<std::string>("socketPath", ""));
  out.pci_id = LN_TRY(view.Optional<std::string>("pciID", ""));
  return out;
}

// 0.1.0 and 0.2.0: one address of each family, routes below it.
Result<AddResult> ParseOld(const JsonView& view) {
  AddResult out;
  for (const char* key : {"ip4", "ip6"}) {
    const std::optional<JsonView> ip = LN_TRY(view.Find(key));
    if (!ip) continue;
    out.ips.push_back({.interface = {},
                       .address = LN_TRY(RequiredCidr(*ip, "ip")),
                       .gateway = LN_TRY(MaybeIp(*ip, "gateway"))});
    for (const JsonView& route : LN_TRY(ip->Array("routes")))
      out.routes.push_back(LN_TRY(ParseRoute(route)));
  }
  out.dns = LN_TRY(ParseDns(view));
  return out;
}

Result<AddResult> ParseNew(const JsonView& view) {
  AddResult out;
  for (const JsonView& item : LN_TRY(view.Array("interfaces")))
    out.interfaces.push_back(LN_TRY(ParseInterface(item)));
  for (const JsonView& item : LN_TRY(view.Array("ips"))) {
    IpConfig ip{.interface = {},
                .address = LN_TRY(RequiredCidr(item, "address")),
                .gateway = LN_TRY(MaybeIp(item, "gateway"))};
    if (const auto index = LN_TRY(item.Maybe<std::int32_t>("interface")); index && *index >= 0)
      ip.interface = *index;
    out.ips.push_back(std::move(ip));
  }
  for (const JsonView& item : LN_TRY(view.Array("routes")))
    out.routes.push_back(LN_TRY(ParseRoute(item)));
  out.dns = LN_TRY(ParseDns(view));
  return out;
}

// --- to JSON

Json DnsToJson(const Dns& dns) {
  Json out = Json::object();
  if (!dns.nameservers.empty()) out["nameservers"] = dns.nameservers;
  if (!dns.domain.empty()) out["domain"] = dns.domain;
  if (!dns.search.empty()) out["search"] = dns.search;
  if (!dns.options.empty()) out["options"] = dns.options;
  return out;
}

Json RouteToJson(const Route& route) {
  Json out = {{"dst", route.dst.str()}};
  if (route.gw) out["gw"] = route.gw->str();
  if (route.mtu != 0) out["mtu"] = route.mtu;
  if (route.adv_mss != 0) out["advmss"] = route.adv_mss;
  if (route.priority != 0) out["priority"] = route.priority;
  if (route.table) out["table"] = *route.table;
  if (route.scope) out["scope"] = *route.scope;
  return out;
}

// `whole`: with what came with 1.x.
Json InterfaceToJson(const Interface& interface, bool whole) {
  Json out = {{"name", interface.name}};
  if (!interface.mac.empty()) out["mac"] = interface.mac;
  if (!interface.sandbox.empty()) out["sandbox"] = interface.sandbox;
  if (!whole) return out;
  if (interface.mtu != 0) out["mtu"] = interface.mtu;
  if (!interface.socket_path.empty()) out["socketPath"] = interface.socket_path;
  if (!interface.pci_id.empty()) out["pciID"] = interface.pci_id;
  return out;
}

Result<Json> ToOld(const AddResult& result) {
  Json out = Json::object();
  for (const IpConfig& ip : result.ips) {
    const bool v4 = ip.address.family() == Family::kV4;
    Json& slot = out[v4 ? "ip4" : "ip6"];
    if (!slot.is_null()) continue;  // the first of each family
    slot = {{"ip", ip.address.str()}};
    if (ip.gateway) slot["gateway"] = ip.gateway->str();
    for (const Route& route : result.routes) {
      if ((route.dst.family() == Family::kV4) != v4) continue;
      Json item = {{"dst", route.dst.str()}};
      if (route.gw) item["gw"] = route.gw->str();
      slot["routes"].push_back(std::move(item));
    }
  }
  if (out.empty()) return InvalidArgument("cannot convert: no valid IP addresses");
  out["dns"] = DnsToJson(result.dns);
  return out;
}

Json ToNew(const AddResult& result, bool v1) {
  Json out = Json::object();
  for (const Interface& interface : result.interfaces)
    out["interfaces"].push_back(InterfaceToJson(interface, v1));
  for (const IpConfig& ip : result.ips) {
    Json item = {{"address", ip.address.str()}};
    if (!v1) item["version"] = ip.address.family() == Family::kV4 ? "4" : "6";
    if (ip.interface) item["interface"] = *ip.interface;
    if (ip.gateway) item["gateway"] = ip.gateway->str();
    out["ips"].push_back(std::move(item));
  }
  for (const Route& route : result.routes) out["routes"].push_back(RouteToJson(route));
  if (!v1 || !result.dns.empty()) out["dns"] = DnsToJson(result.dns);
  return out;
}

}  // namespace

Result<AddResult> ParseResult(const JsonView& view, std::string_view default_version) {
  if (view.is_null()) return AddResult{};
  if (!view.is_object()) return view.Fail("a result is an object");
  std::string version = LN_TRY(view.Optional<std::string>("cniVersion", ""));
  if (version.empty()) version = default_version;
  if (!IsSupported(version)) {
    return CniError(ErrorCode::kIncompatibleVersion,
                    "unsupported CNI result version \"" + version + "\"");
  }
  return AtLeast(version, "0.3.0") ? ParseNew(view) : ParseOld(view);
}

Result<AddResult> ParseResult(std::string_view json, std::string_view default_version) {
  const Json document = LN_TRY(ParseJson(json));
  return ParseResult(JsonView(document, "$", KeyMatch::kIgnoreCase), default_version);
}

Result<Json> ResultToJson(const AddResult& result, std::string_view version) {
  if (!IsSupported(version)) {
    return CniError(ErrorCode::kIncompatibleVersion,
                    "no converter for CNI result version to " + std::string(version));
  }
  Json out =
      AtLeast(version, "0.3.0") ? ToNew(result, AtLeast(version, "1.0.0")) : LN_TRY(ToOld(result));
  out["cniVersion"] = version.empty() ? "0.1.0" : std::string(version);
  return out;
}

Result<std::string> DumpResult(const AddResult& result, std::string_view version) {
  return DumpJson(LN_TRY(ResultToJson(result, version)));
}

}  // namespace linnet::network::cni
