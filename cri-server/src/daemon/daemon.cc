#include "daemon.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <new>
#include <thread>

#include <grpcpp/impl/service_type.h>
#include <systemd/sd-daemon.h>

#include "linnet/base/file.h"
#include "linnet/base/log.h"
#include "linnet/network/engine.h"
#include "linnet/oci/image_admin.h"
#include "linnet/oci/image_store.h"
#include "linnet/pods/pod_manager.h"

#include "listener.h"
#include "lock.h"
#include "server.h"
#include "service/serve.h"
#include "service/services.h"
#include "streaming/server.h"

namespace linnet::cri {
namespace {

constexpr auto kStopGrace = std::chrono::seconds(2);
// Enough for a thousand pods; containers inherit the limit, and some programs walk all of it.
constexpr rlim_t kDescriptors = 65536;

sigset_t DaemonSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

std::string CgroupRoot(const std::string& instance) {
  return instance.empty() ? "/linnet" : "/linnet-" + instance;
}

oci::ImageStoreOptions ImageOptions(const Config& c) {
  oci::ImageStoreOptions o;
  o.root = c.root;
  o.registry_config_path = c.registry.config_path;
  o.max_concurrent_downloads = c.registry.max_concurrent_downloads;
  o.keep_unfinished = std::chrono::seconds(c.images.keep_unfinished_seconds);
  o.pinned = c.images.pinned;
  o.preload_dir = c.images.preload;
  return o;
}

network::EngineOptions NetworkOptions(const Config& c) {
  network::EngineOptions o;
  o.instance = c.instance;
  o.conf_dir = c.network.conf_dir;
  o.bin_dirs = c.network.bin_dirs;
  o.prefer_external = c.network.prefer_external;
  o.cache_dir = c.network.cache_dir;
  o.ipam_dir = c.network.ipam_dir;
  o.state_dir = c.state;
  o.linnet_cni_path = c.programs.cni;
  o.cgroup_root = CgroupRoot(c.instance);
  o.bridge = c.network.bridge;
  o.subnets = c.network.subnets;
  o.pool_size = c.network.pool_size;
  o.plugin_timeout = std::chrono::seconds(c.network.plugin_timeout_seconds);
  return o;
}

runtime::RuntimeOptions RuntimeOptionsOf(const Config& c) {
  return {.instance = c.instance,
          .state_dir = c.state,
          .cache_dir = JoinPath(c.root, "cache"),
          .keeper_path = c.programs.keeper,
          .cgroup_root = CgroupRoot(c.instance)};
}

pods::PodManagerOptions PodOptions(const Config& c) {
  pods::PodManagerOptions o;
  o.root = c.root;
  o.state_dir = c.state;
  o.cgroup_root = CgroupRoot(c.instance);
  o.devices = {.cdi_dirs = c.devices.cdi_dirs,
               .ownership_from_user = c.devices.ownership_from_security_context};
  return o;
}

streaming::ServerOptions StreamOptions(const Config::Streaming& c) {
  return {.address = c.address,
          .tls = {.certificate = c.tls_cert_file,
                  .key = c.tls_key_file,
                  .client_ca = c.tls_client_ca_file},
          .times = {.idle = std::chrono::seconds(c.idle_timeout_seconds),
                    .creation = std::chrono::seconds(c.creation_timeout_seconds)}};
}

struct Locks {
  UniqueFd state, root;
};

Result<Locks> TakeLocks(const Config& c) {
  // Others reach the socket, and containers with a user namespace of their own their layers,
  // through these.
  Locks locks;
  locks.state = LN_TRY(LockDirectory(c.state, 0711));
  locks.root = LN_TRY(LockDirectory(c.root, 0711));
  // What an interrupted import spooled has no name any more, or is here.
  auto removed = RemoveAll(JoinPath(c.root, "tmp"));
  if (!removed) log::Warn("left-over not removed, ignoring", {{"err", removed.error()}});
  return locks;
}

// Beside the calls, which are served meanwhile.
void Preload(oci::ImageAdmin& images, const std::stop_token& stop) {
  (void)pthread_setname_np(pthread_self(), "preload");  // for ps and gdb only
  const auto files = images.Preload(stop);
  if (!files) {
    if (!files.error().Is(Code::kCancelled))
      log::Err("archives not loaded, ignoring", {{"err", files.error()}});
    return;
  }
  for (const oci::PreloadedFile& file : *files) {
    if (!file.error.empty())
      log::Err("archive not loaded, ignoring", {{"name", file.file}, {"err", file.error}});
  }
  if (!files->empty()) log::Info("archives looked through", {{"files", files->size()}});
}

void Reload(const ConfigSources& sources) {
  auto loaded = LoadConfig(sources);
  auto options =
      loaded ? LogOptions(loaded->config.log) : Result<log::Options>(std::move(loaded).error());
  auto done = options ? log::Init(*options) : Result<void>(std::move(options).error());
  if (done) {
    log::Info("log settings reloaded, other settings count from the next start");
  } else {
    log::Err("configuration not reloaded", {{"err", done.error()}});
  }
}

// Returns with the signal that ends the daemon.
int WaitForEnd(const ConfigSources& sources) {
  const sigset_t set = DaemonSignals();
  while (true) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal != SIGHUP) return signal;
    ::sd_notify(0, "RELOADING=1");
    Reload(sources);
    ::sd_notify(0, "READY=1");
  }
}

}  // namespace

