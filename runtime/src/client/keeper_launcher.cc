#include "client/keeper_launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "linnet/base/file.h"
#include "linnet/base/log.h"

#include "keeper/protocol.h"

namespace linnet::runtime {
namespace {

constexpr char kSuffix[] = ".sock";
// Keepers are worth what the daemon is worth. Where the daemon may not lower it, they stay as it
// is.
constexpr int kOomScoreAdj = -998;

Result<sockaddr_un> Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return InvalidArgument("socket path \"" + path + "\" is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<UniqueFd> MakeSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::FromErrno(errno, "socket");
  return fd;
}

Result<std::array<UniqueFd, 2>> MakePair() {
  std::array<int, 2> fds{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0)
    return Error::FromErrno(errno, "socketpair");
  return std::array<UniqueFd, 2>{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

}  // namespace

Result<std::unique_ptr<KeeperLauncher>> KeeperLauncher::Create(const KeeperLauncherOptions& options,
                                                               CgroupManager& cgroups) {
  const std::string program = LN_TRY(ReadFile(options.keeper_path));
  UniqueFd image = LN_TRY(SealedMemfd("linnet-keeper", program, MemfdUse::kExecutable));
  LN_TRY(MakeDirs(options.directory, 0700));
  UniqueFd directory = LN_TRY(OpenDir(options.directory));
  LN_TRY_CTX(cgroups.Make(options.cgroup), "cgroup of keepers");
  CgroupEntry cgroup = LN_TRY_CTX(cgroups.OpenEntry(options.cgroup), "cgroup of keepers");
  std::unique_ptr<KeeperLauncher> out(
      new KeeperLauncher(std::move(image), std::move(directory), std::move(cgroup)));
  LN_TRY_CTX(out->MakeRootNamespace(), "mount namespace of keepers");
  return out;
}

KeeperLauncher::KeeperLauncher(UniqueFd image, UniqueFd directory, CgroupEntry cgroup)
    : image_(std::move(image)), directory_(std::move(directory)), cgroup_(std::move(cgroup)) {}

// Through the descriptor of the directory: the path itself may exceed the 108 bytes of a socket
// address.
std::string KeeperLauncher::SocketPath(const PodId& pod) const {
  return FdPath(directory_) + "/" + pod.str() + kSuffix;
}

SpawnSpec KeeperLauncher::BaseSpec() const {
  SpawnSpec spec;
  spec.exe = image_;
  spec.new_session = true;
  spec.cgroup_dir = cgroup_.v2_dir;
  for (const UniqueFd& tasks : cgroup_.v1_tasks) spec.cgroup_procs.push_back(tasks);
  spec.oom_score_adj = kOomScoreAdj;
  return spec;
}

Result<void> KeeperLauncher::MakeRootNamespace() {
  auto pair = LN_TRY(MakePair());
  SpawnSpec spec = BaseSpec();
  spec.argv = {"linnet-keeper", "--root"};
  spec.fds = {{.from = pair[1], .to = keeper::kConnectionFd}};
  Process process = LN_TRY(Spawn(spec));
  pair[1].Reset();
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  pollfd wait{.fd = pair[0].get(), .events = POLLIN, .revents = 0};
  int n = 0;
  do {
    n = poll(&wait, 1, 10'000);
  } while (n < 0 && errno == EINTR);
  char ready = 0;
  if (n <= 0 || read(pair[0].get(), &ready, 1) != 1) {
    pair[0].Reset();
    const auto status = process.Wait(deadline);
    return Internal("linnet-keeper --root failed" +
                    (status ? " with status " + std::to_string(status->code) : std::string()));
  }
  root_namespace_ = LN_TRY(Open("/proc/" + std::to_string(process.pid()) + "/ns/mnt", O_RDONLY));
  pair[0].Reset();
  (void)LN_TRY(process.Wait(deadline));
  return Ok();
}

Result<UniqueFd> KeeperLauncher::Listen(const PodId& pod) const {
  UniqueFd listener = LN_TRY(MakeSocket());
  const sockaddr_un address = LN_TRY(Address(SocketPath(pod)));
  // 0600 from the start: the directory admits nobody else in any case.
  (void)fchmod(listener.get(), 0600);
  for (int attempt = 0;; ++attempt) {
    if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      break;
    if (errno != EADDRINUSE || attempt > 0)
      return Error::FromErrno(errno, "bind the keeper's socket");
    if (Connect(pod)) return AlreadyExists("a keeper of pod " + pod.str() + " runs");
    LN_TRY(RemoveSocket(pod));  // of a dead one
  }
  if (listen(listener.get(), 8) != 0)
    return Error::FromErrno(errno, "listen on the keeper's socket");
  return listener;
}

Result<KeeperLauncher::Keeper> KeeperLauncher::Start(const PodId& pod) const {
  const UniqueFd listener = LN_TRY(Listen(pod));
  auto pair = LN_TRY(MakePair());
  SpawnSpec spec = BaseSpec();
  spec.argv = {"linnet-keeper", pod.str()};
  spec.fds = {{.from = listener, .to = keeper::kListenFd},
              {.from = pair[1], .to = keeper::kConnectionFd}};
  if (root_namespace_)
    spec.fds.push_back({.from = root_namespace_, .to = keeper::kRootNamespaceFd});
  auto process = Spawn(spec);
  if (!process) {
    (void)RemoveSocket(pod);  // the error that counts is the other one
    return std::move(process).error();
  }
  Keeper out;
  out.pid = process->pid();
  out.pidfd = process->Detach();
  out.socket = std::move(pair[0]);
  return out;
}

Result<UniqueFd> KeeperLauncher::Connect(const PodId& pod) const {
  UniqueFd fd = LN_TRY(MakeSocket());
  const sockaddr_un address = LN_TRY(Address(SocketPath(pod)));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return fd;
  if (errno == ENOENT || errno == ECONNREFUSED)
    return NotFound("pod " + pod.str() + " has no keeper");
  return Error::FromErrno(errno, "connect to the keeper of pod " + pod.str());
}

bool KeeperLauncher::KillByName(const PodId& pod) const {
  const std::string wanted = std::string("linnet-keeper") + '\0' + pod.str() + '\0';
  bool found = false;
  const auto names = ListDir("/proc");
  if (!names) return false;
  for (const std::string& name : *names) {
    if (name.empty() || name.front() < '1' || name.front() > '9') continue;
    const auto command = ReadFile("/proc/" + name + "/cmdline");
    if (!command || *command != wanted) continue;
    // Its kernel-side name cannot be chosen by a container: what is executed from our memfd has no
    // other path.
    const auto exe = ReadLink("/proc/" + name + "/exe");
    if (!exe || !exe->starts_with("/memfd:linnet-keeper")) continue;
    found = kill(static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10)), SIGKILL) == 0 || found;
  }
  if (found) log::Warn("keeper that did not answer was killed", {{"pod", pod}});
  return found;
}

Result<void> KeeperLauncher::RemoveSocket(const PodId& pod) const {
  const std::string name = pod.str() + kSuffix;
  if (unlinkat(directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
    return Error::FromErrno(errno, "remove the keeper's socket " + name);
  }
  return Ok();
}

Result<std::vector<PodId>> KeeperLauncher::Pods() const {
  std::vector<PodId> out;
  for (const std::string& name : LN_TRY(ListDirAt(directory_))) {
    if (!name.ends_with(kSuffix)) continue;
    auto pod = PodId::Parse(std::string_view(name).substr(0, name.size() - (sizeof kSuffix - 1)));
    if (pod) out.push_back(*std::move(pod));
  }
  return out;
}

}  // namespace linnet::runtime
