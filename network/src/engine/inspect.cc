// What operators ask for: garbage collection, CHECK of all, views.
#include <algorithm>
#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/ipam/lease_store.h"

#include "engine/engine_impl.h"
#include "netlink/names.h"
#include "nft/describe.h"
#include "nft/elements.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

constexpr auto kGateTimeout = std::chrono::seconds(60);
constexpr auto kLockTimeout = std::chrono::seconds(10);

Deadline In(std::chrono::seconds time) { return std::chrono::steady_clock::now() + time; }

const char* FamilyName(NftFamily family) {
  return family == NftFamily::kInet ? "inet " : "bridge ";
}

std::string PortText(const HostPort& port) {
  const bool v4 = port.pod.is_v4();
  return Describe(port) + " -> " + (v4 ? "" : "[") + port.pod.str() + (v4 ? ":" : "]:") +
         std::to_string(port.pod_port);
}

}  // namespace

std::vector<EngineImpl::EntryPtr> EngineImpl::AllEntries() const {
  MutexLock lock(mu_);
  std::vector<EntryPtr> out;
  for (const auto& [pod, entry] : entries_) out.push_back(entry);
  return out;
}

// --- GC

Result<std::set<std::string>> EngineImpl::Inventory() {
  std::set<std::string> out;
  for (const AddressView& a : LN_TRY(Addresses()))
    out.insert("address " + a.address + " of " + a.container + " (network " + a.network + ")");
  for (const OwnedLink& link : LN_TRY(host_->OwnedLinks()))
    out.insert("link " + link.name + " of " + link.owner);
  for (const OwnedElement& e : LN_TRY(host_->nft().Contents())) {
    if (!e.owner.starts_with('@')) out.insert("nftables elements of " + e.owner);
  }
  return out;
}

Result<std::vector<std::string>> EngineImpl::CollectGarbage() {
  const auto ticket = LN_TRY(gate_.EnterExclusive(In(kGateTimeout)));
  if (!recovered_) return FailedPrecondition("the daemon has not recovered its pods yet");
  const std::set<std::string> before = LN_TRY(Inventory());
  std::set<std::string> pods;
  std::set<std::string> unrecorded;
  {
    MutexLock lock(mu_);
    for (const auto& [pod, entry] : entries_) pods.insert(pod);
    unrecorded = unrecorded_;
  }
  pods.insert(unrecorded.begin(), unrecorded.end());
  std::set<std::string, std::less<>> kept;
  for (const std::string& pod : pods) kept.insert(OwnerContainer(pod));
  const auto gone = [&](const std::string& owner) { return !kept.contains(ContainerOf(owner)); };
  LN_TRY(host_->RemoveLinksIf(gone));
  LN_TRY(host_->nft().RemoveIf(gone, NftTable::Part::kAll));
  pods.insert("engine");  // where GC and STATUS run
  LN_TRY_CTX(exec_.cgroups().KillOthers(pods, In(kLockTimeout)), "foreign plugins");
  LN_TRY(SweepNetworks(unrecorded));
  const std::set<std::string> after = LN_TRY(Inventory());
  std::vector<std::string> removed;
  std::set_difference(before.begin(), before.end(), after.begin(), after.end(),
                      std::back_inserter(removed));
  return removed;
}

// --- CHECK

std::vector<PodCheck> EngineImpl::CheckAll() {
  std::vector<PodCheck> out;
  for (const EntryPtr& entry : AllEntries()) {
    const std::string& pod = entry->record.container_id;
    if (entry->record.result.empty() || retry_.Contains(pod)) continue;
    PodCheck check{.pod = pod, .network = entry->record.network, .error = {}};
    auto id = PodId::Parse(pod);
    auto done = id ? Check(*id) : Result<void>(std::move(id).error());
    // Detached meanwhile: there is nothing to check.
    if (!done && done.error().Is(Code::kNotFound) && !Find(*PodId::Parse(pod))) continue;
    if (!done) check.error = done.error().message();
    out.push_back(std::move(check));
  }
  return out;
}

