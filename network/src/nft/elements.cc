#include "nft/elements.h"

#include <netinet/in.h>

#include <algorithm>

#include "nft/schema.h"

namespace linnet::network {
namespace {

// Appends a field, padded to 4 bytes.
void Field(std::string& out, std::string_view bytes) {
  out.append(bytes);
  out.append((4 - bytes.size() % 4) % 4, '\0');
}
void Field(std::string& out, const IpAddress& ip) {
  Field(out, {reinterpret_cast<const char*>(ip.bytes().data()), ip.bytes().size()});
}
void Field(std::string& out, const MacAddress& mac) {
  Field(out, {reinterpret_cast<const char*>(mac.bytes().data()), mac.bytes().size()});
}
void Field(std::string& out, std::uint8_t byte) {
  Field(out, std::string_view(reinterpret_cast<const char*>(&byte), 1));
}
void PortField(std::string& out, std::uint16_t port) {
  const char bytes[2] = {static_cast<char>(port >> 8), static_cast<char>(port & 0xff)};
  Field(out, std::string_view(bytes, 2));
}
constexpr std::size_t kNameLength = 16;
void NameField(std::string& out, const std::string& ifname) {
  std::string padded = ifname.substr(0, kNameLength - 1);
  padded.resize(kNameLength, '\0');
  out += padded;
}

std::string Named(const char* base, Family family) {
  return std::string(base) + (family == Family::kV4 ? "4" : "6");
}

std::optional<IpAddress> TakeIp(std::string_view& bytes, std::size_t length) {
  if (bytes.size() < length) return std::nullopt;
  auto ip = IpAddress::FromBytes({reinterpret_cast<const std::uint8_t*>(bytes.data()), length});
  if (!ip) return std::nullopt;
  bytes.remove_prefix(length);
  return *ip;
}

std::uint16_t PortAt(std::string_view bytes, std::size_t offset) {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(bytes[i]));
  };
  return static_cast<std::uint16_t>(byte(offset) << 8U | byte(offset + 1));
}

NftElement NameElement(NftFamily family, const char* set, const std::string& name) {
  NftElement e{.set = set, .family = family};
  NameField(e.key, name);
  return e;
}

NftElement NamePairElement(const char* set, const std::string& name) {
  NftElement e{.set = set, .family = NftFamily::kInet};
  NameField(e.key, name);
  NameField(e.key, name);
  return e;
}

const char* ProtocolName(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_SCTP:
      return "sctp";
    default:
      return "?";
  }
}

}  // namespace

NftElement HostPortElement(const HostPort& port) {
  NftElement e{
      .set = Named(port.host_ip ? "hostipport" : "hostport", port.pod.family()) + port.conditions,
      .family = NftFamily::kInet};
  if (port.host_ip) Field(e.key, *port.host_ip);
  Field(e.key, port.protocol);
  PortField(e.key, port.port);
  Field(e.data, port.pod);
  PortField(e.data, port.pod_port);
  return e;
}

bool IsHostPort(const NftElement& element) {
  return element.family == NftFamily::kInet &&
         (element.set.starts_with("hostport") || element.set.starts_with("hostipport"));
}

std::optional<HostPort> ParseHostPort(const NftElement& element) {
  if (!IsHostPort(element)) return std::nullopt;
  const std::string base = element.set.substr(0, element.set.find('_'));
  const std::size_t ip_length = base.ends_with('4') ? 4 : 16;
  HostPort port;
  port.conditions = element.set.substr(base.size());
  std::string_view key = element.key;
  if (element.set.starts_with("hostip")) {
    port.host_ip = TakeIp(key, ip_length);
    if (!port.host_ip) return std::nullopt;
  }
  std::string_view data = element.data;
  const auto pod = TakeIp(data, ip_length);
  if (!pod || key.size() != 8 || data.size() != 4) return std::nullopt;
  port.protocol = static_cast<std::uint8_t>(key[0]);
  port.port = PortAt(key, 4);
  port.pod = *pod;
  port.pod_port = PortAt(data, 0);
  return port;
}

std::string Describe(const HostPort& port) {
  std::string text = "host port " + std::to_string(port.port) + "/" + ProtocolName(port.protocol);
  if (port.host_ip) text += " of " + port.host_ip->str();
  return text;
}

bool Overlap(const HostPort& a, const HostPort& b) {
  if (a.port != b.port || a.protocol != b.protocol || a.pod.family() != b.pod.family())
    return false;
  return !a.host_ip || !b.host_ip || *a.host_ip == *b.host_ip;
}

