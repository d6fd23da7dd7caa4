// Addresses and prefixes of IPv4 and IPv6, and MAC addresses, as values.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet {

enum class Family : std::uint8_t { kV4, kV6 };

// IPv4-mapped IPv6 text ("::ffff:1.2.3.4") becomes IPv4, as in Go's net package.
class IpAddress {
 public:
  static Result<IpAddress> Parse(std::string_view text);
  static IpAddress V4(std::uint32_t host_order);
  static IpAddress V6(const std::array<std::uint8_t, 16>& bytes);
  // 4 or 16 bytes in network order.
  static Result<IpAddress> FromBytes(std::span<const std::uint8_t> bytes);

  Family family() const { return family_; }
  bool is_v4() const { return family_ == Family::kV4; }
  int bits() const { return is_v4() ? 32 : 128; }
  // Network order, 4 or 16 bytes; valid as long as this object.
  std::span<const std::uint8_t> bytes() const { return {bytes_.data(), is_v4() ? 4U : 16U}; }
  std::uint32_t v4_host_order() const;
  // RFC 5952 for IPv6.
  std::string str() const;
  bool IsUnspecified() const;
  bool IsLoopback() const;
  // Arithmetic within the family; nullopt past either end.
  std::optional<IpAddress> Next() const;
  std::optional<IpAddress> Previous() const;
  // this + n, nullopt past the end.
  std::optional<IpAddress> Plus(std::uint64_t n) const;
  auto operator<=>(const IpAddress&) const = default;

 private:
  Family family_ = Family::kV4;
  std::array<std::uint8_t, 16> bytes_{};
};

// An address with a prefix length. The host bits are kept ("10.1.0.5/24"), Network() clears them.
class Cidr {
 public:
  Cidr(IpAddress address, int prefix) : address_(address), prefix_(prefix) {}
  static Result<Cidr> Parse(std::string_view text);
  const IpAddress& address() const { return address_; }
  int prefix() const { return prefix_; }
  Family family() const { return address_.family(); }
  Cidr Network() const;
  // Lowest and highest address of the prefix (for IPv4 the network and the broadcast address).
  IpAddress First() const;
  IpAddress Last() const;
  bool Contains(const IpAddress& ip) const;
  bool Overlaps(const Cidr& other) const;
  std::string str() const;
  auto operator<=>(const Cidr&) const = default;

 private:
  IpAddress address_;
  int prefix_;
};

class MacAddress {
 public:
  static Result<MacAddress> Parse(std::string_view text);
  explicit MacAddress(const std::array<std::uint8_t, 6>& bytes) : bytes_(bytes) {}
  // Locally administered, unicast, from getrandom.
  static MacAddress Random();
  const std::array<std::uint8_t, 6>& bytes() const { return bytes_; }
  std::string str() const;  // "02:00:5e:00:53:01"
  auto operator<=>(const MacAddress&) const = default;

 private:
  std::array<std::uint8_t, 6> bytes_{};
};

}  // namespace linnet
