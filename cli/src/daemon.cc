#include "daemon.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/spawn.h"

namespace linnet::cli {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(20);
constexpr const char* kLogDirectory = "/var/log/linnet";

Result<std::string> DaemonProgram() {
  const std::string beside = JoinPath(Dirname(LN_TRY(ReadLink("/proc/self/exe"))), "linnetd");
  if (Exists(beside)) return beside;
  for (const char* path : {"/usr/local/bin/linnetd", "/usr/bin/linnetd", "/usr/sbin/linnetd"}) {
    if (Exists(path)) return std::string(path);
  }
  return NotFound("no linnetd beside this program (" + beside +
                  ") nor in /usr/local/bin, /usr/bin, /usr/sbin");
}

std::vector<std::string> Environment() {
  std::vector<std::string> out = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  for (char** e = environ; *e != nullptr; ++e) {
    if (std::strncmp(*e, "LINNET_", 7) == 0) out.emplace_back(*e);
  }
  return out;
}

Result<void> WaitUntilListens(const std::string& socket, Process* process, const std::string& log) {
  const Deadline deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (!Listens(socket)) {
    if (process != nullptr) {
      // It may refuse at once (no permission, broken configuration): its own words are in the log.
      auto ended = process->Wait(std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
      if (ended)
        return Unavailable("linnetd ended with code " + std::to_string(ended->code) + " (see " +
                           log + ")");
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (std::chrono::steady_clock::now() > deadline)
      return Unavailable("linnetd does not listen on " + socket + " (see " + log + ")");
  }
  return Ok();
}

Result<void> WithSystemd(const std::string& program, const std::string& socket) {
  const bool installed = Exists("/etc/systemd/system/linnet.service") ||
                         Exists("/usr/lib/systemd/system/linnet.service") ||
                         Exists("/lib/systemd/system/linnet.service");
  SpawnSpec spec;
  spec.env = Environment();
  if (installed) {
    spec.path = "/usr/bin/systemctl";
    spec.argv = {"systemctl", "start", "linnet.service"};
  } else {
    spec.path = "/usr/bin/systemd-run";
    spec.argv = {"systemd-run",
                 "--quiet",
                 "--unit=linnet",
                 "--service-type=notify",
                 "--property=Delegate=yes",
                 "--property=KillMode=process",
                 "--property=LimitNOFILE=1048576",
                 program};
  }
  RunResult result =
      LN_TRY_CTX(Run(spec, "", std::chrono::steady_clock::now() + kStartTimeout), "start linnetd");
  if (result.status.code != 0) return Unavailable("start linnetd: " + result.err);
  return WaitUntilListens(socket, nullptr, "journalctl -u linnet");
}

Result<void> ByHand(const std::string& program, const std::string& socket) {
  LN_TRY(MakeDirs(kLogDirectory, 0755));
  const std::string log = JoinPath(kLogDirectory, "linnetd.log");
  const UniqueFd out = LN_TRY(Open(log, O_WRONLY | O_CREAT | O_APPEND, 0640));
  SpawnSpec spec;
  spec.path = program;
  spec.argv = {"linnetd"};
  spec.env = Environment();
  spec.new_session = true;
  spec.fds = {{.from = out, .to = 1}, {.from = out, .to = 2}};
  Process process = LN_TRY(Spawn(spec));
  LN_TRY(WaitUntilListens(socket, &process, log));
  std::fprintf(stderr, "linnet: started linnetd (pid %d, log %s); stop it with: kill %d\n",
               process.pid(), log.c_str(), process.pid());
  UniqueFd pidfd = process.Detach();
  return Ok();
}

}  // namespace

bool Listens(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, socket.c_str(), socket.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd &&
         ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

Result<void> StartDaemon(const std::string& socket) {
  if (::geteuid() != 0) {
    return Error(Code::kPermissionDenied,
                 "no daemon at " + socket + ", and only root can start one (sudo linnet …)");
  }
  const std::string program = LN_TRY(DaemonProgram());
  std::fprintf(stderr, "linnet: no daemon at %s, starting one\n", socket.c_str());
  if (Exists("/run/systemd/system")) return WithSystemd(program, socket);
  return ByHand(program, socket);
}

}  // namespace linnet::cli
