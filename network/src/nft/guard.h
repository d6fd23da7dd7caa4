// The guard of a bridge's port follows the pod's interface when that gets another MAC address.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/base/result.h"

#include "nft/nft_batch.h"

namespace linnet::network {

class NftTable;

struct GuardChange {
  std::vector<NftElement> old;  // elements that the new address takes the place of
};

// From here on the owner's guarded ports may use `mac` (and the link-local address made from it)
// beside the old one. No guard: nothing changes.
Result<GuardChange> AdmitMac(NftTable& nft, const std::string& owner, const MacAddress& mac);
// The old address is not theirs any more. Link-local addresses stay: the kernel keeps them while a
// link is up.
Result<void> DropOldMac(NftTable& nft, const std::string& owner, const GuardChange& change);
// Of what `owner` has, the MAC addresses that are not in `wanted` go.
Result<void> DropMacsExcept(NftTable& nft, const std::string& owner,
                            const std::vector<NftElement>& wanted);

}  // namespace linnet::network
