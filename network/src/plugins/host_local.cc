// host-local: addresses from ranges, kept in files of this host (the store is linnet::ipam).
#include <algorithm>
#include <map>

#include "linnet/base/file.h"
#include "linnet/base/mutex.h"
#include "linnet/base/text.h"
#include "linnet/ipam/lease_store.h"

#include "cni/args.h"
#include "cni/version.h"
#include "plugins/ipam_conf.h"
#include "plugins/plugin.h"

namespace linnet::network {
namespace {

constexpr std::string_view kDefaultDataDir = "/var/lib/cni/networks";
constexpr std::size_t kMaxResolvConfBytes = 64U << 10;
constexpr auto kLockTimeout = std::chrono::seconds(10);

struct Conf {
  std::vector<ipam::RangeSet> sets;
  std::vector<IpAddress> requested;
  std::vector<cni::Route> routes;
  std::string resolv_conf;
};

Result<ipam::Range> ParseRange(const JsonView& view) {
  ipam::RangeSpec spec;
  spec.subnet = LN_TRY(view.Required<std::string>("subnet"));
  spec.range_start = LN_TRY(view.Optional<std::string>("rangeStart", ""));
  spec.range_end = LN_TRY(view.Optional<std::string>("rangeEnd", ""));
  spec.gateway = LN_TRY(view.Optional<std::string>("gateway", ""));
  auto range = ipam::Range::Make(spec);
  if (!range) return view.Fail(range.error().message());
  return range;
}

Result<void> ParseSets(const JsonView& parent, std::string_view key,
                       std::vector<ipam::RangeSet>& out) {
  for (const JsonView& set : LN_TRY(parent.Array(key))) {
    std::vector<ipam::Range> ranges;
    for (const JsonView& range : LN_TRY(set.Elements()))
      ranges.push_back(LN_TRY(ParseRange(range)));
    auto made = ipam::RangeSet::Make(std::move(ranges));
    if (!made) return set.Fail(made.error().message());
    out.push_back(*std::move(made));
  }
  return Ok();
}

// Sets in the order of upstream: what the runtime asks for, the old single range, the list.
Result<std::vector<ipam::RangeSet>> AllSets(const JsonView& conf, const JsonView& ipam) {
  std::vector<ipam::RangeSet> sets;
  if (const auto runtime = LN_TRY(conf.Find("runtimeConfig")))
    LN_TRY(ParseSets(*runtime, "ipRanges", sets));
  if (LN_TRY(ipam.Find("subnet"))) {
    ipam::Range range = LN_TRY(ParseRange(ipam));
    sets.push_back(LN_TRY(ipam::RangeSet::Make({std::move(range)})));
  }
  LN_TRY(ParseSets(ipam, "ranges", sets));
  if (sets.empty()) return ipam.Fail("no IP ranges specified");
  LN_TRY_CTX(ipam::CheckDisjoint(sets), ipam.path());
  return sets;
}

Result<void> CheckFamilies(const std::vector<ipam::RangeSet>& sets, const std::string& version) {
  int v4 = 0;
  int v6 = 0;
  for (const auto& set : sets) ++(set.family() == Family::kV4 ? v4 : v6);
  if (!cni::AtLeast(version, "0.3.0") && (v4 > 1 || v6 > 1)) {
    return InvalidArgument("CNI version " + version +
                           " does not support more than 1 address per family");
  }
  return Ok();
}

// Addresses asked for by name, from all three places.
Result<std::vector<IpAddress>> Requested(const JsonView& conf, const PluginRequest& request) {
  std::vector<std::string> texts;
  const cni::Args args = LN_TRY(cni::ParseArgs(request.args));
  if (const auto ip = cni::FindArg(args, "IP"); ip && !ip->empty()) texts.push_back(*ip);
  for (std::string& text : LN_TRY(ArgsIps(conf))) texts.push_back(std::move(text));
  for (std::string& text : LN_TRY(RuntimeIps(conf))) texts.push_back(std::move(text));
  std::vector<IpAddress> out;
  for (const std::string& text : texts)
    out.push_back(LN_TRY_CTX(ParseHostPart(text), "requested address"));
  return out;
}

Result<Conf> ParseConf(const PluginRequest& request) {
  const JsonView conf(*request.conf, "$", KeyMatch::kIgnoreCase);
  const JsonView ipam = LN_TRY(IpamSection(conf));
  Conf out;
  out.sets = LN_TRY(AllSets(conf, ipam));
  LN_TRY(CheckFamilies(out.sets, request.cni_version));
  out.requested = LN_TRY(Requested(conf, request));
  out.routes = LN_TRY(ParseRoutes(ipam));
  out.resolv_conf = LN_TRY(ipam.Optional<std::string>("resolvConf", ""));
  return out;
}

Result<cni::Dns> ReadResolvConf(const std::string& path) {
  const std::string text = LN_TRY(ReadFile(path, kMaxResolvConfBytes));
  cni::Dns dns;
  for (const std::string& line : Split(text, '\n')) {
    const std::vector<std::string> words = SplitFields(line);
    if (words.size() < 2 || words[0].front() == '#' || words[0].front() == ';') continue;
    if (words[0] == "nameserver") dns.nameservers.push_back(words[1]);
    if (words[0] == "domain") dns.domain = words[1];
    if (words[0] == "search") dns.search.insert(dns.search.end(), words.begin() + 1, words.end());
    if (words[0] == "options")
      dns.options.insert(dns.options.end(), words.begin() + 1, words.end());
  }
  return dns;
}

class HostLocal final : public Plugin {
 public:
  std::string_view type() const override { return "host-local"; }

