#include "plugins/firewalld.h"

#include <chrono>

#include "dbus/system_bus.h"

namespace linnet::network {
namespace {

constexpr const char* kName = "org.fedoraproject.FirewallD1";

std::string TextOf(const IpAddress& ip) { return ip.str() + "/" + std::to_string(ip.bits()); }

BusCall ZoneCall(const char* member, const std::string& zone, const IpAddress& ip) {
  return {.destination = kName,
          .path = "/org/fedoraproject/FirewallD1",
          .interface = "org.fedoraproject.FirewallD1.zone",
          .member = member,
          .arguments = {zone, TextOf(ip)}};
}

}  // namespace

bool FirewalldRuns(const std::string& system_bus) {
  auto bus = SystemBus::Connect(system_bus, std::chrono::seconds(2));
  if (!bus) return false;
  const auto owner = bus->Call({.destination = "org.freedesktop.DBus",
                                .path = "/org/freedesktop/DBus",
                                .interface = "org.freedesktop.DBus",
                                .member = "GetNameOwner",
                                .arguments = {kName}});
  return owner.has_value();
}

Result<void> AddToZone(const std::string& system_bus, const std::string& zone,
                       const std::vector<IpAddress>& pods) {
  SystemBus bus = LN_TRY(SystemBus::Connect(system_bus));
  for (const IpAddress& ip : pods) {
    auto done = bus.Call(ZoneCall("addSource", zone, ip));
    if (done || done.error().message().find("ZONE_ALREADY_SET") != std::string::npos) continue;
    return std::move(done).error().With("failed to add the address " + TextOf(ip) + " to " + zone +
                                        " zone");
  }
  return Ok();
}

Result<void> RemoveFromZone(const std::string& system_bus, const std::string& zone,
                            const std::vector<IpAddress>& pods) {
  auto bus = SystemBus::Connect(system_bus);
  // firewalld is gone, and its zones with it.
  if (!bus && bus.error().Is(Code::kUnavailable)) return Ok();
  if (!bus) return std::move(bus).error();
  for (const IpAddress& ip : pods) {
    auto done = bus->Call(ZoneCall("removeSource", zone, ip));
    // An answer, whichever: not there, or firewalld is gone.
    if (!done && !done.error().Is(Code::kFailedPrecondition)) return std::move(done).error();
  }
  return Ok();
}

Result<void> CheckZone(const std::string& system_bus, const std::string& zone,
                       const std::vector<IpAddress>& pods) {
  SystemBus bus = LN_TRY(SystemBus::Connect(system_bus));
  for (const IpAddress& ip : pods) {
    const auto found = bus.Call(ZoneCall("querySource", zone, ip));
    if (found && *found == "true") continue;
    return FailedPrecondition("failed to find the address " + TextOf(ip) + " in " + zone + " zone");
  }
  return Ok();
}

}  // namespace linnet::network
