// `linnet doctor`, as far as the network goes.
#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "engine/engine_impl.h"
#include "netlink/names.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

using Level = Finding::Level;

constexpr std::size_t kMostNamed = 5;  // the rest is counted

std::optional<std::uint64_t> NumberIn(const std::string& path) {
  const auto text = ReadFile(path);
  if (!text) return std::nullopt;
  const auto number = ParseNumber<std::uint64_t>(Trim(*text));
  return number ? std::optional(*number) : std::nullopt;
}

std::string Some(const std::vector<std::string>& all) {
  std::vector<std::string> named(
      all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), kMostNamed)));
  std::string out = Join(named, ", ");
  if (all.size() > kMostNamed) out += " and " + std::to_string(all.size() - kMostNamed) + " more";
  return out;
}

Finding KernelFinding() {
  utsname name{};
  unsigned major = 0;
  unsigned minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%u.%u", &major, &minor) != 2)
    return {Level::kWarning, "kernel", "its release is not known"};
  const std::string release = std::string("Linux ") + name.release;
  if (major > 6 || (major == 6 && minor >= 1)) return {Level::kOk, "kernel", release};
  return {Level::kWarning, "kernel", release + " is older than 6.1, the oldest that is tested"};
}

Finding ConntrackFinding() {
  const auto count = NumberIn("/proc/sys/net/netfilter/nf_conntrack_count");
  const auto max = NumberIn("/proc/sys/net/netfilter/nf_conntrack_max");
  if (!count || !max || *max == 0) {
    return {Level::kWarning, "connection tracking",
            "is not there yet: host ports and masquerading need it (modprobe nf_conntrack)"};
  }
  const std::string use = std::to_string(*count) + " of " + std::to_string(*max) + " entries";
  if (*count * 10 < *max * 9) return {Level::kOk, "connection tracking", use};
  return {Level::kProblem, "connection tracking",
          use + ": new connections will be dropped (raise net.netfilter.nf_conntrack_max)"};
}

}  // namespace

void EngineImpl::DiagnoseKernel(std::vector<Finding>& out) {
  out.push_back(KernelFinding());
  auto contents = host_->nft().Contents();
  out.push_back(contents ? Finding{Level::kOk, "nftables", "answer"}
                         : Finding{Level::kProblem, "nftables",
                                   contents.error().message() +
                                       " (the kernel needs CONFIG_NF_TABLES_INET, "
                                       "CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_NAT)"});
  out.push_back(ConntrackFinding());
  bool uses[2] = {false, false};
  for (const EntryPtr& entry : AllEntries()) {
    for (const Cidr& a : entry->attachment.addresses)
      uses[a.family() == Family::kV4 ? 0 : 1] = true;
  }
  const std::pair<const char*, const char*> sysctls[] = {
      {"net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"},
      {"net.ipv6.conf.all.forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"}};
  for (std::size_t i = 0; i < 2; ++i) {
    if (!uses[i]) continue;
    const auto [name, path] = sysctls[i];
    out.push_back(NumberIn(path).value_or(0) != 0
                      ? Finding{Level::kOk, "forwarding", std::string(name) + " is on"}
                      : Finding{Level::kProblem, "forwarding",
                                std::string(name) +
                                    " is off: pods reach nothing outside (sysctl -w " + name +
                                    "=1, and see who turns it off)"});
  }
}

