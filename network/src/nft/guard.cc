#include "nft/guard.h"

#include <algorithm>

#include "nft/elements.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

bool IsMac(const NftElement& e) { return e.family == NftFamily::kBridge && e.set == "mac"; }

}  // namespace

Result<GuardChange> AdmitMac(NftTable& nft, const std::string& owner, const MacAddress& mac) {
  GuardChange change;
  std::vector<NftElement> fresh;
  const std::vector<NftElement> present = LN_TRY(nft.Of(owner));
  for (const NftElement& e : present) {
    if (IsMac(e)) {
      NftElement own = PortMacElement(PortOf(e), mac);
      if (own == e) continue;
      fresh.push_back(std::move(own));
      change.old.push_back(e);
    }
  }
  if (fresh.empty()) return change;
  // One link-local address for each port that may use IPv6 at all.
  for (const NftElement& e : present) {
    if (e.family != NftFamily::kBridge || e.set != "address6") continue;
    NftElement local = PortAddressElement(PortOf(e), LinkLocal(mac));
    if (std::find(fresh.begin(), fresh.end(), local) == fresh.end())
      fresh.push_back(std::move(local));
  }
  LN_TRY(nft.Add(owner, fresh));
  return change;
}

Result<void> DropOldMac(NftTable& nft, const std::string& owner, const GuardChange& change) {
  return nft.Drop(owner, change.old);
}

Result<void> DropMacsExcept(NftTable& nft, const std::string& owner,
                            const std::vector<NftElement>& wanted) {
  std::vector<NftElement> stale;
  for (const NftElement& e : LN_TRY(nft.Of(owner))) {
    if (IsMac(e) && std::find(wanted.begin(), wanted.end(), e) == wanted.end()) stale.push_back(e);
  }
  return nft.Drop(owner, stale);
}

}  // namespace linnet::network
