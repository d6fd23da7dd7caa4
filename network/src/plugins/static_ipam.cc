// static: the addresses that the configuration or the caller states. Keeps nothing.
#include <algorithm>

#include "linnet/base/text.h"

#include "cni/args.h"
#include "cni/version.h"
#include "plugins/ipam_conf.h"
#include "plugins/registry.h"

namespace linnet::network {
namespace {

// `what` is upstream's complaint about an address of this source.
Result<cni::IpConfig> ParseAddress(const std::string& address, const char* what) {
  const auto cidr = Cidr::Parse(address);
  if (!cidr) return InvalidArgument(std::string(what) + ", got: '" + address + "'");
  return cni::IpConfig{.interface = {}, .address = *cidr, .gateway = {}};
}
constexpr const char* kAddressField = "the 'address' field is expected to be in CIDR notation";
constexpr const char* kIpField = "the 'ip' field is expected to be in CIDR notation";
constexpr const char* kIpsField = "an entry in the 'ips' field is NOT in CIDR notation";

// CNI_ARGS: IP=a/24,b/64 adds addresses, GATEWAY=x,y goes to the addresses whose subnets contain
// it.
Result<void> AddFromArgs(const std::string& text, std::vector<cni::IpConfig>& ips) {
  const cni::Args args = LN_TRY(cni::ParseArgs(text));
  if (const auto list = cni::FindArg(args, "IP"); list && !list->empty()) {
    for (const std::string& item : Split(*list, ','))
      ips.push_back(LN_TRY(ParseAddress(std::string(Trim(item)), kIpField)));
  }
  if (const auto list = cni::FindArg(args, "GATEWAY"); list && !list->empty()) {
    for (const std::string& item : Split(*list, ',')) {
      const auto gateway = IpAddress::Parse(Trim(item));
      if (!gateway) return InvalidArgument("invalid gateway address: " + item);
      for (cni::IpConfig& ip : ips) {
        if (ip.address.Contains(*gateway)) ip.gateway = *gateway;
      }
    }
  }
  return Ok();
}

Result<cni::AddResult> Parse(const PluginRequest& request) {
  const JsonView conf(*request.conf, "$", KeyMatch::kIgnoreCase);
  const JsonView ipam = LN_TRY(IpamSection(conf));
  cni::AddResult out;
  for (const JsonView& item : LN_TRY(ipam.Array("addresses"))) {
    const auto address = LN_TRY(item.Required<std::string>("address"));
    const auto gateway = LN_TRY(item.Optional<std::string>("gateway", ""));
    cni::IpConfig ip = LN_TRY_CTX(ParseAddress(address, kAddressField), item.path());
    if (!gateway.empty())
      ip.gateway = LN_TRY_CTX(IpAddress::Parse(gateway), item.path() + ".gateway");
    out.ips.push_back(std::move(ip));
  }
  LN_TRY(AddFromArgs(request.args, out.ips));
  for (auto source : {ArgsIps, RuntimeIps}) {
    const std::vector<std::string> texts = LN_TRY(source(conf));
    if (!texts.empty()) out.ips.clear();
    for (const std::string& text : texts) out.ips.push_back(LN_TRY(ParseAddress(text, kIpsField)));
  }
  for (const Family family : {Family::kV4, Family::kV6}) {
    const auto many = std::count_if(out.ips.begin(), out.ips.end(), [&](const cni::IpConfig& ip) {
      return ip.address.family() == family;
    });
    if (many > 1 && !cni::AtLeast(request.cni_version, "0.3.0")) {
      return InvalidArgument("CNI version " + request.cni_version +
                             " does not support more than 1 address per family");
    }
  }
  out.routes = LN_TRY(ParseRoutes(ipam));
  if (const auto dns = LN_TRY(ipam.Find("dns"))) {
    out.dns.nameservers = LN_TRY(dns->Strings("nameservers"));
    out.dns.search = LN_TRY(dns->Strings("search"));
    out.dns.options = LN_TRY(dns->Strings("options"));
    out.dns.domain = LN_TRY(dns->Optional<std::string>("domain", ""));
  }
  return out;
}

class Static final : public Plugin {
 public:
  std::string_view type() const override { return "static"; }
  Result<cni::AddResult> Add(PluginContext&, const PluginRequest& request) override {
    return Parse(request);
  }
  Result<void> Check(PluginContext&, const PluginRequest& request) override {
    const cni::AddResult wanted = LN_TRY(Parse(request));
    if (!request.prev_result) return InvalidArgument("Required prevResult missing");
    // As upstream: an address that the result lacks is the interface plugin's affair.
    for (const cni::IpConfig& ip : wanted.ips) {
      const auto& have = request.prev_result->ips;
      const auto same = std::find_if(have.begin(), have.end(), [&](const cni::IpConfig& other) {
        return other.address.address() == ip.address.address();
      });
      if (same == have.end() || !ip.gateway || same->gateway == ip.gateway) continue;
      return FailedPrecondition("static: Failed to match addr " + ip.address.address().str() +
                                " on interface " + request.ifname);
    }
    return Ok();
  }
  Result<void> Del(PluginContext&, const PluginRequest&) override { return Ok(); }
  Result<void> Gc(PluginContext&, const PluginRequest&,
                  const std::vector<ValidAttachment>&) override {
    return Ok();
  }
  Result<void> Status(PluginContext&, const PluginRequest& request) override {
    LN_TRY(Parse(request));
    return Ok();
  }
};

}  // namespace

std::unique_ptr<Plugin> MakeStaticPlugin() { return std::make_unique<Static>(); }

}  // namespace linnet::network
