// StartContainer, seen from the keeper: take the descriptors, clone, wait for the report.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <new>

#include "child.h"

namespace linnet::runtime::keeper {
namespace {

// clone3, or clone where that is missing. Returns as fork does.
pid_t RawClone(Keeper& keeper, CloneArgs& args) {
  if (keeper.clone3_works) {
    const auto pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
    if (pid >= 0 || errno != ENOSYS) return pid;
    keeper.clone3_works = false;
  }
  if ((args.flags & CLONE_INTO_CGROUP) != 0) {
    errno = EINVAL;
    return -1;
  }
  return static_cast<pid_t>(syscall(SYS_clone, args.flags | args.exit_signal, nullptr,
                                    reinterpret_cast<int*>(args.pidfd), nullptr, nullptr));
}

struct PidTarget {
  int pidfd = -1;
  bool fresh = false;
  int error = 0;
};

PidTarget PidNamespaceFor(Keeper& keeper, const plan::ContainerPlan& wanted,
                          const char* target_id) {
  switch (wanted.pid) {
    case plan::PidMode::kPod:
      if (keeper.pod.holder_pidfd < 0) return {.error = ESRCH};
      return {.pidfd = keeper.pod.holder_pidfd};
    case plan::PidMode::kContainer:
      return {.fresh = true};
    case plan::PidMode::kNode:
      return {};
    case plan::PidMode::kTarget:
      break;
  }
  const Container* target = FindContainer(keeper, target_id);
  if (target == nullptr || target->state != State::kRunning || target->reaped)
    return {.error = ESRCH};
  return {.pidfd = target->pidfd};
}

// Pipe with the container's end owned by its user, who may open /dev/stdout again.
bool MakeOutput(Keeper& keeper, OutputStream& stream, const plan::Process& process,
                int* child_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  stream.fd = ends[0];
  *child_end = ends[1];
  const std::uint32_t uid = HostId(keeper.pod.uid_map, keeper.pod.uid_count, process.uid);
  const std::uint32_t gid = HostId(keeper.pod.gid_map, keeper.pod.gid_count, process.gid);
  if (uid != 0 || gid != 0) (void)!fchown(ends[1], uid, gid);
  return fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

struct ChildEnds {
  int report = -1, in = -1, out = -1, err = -1;
  void Close() {
    CloseFd(report);
    CloseFd(in);
    CloseFd(out);
    CloseFd(err);
  }
};

bool MakeStreams(Keeper& keeper, Container& container, const plan::ContainerPlan& wanted,
                 ChildEnds& ends) {
  if (container.terminal) return true;  // the master comes with the report
  // Without a log too: somebody may attach.
  if (!MakeOutput(keeper, container.out, wanted.process, &ends.out)) return false;
  if (!MakeOutput(keeper, container.err, wanted.process, &ends.err)) return false;
  if ((wanted.flags & plan::kContainerStdinOpen) != 0) {
    int pipe[2];
    if (pipe2(pipe, O_CLOEXEC) != 0) return false;
    ends.in = pipe[0];
    container.stdin_pipe = pipe[1];
    container.stdin_once = (wanted.flags & plan::kContainerStdinOnce) != 0;
    (void)!fchown(pipe[0], HostId(keeper.pod.uid_map, keeper.pod.uid_count, wanted.process.uid),
                  static_cast<gid_t>(-1));
  }
  return true;
}

void AnswerKnown(Keeper& keeper, std::uint64_t command, const Container& container) {
  if (container.state == State::kStarting) {
    AnswerFailed(keeper, command, Stage::kState, EALREADY, "is being started");
    return;
  }
  Started started;
  started.header.command = command;
  started.pid = container.pid;
  started.started_at = container.exit.started_at;
  SendAnswer(keeper, &started, sizeof started);
}

[[noreturn]] void BeChild(Keeper& keeper, Container& container, PlanOf& plan, const ChildEnds& ends,
                          const CloneRequest& request) {
  ChildContext child;
  child.plan = &plan.reader();
  child.fds = plan.fds();
  child.proc_dir = keeper.proc_dir;
  child.files = &keeper.files;
  child.report = ends.report;
  child.null_fd = keeper.null_fd;
  child.stdio[0] = ends.in;
  child.stdio[1] = ends.out;
  child.stdio[2] = ends.err;
  child.cgroup = &container.cgroup;
  child.in_cgroup = request.in_cgroup;
  child.user_namespace = keeper.pod.user_fd;
  child.pod_flags = keeper.pod.flags;
  child.has_shm = keeper.pod.has_shm;
  child.seccomp = container.seccomp;
  child.new_pid_in_user =
      keeper.pod.user_fd >= 0 && plan.reader().container().pid == plan::PidMode::kContainer;
  RunContainerChild(child);
}

// Everything up to the clone. On failure `stage` and errno say why; the container is freed by the
// caller.
bool Launch(Keeper& keeper, Container& container, PlanOf& plan, Stage& stage) {
  const plan::ContainerPlan& wanted = plan.reader().container();
  const PidTarget pid_target =
      PidNamespaceFor(keeper, wanted, plan.reader().text(wanted.pid_target));
  errno = pid_target.error;
  stage = Stage::kNamespace;
  if (pid_target.error != 0) return false;

  stage = Stage::kCgroup;
  if (!TakeCgroup(container.cgroup, plan, wanted.cgroup)) return false;
  container.seccomp = plan.Take(wanted.process.seccomp);
  container.exit_dir = plan.Take(wanted.exit_dir);
  container.terminal = (wanted.process.flags & plan::kProcessTerminal) != 0;

  stage = Stage::kLog;
  if (const int err =
          container.log.Open(plan.Take(wanted.log_dir), plan.reader().text(wanted.log_path));
      err != 0) {
    errno = err;
    return false;
  }
  ChildEnds ends;
  stage = Stage::kStdio;
  bool done = MakeStreams(keeper, container, wanted, ends) &&
              MakeReport(keeper, container.report, &ends.report);
  if (done) {
    CloneRequest request;
    request.new_namespaces =
        CLONE_NEWNS | (pid_target.fresh && keeper.pod.user_fd < 0 ? CLONE_NEWPID : 0);
    request.pid_namespace_of = pid_target.pidfd;
    request.cgroup_dir = container.cgroup.v2_dir;
    const pid_t pid = CloneChild(keeper, request, &stage);
    if (pid == 0) BeChild(keeper, container, plan, ends, request);
    container.pid = pid;
    container.pidfd = request.pidfd;
    done = pid > 0;
  }
  const int err = errno;
  ends.Close();
  errno = err;
  return done;
}

}  // namespace

pid_t CloneChild(Keeper& keeper, CloneRequest& request, Stage* error_stage) {
  if (request.pid_namespace_of >= 0 && setns(request.pid_namespace_of, CLONE_NEWPID) != 0) {
    *error_stage = Stage::kNamespace;
    return -1;
  }
  CloneArgs args = {};
  args.flags = request.new_namespaces | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uint64_t>(&request.pidfd);
  args.exit_signal = SIGCHLD;
  pid_t pid = -1;
  request.in_cgroup = request.cgroup_dir >= 0 && keeper.cgroup_clone_works && keeper.clone3_works;
  if (request.in_cgroup) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(request.cgroup_dir);
    pid = RawClone(keeper, args);
  }
  if (pid < 0) {  // refused, or not to be tried: the child enters by itself, and says what is wrong
    request.in_cgroup = false;
    args.flags &= ~CLONE_INTO_CGROUP;
    args.cgroup = 0;
    pid = RawClone(keeper, args);
  }
  if (pid == 0) return 0;
  const int err = errno;
  if (pid < 0) *error_stage = Stage::kClone;
  // Back to its own: a failure would put every later child into that namespace.
  if (request.pid_namespace_of >= 0 && setns(keeper.own_pid_namespace, CLONE_NEWPID) != 0) _exit(3);
  errno = err;
  return pid;
}

bool MakeReport(Keeper& keeper, Report& report, int* child_end) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  report.fd = ends[0];
  *child_end = ends[1];
  return report.Watch(keeper, EPOLLIN);
}