  Result<cni::AddResult> Add(PluginContext& context, const PluginRequest& request) override {
    const Conf conf = LN_TRY(ParseConf(request));
    cni::AddResult result;
    if (!conf.resolv_conf.empty()) result.dns = LN_TRY(ReadResolvConf(conf.resolv_conf));
    ipam::LeaseStore* store = LN_TRY(StoreOf(context, request));
    for (const ipam::Lease& lease :
         LN_TRY(store->Acquire(KeyOf(request), conf.sets, conf.requested, LockDeadline(request)))) {
      result.ips.push_back({.interface = {}, .address = lease.address, .gateway = lease.gateway});
    }
    result.routes = conf.routes;
    return result;
  }

  Result<void> Check(PluginContext& context, const PluginRequest& request) override {
    ipam::LeaseStore* store = LN_TRY(StoreOf(context, request));
    const bool held = LN_TRY(store->Holds(KeyOf(request), LockDeadline(request)));
    if (held) return Ok();
    return NotFound("host-local: Failed to find address added by container " +
                    request.container_id);
  }

  Result<void> Del(PluginContext& context, const PluginRequest& request) override {
    ipam::LeaseStore* store = LN_TRY(StoreOf(context, request));
    return store->Release(KeyOf(request), LockDeadline(request));
  }

  Result<void> Gc(PluginContext& context, const PluginRequest& request,
                  const std::vector<ValidAttachment>& valid) override {
    std::map<std::string, std::vector<std::string>> interfaces;
    for (const ValidAttachment& attachment : valid)
      interfaces[attachment.container_id].push_back(attachment.ifname);
    const auto keep = [&](const ipam::LeaseKey& key) {
      const auto it = interfaces.find(key.container_id);
      if (it == interfaces.end()) return false;
      return key.ifname.empty() ||
             std::find(it->second.begin(), it->second.end(), key.ifname) != it->second.end();
    };
    ipam::LeaseStore* store = LN_TRY(StoreOf(context, request));
    LN_TRY(store->Sweep(keep, LockDeadline(request)));
    return Ok();
  }

  Result<void> Status(PluginContext& context, const PluginRequest& request) override {
    const Conf conf = LN_TRY(ParseConf(request));
    ipam::LeaseStore* store = LN_TRY(StoreOf(context, request));
    for (const ipam::RangeSet& set : conf.sets) {
      if (LN_TRY(store->Free(set, LockDeadline(request))) > 0) continue;
      return cni::CniError(cni::ErrorCode::kNotAvailable,
                           "no IP addresses available in range set: " + set.str());
    }
    return Ok();
  }

 private:
  // Another program that never gives the lock back must not hold up a pod whose caller set no
  // limit.
  static Deadline LockDeadline(const PluginRequest& request) {
    return std::min(request.deadline, std::chrono::steady_clock::now() + kLockTimeout);
  }
  static ipam::LeaseKey KeyOf(const PluginRequest& request) {
    return {request.container_id, request.ifname};
  }

  // One store for each directory, for as long as the plugin lives.
  Result<ipam::LeaseStore*> StoreOf(const PluginContext& context, const PluginRequest& request) {
    const JsonView conf(*request.conf, "$", KeyMatch::kIgnoreCase);
    const JsonView ipam = LN_TRY(IpamSection(conf));
    std::string base = LN_TRY(ipam.Optional<std::string>("dataDir", ""));
    if (base.empty())
      base = context.ipam_dir.empty() ? std::string(kDefaultDataDir) : context.ipam_dir;
    const std::string directory = JoinPath(base, request.network);
    MutexLock lock(mu_);
    auto& store = stores_[directory];
    if (!store) store = std::make_unique<ipam::LeaseStore>(directory);
    return store.get();
  }

  Mutex mu_;
  std::map<std::string, std::unique_ptr<ipam::LeaseStore>> stores_ LN_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<Plugin> MakeHostLocalPlugin() { return std::make_unique<HostLocal>(); }

}  // namespace linnet::network