void PrepareProcess() {
  // Threads that only wait do not need heaps of their own: 64 MiB of address space and some pages
  // each.
  mallopt(M_ARENA_MAX, 2);
  std::set_new_handler([] {
    static constexpr char kText[] = "linnetd: out of memory\n";
    (void)!::write(STDERR_FILENO, kText, sizeof kText - 1);
    std::abort();
  });
  const sigset_t set = DaemonSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  ::umask(0022);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < kDescriptors) {
    limit.rlim_cur = std::min(kDescriptors, limit.rlim_max);
    (void)setrlimit(RLIMIT_NOFILE, &limit);  // refused: fewer pods, and each failure says so
  }
}

Result<void> RunDaemon(const ConfigSources& sources, const LoadedConfig& loaded) {
  const Config& config = loaded.config;
  const auto begin = std::chrono::steady_clock::now();
  const Locks locks = LN_TRY(TakeLocks(config));
  // Clients that come early wait in the queue.
  const ListenSocket socket = LN_TRY(OpenSocket(config.socket));
  if (!config.runtimes.empty())
    log::Warn("runtimes.*: other OCI runtimes are not served yet, ignoring");

  const std::unique_ptr<oci::ImageStore> images =
      LN_TRY_CTX(oci::ImageStore::Open(ImageOptions(config)), "image store");
  const std::unique_ptr<network::Engine> network =
      LN_TRY_CTX(network::Engine::Create(NetworkOptions(config)), "network");
  const std::unique_ptr<pods::PodManager> pods = LN_TRY_CTX(
      pods::PodManager::Create(PodOptions(config), RuntimeOptionsOf(config), *network, *images),
      "pods");
  LN_TRY_CTX(pods->Recover(), "recovery");

  const Node node{.version = LINNET_VERSION,
                  .instance = config.instance,
                  .root = config.root,
                  .state = config.state,
                  .socket = config.socket,
                  .preload_dir = config.images.preload,
                  .config = ConfigJson(loaded)};
  WorkerPool workers({.on_idle = [] { malloc_trim(0); }});
  Edge edge(workers);
  auto streams = LN_TRY(streaming::StreamingServer::Start(StreamOptions(config.streaming), *pods));
  const auto runtime_service = MakeRuntimeService(edge, node, *pods, *network, streams->tickets());
  const auto image_service = MakeImageService(edge, *images, *pods);
  const auto linnet_service = MakeLinnetService(edge, node, *pods, *network, *images);
  RouteGrpcLog();
  const auto server = LN_TRY(
      Server::Start(socket.fd, {runtime_service.get(), image_service.get(), linnet_service.get()}));

  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin);
  log::Info("serving", {{"version", LINNET_VERSION},
                        {"socket", config.socket},
                        {"root", config.root},
                        {"instance", config.instance},
                        {"pods", pods->ListPods({}).size()},
                        {"ms", took.count()}});
  ::sd_notify(0, "READY=1");
  std::jthread preload;
  if (oci::ImageAdmin* const admin = images->admin(); admin != nullptr)
    preload = std::jthread([admin](const std::stop_token& stop) { Preload(*admin, stop); });
  const int signal = WaitForEnd(sources);
  preload.request_stop();
  ::sd_notify(0, "STOPPING=1");
  log::Info("stopping, pods go on", {{"signal", signal}});
  server->StopAccepting();
  if (!socket.activated) (void)RemoveFile(config.socket);  // the next daemon replaces it anyway
  if (!workers.WaitIdle(std::chrono::steady_clock::now() + kStopGrace)) {
    // Something waits for a process or a registry. A crash is a way to stop, too, and recovery has
    // one path.
    log::Info("calls under way were given up");
    ::_exit(0);
  }
  server->Shutdown();
  return Ok();
}

}  // namespace linnet::cri
