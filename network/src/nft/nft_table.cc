#include "nft/nft_table.h"

// Before linux/in.h, which steps back for it (linux/libc-compat.h); not the other way round.
// clang-format off
#include <netinet/in.h>
// clang-format on

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cerrno>

#include "netlink/names.h"
#include "nft/elements.h"
#include "nft/rule_builder.h"
#include "nft/schema.h"

namespace linnet::network {
namespace {

constexpr NftFamily kBothFamilies[] = {NftFamily::kInet, NftFamily::kBridge};

bool IsShared(const std::string& owner) { return owner.starts_with('@'); }

bool OfPortmap(const NftElement& e) {
  return IsHostPort(e) || e.set.starts_with("hairpin4") || e.set.starts_with("hairpin6") ||
         e.set.starts_with("masqall");
}

bool OfFirewall(const NftElement& e) { return e.set.starts_with("admitted"); }

bool In(const NftElement& e, NftTable::Part part) {
  if (part == NftTable::Part::kAll) return true;
  if (part == NftTable::Part::kHostPorts) return OfPortmap(e);
  if (part == NftTable::Part::kFirewall) return OfFirewall(e);
  if (part == NftTable::Part::kButFirewall) return !OfFirewall(e);
  return !OfPortmap(e) && !OfFirewall(e) && !e.set.starts_with("port_");
}

bool Uses(const std::vector<NftElement>& elements, NftFamily family) {
  return std::any_of(elements.begin(), elements.end(),
                     [&](const NftElement& e) { return e.family == family; });
}

// The owner as people know it: the container.
Error Taken(const HostPort& port, const std::string& owner, const std::string& where = "") {
  return AlreadyExists(Describe(port) + " is in use by " + std::string(ContainerOf(owner)) + where);
}

}  // namespace

Result<std::unique_ptr<NftTable>> NftTable::Create(const Options& options) {
  NftSocket socket = LN_TRY(NftSocket::Open());
  return std::unique_ptr<NftTable>(new NftTable(options, std::move(socket)));
}

// --- the mirror

const NftTable::Entry* NftTable::Find(const NftElement& element) const {
  const auto set = mirror_.find({element.family, element.set});
  if (set == mirror_.end()) return nullptr;
  const auto entry = set->second.find(element.key);
  return entry == set->second.end() ? nullptr : &entry->second;
}

void NftTable::Remember(const std::string& owner, const NftElement& element) {
  Forget(element);
  mirror_[{element.family, element.set}][element.key] = {element.data, owner};
  by_owner_[owner].push_back(element);
}

void NftTable::Forget(const NftElement& element) {
  const auto set = mirror_.find({element.family, element.set});
  if (set == mirror_.end()) return;
  const auto entry = set->second.find(element.key);
  if (entry == set->second.end()) return;
  if (const auto owned = by_owner_.find(entry->second.owner); owned != by_owner_.end()) {
    std::erase_if(owned->second, [&](const NftElement& e) {
      return e.family == element.family && e.set == element.set && e.key == element.key;
    });
    if (owned->second.empty()) by_owner_.erase(owned);
  }
  set->second.erase(entry);
}

// --- adding

Result<void> NftTable::Add(const std::string& owner, const std::vector<NftElement>& elements) {
  if (elements.empty()) return Ok();
  const MutexLock lock(mu_);
  return options_.mode == NftMode::kDaemon ? AddAsOnlyWriter(owner, elements)
                                           : AddAsOneOfMany(owner, elements);
}

Result<void> NftTable::RefusePortsOfOthers(const std::vector<NftElement>& elements) {
  if (std::none_of(elements.begin(), elements.end(), IsHostPort)) return Ok();
  for (const std::string& table : LN_TRY(socket_.ListTables(NftFamily::kInet))) {
    if (table == options_.name || (table != "linnet" && !table.starts_with("linnet-"))) continue;
    for (const NftElement& element : elements) {
      if (!IsHostPort(element)) continue;
      const auto found = LN_TRY(socket_.FindElement(table, element));
      if (found)
        return Taken(*ParseHostPort(element), found->owner, " (in nftables table " + table + ")");
    }
  }
  return Ok();
}

Result<void> NftTable::RefuseTakenPorts(const std::string& owner,
                                        const std::vector<NftElement>& elements) {
  for (const NftElement& element : elements) {
    const auto wanted = ParseHostPort(element);
    if (!wanted) continue;
    if (const Entry* entry = Find(element); entry != nullptr && entry->owner != owner)
      return Taken(*wanted, entry->owner);
    if (IsMadeOnDemand(element.set)) continue;
    // An address against every address: the kernel's map would send both where the more specific
    // one says.
    const char* other_base = wanted->host_ip ? "hostport" : "hostipport";
    const auto others =
        mirror_.find({NftFamily::kInet, std::string(other_base) + element.set.back()});
    if (others == mirror_.end()) continue;
    for (const auto& [key, entry] : others->second) {
      const auto other = ParseHostPort({others->first.second, NftFamily::kInet, key, entry.data});
      if (other && entry.owner != owner && Overlap(*wanted, *other))
        return Taken(*other, entry.owner);
    }
  }
  return RefusePortsOfOthers(elements);
}

Result<void> NftTable::AddAsOnlyWriter(const std::string& owner,
                                       const std::vector<NftElement>& elements) {
  LN_TRY(RefuseTakenPorts(owner, elements));
  std::vector<NftElement> fresh;
  NftBatch batch;
  bool rebuild = doubtful_;
  for (const NftElement& element : elements) {
    const Entry* entry = Find(element);
    if (entry != nullptr && entry->data == element.data &&
        (entry->owner == owner || IsShared(owner)))
      continue;
    if (entry != nullptr) batch.DelElement(options_.name, element);
    batch.AddElement(options_.name, element, owner);
    fresh.push_back(element);
    // A table or a set of a new subnet is still to be made: the build knows how.
    if (!Exists(element.family)) rebuild = true;
    if (IsMadeOnDemand(element.set) && !mirror_.contains({element.family, element.set}))
      rebuild = true;
  }
  if (fresh.empty()) return Settle();
  if (!rebuild) {
    if (auto done = Commit(batch); !done) {
      // ENOENT: the ruleset was flushed, or an element was deleted by hand; EEXIST: added by hand.
      // Ours is right.
      if (!done.error().IsErrno(ENOENT) && !done.error().IsErrno(EEXIST)) return done;
      rebuild = true;
    }
  }
  std::vector<std::pair<NftElement, Entry>> replaced;
  for (const NftElement& element : fresh) {
    if (const Entry* entry = Find(element)) replaced.emplace_back(element, *entry);
    Remember(owner, element);
  }
  if (!rebuild) return Ok();
  auto built = Rebuild();
  if (built) return Ok();
  for (const NftElement& element : fresh) Forget(element);
  for (const auto& [element, entry] : replaced)
    Remember(entry.owner, {element.set, element.family, element.key, entry.data});
  return built;
}

Result<void> NftTable::Commit(NftBatch& batch) {
  auto done = socket_.Commit(batch);
  if (!done) doubtful_ = true;
  return done;
}

Result<void> NftTable::Rebuild() {
  doubtful_ = true;
  NftBatch batch;
  bool want[2] = {inet_, bridge_};
  for (const auto& [place, entries] : mirror_) {
    if (!entries.empty()) want[place.first == NftFamily::kInet ? 0 : 1] = true;
  }
  for (const NftFamily family : kBothFamilies) {
    if (!want[family == NftFamily::kInet ? 0 : 1]) continue;
    const NftTableName table = Name(family);
    // Creating makes deleting safe whether it was there or not; all of it is one transaction: no
    // packet sees the gap.
    batch.AddTable(table);
    batch.DelTable(table);
    AddSchema(batch, table, {.isolate_networks = options_.mode == NftMode::kDaemon});
    for (const auto& [place, entries] : mirror_) {
      if (place.first != family) continue;
      if (IsMadeOnDemand(place.second)) AddSetOnDemand(batch, table, place.second);
      for (const auto& [key, entry] : entries) {
        batch.AddElement(table.name, {place.second, family, key, entry.data}, entry.owner);
      }
    }
  }
  LN_TRY_CTX(socket_.Commit(batch), "build the tables of " + options_.name);
  inet_ = want[0];
  bridge_ = want[1];
  LN_TRY(RememberHandles());
  doubtful_ = false;
  return Ok();
}

Result<void> NftTable::RememberHandles() {
  if (inet_) inet_handle_ = LN_TRY(socket_.TableHandle(Name(NftFamily::kInet)));
  if (bridge_) bridge_handle_ = LN_TRY(socket_.TableHandle(Name(NftFamily::kBridge)));
  return Ok();
}

// --- removing

Result<void> NftTable::Delete(const std::vector<NftElement>& elements) {
  if (elements.empty()) return Ok();
  NftBatch batch;
  for (const NftElement& element : elements) batch.DelElement(options_.name, element);
  auto done = Commit(batch);
  if (!done && !done.error().IsErrno(ENOENT)) return done;
  for (const NftElement& element : elements) Forget(element);
  return done ? Ok() : Rebuild();
}

Result<void> NftTable::Remove(const std::string& owner, Part part) {
  if (options_.mode == NftMode::kExec) {
    return RemoveIf([&](const std::string& other) { return other.starts_with(owner); }, part);
  }
  const MutexLock lock(mu_);
  LN_TRY(Settle());
  std::vector<NftElement> doomed;
  for (auto i = by_owner_.lower_bound(owner); i != by_owner_.end() && i->first.starts_with(owner);
       ++i) {
    for (const NftElement& element : i->second) {
      if (In(element, part)) doomed.push_back(element);
    }
  }
  return Delete(doomed);
}

Result<void> NftTable::RemoveIf(const std::function<bool(const std::string&)>& gone, Part part) {
  const MutexLock lock(mu_);
  if (options_.mode == NftMode::kExec) {
    return TryRemoveIf([&](const OwnedElement& e) { return In(e.element, part) && gone(e.owner); });
  }
  LN_TRY(Settle());
  std::vector<NftElement> doomed;
  for (const auto& [owner, elements] : by_owner_) {
    if (IsShared(owner) || !gone(owner)) continue;
    for (const NftElement& element : elements) {
      if (In(element, part)) doomed.push_back(element);
    }
  }
  return Delete(doomed);
}

Result<void> NftTable::Drop(const std::string& owner, const std::vector<NftElement>& elements) {
  if (elements.empty()) return Ok();
  const MutexLock lock(mu_);
  const auto asked = [&](const NftElement& e) {
    return std::find(elements.begin(), elements.end(), e) != elements.end();
  };
  if (options_.mode == NftMode::kExec) {
    return TryRemoveIf([&](const OwnedElement& e) { return e.owner == owner && asked(e.element); });
  }
  LN_TRY(Settle());
  std::vector<NftElement> doomed;
  if (const auto owned = by_owner_.find(owner); owned != by_owner_.end())
    std::copy_if(owned->second.begin(), owned->second.end(), std::back_inserter(doomed), asked);
  return Delete(doomed);
}

Result<std::vector<NftElement>> NftTable::Of(const std::string& owner) {
  const MutexLock lock(mu_);
  if (options_.mode == NftMode::kDaemon) {
    const auto owned = by_owner_.find(owner);
    return owned == by_owner_.end() ? std::vector<NftElement>() : owned->second;
  }
  std::vector<NftElement> out;
  for (OwnedElement& e : LN_TRY(ListAll())) {
    if (e.owner == owner) out.push_back(std::move(e.element));
  }
  return out;
}

Result<std::vector<OwnedElement>> NftTable::Find(
    const std::function<bool(const std::string&)>& wanted) {
  const MutexLock lock(mu_);
  std::vector<OwnedElement> out;
  if (options_.mode == NftMode::kExec) {
    out = LN_TRY(ListAll());
    std::erase_if(out, [&](const OwnedElement& e) {
      return e.owner.empty() || IsShared(e.owner) || !wanted(e.owner);
    });
    return out;
  }
  for (const auto& [owner, elements] : by_owner_) {
    if (IsShared(owner) || !wanted(owner)) continue;
    for (const NftElement& e : elements) out.push_back({e, owner});
  }
  return out;
}

// --- health and recovery

Result<void> NftTable::Verify() {
  const MutexLock lock(mu_);
  if (options_.mode == NftMode::kExec) return Ok();
  LN_TRY(Settle());
  const bool inet_lost =
      inet_ && LN_TRY(socket_.TableHandle(Name(NftFamily::kInet))) != inet_handle_;
  const bool bridge_lost =
      bridge_ && LN_TRY(socket_.TableHandle(Name(NftFamily::kBridge))) != bridge_handle_;
  return inet_lost || bridge_lost ? Rebuild() : Ok();
}

Result<void> NftTable::BuildAgain() {
  const MutexLock lock(mu_);
  if (options_.mode == NftMode::kExec || (!inet_ && !bridge_)) return Ok();
  return Rebuild();
}

Result<std::vector<std::string>> NftTable::Missing(const std::string& owner) {
  const MutexLock lock(mu_);
  std::vector<std::string> out;
  if (options_.mode == NftMode::kExec) return out;
  for (const NftFamily family : kBothFamilies) {
    if (!Exists(family)) continue;
    const auto& known = family == NftFamily::kInet ? inet_handle_ : bridge_handle_;
    if (LN_TRY(socket_.TableHandle(Name(family))) == known) continue;
    out.push_back(std::string("table ") + (family == NftFamily::kInet ? "inet " : "bridge ") +
                  options_.name + " is missing or was made anew by somebody else");
  }
  if (!out.empty()) return out;
  for (auto i = by_owner_.lower_bound(owner); i != by_owner_.end() && i->first.starts_with(owner);
       ++i) {
    for (const NftElement& element : i->second) {
      const auto found = LN_TRY(socket_.FindElement(options_.name, element));
      if (found && found->element.data == element.data) continue;
      const auto port = ParseHostPort(element);
      out.push_back((port ? Describe(*port) : "an element of set " + element.set) +
                    " is missing in nftables");
    }
  }
  return out;
}

Result<std::vector<OwnedElement>> NftTable::Contents() {
  const MutexLock lock(mu_);
  return ListAll();
}

std::uint32_t NftTable::PortId() {
  const MutexLock lock(mu_);
  return socket_.port_id();
}

Result<std::vector<OwnedElement>> NftTable::ListAll() {
  std::vector<OwnedElement> all;
  for (const NftFamily family : kBothFamilies) {
    const NftTableName table = Name(family);
    for (const std::string& set : LN_TRY(socket_.ListSets(table))) {
      const auto spec = FindSet(family, set);
      if (!spec) continue;
      for (OwnedElement& e : LN_TRY(socket_.ListElements(table, set))) {
        // What somebody put in by hand in another shape is nobody's.
        if (e.element.key.size() == spec->key_length && e.element.data.size() == spec->data_length)
          all.push_back(std::move(e));
      }
    }
  }
  return all;
}

Result<void> NftTable::Recover(const std::function<bool(const std::string& owner)>& keep) {
  const MutexLock lock(mu_);
  if (options_.mode == NftMode::kExec) {
    return TryRemoveIf([&](const OwnedElement& e) { return !keep(e.owner); });
  }
  mirror_.clear();
  by_owner_.clear();
  for (const OwnedElement& e : LN_TRY(ListAll())) {
    if (!e.owner.empty() && (IsShared(e.owner) || keep(e.owner))) Remember(e.owner, e.element);
  }
  inet_ = LN_TRY(socket_.TableHandle(Name(NftFamily::kInet))).has_value();
  bridge_ = LN_TRY(socket_.TableHandle(Name(NftFamily::kBridge))).has_value();
  return inet_ || bridge_ ? Rebuild() : Ok();
}

Result<void> NftTable::AdmitForwarding(const std::string& link) {
  const MutexLock lock(mu_);
  for (const NftFamily family : {NftFamily::kIpv4, NftFamily::kIpv6}) {
    const NftTableName table{family, "filter"};
    if (!LN_TRY(socket_.ChainDrops(table, "FORWARD"))) continue;
    const std::string mark = options_.name + " " + link;
    NftBatch batch;
    const auto present = LN_TRY(socket_.ListRuleData(table, "FORWARD"));
    for (const bool in : {true, false}) {
      const std::string comment = mark + (in ? " in" : " out");
      const auto same = [&](const std::string& data) {
        return data.find(comment) != std::string::npos;
      };
      if (std::any_of(present.begin(), present.end(), same)) continue;
      RuleBuilder rule(family, "FORWARD", comment);
      // With the NUL: the whole name, as iptables writes it.
      rule.LoadMeta(in ? NFT_META_IIFNAME : NFT_META_OIFNAME)
          .Compare(std::string_view(link.c_str(), link.size() + 1))
          .Counter()
          .Verdict(NF_ACCEPT)
          .Comment(comment);
      batch.AddRule(table, rule.get(), comment);
    }
    if (!batch.empty()) LN_TRY_CTX(socket_.Commit(batch), "let iptables forward for " + link);
  }
  return Ok();
}

// --- one writer of many

Result<void> NftTable::AddAsOneOfMany(const std::string& owner,
                                      const std::vector<NftElement>& elements) {
  constexpr int kTries = 100;
  for (int i = 0;; ++i) {
    auto done = TryAdd(owner, elements);
    if (done || i + 1 == kTries) return done;
    // ERESTART: anybody on this host committed meanwhile. ENOENT, EEXIST: lost a race before
    // generations were compared.
    if (!done.error().IsErrno(ERESTART) && !done.error().IsErrno(EEXIST) &&
        !done.error().IsErrno(ENOENT))
      return done;
  }
}

Result<void> NftTable::TryAdd(const std::string& owner, const std::vector<NftElement>& elements) {
  NftBatch batch(LN_TRY(socket_.Generation()));
  bool any = false;
  std::vector<std::string> sets;
  for (const NftFamily family : kBothFamilies) {
    if (!Uses(elements, family)) continue;
    if (!LN_TRY(socket_.TableHandle(Name(family)))) {
      AddSchema(batch, Name(family), {.isolate_networks = false});
      any = true;
      continue;
    }
    const std::vector<std::string> present = LN_TRY(socket_.ListSets(Name(family)));
    if (family == NftFamily::kInet) sets = present;
    const auto lacks = [&](const NftSetSpec& set) {
      return std::find(present.begin(), present.end(), set.name) == present.end();
    };
    const auto fixed = FixedSets(family);
    if (std::none_of(fixed.begin(), fixed.end(), lacks)) continue;
    // Made by an earlier version of linnet: built again with what is in it.
    batch.DelTable(Name(family));
    AddSchema(batch, Name(family), {.isolate_networks = false});
    for (const std::string& set : present) {
      if (IsMadeOnDemand(set)) AddSetOnDemand(batch, Name(family), set);
      if (!FindSet(family, set)) continue;
      for (const OwnedElement& e : LN_TRY(socket_.ListElements(Name(family), set)))
        batch.AddElement(options_.name, e.element, e.owner);
    }
    any = true;
  }
  for (const NftElement& element : elements) {
    if (IsMadeOnDemand(element.set) &&
        std::find(sets.begin(), sets.end(), element.set) == sets.end()) {
      AddSetOnDemand(batch, Name(NftFamily::kInet), element.set);
      sets.push_back(element.set);
    }
    const auto found = LN_TRY(socket_.FindElement(options_.name, element));
    if (found && found->element.data == element.data && (found->owner == owner || IsShared(owner)))
      continue;
    const auto wanted = ParseHostPort(element);
    if (found && wanted && found->owner != owner) return Taken(*wanted, found->owner);
    if (wanted && !IsMadeOnDemand(element.set)) {
      const std::string other =
          std::string(wanted->host_ip ? "hostport" : "hostipport") + element.set.back();
      for (const OwnedElement& e : LN_TRY(socket_.ListElements(Name(NftFamily::kInet), other))) {
        const auto port = ParseHostPort(e.element);
        if (port && e.owner != owner && Overlap(*wanted, *port)) return Taken(*port, e.owner);
      }
    }
    if (found) batch.DelElement(options_.name, element);
    batch.AddElement(options_.name, element, owner);
    any = true;
  }
  LN_TRY(RefusePortsOfOthers(elements));
  return any ? socket_.Commit(batch) : Ok();
}

Result<void> NftTable::TryRemoveIf(const std::function<bool(const OwnedElement&)>& doomed) {
  constexpr int kTries = 100;
  for (int i = 0;; ++i) {
    NftBatch batch(LN_TRY(socket_.Generation()));
    for (const OwnedElement& e : LN_TRY(ListAll())) {
      if (!e.owner.empty() && !IsShared(e.owner) && doomed(e))
        batch.DelElement(options_.name, e.element);
    }
    if (batch.empty()) return Ok();
    auto done = socket_.Commit(batch);
    if (done || i + 1 == kTries ||
        (!done.error().IsErrno(ERESTART) && !done.error().IsErrno(ENOENT)))
      return done;
  }
}

}  // namespace linnet::network
