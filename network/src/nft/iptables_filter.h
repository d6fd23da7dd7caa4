// What the firewall plugin does in the tables of iptables (its nftables back end): chains and rules
// as the plugin of containernetworking makes them, so that iptables shows and deletes them, and the
// administrator's rules in CNI-ADMIN come first. No program is run. Blocking; each call is one
// transaction per family, tried again where somebody else was faster.
//
// With iptables-legacy these rules exist beside the legacy ones and cannot admit what those drop.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

namespace linnet::network {

class NftSocket;

// FORWARD → CNI-FORWARD → `admin_chain`, then for each pod: answers to it and all that it sends are
// accepted. What is there already stays. Errors: kUnimplemented the kernel lacks the conntrack
// match.
Result<void> AdmitPods(NftSocket& socket, const std::string& admin_chain,
                       const std::vector<IpAddress>& pods);
// The rules of these pods go; chains stay, as with upstream. Absent: success.
Result<void> ForgetPods(NftSocket& socket, const std::vector<IpAddress>& pods);
// Errors: kFailedPrecondition, in upstream's words, with the rule that is missing.
Result<void> CheckPods(NftSocket& socket, const std::string& admin_chain,
                       const std::vector<IpAddress>& pods);

}  // namespace linnet::network