void EngineImpl::DiagnoseNetwork(std::vector<Finding>& out) {
  const EngineStatus status = Status();
  std::string text = status.network + " (" + status.source + ")";
  if (!status.message.empty()) text += ": " + status.message;
  out.push_back({!status.ready            ? Level::kProblem
                 : status.message.empty() ? Level::kOk
                                          : Level::kWarning,
                 "network", text});
  auto missing = host_->nft().Missing("");
  if (!missing) {
    out.push_back({Level::kProblem, "tables", missing.error().message()});
  } else {
    out.push_back(missing->empty()
                      ? Finding{Level::kOk, "tables", "hold what they should"}
                      : Finding{Level::kProblem, "tables",
                                Some(*missing) + " (a restart of the daemon builds them again)"});
  }
  std::size_t well = 0;
  for (const PodCheck& check : CheckAll()) {
    if (check.error.empty()) {
      ++well;
    } else {
      out.push_back({Level::kProblem, "pod " + check.pod, check.error});
    }
  }
  out.push_back({Level::kOk, "pods", std::to_string(well) + " with their network as it should be"});
  out.push_back({Level::kOk, "namespaces",
                 std::to_string(pool_->ready()) + " of " + std::to_string(options_.pool_size) +
                     " are ready, about " + std::to_string(NetnsPool::kBytesEach >> 10U) +
                     " KiB of the kernel's memory each"});
}

void EngineImpl::DiagnoseLeftovers(std::vector<Finding>& out) {
  auto addresses = Addresses();
  std::map<std::string, std::vector<std::string>> quarantined;  // by pod
  std::map<std::string, std::vector<std::string>> nobodys;      // by network
  if (!addresses) out.push_back({Level::kProblem, "addresses", addresses.error().message()});
  for (const AddressView& a : std::move(addresses).value_or({})) {
    if (a.owner == AddressView::Owner::kQuarantined) quarantined[a.container].push_back(a.address);
    if (a.owner == AddressView::Owner::kNobody) nobodys[a.network].push_back(a.address);
  }
  for (const auto& [pod, why] : retry_.Failures()) {
    std::string text = "a plugin's DEL fails and is tried again, at the latest every 5 minutes";
    if (const auto q = quarantined.find(pod); q != quarantined.end())
      text += "; until then " + Some(q->second) + " stay reserved";
    out.push_back({Level::kWarning, "pod " + pod, text + ": " + why});
  }

  std::set<std::string> networks;  // whose addresses nobody else gives away
  std::set<std::string> names;     // of records
  std::set<std::string, std::less<>> owners;
  for (const EntryPtr& entry : AllEntries()) {
    const cni::Record& r = entry->record;
    networks.insert(r.network);
    names.insert(cni::RecordName(r.network, r.container_id, r.ifname));
    owners.insert(OwnerContainer(r.container_id));
  }
  {
    MutexLock lock(mu_);
    if (selection_.network) networks.insert(selection_.network->name);
    for (const std::string& pod : unrecorded_) {
      owners.insert(OwnerContainer(pod));
    }
  }
  networks.insert(default_.name());
  for (const auto& [network, list] : nobodys) {
    if (!networks.contains(network)) continue;
    out.push_back({Level::kWarning, "addresses",
                   Some(list) + " of network " + network +
                       " belong to no pod (`linnet network gc` frees them)"});
  }
  std::vector<std::string> links;
  host_->DrainRetired();  // else those of pods that just went would be named
  for (const OwnedLink& link : host_->OwnedLinks().value_or({})) {
    if (!owners.contains(ContainerOf(link.owner))) links.push_back(link.name);
  }
  if (!links.empty()) {
    out.push_back({Level::kWarning, "links",
                   Some(links) + " belong to no pod (`linnet network gc` deletes them)"});
  }
  std::vector<std::string> torn;
  for (const RecordStore::File& file : records_.All().value_or({})) {
    const bool ours =
        file.record && file.record->mark && file.record->mark->instance == options_.instance;
    if (!file.record || (ours && !names.contains(file.name))) torn.push_back(file.name);
  }
  if (!torn.empty()) {
    out.push_back({Level::kWarning, "records",
                   Some(torn) + " in " + JoinPath(options_.cache_dir, "results") +
                       " are torn or of no pod (a restart of the daemon removes its own)"});
  }
}

std::vector<Finding> EngineImpl::Diagnose() {
  std::vector<Finding> out;
  DiagnoseKernel(out);
  DiagnoseNetwork(out);
  DiagnoseLeftovers(out);
  return out;
}

}  // namespace linnet::network
