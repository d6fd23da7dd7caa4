// Construction, namespaces, choice of the network, status.
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/base/text.h"

#include "engine/engine_impl.h"
#include "nft/nft_table.h"

namespace linnet::network {
namespace {

constexpr auto kStatusTimeout = std::chrono::seconds(5);

std::string DelegateDir(const EngineOptions& options) {
  return options.linnet_cni_path.empty() ? std::string() : JoinPath(options.state_dir, "cni-bin");
}

ExecOptions ToExecOptions(const EngineOptions& options) {
  ExecOptions out;
  out.bin_dirs = options.bin_dirs;
  out.delegate_dir = DelegateDir(options);
  // Our own plugins, where a foreign one calls them.
  out.environment = {"LINNET_IPAM_DIR=" + options.ipam_dir, "LINNET_INSTANCE=" + options.instance,
                     "LINNET_STATE_DIR=" + options.state_dir};
  out.cgroup_root = options.cgroup_root;
  out.timeout = options.plugin_timeout;
  return out;
}

DefaultNetworkOptions ToDefaultOptions(const EngineOptions& options) {
  DefaultNetworkOptions out;
  out.name = options.instance.empty() ? "linnet" : "linnet-" + options.instance;
  out.bridge = !options.bridge.empty()    ? options.bridge
               : options.instance.empty() ? "linnet0"
                                          : "ln" + options.instance + "0";
  out.subnets = options.subnets;
  out.ipam_dir = options.ipam_dir;
  return out;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options) {
  EngineImpl::Parts parts;
  parts.host = LN_TRY(HostNetwork::Create(
      {.instance = options.instance, .mode = NftMode::kDaemon, .state_dir = options.state_dir}));
  parts.plugins = MakeBuiltinPlugins();
  return std::unique_ptr<Engine>(LN_TRY(EngineImpl::Make(options, std::move(parts))));
}

EngineImpl::EngineImpl(const EngineOptions& options, Parts parts)
    : options_(options),
      status_fresh_(parts.status_fresh),
      host_(std::move(parts.host)),
      registry_(std::move(parts.plugins)),
      exec_(ToExecOptions(options)),
      chain_(*host_, registry_, exec_,
             {.ipam_dir = options.ipam_dir,
              .instance = options.instance,
              .prefer_external = options.prefer_external}),
      records_(JoinPath(options.cache_dir, "results")),
      intents_(JoinPath(options.state_dir, "attaching"), RecordStore::Writing::kInPlace),
      default_(ToDefaultOptions(options)),
      pool_(std::make_unique<NetnsPool>(options.pool_size)),
      retry_([this](const std::string& pod) { return RetryDel(pod); }, parts.first_retry) {}

Result<std::unique_ptr<EngineImpl>> EngineImpl::Make(const EngineOptions& options, Parts parts) {
  std::unique_ptr<EngineImpl> engine(new EngineImpl(options, std::move(parts)));
  LN_TRY_CTX(engine->LinkDelegates(), "links to the built-in plugins");
  // What is configured is wrong now or never; what is chosen waits for the first pod.
  if (!options.subnets.empty()) LN_TRY(engine->default_.Get());
  // Watched first, read then: nothing is missed in between.
  auto watcher = DirWatcher::Create(options.conf_dir, [raw = engine.get()] { raw->Reload(); });
  if (watcher) {
    engine->watcher_ = *std::move(watcher);
  } else {
    log::Debug("configuration is not watched", {{"err", watcher.error()}});
  }
  engine->Reload();
  NftTable* nft = &engine->host_->nft();
  auto tables = NftWatcher::Create(
      nft->name(), [nft] { return nft->PortId(); },
      [raw = engine.get()](NftWatcher::What what) { raw->TablesChanged(what); });
  if (tables) {
    engine->nft_watcher_ = *std::move(tables);
  } else {  // Status still heals
    log::Debug("nftables are not watched", {{"err", tables.error()}});
  }
  return engine;
}

void EngineImpl::TablesChanged(NftWatcher::What what) {
  auto healed = what == NftWatcher::What::kOurs ? host_->nft().BuildAgain() : Ok();
  if (healed) healed = host_->Heal();
  log::Debug("somebody changed nftables: built again",
             {{"err", healed ? std::string() : healed.error().message()}});
}

EngineImpl::~EngineImpl() {
  nft_watcher_.reset();
  watcher_.reset();
  retry_.Stop();
}

Result<void> EngineImpl::LinkDelegates() const {
  const std::string dir = DelegateDir(options_);
  if (dir.empty()) return Ok();
  LN_TRY(MakeDirs(dir, 0755));
  for (const std::string& type : registry_.Types()) {
    const std::string link = JoinPath(dir, type);
    auto target = ReadLink(link);
    if (target && *target == options_.linnet_cni_path) continue;
    LN_TRY(RemoveFile(link));
    if (symlink(options_.linnet_cni_path.c_str(), link.c_str()) != 0 && errno != EEXIST) {
      return Error::FromErrno(errno, "link " + link);
    }
  }
  return Ok();
}

// --- namespaces

Result<PodNetns> EngineImpl::PinFor(const PodId& pod, UniqueFd netns) {
  PodNetns out;
  const NetnsId id = LN_TRY(IdentityOf(netns));
  if (id == host_->own_netns()) {
    return cni::CniError(cni::ErrorCode::kInvalidNetns,
                         "pod " + pod.str() + ": the namespace is the host's");
  }
  out.path = PinPath(options_.netns_dir, options_.instance, pod.str());
  LN_TRY(Pin(out.path, netns));
  out.fd = std::move(netns);
  out.device = id.device;
  out.inode = id.inode;
  return out;
}

Result<PodNetns> EngineImpl::TakeNetns(const PodId& pod) {
  ReadyNetns ready = LN_TRY(pool_->Take());
  PodNetns out = LN_TRY(PinFor(pod, std::move(ready.fd)));
  MutexLock lock(mu_);
  ready_.insert_or_assign(pod.str(),
                          std::pair(NetnsId{out.device, out.inode}, std::move(ready.side)));
  return out;
}

Result<PodNetns> EngineImpl::AdoptNetns(const PodId& pod, FdRef netns) {
  return PinFor(pod, LN_TRY(Dup(netns)));
}

Result<PodNetns> EngineImpl::OpenNetns(const PodId& pod) {
  PodNetns out;
  out.path = PinPath(options_.netns_dir, options_.instance, pod.str());
  out.fd = LN_TRY(OpenPinned(out.path));
  const NetnsId id = LN_TRY(IdentityOf(out.fd));
  if (id == host_->own_netns()) return NotFound(out.path + " is the host's namespace");
  out.device = id.device;
  out.inode = id.inode;
  return out;
}

// What is open in the namespace: of the one that TakeNetns gave, or opened at its first use.
std::unique_ptr<PodSide> EngineImpl::SideOf(const PodId& pod, FdRef netns, const NetnsId& id) {
  MutexLock lock(mu_);
  const auto found = ready_.find(pod.str());
  if (found == ready_.end()) return std::make_unique<PodSide>(netns);
  auto [of, side] = std::move(found->second);
  ready_.erase(found);
  return of == id ? std::move(side) : std::make_unique<PodSide>(netns);
}

Result<void> EngineImpl::ReleaseNetns(const PodId& pod) {
  {
    MutexLock lock(mu_);
    ready_.erase(pod.str());  // it would keep the namespace alive
  }
  return Unpin(PinPath(options_.netns_dir, options_.instance, pod.str()));
}

// --- the network of new pods

void EngineImpl::Reload() {
  MutexLock one(reload_mu_);
  Selection before;
  {
    MutexLock lock(mu_);
    before = selection_;
  }
  Selection now = SelectNetwork(options_.conf_dir, before);
  // The same text is the same network: what is remembered of it stays valid.
  if (now.network && before.network && now.network->text == before.network->text &&
      now.network->source == before.network->source) {
    now.network = before.network;
  }
  log::Debug(
      "network configuration read",
      {{"name", now.network ? now.network->name : std::string("built-in")}, {"err", now.error}});
  MutexLock lock(mu_);
  selection_ = std::move(now);
}

Result<std::shared_ptr<const cni::NetworkConf>> EngineImpl::CurrentNetwork() {
  Selection selection;
  {
    MutexLock lock(mu_);
    selection = selection_;
  }
  switch (selection.rules) {
    case Rules::kFile:
      return selection.network;
    case Rules::kBuiltin:
      return default_.Get();
    case Rules::kNothing:
      break;
  }
  return Unavailable("no usable network configuration: " + selection.error);
}

Result<void> EngineImpl::SetPodCidr(const std::string& cidrs) {
  {
    MutexLock lock(mu_);
    if (selection_.rules == Rules::kFile)
      log::Debug("pod CIDR does not concern the configured network", {{"cidr", cidrs}});
  }
  return default_.SetPodCidr(cidrs);
}

// --- status

EngineStatus EngineImpl::AskedStatus(const std::shared_ptr<const cni::NetworkConf>& network) {
  EngineStatus out;
  const auto now = std::chrono::steady_clock::now();
  {
    // kubelet asks every few seconds, and a foreign plugin's answer costs a process.
    MutexLock lock(mu_);
    if (last_status_.network == network && now - last_status_.at < status_fresh_) {
      out.ready = last_status_.error.empty();
      out.message = last_status_.error;
      return out;
    }
  }
  Result<void> state = chain_.Validate(*network, now + kStatusTimeout);
  if (state) state = chain_.Status(*network, chain_.Foreign(*network), now + kStatusTimeout);
  out.ready = state.has_value();
  if (!state) out.message = state.error().message();
  MutexLock lock(mu_);
  last_status_ = {network, std::chrono::steady_clock::now(), out.message};
  return out;
}

EngineStatus EngineImpl::Status() {
  if (watcher_) watcher_->Verify();
  Selection selection;
  {
    MutexLock lock(mu_);
    selection = selection_;
  }
  EngineStatus out;
  if (selection.rules == Rules::kFile) {
    out = AskedStatus(selection.network);
    out.network = selection.network->name;
    out.source = selection.network->source;
  } else if (selection.rules == Rules::kBuiltin) {
    // Before the first pod its subnets may not be chosen yet: there is nobody to ask.
    const auto network = default_.Known();
    if (network) out = AskedStatus(network);
    if (!network) out.message = default_.failure();
    out.ready = out.message.empty();
    out.network = default_.name();
    out.source = "built-in";
  }
  if (!selection.error.empty()) {
    out.ready = false;
    out.message = selection.error;
  }
  if (!out.ready) out.reason = "NetworkPluginNotReady";
  const auto add = [&](const std::string& text) {
    out.message += (out.message.empty() ? "" : "; ") + text;
  };
  if (!selection.note.empty()) add("passed over: " + selection.note);
  for (const auto& [pod, why] : retry_.Failures())
    add("detaching pod " + pod + " is tried again: " + why);
  return out;
}

}  // namespace linnet::network
