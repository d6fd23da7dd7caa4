#include "netlink/sysctl.h"

#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::network {
namespace {

constexpr const char* kIpv6Links = "/proc/sys/net/ipv6/conf";

Result<void> Change(const std::string& path, const std::string& value, const std::string& memory) {
  const std::string before(Trim(LN_TRY(ReadFile(path))));
  if (before == value) return Ok();
  if (!memory.empty()) {
    std::string known = ReadFile(memory).value_or("");
    // The oldest value is the one to go back to.
    if (("\n" + known).find("\n" + path + " ") == std::string::npos) {
      LN_TRY(ReplaceFile(memory, known + path + " " + before + "\n", 0644));
    }
  }
  return WriteControlFile(path, value);
}

// Interfaces that learn from router advertisements go on doing so while the host forwards
// (accept_ra 1 would stop).
Result<void> KeepRouterAdvertisements(const std::string& memory) {
  for (const std::string& link : LN_TRY(ListDir(kIpv6Links))) {
    if (link == "all" || link == "default" || link == "lo") continue;
    const std::string path = PathOf(LinkSysctl::kAcceptRa, link);
    const auto value = ReadFile(path);
    if (!value || Trim(*value) != "1") continue;  // gone meanwhile: nothing to keep
    auto done = Change(path, "2", memory);
    if (!done && !done.error().Is(Code::kNotFound)) return done;
  }
  return Ok();
}

}  // namespace

std::string PathOf(HostSysctl sysctl) {
  return sysctl == HostSysctl::kForward4 ? "/proc/sys/net/ipv4/ip_forward"
                                         : "/proc/sys/net/ipv6/conf/all/forwarding";
}

const char* NameOf(LinkSysctl sysctl) {
  switch (sysctl) {
    case LinkSysctl::kAcceptRa:
      return "accept_ra";
    case LinkSysctl::kAcceptRedirects:
      return "accept_redirects";
    case LinkSysctl::kAcceptDad:
      return "accept_dad";
    case LinkSysctl::kEnhancedDad:
      return "enhanced_dad";
    case LinkSysctl::kKeepAddresses:
      return "keep_addr_on_down";
    case LinkSysctl::kDisableIpv6:
      return "disable_ipv6";
    case LinkSysctl::kProxyArpPvlan:
      return "proxy_arp_pvlan";
  }
  return "";
}

std::string PathOf(LinkSysctl sysctl, const std::string& link) {
  const char* links = sysctl == LinkSysctl::kProxyArpPvlan ? "/proc/sys/net/ipv4/conf" : kIpv6Links;
  return std::string(links) + "/" + link + "/" + NameOf(sysctl);
}

Result<void> SetSysctl(LinkSysctl sysctl, const std::string& link, int value) {
  auto done = WriteControlFile(PathOf(sysctl, link), std::to_string(value));
  if (!done && done.error().Is(Code::kNotFound)) return Ok();
  return done;
}

Result<void> TurnForwardingOn(Family family, const std::string& memory) {
  const std::string path =
      PathOf(family == Family::kV4 ? HostSysctl::kForward4 : HostSysctl::kForward6);
  if (Trim(LN_TRY(ReadFile(path))) == "1") return Ok();
  if (family == Family::kV6) LN_TRY(KeepRouterAdvertisements(memory));
  return Change(path, "1", memory);
}

}  // namespace linnet::network