bool ReadReport(Report& report, Line<sizeof(Failed::detail)>& detail) {
  for (;;) {
    ReportMessage message;
    iovec data = {&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header = {};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(report.fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size <= 0) return size == 0 || errno != EAGAIN;
    message.detail[sizeof message.detail - 1] = '\0';
    const cmsghdr* rights = CMSG_FIRSTHDR(&header);
    switch (message.kind) {
      case ReportMessage::Kind::kConsole:
        if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS)
          memcpy(&report.console, CMSG_DATA(rights), sizeof(int));
        break;
      case ReportMessage::Kind::kPid:
        report.new_pid = message.error;
        break;
      case ReportMessage::Kind::kExec:
        report.reached_exec = true;
        break;
      case ReportMessage::Kind::kFailed:
        report.failed = true;
        report.stage = message.stage;
        report.error = message.error;
        detail.Add(message.detail);
        break;
    }
  }
}

void StartContainerCommand(Keeper& keeper, Command& command) {
  const auto& message = *reinterpret_cast<const StartContainer*>(command.header);
  const std::uint64_t number = command.header->command;
  if (const Container* known = FindContainer(keeper, message.id); known != nullptr)
    return AnswerKnown(keeper, number, *known);
  PlanOf plan;
  if (const char* problem =
          plan.Open(command, sizeof message, message.inline_size, plan::Kind::kContainer, 0);
      problem != nullptr) {
    return AnswerFailed(keeper, number, Stage::kPlan, EINVAL, problem);
  }
  void* memory = calloc(1, sizeof(Container));
  if (memory == nullptr) return AnswerFailed(keeper, number, Stage::kClone, ENOMEM);
  auto* container = new (memory) Container();
  memcpy(container->id, message.id, sizeof container->id - 1);
  container->start_command = number;
  container->report.ready = OnStartReported;
  container->report.owner = container;
  container->out.ready = ReadOutput;
  container->err.ready = ReadOutput;
  container->next = keeper.containers;
  keeper.containers = container;
  Stage stage = Stage::kClone;
  if (!Launch(keeper, *container, plan, stage)) {
    const int err = errno;
    RemoveContainerNow(keeper, container);
    return AnswerFailed(keeper, number, stage, err);
  }
}

}  // namespace linnet::runtime::keeper
