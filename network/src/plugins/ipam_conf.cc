#include "plugins/ipam_conf.h"

namespace linnet::network {

Result<JsonView> IpamSection(const JsonView& conf) {
  std::optional<JsonView> ipam = LN_TRY(conf.Find("ipam"));
  if (!ipam) return conf.Fail("IPAM config missing 'ipam' key");
  return *std::move(ipam);
}

Result<std::vector<cni::Route>> ParseRoutes(const JsonView& ipam) {
  std::vector<cni::Route> out;
  for (const JsonView& item : LN_TRY(ipam.Array("routes"))) {
    const auto dst = LN_TRY(item.Required<std::string>("dst"));
    const auto gw = LN_TRY(item.Optional<std::string>("gw", ""));
    cni::Route route{.dst = LN_TRY_CTX(Cidr::Parse(dst), item.path() + ".dst"), .gw = {}};
    if (!gw.empty()) route.gw = LN_TRY_CTX(IpAddress::Parse(gw), item.path() + ".gw");
    route.mtu = LN_TRY(item.Optional<std::uint32_t>("mtu", 0));
    route.adv_mss = LN_TRY(item.Optional<std::uint32_t>("advmss", 0));
    route.priority = LN_TRY(item.Optional<std::uint32_t>("priority", 0));
    route.table = LN_TRY(item.Maybe<std::uint32_t>("table"));
    route.scope = LN_TRY(item.Maybe<std::uint32_t>("scope"));
    out.push_back(std::move(route));
  }
  return out;
}

Result<std::vector<std::string>> ArgsIps(const JsonView& conf) {
  const std::optional<JsonView> args = LN_TRY(conf.Find("args"));
  if (!args) return std::vector<std::string>();
  const std::optional<JsonView> cni = LN_TRY(args->Find("cni"));
  if (!cni) return std::vector<std::string>();
  return cni->Strings("ips");
}

Result<std::vector<std::string>> RuntimeIps(const JsonView& conf) {
  const std::optional<JsonView> runtime = LN_TRY(conf.Find("runtimeConfig"));
  if (!runtime) return std::vector<std::string>();
  return runtime->Strings("ips");
}

Result<IpAddress> ParseHostPart(const std::string& text) {
  if (text.find('/') == std::string::npos) return IpAddress::Parse(text);
  return LN_TRY(Cidr::Parse(text)).address();
}

}  // namespace linnet::network
