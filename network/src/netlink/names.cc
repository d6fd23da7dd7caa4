#include "netlink/names.h"

#include <array>

namespace linnet::network {
namespace {
constexpr std::size_t kMaxLinkName = 15;  // IFNAMSIZ without its NUL
constexpr std::size_t kMaxContainerPart = 80;
constexpr std::size_t kMaxOwner = 120;  // nft shows comments of at most 128 bytes
}  // namespace

std::uint64_t StableHash(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325U;  // FNV-1a, then the finaliser of MurmurHash3
  for (const char c : text) {
    h ^= static_cast<unsigned char>(c);
    h *= 0x100000001b3U;
  }
  h ^= h >> 33U;
  h *= 0xff51afd7ed558ccdU;
  h ^= h >> 33U;
  h *= 0xc4ceb9fe1a85ec53U;
  h ^= h >> 33U;
  return h;
}

std::string StableDigits(std::string_view text, std::size_t digits) {
  constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";
  std::uint64_t h = StableHash(text);
  std::string out;
  for (std::size_t i = 0; i < digits; ++i) {
    out += kAlphabet[h & 31U];
    h >>= 5U;
  }
  return out;
}

std::string HostLinkName(std::string_view scope, std::string_view container_id,
                         std::string_view ifname) {
  std::string seed(scope);
  seed.append(1, '\0').append(container_id).append(1, '\0').append(ifname);
  // "linnet-ab3d" → "lnab3d…", "linnet-cni" → "lncni…", "linnet" → "ln…"
  std::string name = "ln";
  if (const auto dash = scope.find('-'); dash != std::string_view::npos)
    name += scope.substr(dash + 1);
  return name + StableDigits(seed, kMaxLinkName - name.size());
}

std::string OwnerContainer(std::string_view container_id) {
  if (container_id.size() <= kMaxContainerPart) return std::string(container_id);
  return std::string(container_id.substr(0, kMaxContainerPart - 14)) + "~" +
         StableDigits(container_id, 13);
}

std::string OwnerText(std::string_view container_id, std::string_view ifname) {
  return OwnerContainer(container_id).append("/").append(ifname).append("/");
}

std::string OwnerText(const AttachmentKey& key) {
  std::string owner = OwnerText(key.container_id, key.ifname);
  if (owner.size() + key.network.size() > kMaxOwner)
    return owner + "~" + StableDigits(key.network, 13);
  return owner + key.network;
}

std::string_view ContainerOf(std::string_view owner) { return owner.substr(0, owner.find('/')); }

std::string LinkAlias(std::string_view scope, std::string_view owner) {
  return std::string(scope).append(" ").append(owner);
}

std::optional<std::string> OwnerOfAlias(std::string_view scope, std::string_view alias) {
  if (!alias.starts_with(scope) || alias.size() <= scope.size() + 1 || alias[scope.size()] != ' ')
    return std::nullopt;
  return std::string(alias.substr(scope.size() + 1));
}

MacAddress StableMac(std::string_view text) {
  const std::uint64_t h = StableHash(text);
  std::array<std::uint8_t, 6> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(h >> (8 * i));
  bytes[0] = static_cast<std::uint8_t>((bytes[0] & 0xfcU) | 0x02U);
  return MacAddress(bytes);
}

}  // namespace linnet::network
