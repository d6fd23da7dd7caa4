// What the address plugins read alike from a configuration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plugins/plugin.h"

namespace linnet::network {

// "ipam", or an error with its path.
Result<JsonView> IpamSection(const JsonView& conf);
Result<std::vector<cni::Route>> ParseRoutes(const JsonView& ipam);
Result<std::vector<std::string>> ArgsIps(const JsonView& conf);     // args.cni.ips
Result<std::vector<std::string>> RuntimeIps(const JsonView& conf);  // runtimeConfig.ips
// "10.1.0.5" and "10.1.0.5/24".
Result<IpAddress> ParseHostPart(const std::string& text);

}  // namespace linnet::network
