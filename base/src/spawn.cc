#include "linnet/base/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "linnet/base/file.h"

#include "spawn_child.h"

namespace linnet {
namespace {

constexpr std::size_t kStackBytes = 64U << 10;

std::string_view StageName(Stage stage) {
  switch (stage) {
    case Stage::kSession:
      return "setsid";
    case Stage::kProcessGroup:
      return "setpgid";
    case Stage::kSignals:
      return "reset signals";
    case Stage::kCgroup:
      return "enter cgroup";
    case Stage::kDescriptors:
      return "descriptors";
    case Stage::kChdir:
      return "chdir";
    default:
      return "execve";
  }
}

class ChildStack {
 public:
  ChildStack()
      : base_(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  ~ChildStack() {
    if (ok()) munmap(base_, kStackBytes);
  }
  bool ok() const { return base_ != MAP_FAILED; }
  void* base() const { return base_; }

 private:
  void* base_;
};

// All signals blocked for as long as this lives: no handler of the daemon runs in the child.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_{};
};

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  // execve takes char* for history's sake; it writes nothing.
  for (const std::string& s : strings)
    out.push_back(const_cast<char*>(s.c_str()));  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  out.push_back(nullptr);
  return out;
}

Result<UniqueFd> DupAbove(FdRef fd, int least) {
  const int copy = fcntl(fd.get(), F_DUPFD_CLOEXEC, least);
  if (copy < 0) return Error::FromErrno(errno, "duplicate a descriptor");
  return UniqueFd(copy);
}

Result<std::array<UniqueFd, 2>> Pipe() {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) return Error::FromErrno(errno, "pipe");
  return std::array<UniqueFd, 2>{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

int MillisUntil(Deadline deadline) {
  if (deadline == Deadline::max()) return -1;
  const auto left = deadline - std::chrono::steady_clock::now();
  if (left <= left.zero()) return 0;
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<std::int64_t>(ms, 3'600'000));
}

ExitStatus FromSiginfo(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return {.code = info.si_status, .signal = 0};
  return {.code = 128 + info.si_status, .signal = info.si_status};
}

}  // namespace

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    Process old(std::move(*this));
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

Process::~Process() {
  if (!pidfd_) return;
  (void)Signal(SIGKILL);  // ended already is fine
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

Result<void> Process::Signal(int signal) const {
  if (!pidfd_) return NotFound("no process");
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) != 0) {
    return Error::FromErrno(
        errno, "signal " + std::to_string(signal) + " to process " + std::to_string(pid_));
  }
  return Ok();
}

Result<ExitStatus> Process::Wait(Deadline deadline) {
  if (!pidfd_) return NotFound("no process");
  for (;;) {
    pollfd wait{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    const int n = poll(&wait, 1, MillisUntil(deadline));
    if (n < 0 && errno != EINTR) return Error::FromErrno(errno, "poll");
    if (n > 0) break;
    if (n == 0 && std::chrono::steady_clock::now() >= deadline) {
      return Error(Code::kDeadlineExceeded, "process " + std::to_string(pid_) + " still runs");
    }
  }
  siginfo_t info{};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0)
    return Error::FromErrno(errno, "waitid");
  pidfd_.Reset();
  pid_ = -1;
  return FromSiginfo(info);
}

UniqueFd Process::Detach() {
  pid_ = -1;
  return std::move(pidfd_);
}

