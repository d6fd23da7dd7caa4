// Network sysctls of the namespace that the calling thread is in (see VisitNetns).
#pragma once

#include <cstdint>
#include <string>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

namespace linnet::network {

enum class HostSysctl : std::uint8_t { kForward4, kForward6 };
enum class LinkSysctl : std::uint8_t {
  kAcceptRa,         // IPv6 router advertisements: 0 no, 1 unless forwarding, 2 yes
  kAcceptRedirects,  // IPv6
  kAcceptDad,        // 0: addresses are usable at once
  kEnhancedDad,
  kKeepAddresses,  // keep_addr_on_down
  kDisableIpv6,
  kProxyArpPvlan,
};

std::string PathOf(HostSysctl sysctl);
std::string PathOf(LinkSysctl sysctl, const std::string& link);
// The file's name in the directory of the link.
const char* NameOf(LinkSysctl sysctl);

// A kernel without IPv6 has none of its files: success.
Result<void> SetSysctl(LinkSysctl sysctl, const std::string& link, int value);

// Turns forwarding on where it is off. Earlier values are added to the file `memory` (one "<path>
// <value>" a line) before they are changed; empty: they are not remembered.
Result<void> TurnForwardingOn(Family family, const std::string& memory);

}  // namespace linnet::network
