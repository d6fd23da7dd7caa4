// linnet's nftables: owners add and remove elements; tables, sets and rules come and heal by
// themselves.
//
// kDaemon: the only writer of inet/bridge linnet[-i]. A mirror in memory answers every question;
// the kernel is written in one transaction per call and never listed. When a transaction finds
// something missing (somebody flushed the ruleset), the whole table is built again from the mirror,
// in one transaction. kExec: one of many writers of inet/bridge linnet-cni. Every change is made
// against a generation id and tried again when somebody else was faster.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

#include "netlink/host_network.h"
#include "nft/nft_batch.h"
#include "nft/nft_socket.h"

namespace linnet::network {

// Thread-safe.
class NftTable {
 public:
  struct Options {
    NftMode mode = NftMode::kDaemon;
    // "linnet", "linnet-ab3d", "linnet-cni". The host ports of all other tables named so (other
    // daemons, executed plugins) are respected.
    std::string name;
  };
  static Result<std::unique_ptr<NftTable>> Create(const Options& options);
  const std::string& name() const { return options_.name; }

  // All or nothing. Elements that this owner has already are skipped; what another owner left is
  // replaced, except host ports: kAlreadyExists, with port and owner in the message.
  Result<void> Add(const std::string& owner, const std::vector<NftElement>& elements);
  // kHostPorts: what portmap added; kFirewall: what firewall added; kNetwork: the rest, except that
  // guarded ports stay guarded (without a MAC and an address nothing passes them): they go with
  // kAll, when the link is gone. kButFirewall: all but what tells the firewall plugin which rules
  // of iptables are its own.
  enum class Part : std::uint8_t { kAll, kHostPorts, kFirewall, kNetwork, kButFirewall };
  // `owner` is a whole owner text or the beginning of one: "<container>/<ifname>/".
  // Nothing there: success, no system call (kDaemon).
  Result<void> Remove(const std::string& owner, Part part);
  // Owners for which `gone` says yes lose what `part` says. Owners "@…" (bridges) are not asked
  // for.
  Result<void> RemoveIf(const std::function<bool(const std::string& owner)>& gone, Part part);
  // Of `elements`, what `owner` (the whole text) has goes.
  Result<void> Drop(const std::string& owner, const std::vector<NftElement>& elements);
  Result<std::vector<NftElement>> Of(const std::string& owner);
  // All elements of owners (not "@…") for which `wanted` says yes.
  Result<std::vector<OwnedElement>> Find(
      const std::function<bool(const std::string& owner)>& wanted);
  // The tables are there as far as they were made: else they are built again. Two questions to the
  // kernel.
  Result<void> Verify();
  // kDaemon: builds the tables again, as far as they were made, whatever the kernel has of them.
  Result<void> BuildAgain();
  // kDaemon: what the kernel lacks of what `owner` (as for Remove; "": everybody) has, in words.
  // Changes nothing.
  Result<std::vector<std::string>> Missing(const std::string& owner);
  // All elements with owners that the kernel has, of the sets that are linnet's.
  Result<std::vector<OwnedElement>> Contents();
  // The port id that the kernel names in notifications of what this object did; 0: it did nothing
  // yet.
  std::uint32_t PortId();
  // iptables (Docker, ufw) may drop by policy what it does not know; an accept in another table
  // does not help. Where its FORWARD chain does so, rules for `link` are put behind its last one:
  // what it says itself comes first. Only iptables-nft can be seen; with iptables-legacy the
  // administrator has to do it.
  Result<void> AdmitForwarding(const std::string& link);
  // Takes the elements that the kernel has into the mirror, as far as `keep` wants them, and builds
  // the tables again.
  Result<void> Recover(const std::function<bool(const std::string& owner)>& keep);

 private:
  // Elements by set, then key.
  struct Entry {
    std::string data, owner;
  };
  using Place = std::pair<NftFamily, std::string>;
  using Mirror = std::map<Place, std::unordered_map<std::string, Entry>>;

  NftTable(const Options& options, NftSocket socket)
      : options_(options), socket_(std::move(socket)) {}
  NftTableName Name(NftFamily family) const { return {family, options_.name}; }
  bool& Exists(NftFamily family) LN_REQUIRES(mu_) {
    return family == NftFamily::kInet ? inet_ : bridge_;
  }

  Result<void> AddAsOnlyWriter(const std::string& owner, const std::vector<NftElement>& elements)
      LN_REQUIRES(mu_);
  Result<void> AddAsOneOfMany(const std::string& owner, const std::vector<NftElement>& elements)
      LN_REQUIRES(mu_);
  Result<void> TryAdd(const std::string& owner, const std::vector<NftElement>& elements)
      LN_REQUIRES(mu_);
  Result<void> TryRemoveIf(const std::function<bool(const OwnedElement&)>& doomed) LN_REQUIRES(mu_);
  Result<void> RefuseTakenPorts(const std::string& owner, const std::vector<NftElement>& elements)
      LN_REQUIRES(mu_);
  Result<void> RefusePortsOfOthers(const std::vector<NftElement>& elements) LN_REQUIRES(mu_);
  Result<void> Delete(const std::vector<NftElement>& elements) LN_REQUIRES(mu_);
  // After a failure nobody knows whether the kernel has carried the transaction out (its answer may
  // have been lost): the next operation builds the tables from the mirror first.
  Result<void> Commit(NftBatch& batch) LN_REQUIRES(mu_);
  Result<void> Settle() LN_REQUIRES(mu_) { return doubtful_ ? Rebuild() : Ok(); }
  // The whole of the mirror, in one transaction.
  Result<void> Rebuild() LN_REQUIRES(mu_);
  Result<void> RememberHandles() LN_REQUIRES(mu_);
  Result<std::vector<OwnedElement>> ListAll() LN_REQUIRES(mu_);
  const Entry* Find(const NftElement& element) const LN_REQUIRES(mu_);
  void Remember(const std::string& owner, const NftElement& element) LN_REQUIRES(mu_);
  void Forget(const NftElement& element) LN_REQUIRES(mu_);

  const Options options_;
  Mutex mu_;
  NftSocket socket_ LN_GUARDED_BY(mu_);
  Mirror mirror_ LN_GUARDED_BY(mu_);
  std::map<std::string, std::vector<NftElement>> by_owner_ LN_GUARDED_BY(mu_);
  bool inet_ LN_GUARDED_BY(mu_) = false, bridge_ LN_GUARDED_BY(mu_) = false;
  bool doubtful_ LN_GUARDED_BY(mu_) = false;
  std::optional<std::uint64_t> inet_handle_ LN_GUARDED_BY(mu_), bridge_handle_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::network