NftElement HairpinElement(const IpAddress& pod) {
  NftElement e{.set = Named("hairpin", pod.family()), .family = NftFamily::kInet};
  Field(e.key, pod);
  Field(e.key, pod);
  return e;
}

NftElement MasqAllElement(const IpAddress& pod) {
  NftElement e{.set = Named("masqall", pod.family()), .family = NftFamily::kInet};
  Field(e.key, pod);
  return e;
}

NftElement MasqueradeElement(const Cidr& subnet, const IpAddress& pod) {
  NftElement e{.set = MasqueradeSet(subnet), .family = NftFamily::kInet};
  Field(e.key, pod);
  return e;
}

std::vector<NftElement> BridgeElements(const std::string& bridge, const MacAddress& mac,
                                       BridgeUse use) {
  std::vector<NftElement> out{NameElement(NftFamily::kInet, "bridges", bridge),
                              NamePairElement("samebridge", bridge)};
  if (use == BridgeUse::kRouted) {
    out.push_back(NameElement(NftFamily::kInet, "routed", bridge));
    NftElement gateway{.set = "gateways", .family = NftFamily::kBridge};
    gateway.key.assign(reinterpret_cast<const char*>(mac.bytes().data()), mac.bytes().size());
    out.push_back(std::move(gateway));
  }
  return out;
}

NftElement HairpinBridgeElement(const std::string& bridge) {
  return NamePairElement("hairpinbridge", bridge);
}

NftElement LocalnetElement(const std::string& link) {
  return NameElement(NftFamily::kInet, "localnet", link);
}

std::vector<NftElement> SourceElements(const std::string& link,
                                       const std::vector<IpAddress>& addresses) {
  std::vector<NftElement> out{NameElement(NftFamily::kInet, "port_source", link)};
  for (const IpAddress& ip : addresses) {
    NftElement e{.set = Named("source", ip.family()), .family = NftFamily::kInet};
    NameField(e.key, link);
    Field(e.key, ip);
    out.push_back(std::move(e));
  }
  return out;
}

NftElement AdmittedElement(const IpAddress& pod) {
  NftElement e{.set = Named("admitted", pod.family()), .family = NftFamily::kInet};
  Field(e.key, pod);
  return e;
}

std::optional<IpAddress> ParseAdmitted(const NftElement& element) {
  if (element.family != NftFamily::kInet || !element.set.starts_with("admitted"))
    return std::nullopt;
  std::string_view key = element.key;
  return TakeIp(key, key.size());
}

std::vector<NftElement> PolicyElements(const std::string& bridge, BridgePolicy policy) {
  std::vector<NftElement> out{NameElement(NftFamily::kInet, "apart", bridge),
                              NamePairElement("apartsame", bridge)};
  if (policy == BridgePolicy::kClosed) out.push_back(NamePairElement("closed", bridge));
  return out;
}

std::vector<NftElement> GuardElements(Guard guard, const std::string& port, const MacAddress& mac,
                                      const std::vector<IpAddress>& addresses) {
  std::vector<NftElement> out;
  if (guard == Guard::kNone) return out;
  const char* kSets[] = {"", "port_mac", "port_full", "port_routed"};
  out.push_back(NameElement(NftFamily::kBridge, kSets[static_cast<std::size_t>(guard)], port));
  out.push_back(PortMacElement(port, mac));
  if (guard == Guard::kMac) return out;
  for (const IpAddress& ip : addresses) out.push_back(PortAddressElement(port, ip));
  if (std::any_of(addresses.begin(), addresses.end(),
                  [](const IpAddress& ip) { return !ip.is_v4(); })) {
    out.push_back(PortAddressElement(port, LinkLocal(mac)));
  }
  return out;
}

NftElement PortMacElement(const std::string& port, const MacAddress& mac) {
  NftElement e{.set = "mac", .family = NftFamily::kBridge};
  NameField(e.key, port);
  Field(e.key, mac);
  return e;
}

NftElement PortAddressElement(const std::string& port, const IpAddress& ip) {
  NftElement e{.set = Named("address", ip.family()), .family = NftFamily::kBridge};
  NameField(e.key, port);
  Field(e.key, ip);
  return e;
}

std::string PortOf(const NftElement& element) {
  return element.key.substr(0, std::min(element.key.find('\0'), kNameLength));
}

IpAddress LinkLocal(const MacAddress& mac) {
  const auto& m = mac.bytes();
  return IpAddress::V6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(m[0] ^ 0x02U), m[1],
                        m[2], 0xff, 0xfe, m[3], m[4], m[5]});
}

}  // namespace linnet::network
