#include "linnet/base/ip.h"

#include <arpa/inet.h>
#include <sys/random.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "linnet/base/text.h"

namespace linnet {
namespace {

// Whether all bits from `from` on are equal to `bit`, or sets them.
void FillFrom(std::array<std::uint8_t, 16>& bytes, int from, int bits, bool one) {
  for (int i = from; i < bits; ++i) {
    const auto mask = static_cast<std::uint8_t>(0x80 >> (i % 8));
    std::uint8_t& byte = bytes[static_cast<std::size_t>(i / 8)];
    byte = static_cast<std::uint8_t>(one ? byte | mask : byte & ~mask);
  }
}

}  // namespace

Result<IpAddress> IpAddress::Parse(std::string_view text) {
  const std::string s(text);
  IpAddress out;
  in_addr v4{};
  if (s.find('\0') != std::string::npos) return InvalidArgument("an IP address holds a NUL byte");
  if (inet_pton(AF_INET, s.c_str(), &v4) == 1) {
    std::memcpy(out.bytes_.data(), &v4, 4);
    return out;
  }
  in6_addr v6{};
  if (s.find('%') == std::string::npos && inet_pton(AF_INET6, s.c_str(), &v6) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
      std::memcpy(out.bytes_.data(), v6.s6_addr + 12, 4);
      return out;
    }
    out.family_ = Family::kV6;
    std::memcpy(out.bytes_.data(), v6.s6_addr, 16);
    return out;
  }
  return InvalidArgument("\"" + s + "\" is not an IP address");
}

IpAddress IpAddress::V4(std::uint32_t host_order) {
  IpAddress out;
  for (unsigned i = 0; i < 4; ++i)
    out.bytes_[i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
  return out;
}

IpAddress IpAddress::V6(const std::array<std::uint8_t, 16>& bytes) {
  IpAddress out;
  out.family_ = Family::kV6;
  out.bytes_ = bytes;
  return out;
}

Result<IpAddress> IpAddress::FromBytes(std::span<const std::uint8_t> bytes) {
  IpAddress out;
  if (bytes.size() != 4 && bytes.size() != 16) {
    return InvalidArgument("an address has 4 or 16 bytes, not " + std::to_string(bytes.size()));
  }
  out.family_ = bytes.size() == 4 ? Family::kV4 : Family::kV6;
  std::copy(bytes.begin(), bytes.end(), out.bytes_.begin());
  return out;
}

std::uint32_t IpAddress::v4_host_order() const {
  LN_CHECK(is_v4());
  return static_cast<std::uint32_t>(bytes_[0]) << 24 | static_cast<std::uint32_t>(bytes_[1]) << 16 |
         static_cast<std::uint32_t>(bytes_[2]) << 8 | bytes_[3];
}

std::string IpAddress::str() const {
  std::array<char, INET6_ADDRSTRLEN> out{};
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), out.data(), out.size());
  return out.data();
}

bool IpAddress::IsUnspecified() const {
  const auto b = bytes();
  return std::all_of(b.begin(), b.end(), [](std::uint8_t x) { return x == 0; });
}

bool IpAddress::IsLoopback() const {
  if (is_v4()) return bytes_[0] == 127;
  std::array<std::uint8_t, 16> one{};
  one[15] = 1;
  return bytes_ == one;
}

std::optional<IpAddress> IpAddress::Plus(std::uint64_t n) const {
  IpAddress out = *this;
  unsigned carry = 0;
  const std::size_t size = bytes().size();
  for (std::size_t i = size; i-- > 0;) {
    const unsigned sum = out.bytes_[i] + static_cast<unsigned>(n & 255) + carry;
    out.bytes_[i] = static_cast<std::uint8_t>(sum);
    carry = sum >> 8;
    n >>= 8;
    if (n == 0 && carry == 0) return out;
  }
  return std::nullopt;
}

std::optional<IpAddress> IpAddress::Next() const { return Plus(1); }

std::optional<IpAddress> IpAddress::Previous() const {
  IpAddress out = *this;
  for (std::size_t i = bytes().size(); i-- > 0;) {
    if (out.bytes_[i]-- != 0) return out;
  }
  return std::nullopt;
}

Result<Cidr> Cidr::Parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto bad = [&] {
    return InvalidArgument("\"" + std::string(text) + "\" is not a prefix (such as 10.1.2.0/24)");
  };
  if (slash == std::string_view::npos) return bad();
  const auto address = IpAddress::Parse(text.substr(0, slash));
  const auto prefix = ParseNumber<int>(text.substr(slash + 1));
  if (!address || !prefix || *prefix < 0 || *prefix > address->bits() || text[slash + 1] == '-')
    return bad();
  return Cidr(*address, *prefix);
}

IpAddress Cidr::First() const {
  std::array<std::uint8_t, 16> bytes{};
  std::copy(address_.bytes().begin(), address_.bytes().end(), bytes.begin());
  FillFrom(bytes, prefix_, address_.bits(), false);
  return *IpAddress::FromBytes({bytes.data(), address_.bytes().size()});
}

IpAddress Cidr::Last() const {
  std::array<std::uint8_t, 16> bytes{};
  std::copy(address_.bytes().begin(), address_.bytes().end(), bytes.begin());
  FillFrom(bytes, prefix_, address_.bits(), true);
  return *IpAddress::FromBytes({bytes.data(), address_.bytes().size()});
}

Cidr Cidr::Network() const { return {First(), prefix_}; }

bool Cidr::Contains(const IpAddress& ip) const {
  return ip.family() == family() && First() <= ip && ip <= Last();
}

bool Cidr::Overlaps(const Cidr& other) const {
  return Contains(other.First()) || other.Contains(First());
}

std::string Cidr::str() const { return address_.str() + "/" + std::to_string(prefix_); }

Result<MacAddress> MacAddress::Parse(std::string_view text) {
  std::array<std::uint8_t, 6> bytes{};
  const auto bad = [&] {
    return InvalidArgument("\"" + std::string(text) + "\" is not a MAC address");
  };
  if (text.size() != 17) return bad();
  for (std::size_t i = 0; i < 6; ++i) {
    const char* begin = text.data() + i * 3;
    const auto [end, ec] = std::from_chars(begin, begin + 2, bytes[i], 16);
    if (ec != std::errc() || end != begin + 2) return bad();
    if (i < 5 && begin[2] != ':' && begin[2] != '-') return bad();
  }
  return MacAddress(bytes);
}

MacAddress MacAddress::Random() {
  std::array<std::uint8_t, 6> bytes{};
  while (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
  }
  bytes[0] = static_cast<std::uint8_t>((bytes[0] & 0xfe) | 0x02);
  return MacAddress(bytes);
}

std::string MacAddress::str() const {
  std::array<char, 18> out{};
  std::snprintf(out.data(), out.size(), "%02x:%02x:%02x:%02x:%02x:%02x", bytes_[0], bytes_[1],
                bytes_[2], bytes_[3], bytes_[4], bytes_[5]);
  return out.data();
}

}  // namespace linnet
