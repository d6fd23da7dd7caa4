#include <sys/ioctl.h>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

template <class T>
const T* As(Keeper& keeper, const Command& command) {
  if (command.size >= sizeof(T)) return reinterpret_cast<const T*>(command.header);
  AnswerFailed(keeper, command.header->command, Stage::kProtocol, EPROTO, "message is too short");
  return nullptr;
}

void ListCommand(Keeper& keeper, std::uint64_t number, bool hello) {
  HelloAnswer answer;
  answer.header.command = number;
  for (const Container* c = keeper.containers; c != nullptr; c = c->next) ++answer.container_count;
  answer.pod_is_set_up = keeper.pod.set_up ? 1 : 0;
  answer.keeper_pid = getpid();
  answer.holder_pid = keeper.pod.holder;
  if (hello) keeper.greeted = true;
  SendEvent(keeper, &answer, sizeof answer);  // not remembered: the state of the moment
  for (const Container* c = keeper.containers; c != nullptr; c = c->next) {
    ContainerState state;
    state.header.command = number;
    state.state = c->state;
    state.pid = c->state == State::kExited ? 0 : c->pid;
    state.exit = c->exit;
    memcpy(state.id, c->id, sizeof state.id);
    SendEvent(keeper, &state, sizeof state);
  }
}

void SetupCommand(Keeper& keeper, Command& command) {
  const auto* message = As<SetupPod>(keeper, command);
  if (message == nullptr) return;
  const std::uint64_t number = command.header->command;
  if (keeper.pod.set_up)
    return AnswerFailed(keeper, number, Stage::kState, EEXIST, "pod is set up already");
  PlanOf plan;
  if (const char* problem =
          plan.Open(command, sizeof *message, message->inline_size, plan::Kind::kPod, 0);
      problem != nullptr) {
    return AnswerFailed(keeper, number, Stage::kPlan, EINVAL, problem);
  }
  PodFailure failure;
  if (SetUpPod(keeper, plan, failure)) return AnswerDone(keeper, number);
  AnswerFailed(keeper, number, failure.stage, failure.error, failure.what);
}

void SignalCommand(Keeper& keeper, const Signal& message) {
  const std::uint64_t number = message.header.command;
  Container* container = FindContainer(keeper, message.id);
  if (container == nullptr)
    return AnswerFailed(keeper, number, Stage::kUnknownContainer, ENOENT, message.id);
  if (container->state == State::kRunning && !container->reaped) {
    if (message.signal == SIGKILL) {
      KillContainer(*container);
    } else if (kill(container->pid, message.signal) !=
               0) {  // not reaped: the number is still its own
      return AnswerFailed(keeper, number, Stage::kState, errno, "signal");
    }
  }
  AnswerDone(keeper, number);
}

void ReopenCommand(Keeper& keeper, const ReopenLog& message) {
  const std::uint64_t number = message.header.command;
  Container* container = FindContainer(keeper, message.id);
  if (container == nullptr)
    return AnswerFailed(keeper, number, Stage::kUnknownContainer, ENOENT, message.id);
  if (container->state != State::kRunning)
    return AnswerFailed(keeper, number, Stage::kState, ESRCH, "is not running");
  if (const int err = container->log.Reopen(); err != 0)
    return AnswerFailed(keeper, number, Stage::kLog, err, "reopen");
  AnswerDone(keeper, number);
}

void RemoveCommand(Keeper& keeper, const RemoveContainer& message) {
  const std::uint64_t number = message.header.command;
  Container* container = FindContainer(keeper, message.id);
  if (container != nullptr && container->state != State::kExited) {
    if (container->remove_command != 0) AnswerDone(keeper, container->remove_command);
    container->remove_command = number;
    KillContainer(*container);
    return;  // answered when it has ended
  }
  if (container != nullptr) RemoveContainerNow(keeper, container);
  AnswerDone(keeper, number);
}

void ExitCommand(Keeper& keeper, std::uint64_t number) {
  keeper.exit_command = number;
  keeper.exiting = true;
  for (Container* c = keeper.containers; c != nullptr; c = c->next) KillContainer(*c);
  if (keeper.pod.holder > 0)
    (void)kill(keeper.pod.holder, SIGKILL);  // not reaped: the number is still its own
  ContinueExit(keeper);
}

