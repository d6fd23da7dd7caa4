// Names and owners of kernel objects: whose is this link, this element? Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "linnet/base/ip.h"

namespace linnet::network {

// One attachment: the owner of links and elements.
struct AttachmentKey {
  std::string container_id, ifname, network;
  auto operator<=>(const AttachmentKey&) const = default;
};

// 64 bits, well mixed, the same in every build: for names that must be found again.
std::uint64_t StableHash(std::string_view text);
// `digits` (at most 13) lower-case base32 digits of the hash.
std::string StableDigits(std::string_view text, std::size_t digits);

// "ln" + instance + base32 digits, 15 bytes.
std::string HostLinkName(std::string_view scope, std::string_view container_id,
                         std::string_view ifname);

// What stands in ifalias and in comments of elements: "<container>/<ifname>/<network>", at most 120
// bytes. Parts that are too long are replaced by hashes, the same way each time.
std::string OwnerText(const AttachmentKey& key);
// The same without the network, "<container>/<ifname>/": what every owner text of the interface
// starts with.
std::string OwnerText(std::string_view container_id, std::string_view ifname);
// Container part of OwnerText, as it appears there.
std::string OwnerContainer(std::string_view container_id);
std::string_view ContainerOf(std::string_view owner);

// ifalias: "<scope> <owner>". Another scope's alias: nullopt.
std::string LinkAlias(std::string_view scope, std::string_view owner);
std::optional<std::string> OwnerOfAlias(std::string_view scope, std::string_view alias);

// Locally administered, unicast; the same for the same text, so that neighbour tables stay right
// when an address comes back with another pod.
MacAddress StableMac(std::string_view text);

}  // namespace linnet::network
