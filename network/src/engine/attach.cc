// Attach, Detach, Find, Check.
#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/ipam/lease_store.h"

#include "engine/engine_impl.h"
#include "netlink/names.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

constexpr const char* kInterface = "eth0";
constexpr auto kLongestDel = std::chrono::seconds(60);
constexpr auto kKillTimeout = std::chrono::seconds(5);
constexpr std::uint64_t kMinBurstBits = 8U * 64U * 1024U;
constexpr std::uint64_t kMaxBurstBits = 0xffffffffU;

const Json& LoopbackConf() {
  static const Json conf = {
      {"cniVersion", "1.1.0"}, {"name", "cni-loopback"}, {"type", "loopback"}};
  return conf;
}

// 50 ms of the rate, at least 64 KiB: the burst of the peers (512 MiB) is no limit at all.
void AddRate(Json& bandwidth, const char* direction,
             const std::optional<std::uint64_t>& bits_per_second) {
  if (!bits_per_second) return;
  bandwidth[std::string(direction) + "Rate"] = *bits_per_second;
  bandwidth[std::string(direction) + "Burst"] =
      std::clamp(*bits_per_second / 20, kMinBurstBits, kMaxBurstBits);
}

Json CapabilityArgs(const AttachRequest& request) {
  Json out = Json::object();
  for (const PortMapping& port : request.ports) {
    Json mapping = {{"hostPort", port.host_port},
                    {"containerPort", port.container_port},
                    {"protocol", port.protocol}};
    if (!port.host_ip.empty()) mapping["hostIP"] = port.host_ip;
    out["portMappings"].push_back(std::move(mapping));
  }
  Json bandwidth;
  AddRate(bandwidth, "ingress", request.ingress_bits_per_second);
  AddRate(bandwidth, "egress", request.egress_bits_per_second);
  if (!bandwidth.is_null()) out["bandwidth"] = std::move(bandwidth);
  if (!request.cgroup_path.empty()) out["cgroupPath"] = request.cgroup_path;
  return out;
}

// Addresses of `ifname`: those that name it, and those that name no interface.
std::vector<Cidr> AddressesOf(const cni::AddResult& result, const std::string& ifname) {
  std::vector<Cidr> out;
  for (const cni::IpConfig& ip : result.ips) {
    const auto index = static_cast<std::size_t>(ip.interface.value_or(0));
    const bool named = ip.interface && index < result.interfaces.size();
    if (named &&
        (result.interfaces[index].name != ifname || result.interfaces[index].sandbox.empty()))
      continue;
    out.push_back(ip.address);
  }
  return out;
}

Attachment ToAttachment(const cni::Record& record, const cni::AddResult& result) {
  Attachment out;
  out.network = record.network;
  out.interface_name = record.ifname;
  out.addresses = AddressesOf(result, record.ifname);
  out.result_json = record.result;
  return out;
}

}  // namespace

Result<void> EngineImpl::Write(const RecordStore& store, const Entry& entry) const {
  cni::Record record = entry.record;
  record.config = entry.network->text;
  return store.Write(record);
}

Subject EngineImpl::SubjectOf(const Entry& entry, Deadline deadline) {
  Subject subject;
  subject.container_id = entry.record.container_id;
  subject.ifname = entry.record.ifname;
  subject.netns_path = entry.record.netns;
  subject.args = cni::DumpArgs(entry.record.args).value_or("");
  subject.capability_args = entry.record.capability_args;
  if (entry.record.mark)
    subject.foreign.insert(entry.record.mark->foreign.begin(), entry.record.mark->foreign.end());
  subject.deadline = deadline;
  return subject;
}

void EngineImpl::Remember(const EntryPtr& entry) {
  MutexLock lock(mu_);
  entries_[entry->record.container_id] = entry;
}

