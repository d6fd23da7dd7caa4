#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdio>  // renameat
#include <cstdlib>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

// One for all streams: what is read is written, or kept by the stream, before the next read.
constexpr std::size_t kReadSize = 32768;
char g_read_buffer[kReadSize];

// Reads what there is, at most `rounds` buffers, unless it is held. At the end (or an error, EIO of
// a terminal) the stream is closed.
void Pump(Keeper& keeper, OutputStream& stream, int rounds) {
  while (stream.fd >= 0 && stream.held == 0 && rounds-- > 0) {
    const ssize_t size = read(stream.fd, g_read_buffer, sizeof g_read_buffer);
    if (size > 0) {
      if (stream.container.attachments != nullptr)
        CopyToAttached(keeper, stream, g_read_buffer, static_cast<std::size_t>(size));
      stream.lines.Feed(g_read_buffer, static_cast<std::size_t>(size), WallNanos(),
                        &stream.container.log);
      continue;
    }
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return;
    stream.lines.Finish(WallNanos(), &stream.container.log);
    stream.Close(keeper);
    CopyToAttached(keeper, stream, nullptr, 0);
  }
}

constexpr int kDrainRounds =
    64;  // 2 MiB: more than a pipe holds, an end for a writer that does not stop

void FinishExit(Keeper& keeper, Container& container) {
  for (OutputStream* stream : {&container.out, &container.err}) {
    if (stream->fd < 0) continue;
    Pump(keeper, *stream, kDrainRounds);
    stream->lines.Finish(WallNanos(), &container.log);
    stream->Close(keeper);
  }
  DetachAll(keeper, container);
  container.log.Close();
  container.state = State::kExited;
  (void)WriteExitRecord(container);  // no room on disk: the announcement still says it
  CloseCgroup(container.cgroup);
  CloseFd(container.exit_dir);
  CloseFd(container.seccomp);
  CloseFd(container.pidfd);
  CloseFd(container.stdin_pipe);
  if (container.remove_command != 0) {
    const std::uint64_t command = container.remove_command;
    RemoveContainerNow(keeper, &container);
    AnswerDone(keeper, command);
  } else {
    ContainerExited event;
    event.exit = container.exit;
    memcpy(event.id, container.id, sizeof event.id);
    SendEvent(keeper, &event, sizeof event);
  }
  ContinueExit(keeper);
}

void FillExit(Container& container, int status) {
  container.exit.finished_at = WallNanos();
  container.exit.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  container.exit.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  const std::uint64_t kills = ReadOomKills(container.cgroup.oom_counter);
  container.exit.oom_killed = kills > container.cgroup.oom_kills_before ? 1 : 0;
}

void OnContainerReaped(Keeper& keeper, Container& container, int status) {
  container.reaped = true;
  FillExit(container, status);
  KillCgroup(container.cgroup.v2_dir, container.cgroup.freezer_dir);
  CloseFd(container.stdin_pipe);
  CloseFd(container.terminal_peer);
  EndHolds(keeper, container);
  Pump(keeper, container.out, kDrainRounds);
  Pump(keeper, container.err, kDrainRounds);
  if (container.out.fd < 0 && container.err.fd < 0) return FinishExit(keeper, container);
  container.drain_deadline = MonotonicMillis() + kDrainMillis;
}

void OnReaped(Keeper& keeper, pid_t pid, int status) {
  if (pid == keeper.pod.holder) {
    keeper.pod.holder = 0;
    CloseFd(keeper.pod.holder_pidfd);
    ContinueExit(keeper);
    return;
  }
  for (Container* c = keeper.containers; c != nullptr; c = c->next) {
    if (c->pid != pid || c->reaped || c->state == State::kExited) continue;
    if (c->state == State::kStarting) {
      // What it reported comes first: a failure, or that another process goes on in its place.
      char id[kIdSize];
      memcpy(id, c->id, sizeof id);
      OnStartReported(keeper, &c->report, EPOLLIN);
      c = FindContainer(keeper, id);
      if (c == nullptr || c->pid != pid || c->state != State::kRunning) return;
    }
    return OnContainerReaped(keeper, *c, status);
  }
  for (ExecRun* e = keeper.execs; e != nullptr; e = e->next) {
    if (e->pid == pid && !e->reaped) return OnExecReaped(keeper, *e, status);
  }
  // An orphan of a container in the host's pid namespace, or a child that had failed to start.
}

