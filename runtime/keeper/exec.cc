// Exec: another process in a running container, in a cgroup of its own below the container's, so
// that its whole tree can be killed.
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdlib>
#include <new>

#include "child.h"

namespace linnet::runtime::keeper {
namespace {

constexpr int kGroupRetryMillis = 50, kGroupAttempts = 20;

void MakeGroup(Keeper& keeper, ExecRun& exec) {
  const Cgroup& cgroup = exec.container->cgroup;
  const int parent = cgroup.v2_dir >= 0 ? cgroup.v2_dir : cgroup.freezer_dir;
  if (parent < 0) return;
  Line<sizeof exec.group> name;
  name.Add("exec-").Add(++keeper.exec_serial);
  if (mkdirat(parent, name.text(), 0755) != 0)
    return;  // it runs in the container's: then its session is what is killed
  int& dir = cgroup.v2_dir >= 0 ? exec.v2_dir : exec.freezer_dir;
  dir = openat(parent, name.text(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) {
    (void)unlinkat(parent, name.text(), AT_REMOVEDIR);
    return;
  }
  memcpy(exec.group, name.text(), name.size() + 1);
  exec.group_parent = fcntl(parent, F_DUPFD_CLOEXEC, 3);
}

// True: there is none (any more).
bool RemoveGroup(ExecRun& exec) {
  if (exec.group[0] == '\0') return true;
  if (unlinkat(exec.group_parent, exec.group, AT_REMOVEDIR) != 0 && errno == EBUSY &&
      ++exec.group_attempts < kGroupAttempts)
    return false;
  return true;  // processes that were left behind on purpose: it goes with the container's
}

void Forget(Keeper& keeper, ExecRun* exec) {
  for (ExecRun** at = &keeper.execs; *at != nullptr; at = &(*at)->next) {
    if (*at != exec) continue;
    *at = exec->next;
    break;
  }
  CloseFd(exec->report.console);
  exec->report.Close(keeper);
  CloseFd(exec->v2_dir);
  CloseFd(exec->freezer_dir);
  CloseFd(exec->group_parent);
  exec->~ExecRun();
  free(exec);
}

// Done with, except perhaps for its group.
void End(Keeper& keeper, ExecRun& exec) {
  exec.reaped = true;
  exec.deadline = 0;
  exec.report.Close(keeper);
  if (RemoveGroup(exec)) return Forget(keeper, &exec);
  exec.deadline = MonotonicMillis() + kGroupRetryMillis;
}

void Announce(Keeper& keeper, const ExecRun& exec) {
  ExecExited event;
  event.header.command = exec.command;
  event.code = WIFSIGNALED(exec.status) ? 128 + WTERMSIG(exec.status) : WEXITSTATUS(exec.status);
  event.timed_out = exec.timed_out ? 1 : 0;
  SendEvent(keeper, &event, sizeof event);
}

void OnExecReported(Keeper& keeper, Source* source, std::uint32_t /*events*/) {
  auto& report = *static_cast<Report*>(source);
  auto& exec = *static_cast<ExecRun*>(report.owner);
  Line<sizeof(Failed::detail)> detail;
  const bool ended = ReadReport(report, detail);
  if (report.failed || (ended && !report.reached_exec)) {
    AnswerFailed(keeper, exec.command, report.stage, report.failed ? report.error : ECHILD,
                 detail.text());
    if (!exec.reaped) (void)kill(exec.pid, SIGKILL);  // not reaped: the number is its own
    exec.pid = 0;                                     // its end is nobody's business
    return End(keeper, exec);
  }
  if (!ended) return;
  exec.started = true;
  report.Close(keeper);
  Started started;
  started.header.command = exec.command;
  started.header.fd_count = report.console >= 0 ? 1 : 0;
  started.pid = exec.pid;
  started.started_at = WallNanos();
  SendAnswer(keeper, &started, sizeof started, report.console);
  CloseFd(report.console);
}

[[noreturn]] void BeChild(Keeper& keeper, ExecRun& exec, PlanOf& plan, const int* streams,
                          int report, bool in_cgroup) {
  const plan::Process& process = plan.reader().exec().process;
  Cgroup cgroup = exec.container->cgroup;
  if (exec.v2_dir >= 0) cgroup.v2_dir = exec.v2_dir;
  ChildContext child;
  child.plan = &plan.reader();
  child.fds = plan.fds();
  child.proc_dir = keeper.proc_dir;
  child.files = &keeper.files;
  child.report = report;
  child.null_fd = keeper.null_fd;
  for (int i = 0; i < 3; ++i) child.stdio[i] = streams[i];
  child.cgroup = &cgroup;
  child.in_cgroup = in_cgroup;
  child.exec_freezer = exec.freezer_dir;
  child.user_namespace = keeper.pod.user_fd;
  child.pod_flags = keeper.pod.flags;
  child.seccomp = process.seccomp != plan::kNoFd ? plan.fds()[process.seccomp] : -1;
  if ((process.flags & plan::kProcessSeccompOfContainer) != 0)
    child.seccomp = exec.container->seccomp;
  child.target = exec.container->pidfd;
  RunExecChild(child);
}

bool Launch(Keeper& keeper, ExecRun& exec, PlanOf& plan, const int* streams, Stage& stage) {
  MakeGroup(keeper, exec);
  int report = -1;
  stage = Stage::kStdio;
  if (!MakeReport(keeper, exec.report, &report)) return false;
  CloneRequest request;
  request.pid_namespace_of = exec.container->pidfd;
  request.cgroup_dir = exec.v2_dir >= 0 ? exec.v2_dir : exec.container->cgroup.v2_dir;
  const pid_t pid = CloneChild(keeper, request, &stage);
  if (pid == 0) BeChild(keeper, exec, plan, streams, report, request.in_cgroup);
  const int err = errno;
  close(report);
  CloseFd(request.pidfd);
  errno = err;
  exec.pid = pid;
  return pid > 0;
}

// Pipes belong to the user who runs there, who may open /dev/stdout again.
void OwnStreams(const Keeper& keeper, const plan::Process& process, const int* streams) {
  const std::uint32_t uid = HostId(keeper.pod.uid_map, keeper.pod.uid_count, process.uid);
  if (uid == 0) return;
  for (int i = 0; i < 3; ++i) {
    struct stat info = {};
    if (streams[i] >= 0 && fstat(streams[i], &info) == 0 && S_ISFIFO(info.st_mode))
      (void)!fchown(streams[i], uid, static_cast<gid_t>(-1));
  }
}

// Without a group: what still belongs to its session. Reads "pid (name) state ppid pgrp session …"
// of every process.
void KillSession(const Keeper& keeper, pid_t session) {
  const int fd = openat(keeper.proc_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* proc = fd >= 0 ? fdopendir(fd) : nullptr;
  if (proc == nullptr) return;
  while (const dirent* entry = readdir(proc)) {
    const int pid = atoi(entry->d_name);
    if (pid <= 1) continue;
    Line<64> path;
    path.Add(pid).Add("/stat");
    char text[512] = {};
    const int stat = openat(fd, path.text(), O_RDONLY | O_CLOEXEC);
    if (stat < 0) continue;
    (void)!read(stat, text, sizeof text - 1);
    close(stat);
    const char* rest = strrchr(text, ')');
    if (rest == nullptr || strlen(rest) < 4) continue;
    char* end = nullptr;
    strtol(rest + 4, &end, 10);  // ppid
    strtol(end, &end, 10);       // process group
    if (strtol(end, nullptr, 10) == session) (void)kill(pid, SIGKILL);
  }
  closedir(proc);
}

}  // namespace

void KillExecTree(Keeper& keeper, ExecRun& exec) {
  if (exec.v2_dir >= 0 || exec.freezer_dir >= 0)
    KillCgroup(exec.v2_dir, exec.freezer_dir);
  else if (exec.pid > 0)
    KillSession(keeper, exec.pid);
  if (exec.pid > 0 && !exec.reaped) (void)kill(exec.pid, SIGKILL);
}

void OnExecReaped(Keeper& keeper, ExecRun& exec, int status) {
  const std::uint64_t command = exec.command;
  if (!exec.started) OnExecReported(keeper, &exec.report, EPOLLIN);
  for (ExecRun* e = keeper.execs; e != nullptr; e = e->next) {  // still there: it had not failed
    if (e->command != command || !e->started) continue;
    e->status = status;
    Announce(keeper, *e);
    return End(keeper, *e);
  }
}

void CheckExecs(Keeper& keeper, std::int64_t now) {
  for (ExecRun* e = keeper.execs; e != nullptr;) {
    ExecRun* next = e->next;
    if (e->deadline > 0 && e->deadline <= now) {
      e->deadline = 0;
      if (e->reaped) {
        End(keeper, *e);
      } else {
        e->timed_out = true;
        KillExecTree(keeper, *e);
      }
    }
    e = next;
  }
}

void ExecCommand(Keeper& keeper, Command& command) {
  const auto& message = *reinterpret_cast<const Exec*>(command.header);
  const std::uint64_t number = command.header->command;
  Container* container = FindRunning(keeper, number, message.id);
  if (container == nullptr) return;
  const std::uint32_t flagged[3] = {message.flags & kExecStdin, message.flags & kExecStdout,
                                    message.flags & kExecStderr};
  std::uint32_t stream_count = 0;
  for (const std::uint32_t flag : flagged) stream_count += flag != 0 ? 1 : 0;
  PlanOf plan;
  if (const char* problem =
          plan.Open(command, sizeof message, message.inline_size, plan::Kind::kExec, stream_count);
      problem != nullptr) {
    return AnswerFailed(keeper, number, Stage::kPlan, EINVAL, problem);
  }
  int streams[3] = {-1, -1, -1};
  std::uint32_t next = 0;
  for (int i = 0; i < 3; ++i) {
    if (flagged[i] != 0) streams[i] = plan.extra()[next++];
  }
  void* memory = calloc(1, sizeof(ExecRun));
  if (memory == nullptr) return AnswerFailed(keeper, number, Stage::kClone, ENOMEM);
  auto* exec = new (memory) ExecRun();
  exec->container = container;
  exec->command = number;
  exec->kill_on_disconnect = (message.flags & kExecKillOnDisconnect) != 0;
  exec->report.ready = OnExecReported;
  exec->report.owner = exec;
  exec->next = keeper.execs;
  keeper.execs = exec;
  const plan::Process& process = plan.reader().exec().process;
  exec->terminal = (process.flags & plan::kProcessTerminal) != 0;
  OwnStreams(keeper, process, streams);
  Stage stage = Stage::kClone;
  if (!Launch(keeper, *exec, plan, streams, stage)) {
    const int err = errno;
    (void)RemoveGroup(*exec);
    Forget(keeper, exec);
    return AnswerFailed(keeper, number, stage, err);
  }
  constexpr std::uint64_t kForever = 1ULL << 40;  // milliseconds: 34 years
  if (message.timeout_millis > 0 && message.timeout_millis < kForever) {
    exec->deadline = MonotonicMillis() + static_cast<std::int64_t>(message.timeout_millis);
  }
}

}  // namespace linnet::runtime::keeper