Result<void> EngineImpl::Forget(const EntryPtr& entry) {
  const cni::Record& record = entry->record;
  const std::string name = cni::RecordName(record.network, record.container_id, record.ifname);
  LN_TRY(intents_.Remove(name));
  LN_TRY(records_.Remove(name));
  MutexLock lock(mu_);
  entries_.erase(record.container_id);
  return Ok();
}

// --- attach

Result<EngineImpl::EntryPtr> EngineImpl::NewEntry(const AttachRequest& request) {
  LN_TRY(cni::DumpArgs(request.args));
  auto entry = std::make_shared<Entry>();
  entry->network = LN_TRY(CurrentNetwork());
  cni::Record& record = entry->record;
  record.container_id = request.pod.str();
  record.ifname = kInterface;
  record.network = entry->network->name;
  record.netns = request.netns_path;
  record.args = request.args;
  record.capability_args = CapabilityArgs(request);
  record.mark.emplace();
  record.mark->instance = options_.instance;
  const std::set<std::string> foreign = chain_.Foreign(*entry->network);
  record.mark->foreign.assign(foreign.begin(), foreign.end());
  return EntryPtr(std::move(entry));
}

Result<void> EngineImpl::BringLoopbackUp(const AttachRequest& request, PodSide& side) {
  if (side.loopback_up()) return Ok();
  Plugin* loopback = registry_.Find("loopback");
  if (loopback == nullptr) return Ok();
  PluginContext context{.host = *host_,
                        .ipam_dir = options_.ipam_dir,
                        .instance = options_.instance,
                        .delegates = nullptr};
  PluginRequest lo;
  lo.container_id = request.pod.str();
  lo.ifname = "lo";
  lo.netns_path = request.netns_path;
  lo.netns = request.netns;
  lo.pod_side = &side;
  lo.network = "cni-loopback";
  lo.cni_version = "1.1.0";
  lo.conf = &LoopbackConf();
  lo.deadline = request.deadline;
  LN_TRY_CTX(loopback->Add(context, lo), "loopback");
  return Ok();
}

Result<EngineImpl::EntryPtr> EngineImpl::RunAdd(const AttachRequest& request, const Entry& intent,
                                                PodSide& side) {
  LN_TRY(BringLoopbackUp(request, side));
  Subject subject = SubjectOf(intent, request.deadline);
  subject.netns = request.netns;
  subject.pod_side = &side;
  ChainResult result = LN_TRY(chain_.Add(*intent.network, subject));
  auto done = std::make_shared<Entry>(intent);
  done->record.result = std::move(result.text);
  done->attachment = ToAttachment(done->record, result.result);
  LN_TRY_CTX(Write(records_, *done), "attachment record");
  LN_TRY(intents_.Remove(
      cni::RecordName(done->record.network, done->record.container_id, done->record.ifname)));
  return EntryPtr(std::move(done));
}

Result<Attachment> EngineImpl::Attach(const AttachRequest& request) {
  const auto ticket = LN_TRY(gate_.Enter(request.pod.str(), request.deadline));
  for (const EntryPtr& before : LN_TRY(EntriesOf(request.pod.str()))) {
    if (retry_.Contains(request.pod.str()))
      return FailedPrecondition("pod " + request.pod.str() + " is being detached");
    if (!before->record.result.empty()) return before->attachment;
    LN_TRY_CTX(Undo(before, Failing::kReport), "undo an earlier attempt");
  }
  const NetnsId netns = LN_TRY(IdentityOf(request.netns));
  if (netns == host_->own_netns())
    return cni::CniError(cni::ErrorCode::kInvalidNetns, "the namespace is the host's");
  const EntryPtr intent = LN_TRY(NewEntry(request));
  const auto side = SideOf(request.pod, request.netns, netns);
  if (auto written = Write(intents_, *intent); !written) {
    (void)intents_.Remove(cni::RecordName(intent->record.network, intent->record.container_id,
                                          intent->record.ifname));  // the write's error matters
    return std::move(written).error().With("attachment record");
  }
  Remember(intent);
  auto done = RunAdd(request, *intent, *side);
  if (!done) {
    auto undone = Undo(intent, Failing::kQueue);
    if (!undone)
      log::Debug("failed attachment not undone yet",
                 {{"pod", request.pod}, {"err", undone.error()}});
    return std::move(done).error();
  }
  Remember(*done);
  return (*done)->attachment;
}