Result<Process> Spawn(const SpawnSpec& spec) {
  const std::string name = spec.argv.empty() ? spec.path : Basename(spec.argv[0]);
  // By path where there is one: the interpreter of a script is told the path. A relative one is
  // this process's, not the child's directory's.
  const bool by_path = !spec.exe.valid() && spec.path.starts_with('/');
  UniqueFd opened;
  if (!spec.exe.valid() && !by_path) opened = LN_TRY_CTX(Open(spec.path, O_PATH), "start " + name);
  const FdRef exe = spec.exe.valid() ? spec.exe : opened.ref();

  // Targets 0, 1, 2 and what is asked for; every source is moved above them, so no dup can clobber
  // a later one.
  int above = 3;
  for (const auto& map : spec.fds) above = std::max(above, map.to + 1);
  std::vector<UniqueFd> owned;
  std::vector<ChildPlan::FdMap> fds;
  const auto add = [&](FdRef from, int to) -> Result<void> {
    owned.push_back(LN_TRY(DupAbove(from, above)));
    fds.push_back({owned.back().get(), to});
    return Ok();
  };
  const UniqueFd null = LN_TRY(Open("/dev/null", O_RDWR));
  for (int target = 0; target < 3; ++target) {
    const bool mapped = std::any_of(spec.fds.begin(), spec.fds.end(),
                                    [&](const auto& m) { return m.to == target; });
    if (!mapped) LN_TRY(add(null, target));
  }
  for (const auto& map : spec.fds) LN_TRY(add(map.from, map.to));
  auto pipe = LN_TRY(Pipe());
  UniqueFd error_fd = LN_TRY(DupAbove(pipe[1], above));
  pipe[1].Reset();
  UniqueFd exe_fd;
  if (!by_path) exe_fd = LN_TRY(DupAbove(exe, above));
  std::vector<UniqueFd> cgroups;
  std::vector<int> cgroup_fds;
  const auto add_cgroup = [&](FdRef procs) -> Result<void> {
    cgroups.push_back(LN_TRY(DupAbove(procs, above)));
    cgroup_fds.push_back(cgroups.back().get());
    return Ok();
  };
  for (const FdRef procs : spec.cgroup_procs) LN_TRY(add_cgroup(procs));
  const std::vector<char*> argv = Pointers(spec.argv);
  const std::vector<char*> envp = Pointers(spec.env);
  const std::string oom = spec.oom_score_adj ? std::to_string(*spec.oom_score_adj) : std::string();

  ChildPlan plan{};
  plan.exe_path = by_path ? spec.path.c_str() : nullptr;
  plan.exe_fd = exe_fd.get();
  plan.error_fd = error_fd.get();
  plan.fds = fds.data();
  plan.fd_count = static_cast<int>(fds.size());
  plan.cgroup_dir = spec.cgroup_dir.get();
  plan.cgroup_fds = cgroup_fds.data();
  plan.cgroup_count = static_cast<int>(cgroup_fds.size());
  plan.cwd = spec.cwd.c_str();
  plan.argv = argv.data();
  plan.envp = envp.data();
  plan.oom_score_adj = spec.oom_score_adj ? oom.c_str() : nullptr;
  plan.oom_score_adj_length = oom.size();
  plan.new_session = spec.new_session;
  plan.new_process_group = spec.new_process_group;

  const ChildStack stack;
  if (!stack.ok()) return Error::FromErrno(ENOMEM, "start " + name + ": stack");
  int pidfd = -1;
  int pid = -1;
  int err = 0;
  if (spec.cgroup_dir.valid()) {
    const BlockSignals blocked;
    pid = CloneChildIntoCgroup(&plan, stack.base(), kStackBytes, &pidfd);
    err = errno;
  }
  if (pid < 0) {
    if (spec.cgroup_dir
            .valid()) {  // no clone3 (a seccomp filter, an old kernel): the child moves itself
      const UniqueFd procs =
          LN_TRY_CTX(OpenAt(spec.cgroup_dir, "cgroup.procs", O_WRONLY), "start " + name);
      LN_TRY(add_cgroup(procs));
      plan.cgroup_fds = cgroup_fds.data();
      plan.cgroup_count = static_cast<int>(cgroup_fds.size());
    }
    const BlockSignals blocked;
    pid = CloneChild(&plan, stack.base(), kStackBytes, &pidfd);
    err = errno;
  }
  if (pid < 0) return Error::FromErrno(err, "start " + name + ": clone");
  Process process(pid, UniqueFd(pidfd));
  error_fd.Reset();  // the child has its own
  ChildFailure failure{};
  ssize_t n = 0;
  do {
    n = read(pipe[0].get(), &failure, sizeof failure);
  } while (n < 0 && errno == EINTR);
  if (n == sizeof failure) {
    return Error::FromErrno(failure.err,
                            "start " + name + ": " + std::string(StageName(failure.stage)));
  }
  return process;
}

