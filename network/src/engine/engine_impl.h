// The engine: netns pool, choice of the network, chain, records.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/network/engine.h"

#include "cni/cache.h"
#include "engine/chain.h"
#include "engine/config_source.h"
#include "engine/default_network.h"
#include "engine/dir_watcher.h"
#include "engine/gate.h"
#include "engine/record_store.h"
#include "engine/retry_queue.h"
#include "netns.h"
#include "nft/nft_watcher.h"
#include "pod_side.h"

namespace linnet::network {

class EngineImpl final : public Engine {
 public:
  // Seams for tests: the plugins, how soon a failed DEL is tried again, how long an answer of
  // STATUS is good for.
  struct Parts {
    std::unique_ptr<HostNetwork> host;
    std::vector<std::unique_ptr<Plugin>> plugins;
    std::chrono::milliseconds first_retry{1000};
    std::chrono::milliseconds status_fresh{5000};
  };
  static Result<std::unique_ptr<EngineImpl>> Make(const EngineOptions& options, Parts parts);
  ~EngineImpl() override;

  Result<PodNetns> TakeNetns(const PodId& pod) override;
  Result<PodNetns> AdoptNetns(const PodId& pod, FdRef netns) override;
  Result<PodNetns> OpenNetns(const PodId& pod) override;
  Result<void> ReleaseNetns(const PodId& pod) override;
  Result<Attachment> Attach(const AttachRequest& request) override;
  Result<void> Detach(const PodId& pod) override;
  std::optional<Attachment> Find(const PodId& pod) const override;
  Result<void> Check(const PodId& pod) override;
  Result<void> Recover(const std::vector<PodId>& known) override;
  Result<std::vector<std::string>> CollectGarbage() override;
  std::vector<PodCheck> CheckAll() override;
  Result<NetworkView> View() override;
  Result<std::vector<AddressView>> Addresses() override;
  std::vector<Finding> Diagnose() override;
  EngineStatus Status() override;
  Result<void> SetPodCidr(const std::string& cidrs) override;

 private:
  // An attachment, or one that is being made (no result) or undone.
  struct Entry {
    cni::Record record;  // without `config`: that is network->text
    std::shared_ptr<const cni::NetworkConf> network;
    Attachment attachment;
  };
  using EntryPtr = std::shared_ptr<const Entry>;  // owners: the map, and operations under way

  EngineImpl(const EngineOptions& options, Parts parts);
  Result<void> LinkDelegates() const;
  void Reload();
  Result<std::shared_ptr<const cni::NetworkConf>> CurrentNetwork();
  std::unique_ptr<PodSide> SideOf(const PodId& pod, FdRef netns, const NetnsId& id);
  Result<PodNetns> PinFor(const PodId& pod, UniqueFd netns);

  Result<void> BringLoopbackUp(const AttachRequest& request, PodSide& side);
  Result<EntryPtr> NewEntry(const AttachRequest& request);
  Result<EntryPtr> RunAdd(const AttachRequest& request, const Entry& intent, PodSide& side);
  static Subject SubjectOf(const Entry& entry, Deadline deadline);
  Result<void> Write(const RecordStore& store, const Entry& entry) const;

  // What is recorded of a pod, in memory or else (before recovery) on disk. A torn file of its is
  // undone by owner on the way.
  Result<std::vector<EntryPtr>> EntriesOf(const std::string& pod);
  EntryPtr EntryFrom(cni::Record record);
  void Remember(const EntryPtr& entry);
  std::shared_ptr<const cni::NetworkConf> NetworkFrom(const std::string& config);
  enum class Failing : std::uint8_t { kQueue, kReport };
  Result<void> Undo(const EntryPtr& entry, Failing failing);
  Result<void> Forget(const EntryPtr& entry);
  Result<void> ReadEntries(std::vector<RecordStore::File> files, const std::string& pod,
                           std::vector<EntryPtr>& out);
  Result<void> UndoByOwner(const std::string& pod);
  Result<void> RetryDel(const std::string& pod);

  Result<void> RecoverFile(RecordStore::File file, const RecordStore& store,
                           const std::set<std::string>& known);
  // Returns the first failure of a network's plugins; all networks are asked.
  Result<void> SweepNetworks(const std::set<std::string>& known);
  // What a sweep could take away, each in words.
  Result<std::set<std::string>> Inventory();
  Result<void> RecoverPins(const std::set<std::string>& known);
  EngineStatus AskedStatus(const std::shared_ptr<const cni::NetworkConf>& network);
  void TablesChanged(NftWatcher::What what);
  Result<void> CheckEntry(const Entry& entry);
  std::vector<EntryPtr> AllEntries() const;
  // Findings, by subject.
  void DiagnoseKernel(std::vector<Finding>& out);
  void DiagnoseNetwork(std::vector<Finding>& out);
  void DiagnoseLeftovers(std::vector<Finding>& out);

  const EngineOptions options_;
  const std::chrono::milliseconds status_fresh_;
  const std::unique_ptr<HostNetwork> host_;
  const PluginRegistry registry_;
  const PluginExec exec_;
  const Chain chain_;
  const RecordStore records_;  // attachments
  const RecordStore intents_;  // those being made: in the state directory, for they outlive no boot
  DefaultNetwork default_;
  OperationGate gate_;
  std::unique_ptr<NetnsPool> pool_;

  mutable Mutex mu_;
  Selection selection_ LN_GUARDED_BY(mu_);
  std::map<std::string, EntryPtr> entries_ LN_GUARDED_BY(mu_);  // by pod
  // Of namespaces that are handed out and not attached yet, by pod.
  std::map<std::string, std::pair<NetnsId, std::unique_ptr<PodSide>>> ready_ LN_GUARDED_BY(mu_);
  // Pods that recovery keeps although nothing is recorded of them: what they have stays until
  // Detach, which goes by owner.
  std::set<std::string> unrecorded_ LN_GUARDED_BY(mu_);
  // Configurations of records, by text: most are the same.
  std::map<std::string, std::weak_ptr<const cni::NetworkConf>> parsed_ LN_GUARDED_BY(mu_);
  struct StatusMemory {
    std::shared_ptr<const cni::NetworkConf> network;
    std::chrono::steady_clock::time_point at;
    std::string error;
  } last_status_ LN_GUARDED_BY(mu_);
  Mutex reload_mu_;                      // one reload at a time
  std::atomic<bool> recovered_ = false;  // from here memory knows of every record of ours

  RetryQueue retry_;
  std::unique_ptr<DirWatcher> watcher_;
  std::unique_ptr<NftWatcher> nft_watcher_;
};

}  // namespace linnet::network