// --- detach

std::shared_ptr<const cni::NetworkConf> EngineImpl::NetworkFrom(const std::string& config) {
  {
    MutexLock lock(mu_);
    if (auto known = parsed_[config].lock()) return known;
  }
  auto parsed = cni::ParseConfList(config);
  if (!parsed) return nullptr;
  auto network = std::make_shared<const cni::NetworkConf>(*std::move(parsed));
  MutexLock lock(mu_);
  parsed_[config] = network;
  return network;
}

// Null: its configuration cannot be read.
EngineImpl::EntryPtr EngineImpl::EntryFrom(cni::Record record) {
  auto entry = std::make_shared<Entry>();
  entry->network = NetworkFrom(record.config);
  if (!entry->network) return nullptr;
  record.config.clear();
  entry->record = std::move(record);
  if (!entry->record.result.empty()) {
    auto result = cni::ParseResult(entry->record.result, entry->network->version);
    if (result) entry->attachment = ToAttachment(entry->record, *result);
  }
  return entry;
}

// Nothing can be read of what was recorded, if anything was: what the names tell is undone.
Result<void> EngineImpl::UndoByOwner(const std::string& pod) {
  LN_TRY(host_->RetireLink(host_->LinkName(pod, kInterface), OwnerText(pod, kInterface)));
  const Deadline deadline = std::chrono::steady_clock::now() + kLongestDel;
  auto networks = ListDir(options_.ipam_dir);
  for (const std::string& name : networks ? *networks : std::vector<std::string>()) {
    ipam::LeaseStore store(JoinPath(options_.ipam_dir, name));
    auto swept =
        store.Sweep([&](const ipam::LeaseKey& key) { return key.container_id != pod; }, deadline);
    if (!swept && !swept.error().IsErrno(ENOTDIR)) return std::move(swept).error();
  }
  return Ok();
}

Result<void> EngineImpl::ReadEntries(std::vector<RecordStore::File> files, const std::string& pod,
                                     std::vector<EntryPtr>& out) {
  for (RecordStore::File& file : files) {
    EntryPtr entry;
    if (file.record) {
      if (!file.record->mark || file.record->mark->instance != options_.instance) continue;
      const auto same = [&](const EntryPtr& e) {
        return e->record.network == file.record->network;
      };
      if (std::any_of(out.begin(), out.end(), same)) continue;  // the record of what was an intent
      entry = EntryFrom(*std::move(file.record));
    }
    if (entry) {
      out.push_back(std::move(entry));
      continue;
    }
    LN_TRY_CTX(UndoByOwner(pod), "torn attachment record");
    LN_TRY(records_.Remove(file.name));
    LN_TRY(intents_.Remove(file.name));
  }
  return Ok();
}

Result<std::vector<EngineImpl::EntryPtr>> EngineImpl::EntriesOf(const std::string& pod) {
  {
    MutexLock lock(mu_);
    const auto it = entries_.find(pod);
    if (it != entries_.end()) return std::vector<EntryPtr>{it->second};
  }
  std::vector<EntryPtr> out;
  if (recovered_) return out;
  std::vector<RecordStore::File> files = LN_TRY(records_.Of(pod));
  LN_TRY(ReadEntries(std::move(files), pod, out));
  files = LN_TRY(intents_.Of(pod));
  LN_TRY(ReadEntries(std::move(files), pod, out));
  return out;
}