void OnStarted(Keeper& keeper, Container& container) {
  container.report.Close(keeper);
  container.state = State::kRunning;
  container.exit.started_at = WallNanos();
  if (container.terminal && container.report.console >= 0) {
    container.out.fd = container.report.console;
    container.report.console = -1;
    (void)fcntl(container.out.fd, F_SETFL, O_NONBLOCK);
    container.terminal_peer = ioctl(container.out.fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  if (container.out.fd >= 0) container.out.Watch(keeper, EPOLLIN);
  if (container.err.fd >= 0) container.err.Watch(keeper, EPOLLIN);
  Started started;
  started.header.command = container.start_command;
  started.pid = container.pid;
  started.started_at = container.exit.started_at;
  SendAnswer(keeper, &started, sizeof started);
}

void OnStartFailed(Keeper& keeper, Container& container, Stage stage, int error,
                   const char* detail) {
  const std::uint64_t start = container.start_command, remove = container.remove_command;
  // Only the one process that there can be: the group stays fit for another attempt (see README.md
  // on cgroup.kill). Not reaped, so the number is still its own.
  if (!container.reaped) (void)kill(container.pid, SIGKILL);
  // Killed before it could say anything: kernels up to 6.18 at least do that to who is cloned into
  // a group that was killed once, or from one. The next child enters by itself.
  if (stage == Stage::kChildDied) keeper.cgroup_clone_works = false;
  RemoveContainerNow(keeper, &container);
  AnswerFailed(keeper, start, stage, error, detail);
  if (remove != 0) AnswerDone(keeper, remove);
  ContinueExit(keeper);
}

}  // namespace

void ReadOutput(Keeper& keeper, Source* source, std::uint32_t /*events*/) {
  auto& stream = *static_cast<OutputStream*>(source);
  Container& container = stream.container;
  Pump(keeper, stream, 4);  // then the others have their turn
  if (container.reaped && container.out.fd < 0 && container.err.fd < 0)
    FinishExit(keeper, container);
}

void OnStartReported(Keeper& keeper, Source* source, std::uint32_t /*events*/) {
  auto& report = *static_cast<Report*>(source);
  auto& container = *static_cast<Container*>(report.owner);
  Line<sizeof(Failed::detail)> detail;
  const bool ended = ReadReport(report, detail);
  if (report.new_pid != 0) {
    container.pid = report.new_pid;
    report.new_pid = 0;
    CloseFd(container.pidfd);
    container.pidfd = PidfdOpen(container.pid);
  }
  if (report.failed)
    return OnStartFailed(keeper, container, report.stage, report.error, detail.text());
  if (!ended) return;
  if (report.reached_exec) return OnStarted(keeper, container);
  OnStartFailed(keeper, container, Stage::kChildDied, ECHILD, "");
}

void ReapChildren(Keeper& keeper, Source* source, std::uint32_t /*events*/) {
  signalfd_siginfo info;
  while (read(source->fd, &info, sizeof info) > 0) {
  }
  for (int status = 0;;) {
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    OnReaped(keeper, pid, status);
  }
}

void CheckContainers(Keeper& keeper, std::int64_t now) {
  for (Container* c = keeper.containers; c != nullptr;) {
    Container* next = c->next;
    if (c->reaped && c->state == State::kRunning && c->drain_deadline <= now) {
      KillCgroup(c->cgroup.v2_dir, c->cgroup.freezer_dir);
      FinishExit(keeper, *c);
    }
    c = next;
  }
}

void KillContainer(Container& container) {
  if (container.state == State::kExited) return;
  KillCgroup(container.cgroup.v2_dir, container.cgroup.freezer_dir);
  if (!container.reaped && container.pid > 0)
    (void)kill(container.pid, SIGKILL);  // not reaped: the number is its own
}

void RemoveContainerNow(Keeper& keeper, Container* container) {
  for (Container** at = &keeper.containers; *at != nullptr; at = &(*at)->next) {
    if (*at != container) continue;
    *at = container->next;
    break;
  }
  for (ExecRun* e = keeper.execs; e != nullptr; e = e->next) {
    if (e->container == container) e->container = nullptr;
  }
  DetachAll(keeper, *container);
  CloseFd(container->report.console);
  container->report.Close(keeper);
  container->out.Close(keeper);
  container->err.Close(keeper);
  CloseCgroup(container->cgroup);
  for (int* fd : {&container->pidfd, &container->seccomp, &container->exit_dir,
                  &container->stdin_pipe, &container->terminal_peer})
    CloseFd(*fd);
  container->~Container();
  free(container);
}

bool WriteExitRecord(const Container& container) {
  if (container.exit_dir < 0) return false;
  Line<512> text;
  text.Add("version=").Add(kExitRecordVersion).Add("\nid=").Add(container.id);
  text.Add("\ncode=").Add(container.exit.code).Add("\nsignal=").Add(container.exit.signal);
  text.Add("\noom_killed=").Add(container.exit.oom_killed);
  text.Add("\nstarted_at=")
      .Add(container.exit.started_at)
      .Add("\nfinished_at=")
      .Add(container.exit.finished_at);
  text.Add("\nend\n");
  constexpr char kTemporary[] = ".exit.tmp";
  (void)unlinkat(container.exit_dir, kTemporary, 0);
  const int fd = openat(container.exit_dir, kTemporary,
                        O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  const bool written = write(fd, text.text(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return written &&
         renameat(container.exit_dir, kTemporary, container.exit_dir, kExitRecordName) == 0;
}

void ContinueExit(Keeper& keeper) {
  if (!keeper.exiting || keeper.pod.holder > 0) return;
  for (const Container* c = keeper.containers; c != nullptr; c = c->next) {
    if (c->state != State::kExited) return;
  }
  AnswerDone(keeper, keeper.exit_command);
  _exit(0);
}

int NextTimeout(const Keeper& keeper, std::int64_t now) {
  std::int64_t soonest = -1;
  const auto consider = [&](std::int64_t at) {
    if (soonest < 0 || at < soonest) soonest = at;
  };
  for (const Container* c = keeper.containers; c != nullptr; c = c->next) {
    if (c->reaped && c->state == State::kRunning) consider(c->drain_deadline);
    if (const std::int64_t drop = NextDrop(*c); drop > 0) consider(drop);
  }
  for (const ExecRun* e = keeper.execs; e != nullptr; e = e->next) {
    if (e->deadline > 0) consider(e->deadline);
  }
  if (soonest < 0) return -1;
  if (soonest <= now) return 0;
  return soonest - now > 3600000 ? 3600000 : static_cast<int>(soonest - now);
}

}  // namespace linnet::runtime::keeper
