#include "nft/describe.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "linnet/base/ip.h"

#include "nft/schema.h"

namespace linnet::network {
namespace {

std::string Hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "0x";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
  }
  return out;
}

std::string FieldText(std::uint32_t type, std::string_view bytes) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  switch (type) {
    case kTypeIpv4:
    case kTypeIpv6: {
      const auto ip = IpAddress::FromBytes({data, bytes.size()});
      return ip ? ip->str() : Hex(bytes);
    }
    case kTypeEther: {
      std::array<std::uint8_t, 6> mac{};
      std::copy_n(data, mac.size(), mac.begin());
      return MacAddress(mac).str();
    }
    case kTypeProto:
      return data[0] == IPPROTO_TCP    ? "tcp"
             : data[0] == IPPROTO_UDP  ? "udp"
             : data[0] == IPPROTO_SCTP ? "sctp"
                                       : std::to_string(data[0]);
    case kTypeService:
      return std::to_string(static_cast<unsigned>(data[0]) << 8U | data[1]);
    case kTypeIfname:
      return "\"" + std::string(bytes.substr(0, bytes.find('\0'))) + "\"";
    default:
      return Hex(bytes);
  }
}

std::size_t LengthOf(std::uint32_t type) {
  switch (type) {
    case kTypeIpv6:
    case kTypeIfname:
      return 16;
    case kTypeEther:
      return 6;
    case kTypeService:
      return 2;
    case kTypeProto:
      return 1;
    default:
      return 4;
  }
}

// Fields of a concatenation stand 6 bits each, the last one lowest.
std::string Fields(std::uint32_t types, std::string_view bytes) {
  std::vector<std::uint32_t> list;
  for (; types != 0; types >>= 6U) list.insert(list.begin(), types & 63U);
  std::string out;
  for (const std::uint32_t type : list) {
    const std::size_t length = LengthOf(type);
    const std::size_t padded = (length + 3) / 4 * 4;
    if (bytes.size() < length) return Hex(bytes);
    out += (out.empty() ? "" : " . ") + FieldText(type, bytes.substr(0, length));
    bytes.remove_prefix(std::min(padded, bytes.size()));
  }
  return out;
}

}  // namespace

std::string DescribeElement(const NftElement& element) {
  const auto set = FindSet(element.family, element.set);
  if (!set || element.key.size() != set->key_length || element.data.size() != set->data_length)
    return Hex(element.key) + (element.data.empty() ? "" : " : " + Hex(element.data));
  std::string out = Fields(set->key_type, element.key);
  if (set->is_map()) out += " : " + Fields(set->data_type, element.data);
  return out;
}

}  // namespace linnet::network