Result<void> EngineImpl::Undo(const EntryPtr& entry, Failing failing) {
  const std::string& pod = entry->record.container_id;
  const auto now = std::chrono::steady_clock::now();
  Subject subject =
      SubjectOf(*entry, now + std::min<std::chrono::seconds>(options_.plugin_timeout, kLongestDel));
  // What is not a namespace any more is gone, whatever lies at the path.
  UniqueFd netns;
  if (!subject.netns_path.empty()) {
    auto opened = network::OpenNetns(subject.netns_path);
    auto id = opened ? IdentityOf(*opened) : Result<NetnsId>(std::move(opened).error());
    if (id && *id != host_->own_netns()) {
      netns = *std::move(opened);
      subject.netns = netns;
    } else {
      subject.netns_path.clear();
    }
  }
  if (!subject.foreign.empty()) LN_TRY(exec_.cgroups().Kill(pod, now + kKillTimeout));
  DelReport report = chain_.Del(*entry->network, subject, entry->record.result);
  if (report.builtin) return *std::move(report.builtin);
  if (!report.foreign) return Forget(entry);
  if (failing == Failing::kReport) return *std::move(report.foreign);
  // An intent outlives no boot, what a plugin could not undo may.
  if (entry->record.result.empty()) LN_TRY(Write(records_, *entry));
  Remember(entry);
  retry_.Add(pod, report.foreign->message());
  return Ok();
}

Result<void> EngineImpl::Detach(const PodId& pod) {
  const auto ticket = LN_TRY(gate_.Enter(pod.str(), Deadline::max()));
  if (retry_.Contains(pod.str())) return Ok();
  const std::vector<EntryPtr> entries = LN_TRY(EntriesOf(pod.str()));
  for (const EntryPtr& entry : entries) LN_TRY(Undo(entry, Failing::kQueue));
  bool unrecorded = false;
  {
    MutexLock lock(mu_);
    unrecorded = unrecorded_.contains(pod.str());
  }
  // After a power loss the record may be lost, and an address file not.
  if (entries.empty() && (!recovered_ || unrecorded)) LN_TRY(UndoByOwner(pod.str()));
  MutexLock lock(mu_);
  unrecorded_.erase(pod.str());
  return Ok();
}

Result<void> EngineImpl::RetryDel(const std::string& pod) {
  const auto ticket = LN_TRY(gate_.Enter(pod, Deadline::max()));
  for (const EntryPtr& entry : LN_TRY(EntriesOf(pod))) LN_TRY(Undo(entry, Failing::kReport));
  return Ok();
}

// --- queries

std::optional<Attachment> EngineImpl::Find(const PodId& pod) const {
  if (retry_.Contains(pod.str())) return std::nullopt;
  MutexLock lock(mu_);
  const auto it = entries_.find(pod.str());
  if (it == entries_.end() || it->second->record.result.empty()) return std::nullopt;
  return it->second->attachment;
}

Result<void> EngineImpl::Check(const PodId& pod) {
  const auto ticket = LN_TRY(gate_.Enter(pod.str(), Deadline::max()));
  const std::vector<EntryPtr> entries = LN_TRY(EntriesOf(pod.str()));
  if (entries.empty() || entries.front()->record.result.empty())
    return NotFound("pod " + pod.str() + " is not attached");
  return CheckEntry(*entries.front());
}

Result<void> EngineImpl::CheckEntry(const Entry& entry) {
  Subject subject = SubjectOf(entry, std::chrono::steady_clock::now() + options_.plugin_timeout);
  const UniqueFd netns = LN_TRY(network::OpenNetns(entry.record.netns));
  subject.netns = netns;
  LN_TRY(chain_.Check(*entry.network, subject, entry.record.result));
  if (entry.network->disable_check) return Ok();
  // The plugins ask the mirror, which cannot know what others did to the kernel's tables.
  const auto missing =
      LN_TRY(host_->nft().Missing(OwnerText(entry.record.container_id, entry.record.ifname)));
  return missing.empty() ? Ok() : FailedPrecondition(missing.front());
}

}  // namespace linnet::network
