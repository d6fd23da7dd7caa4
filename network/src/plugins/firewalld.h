// firewalld, which puts the pods' addresses into one of its zones.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

namespace linnet::network {

// No bus, or nobody on it has firewalld's name: no.
bool FirewalldRuns(const std::string& system_bus);
// Errors: "failed to add the address … to … zone: …". In the zone already, or in another: success,
// as with upstream.
Result<void> AddToZone(const std::string& system_bus, const std::string& zone,
                       const std::vector<IpAddress>& pods);
// Not there: success.
Result<void> RemoveFromZone(const std::string& system_bus, const std::string& zone,
                            const std::vector<IpAddress>& pods);
// Errors: "failed to find the address … in … zone".
Result<void> CheckZone(const std::string& system_bus, const std::string& zone,
                       const std::vector<IpAddress>& pods);

}  // namespace linnet::network