// --- views

Result<NetworkView> EngineImpl::View() {
  NetworkView out;
  const EngineStatus status = Status();
  out.network = status.network;
  out.source = status.source;
  out.ready = status.ready;
  out.message = status.message;
  out.pool_size = static_cast<std::uint32_t>(std::max(options_.pool_size, 0));
  out.pool_ready = static_cast<std::uint32_t>(pool_->ready());
  out.pool_bytes_each = NetnsPool::kBytesEach;

  const std::vector<OwnedLink> links = LN_TRY(host_->OwnedLinks());
  const std::vector<OwnedElement> elements = LN_TRY(host_->nft().Contents());
  const std::map<std::string, std::string> failures = retry_.Failures();
  for (const EntryPtr& entry : AllEntries()) {
    AttachmentView view;
    view.pod = entry->record.container_id;
    view.network = entry->record.network;
    view.interface_name = entry->record.ifname;
    view.netns = entry->record.netns;
    const auto failure = failures.find(view.pod);
    if (failure != failures.end()) {
      view.state = AttachmentView::State::kDetaching;
      view.error = failure->second;
    } else if (entry->record.result.empty()) {
      view.state = AttachmentView::State::kAttaching;
    }
    const std::string owner = OwnerText(view.pod, view.interface_name);
    for (const OwnedLink& link : links) {
      if (link.owner.starts_with(owner)) view.host_link = link.name;
    }
    for (const Cidr& address : entry->attachment.addresses) view.addresses.push_back(address.str());
    for (const OwnedElement& e : elements) {
      if (!e.owner.starts_with(owner)) continue;
      if (const auto port = ParseHostPort(e.element)) view.host_ports.push_back(PortText(*port));
    }
    std::sort(view.host_ports.begin(), view.host_ports.end());
    out.attachments.push_back(std::move(view));
  }
  for (const OwnedElement& e : elements) {
    const std::string table = FamilyName(e.element.family) + host_->nft().name();
    if (out.sets.empty() || out.sets.back().table != table || out.sets.back().name != e.element.set)
      out.sets.push_back({.table = table, .name = e.element.set, .elements = {}});
    out.sets.back().elements.push_back({DescribeElement(e.element), e.owner});
  }
  return out;
}

Result<std::vector<AddressView>> EngineImpl::Addresses() {
  std::set<std::string> others;
  for (const RecordStore::File& file : LN_TRY(records_.All())) {
    if (file.record && (!file.record->mark || file.record->mark->instance != options_.instance))
      others.insert(file.record->container_id);
  }
  std::set<std::string> ours;
  {
    MutexLock lock(mu_);
    ours = unrecorded_;
    for (const auto& [pod, entry] : entries_) ours.insert(pod);
  }
  const std::map<std::string, std::string> failures = retry_.Failures();
  std::vector<AddressView> out;
  auto networks = ListDir(options_.ipam_dir);
  if (!networks && networks.error().IsErrno(ENOENT)) return out;
  if (!networks) return std::move(networks).error();
  for (const std::string& network : *networks) {
    ipam::LeaseStore store(JoinPath(options_.ipam_dir, network));
    auto holders = store.List(In(kLockTimeout));
    if (!holders && holders.error().IsErrno(ENOTDIR)) continue;  // a file of somebody else's
    if (!holders) return std::move(holders).error();
    for (const ipam::LeaseStore::Holder& h : *holders) {
      AddressView view{.network = network,
                       .address = h.address.str(),
                       .container = h.key.container_id,
                       .interface_name = h.key.ifname};
      view.owner = failures.contains(view.container) ? AddressView::Owner::kQuarantined
                   : ours.contains(view.container)   ? AddressView::Owner::kAttached
                   : others.contains(view.container) ? AddressView::Owner::kOther
                                                     : AddressView::Owner::kNobody;
      out.push_back(std::move(view));
    }
  }
  return out;
}

}  // namespace linnet::network
