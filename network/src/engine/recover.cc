// Recovery: what the records and the kernel hold is compared with the pods that live.
#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

#include "engine/engine_impl.h"

namespace linnet::network {
namespace {

constexpr auto kGcTimeout = std::chrono::seconds(10);
constexpr const char* kInterface = "eth0";

// What ReplaceFile leaves in `dir` when its process dies on the way: ".<name>.<number>.tmp", of
// files whose names begin with `prefix`.
void RemoveTemporaries(const std::string& dir, const std::string& prefix) {
  auto names = ListDir(dir);
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    if (name.starts_with("." + prefix) && name.ends_with(".tmp"))
      (void)RemoveFile(JoinPath(dir, name));  // the next start tries again
  }
}

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
Result<void> EngineImpl::SweepNetworks(const std::set<std::string>& known) {
  const auto files = LN_TRY(records_.All());
  std::vector<EntryPtr> entries = AllEntries();
  std::vector<std::shared_ptr<const cni::NetworkConf>> networks;
  const auto add = [&](const std::shared_ptr<const cni::NetworkConf>& network) {
    const auto same = [&](const auto& other) { return other->name == network->name; };
    if (network && std::none_of(networks.begin(), networks.end(), same))
      networks.push_back(network);
  };
  {
    MutexLock lock(mu_);
    if (selection_.network) add(selection_.network);
  }
  if (auto builtin = default_.Known()) add(builtin);
  for (const EntryPtr& entry : entries) add(entry->network);
  Result<void> first;
  for (const auto& network : networks) {
    std::set<std::pair<std::string, std::string>> in_use;  // container, interface
    for (const RecordStore::File& file : files) {
      if (file.record && file.record->network == network->name)
        in_use.emplace(file.record->container_id, file.record->ifname);
    }
    for (const std::string& pod : known) in_use.emplace(pod, kInterface);
    // Also those whose DEL is tried again: their addresses stay quarantined.
    for (const EntryPtr& entry : entries) {
      if (entry->record.network == network->name)
        in_use.emplace(entry->record.container_id, entry->record.ifname);
    }
    std::vector<ValidAttachment> valid;
    for (const auto& [container, ifname] : in_use) valid.push_back({container, ifname});
    auto done = chain_.Gc(*network, chain_.Foreign(*network), valid,
                          std::chrono::steady_clock::now() + kGcTimeout);
    if (!done && first) first = std::move(done).error().With("network " + network->name);
  }
  return first;
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
  // Ours alone: of directories that others use, too, only what has our network's name.
  RemoveTemporaries(JoinPath(options_.state_dir, "attaching"), "");
  RemoveTemporaries(options_.state_dir, "sysctls.");
  RemoveTemporaries(JoinPath(options_.ipam_dir, default_.name()), "subnets.json.");
  RemoveTemporaries(JoinPath(options_.cache_dir, "results"), default_.name() + "-");
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
  {
    MutexLock lock(mu_);
    unrecorded_.clear();
    for (const std::string& pod : ids) {
      if (!entries_.contains(pod)) unrecorded_.insert(pod);
    }
  }
  recovered_ = true;
  // What a foreign plugin cannot collect today does not keep the node from starting.
  if (auto swept = SweepNetworks(ids); !swept)
    log::Debug("garbage of a network not collected", {{"err", swept.error()}});
  return RecoverPins(ids);
}

}  // namespace linnet::network
