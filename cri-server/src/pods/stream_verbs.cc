// Verbs behind streams: processes and containers to speak with, sockets in pods.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/network/sockets.h"

#include "manager.h"

namespace linnet::pods {
namespace {

// What programs with a terminal expect; the container's own setting counts more.
void AddTerm(std::vector<std::string>& env) {
  const auto is_term = [](const std::string& entry) { return entry.starts_with("TERM="); };
  if (std::none_of(env.begin(), env.end(), is_term)) env.emplace_back("TERM=xterm");
}

}  // namespace

Result<Manager::ContainerPtr> Manager::RunningContainer(const std::string& id) const {
  ContainerPtr container = FindContainer(id);
  if (!container) return NotFound("container \"" + id + "\" does not exist");
  MutexLock lock(mu_);
  if (container->phase != ContainerPhase::kRunning)
    return FailedPrecondition("container \"" + id + "\" is not running");
  return container;
}

Result<std::unique_ptr<runtime::ExecSession>> Manager::Exec(const std::string& id,
                                                            const ExecRequest& request) {
  if (request.command.empty()) return InvalidArgument("cmd: must not be empty");
  const ContainerPtr container = LN_TRY(RunningContainer(id));
  runtime::ExecSpec spec{.process = *LN_TRY(ProcessOf(container)),
                         .stdin_fd = request.stdin_fd,
                         .stdout_fd = request.stdout_fd,
                         .stderr_fd = request.stderr_fd,
                         .on_terminal = {}};
  spec.process.args = request.command;
  spec.process.terminal = request.terminal;
  if (request.terminal) AddTerm(spec.process.env);
  if (request.rows != 0 && request.columns != 0) {
    spec.process.console_height = request.rows;
    spec.process.console_width = request.columns;
  }
  return runtime_->StartExec(container->pod->id, container->id, spec);
}

Result<runtime::Attachment> Manager::Attach(const std::string& id,
                                            const runtime::AttachSpec& spec) {
  const ContainerPtr container = LN_TRY(RunningContainer(id));
  return runtime_->Attach(container->pod->id, container->id, spec);
}

Result<UniqueFd> Manager::OpenSocket(const std::string& pod_id, Family family) {
  const PodPtr pod = FindPod(pod_id);
  if (!pod) return NotFound("pod sandbox \"" + pod_id + "\" does not exist");
  UniqueFd netns;
  {
    MutexLock lock(mu_);
    if (!pod->ready) return FailedPrecondition("pod sandbox \"" + pod_id + "\" is not ready");
    if (pod->record.config.namespaces.network != NsMode::kNode) netns = LN_TRY(Dup(pod->netns.fd));
  }
  if (netns) return network::OpenTcpSocket(netns, family);
  UniqueFd out(::socket(family == Family::kV4 ? AF_INET : AF_INET6,
                        SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out) return Error::FromErrno(errno, "socket");
  return out;
}

}  // namespace linnet::pods
