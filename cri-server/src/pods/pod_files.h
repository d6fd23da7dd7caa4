// The files that every container of a pod sees: resolv.conf, hosts, hostname.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/pods/types.h"

namespace linnet::pods {

// Writes <pod_dir>/{resolv.conf,hosts,hostname}. With the node's network the host's own hosts file
// is copied.
Result<void> WritePodFiles(const std::string& pod_dir, const PodConfig& config,
                           const std::vector<std::string>& ips);

// The text of resolv.conf; pure.
std::string ResolvConf(const DnsConfig& dns);
std::string HostsFile(const std::string& hostname, const std::vector<std::string>& ips);
// The pod's host name: as configured, the node's with the node's network, else the pod's name cut
// to 63 characters.
std::string PodHostname(const PodConfig& config);

}  // namespace linnet::pods
