#include "engine/default_network.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/text.h"
#include "linnet/ipam/range.h"

namespace linnet::network {
namespace {

constexpr std::uint8_t kFirstChoice = 83;
constexpr std::uint8_t kLastChoice = 99;
constexpr const char* kFromPodCidr = "pod-cidr";
constexpr const char* kChosen = "chosen";

std::uint64_t Fnv1a(std::string_view text, std::uint64_t hash) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

// A kernel without IPv6 has no such file. Any other failure must not leave pods without IPv6.
Result<bool> HostHasIpv6() {
  auto text = ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6");
  if (!text && text.error().IsErrno(ENOENT)) return false;
  if (!text) return std::move(text).error();
  return Trim(*text) == "0";
}

std::string MachineId() {
  for (const char* path :
       {"/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"}) {
    auto text = ReadFile(path);
    if (text && !Trim(*text).empty()) return std::string(Trim(*text));
  }
  return "no machine id";
}

Result<std::vector<Cidr>> ParseSubnets(const std::vector<std::string>& texts) {
  std::vector<Cidr> out;
  for (const std::string& text : texts) {
    const Cidr cidr = LN_TRY(Cidr::Parse(Trim(text)));
    const Cidr subnet = cidr.Network();
    LN_TRY(ipam::Range::Make(
        {.subnet = subnet.str(), .range_start = {}, .range_end = {}, .gateway = {}}));
    const bool twice = std::any_of(out.begin(), out.end(),
                                   [&](const Cidr& c) { return c.family() == subnet.family(); });
    if (twice) return InvalidArgument("more than one subnet of a family: " + Join(texts, ","));
    out.push_back(subnet);
  }
  if (out.empty()) return InvalidArgument("no subnet");
  return out;
}

}  // namespace

std::string DefaultConfList(const std::string& name, const std::string& bridge,
                            const std::vector<Cidr>& subnets) {
  Json ranges = Json::array();
  Json routes = Json::array();
  for (const Cidr& subnet : subnets) {
    ranges.push_back(Json::array({{{"subnet", subnet.str()}}}));
    routes.push_back({{"dst", subnet.family() == Family::kV4 ? "0.0.0.0/0" : "::/0"}});
  }
  const Json list = {
      {"cniVersion", "1.1.0"},
      {"name", name},
      {"plugins",
       {{{"type", "bridge"},
         {"bridge", bridge},
         {"linnetRouted", true},
         {"isGateway", true},
         {"ipMasq", true},
         {"hairpinMode", true},
         {"ipam", {{"type", "host-local"}, {"ranges", ranges}, {"routes", routes}}}},
        {{"type", "portmap"}, {"snat", true}, {"capabilities", {{"portMappings", true}}}},
        {{"type", "bandwidth"}, {"capabilities", {{"bandwidth", true}}}}}}};
  return DumpJson(list);
}

Result<Cidr> ChooseV4(const std::vector<Cidr>& routes) {
  for (std::uint32_t second = kFirstChoice; second <= kLastChoice; ++second) {
    const Cidr candidate(IpAddress::V4(10U << 24 | second << 16), 16);
    const bool taken = std::any_of(routes.begin(), routes.end(),
                                   [&](const Cidr& r) { return r.Overlaps(candidate); });
    if (!taken) return candidate;
  }
  return Error(Code::kResourceExhausted,
               "routes overlap all of 10.83.0.0/16 to 10.99.0.0/16: set network.subnets");
}

Cidr ChooseV6(std::string_view machine_id, std::string_view name) {
  const std::uint64_t hash =
      Fnv1a(name, Fnv1a(machine_id, Fnv1a("linnet pod network", 0xcbf29ce484222325U)));
  std::array<std::uint8_t, 16> bytes{0xfd};
  for (unsigned i = 0; i < 5; ++i) bytes[i + 1] = static_cast<std::uint8_t>(hash >> (8 * (7 - i)));
  return {IpAddress::V6(bytes), 64};
}

std::vector<Cidr> ParseRouteTable(std::string_view text, std::string_view own_bridge) {
  std::vector<Cidr> out;
  for (const std::string& line : Split(text, '\n')) {
    const std::vector<std::string> fields = SplitFields(line);
    if (fields.size() < 8 || fields[0] == "Iface" || fields[0] == own_bridge) continue;
    std::uint32_t destination = 0;
    std::uint32_t mask = 0;
    const auto hex = [](const std::string& s, std::uint32_t& v) {
      return std::from_chars(s.data(), s.data() + s.size(), v, 16).ec == std::errc();
    };
    if (!hex(fields[1], destination) || !hex(fields[7], mask) || mask == 0) continue;
    // Printed as the bytes lie in memory.
    out.emplace_back(IpAddress::V4(ntohl(destination)), std::popcount(mask));
  }
  return out;
}

std::string DefaultNetwork::StatePath() const {
  return JoinPath(JoinPath(options_.ipam_dir, options_.name), "subnets.json");
}

Result<void> DefaultNetwork::Store(const char* source, const std::vector<Cidr>& subnets) const {
  Json json = {{"version", 1}, {"source", source}};
  for (const Cidr& subnet : subnets) json["subnets"].push_back(subnet.str());
  LN_TRY(MakeDirs(Dirname(StatePath()), 0755));
  return ReplaceFile(StatePath(), DumpJson(json) + "\n", 0644);
}

Result<std::vector<Cidr>> DefaultNetwork::Subnets() {
  std::string source;
  std::optional<std::vector<Cidr>> stored;
  if (auto text = ReadFile(StatePath())) {  // absent, torn: as if nothing was chosen yet
    if (auto json = ParseJson(*text)) {
      const JsonView view(*json);
      auto texts = view.Strings("subnets");
      auto subnets =
          texts ? ParseSubnets(*texts) : Result<std::vector<Cidr>>(std::move(texts).error());
      if (subnets) {
        stored = *std::move(subnets);
        source = view.Optional<std::string>("source", "").value_or("");
      }
    }
  }
  if (stored && source == kFromPodCidr) return *std::move(stored);
  if (!options_.subnets.empty())
    return LN_TRY_CTX(ParseSubnets(options_.subnets), "network.subnets");
  if (!stored) {
    const std::string routes = ReadFile("/proc/net/route").value_or("");
    stored.emplace();
    stored->push_back(LN_TRY(ChooseV4(ParseRouteTable(routes, options_.bridge))));
    stored->push_back(ChooseV6(MachineId(), options_.name));
    LN_TRY(Store(kChosen, *stored));
  }
  // IPv6 may be switched off or on between two starts: the choice stays, only its use depends on
  // it.
  if (!LN_TRY(HostHasIpv6()))
    std::erase_if(*stored, [](const Cidr& c) { return c.family() == Family::kV6; });
  return *std::move(stored);
}

Result<std::shared_ptr<const cni::NetworkConf>> DefaultNetwork::Make() {
  const std::vector<Cidr> subnets = LN_TRY_CTX(Subnets(), "built-in network");
  cni::NetworkConf conf =
      LN_TRY(cni::ParseConfList(DefaultConfList(options_.name, options_.bridge, subnets)));
  conf.source = "built-in";
  return std::make_shared<const cni::NetworkConf>(std::move(conf));
}

Result<std::shared_ptr<const cni::NetworkConf>> DefaultNetwork::Get() {
  MutexLock lock(mu_);
  if (network_) return network_;
  auto made = Make();
  failure_ = made ? std::string() : made.error().message();
  if (!made) return std::move(made).error();
  network_ = *std::move(made);
  return network_;
}

std::string DefaultNetwork::failure() const {
  MutexLock lock(mu_);
  return failure_;
}

std::shared_ptr<const cni::NetworkConf> DefaultNetwork::Known() {
  if (!Exists(StatePath()) && options_.subnets.empty()) return nullptr;
  return Get().value_or(nullptr);
}

Result<void> DefaultNetwork::SetPodCidr(const std::string& cidrs) {
  if (Trim(cidrs).empty()) return Ok();
  const std::vector<Cidr> subnets = LN_TRY_CTX(ParseSubnets(Split(cidrs, ',')), "pod CIDR");
  MutexLock lock(mu_);
  LN_TRY(Store(kFromPodCidr, subnets));
  network_.reset();
  return Ok();
}

}  // namespace linnet::network