void NamespaceCommand(Keeper& keeper, const GetPodNamespace& message) {
  const std::uint64_t number = message.header.command;
  int fd = -1;
  Line<64> path;
  path.Add("self/ns/");
  switch (message.kind) {
    case NamespaceKind::kNetwork:
      path.Add("net");
      break;
    case NamespaceKind::kIpc:
      path.Add("ipc");
      break;
    case NamespaceKind::kUts:
      path.Add("uts");
      break;
    case NamespaceKind::kUser:
      if (keeper.pod.user_fd >= 0)
        fd = fcntl(keeper.pod.user_fd, F_DUPFD_CLOEXEC, 3);
      else
        errno = ENOENT;
      break;
    case NamespaceKind::kPid: {
      Line<64> holder;
      holder.Add(keeper.pod.holder).Add("/ns/pid");
      errno = ENOENT;
      if (keeper.pod.holder > 0) fd = openat(keeper.proc_dir, holder.text(), O_RDONLY | O_CLOEXEC);
      break;
    }
    default:
      return AnswerFailed(keeper, number, Stage::kProtocol, EINVAL, "kind of namespace");
  }
  if (path.size() > sizeof "self/ns/" - 1)
    fd = openat(keeper.proc_dir, path.text(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return AnswerFailed(keeper, number, Stage::kNamespace, errno);
  Namespace answer;
  answer.header.command = number;
  answer.header.fd_count = 1;
  SendAnswer(keeper, &answer, sizeof answer, fd);
  CloseFd(fd);
}

void ResizeCommand(Keeper& keeper, const Resize& message) {
  const std::uint64_t number = message.header.command;
  const Container* container = FindContainer(keeper, message.id);
  if (container == nullptr)
    return AnswerFailed(keeper, number, Stage::kUnknownContainer, ENOENT, message.id);
  if (!container->terminal || container->out.fd < 0)
    return AnswerFailed(keeper, number, Stage::kConsole, ENOTTY);
  winsize size = {};
  size.ws_row = message.rows;
  size.ws_col = message.columns;
  if (ioctl(container->out.fd, TIOCSWINSZ, &size) != 0)
    return AnswerFailed(keeper, number, Stage::kConsole, errno);
  AnswerDone(keeper, number);
}

void KillExecCommand(Keeper& keeper, const KillExec& message) {
  for (ExecRun* exec = keeper.execs; exec != nullptr; exec = exec->next) {
    if (exec->command == message.target_command && !exec->reaped) KillExecTree(keeper, *exec);
  }
  AnswerDone(keeper, message.header.command);
}

// An id that came from outside: with its terminator.
bool HasSoundId(const char* id) { return memchr(id, '\0', kIdSize) != nullptr && *id != '\0'; }

template <class T, class F>
void WithId(Keeper& keeper, Command& command, F act) {
  const auto* message = As<T>(keeper, command);
  if (message == nullptr) return;
  if (!HasSoundId(message->id))
    return AnswerFailed(keeper, command.header->command, Stage::kProtocol, EINVAL, "container id");
  act(*message);
}

}  // namespace

Container* FindContainer(Keeper& keeper, const char* id) {
  for (Container* c = keeper.containers; c != nullptr; c = c->next) {
    if (strcmp(c->id, id) == 0) return c;
  }
  return nullptr;
}

Container* FindRunning(Keeper& keeper, std::uint64_t command, const char* id) {
  Container* container = FindContainer(keeper, id);
  if (container == nullptr) {
    AnswerFailed(keeper, command, Stage::kUnknownContainer, ENOENT, id);
    return nullptr;
  }
  if (container->state == State::kRunning && !container->reaped) return container;
  AnswerFailed(keeper, command, Stage::kState, ESRCH, "is not running");
  return nullptr;
}

void Dispatch(Keeper& keeper, Command& command) {
  const std::uint64_t number = command.header->command;
  if (command.header->type == Type::kHello) return ListCommand(keeper, number, true);
  if (!keeper.greeted)
    return AnswerFailed(keeper, number, Stage::kProtocol, EPROTO,
                        "the first message must be Hello");
  if (number == 0)
    return AnswerFailed(keeper, number, Stage::kProtocol, EPROTO, "command without number");
  const bool starts =
      command.header->type == Type::kStartContainer || command.header->type == Type::kExec;
  if (starts && !keeper.pod.set_up)
    return AnswerFailed(keeper, number, Stage::kState, EINVAL, "pod is not set up");
  if (starts && keeper.exiting)
    return AnswerFailed(keeper, number, Stage::kState, ESHUTDOWN, "pod is ending");
  switch (command.header->type) {
    case Type::kSetupPod:
      return SetupCommand(keeper, command);
    case Type::kStartContainer:
      return WithId<StartContainer>(
          keeper, command, [&](const StartContainer&) { StartContainerCommand(keeper, command); });
    case Type::kExec:
      return WithId<Exec>(keeper, command, [&](const Exec&) { ExecCommand(keeper, command); });
    case Type::kSignal:
      return WithId<Signal>(keeper, command, [&](const Signal& m) { SignalCommand(keeper, m); });
    case Type::kReopenLog:
      return WithId<ReopenLog>(keeper, command,
                               [&](const ReopenLog& m) { ReopenCommand(keeper, m); });
    case Type::kRemoveContainer:
      return WithId<RemoveContainer>(keeper, command,
                                     [&](const RemoveContainer& m) { RemoveCommand(keeper, m); });
    case Type::kExitPod:
      return ExitCommand(keeper, number);
    case Type::kGetPodNamespace:
      if (const auto* message = As<GetPodNamespace>(keeper, command); message != nullptr)
        NamespaceCommand(keeper, *message);
      return;
    case Type::kResize:
      return WithId<Resize>(keeper, command, [&](const Resize& m) { ResizeCommand(keeper, m); });
    case Type::kAttach:
      return WithId<Attach>(keeper, command,
                            [&](const Attach&) { AttachCommand(keeper, command); });
    case Type::kListContainers:
      return ListCommand(keeper, number, false);
    case Type::kKillExec:
      if (const auto* message = As<KillExec>(keeper, command); message != nullptr)
        KillExecCommand(keeper, *message);
      return;
    default:
      return AnswerFailed(keeper, number, Stage::kProtocol, ENOSYS, "unknown command");
  }
}

}  // namespace linnet::runtime::keeper
