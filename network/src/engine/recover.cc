// Recovery: what the records and the kernel hold is compared with the pods that live.
#include <algorithm>

#include "linnet/base/log.h"

#include "engine/engine_impl.h"

namespace linnet::network {
namespace {

constexpr auto kGcTimeout = std::chrono::seconds(10);
constexpr const char* kInterface = "eth0";

}  // namespace

Result<void> EngineImpl::RecoverFile(RecordStore::File file, const RecordStore& store,
                                     const std::set<std::string>& known) {
  EntryPtr entry;
  std::string pod;
  if (file.record) {
    if (!file.record->mark || file.record->mark->instance != options_.instance) return Ok();
    pod = file.record->container_id;
    entry = EntryFrom(*std::move(file.record));
  } else if (&store == &intents_) {
    return store.Remove(file.name);  // torn: nothing was done after it
  } else {
    // A torn one in our own network's name; others' files are others' business.
    const std::string prefix = default_.name() + "-";
    const std::string end = std::string("-") + kInterface;
    const std::string& name = file.name;
    if (!name.starts_with(prefix) || !name.ends_with(end) ||
        name.size() <= prefix.size() + end.size())
      return Ok();
    pod = name.substr(prefix.size(), name.size() - prefix.size() - end.size());
  }
  if (!entry) {
    if (known.contains(pod)) return Ok();
    LN_TRY(UndoByOwner(pod));
    return store.Remove(file.name);
  }
  {
    MutexLock lock(mu_);
    const auto it = entries_.find(pod);
    // Records come before intents: what was written last is the truth.
    if (it != entries_.end() && it->second->record.network == entry->record.network)
      return store.Remove(file.name);
  }
  Remember(entry);
  if (!known.contains(pod)) return Undo(entry, Failing::kQueue);
  auto restored = chain_.Restore(*entry->network,
                                 SubjectOf(*entry, std::chrono::steady_clock::now() + kGcTimeout),
                                 entry->record.result);
  if (!restored) log::Debug("attachment not restored", {{"pod", pod}, {"err", restored.error()}});
  return Ok();
}

// Addresses and the like that no record tells of. Valid is every attachment that has a record, ours
// or another runtime's (the directories may be shared), and whatever lives.
void EngineImpl::CollectGarbage(const std::set<std::string>& known) {
  auto files = records_.All();
  if (!files) return;
  std::vector<std::shared_ptr<const cni::NetworkConf>> networks;
  {
    MutexLock lock(mu_);
    if (selection_.network) networks.push_back(selection_.network);
  }
  auto builtin = default_.Known();
  if (builtin) networks.push_back(std::move(builtin));
  for (const auto& network : networks) {
    std::vector<ValidAttachment> valid;
    for (const RecordStore::File& file : *files) {
      if (file.record && file.record->network == network->name)
        valid.push_back({file.record->container_id, file.record->ifname});
    }
    for (const std::string& pod : known) valid.push_back({pod, kInterface});
    {
      MutexLock lock(mu_);  // also those whose DEL is tried again: their addresses stay quarantined
      for (const auto& [pod, entry] : entries_) {
        if (entry->record.network == network->name) valid.push_back({pod, entry->record.ifname});
      }
    }
    auto done = chain_.Gc(*network, chain_.Foreign(*network), valid,
                          std::chrono::steady_clock::now() + kGcTimeout);
    if (!done)
      log::Debug("garbage of a network not collected",
                 {{"name", network->name}, {"err", done.error()}});
  }
}

Result<void> EngineImpl::RecoverPins(const std::set<std::string>& known) {
  for (const std::string& pod : LN_TRY(ListPins(options_.netns_dir, options_.instance))) {
    if (!known.contains(pod)) LN_TRY(Unpin(PinPath(options_.netns_dir, options_.instance, pod)));
  }
  return Ok();
}

Result<void> EngineImpl::Recover(const std::vector<PodId>& known) {
  const auto ticket = LN_TRY(gate_.EnterExclusive(Deadline::max()));
  std::set<std::string> ids;
  std::vector<std::string> list;
  for (const PodId& pod : known) {
    ids.insert(pod.str());
    list.push_back(pod.str());
  }
  LN_TRY_CTX(exec_.cgroups().KillOthers(ids, std::chrono::steady_clock::now() + kGcTimeout),
             "foreign plugins");
  LN_TRY(host_->Recover(list));
  Result<void> first;
  for (const RecordStore* store : {&records_, &intents_}) {
    std::vector<RecordStore::File> files = LN_TRY(store->All());
    for (RecordStore::File& file : files) {
      auto done = RecoverFile(std::move(file), *store, ids);
      if (!done && first) first = std::move(done);
    }
  }
  LN_TRY(std::move(first));
  recovered_ = true;
  CollectGarbage(ids);
  return RecoverPins(ids);
}

}  // namespace linnet::network