namespace {

struct Stream {
  UniqueFd fd;
  std::string* text;
};

// Reads what is there; closes the stream at its end.
void Drain(Stream& stream, std::size_t limit) {
  std::array<char, 16384> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
  const ssize_t n = read(stream.fd.get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    stream.fd.Reset();
    return;
  }
  const std::size_t room = limit - std::min(limit, stream.text->size());
  stream.text->append(buffer.data(), std::min(room, static_cast<std::size_t>(n)));
}

}  // namespace

Result<RunResult> Run(SpawnSpec spec, std::string_view input, Deadline deadline,
                      const RunLimits& limits) {
  auto in = LN_TRY(Pipe());
  auto out = LN_TRY(Pipe());
  auto err = LN_TRY(Pipe());
  spec.new_process_group = true;
  spec.fds.push_back({in[0], 0});
  spec.fds.push_back({out[1], 1});
  spec.fds.push_back({err[1], 2});
  Process process = LN_TRY(Spawn(spec));
  const pid_t group = process.pid();
  in[0].Reset();
  out[1].Reset();
  err[1].Reset();
  for (const UniqueFd* fd : {&in[1], &out[0], &err[0]}) (void)fcntl(fd->get(), F_SETFL, O_NONBLOCK);

  RunResult result;
  std::array<Stream, 2> streams = {Stream{std::move(out[0]), &result.out},
                                   Stream{std::move(err[0]), &result.err}};
  UniqueFd stdin_fd = std::move(in[1]);
  if (input.empty()) stdin_fd.Reset();
  bool exited = false;
  Deadline until = deadline;
  while (!exited || streams[0].fd || streams[1].fd) {
    // Negative descriptors are skipped by poll.
    std::array<pollfd, 4> wait = {
        {{.fd = streams[0].fd.get(), .events = POLLIN, .revents = 0},
         {.fd = streams[1].fd.get(), .events = POLLIN, .revents = 0},
         {.fd = stdin_fd.get(), .events = POLLOUT, .revents = 0},
         {.fd = exited ? -1 : process.pidfd().get(), .events = POLLIN, .revents = 0}}};
    const int n = poll(wait.data(), wait.size(), MillisUntil(until));
    if (n < 0 && errno != EINTR) return Error::FromErrno(errno, "poll");
    if (n == 0 && std::chrono::steady_clock::now() >= until) {
      if (exited) break;  // a grandchild keeps the pipes: what came is what there is
      (void)kill(-group, SIGKILL);
      return Error(Code::kDeadlineExceeded, (spec.argv.empty() ? spec.path : spec.argv[0]) +
                                                " did not end in time and was killed");
    }
    if (n <= 0) continue;
    for (std::size_t i = 0; i < 2; ++i) {
      if (wait[i].revents != 0) Drain(streams[i], limits.max_output_bytes);
    }
    if (wait[2].revents != 0) {
      const ssize_t written = write(stdin_fd.get(), input.data(), input.size());
      if (written > 0) input.remove_prefix(static_cast<std::size_t>(written));
      if (input.empty() || (written < 0 && errno != EAGAIN && errno != EINTR)) stdin_fd.Reset();
    }
    if (wait[3].revents != 0) {
      result.status = LN_TRY(process.Wait(deadline));
      exited = true;
      stdin_fd.Reset();
      until = std::min(deadline, std::chrono::steady_clock::now() + limits.drain);
    }
  }
  return result;
}

}  // namespace linnet
