#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "linnet/base/file.h"

#include "runtime_impl.h"

namespace linnet::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxOutput = 16U << 20;  // per stream
constexpr auto kStartTime = seconds(30);
// After the process has ended: for what its children still write into pipes that they inherited.
constexpr auto kDrainTime = milliseconds(keeper::kDrainMillis);
// The keeper keeps the time; this is for a keeper that does not.
constexpr auto kKeeperGrace = seconds(10);

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> MakePipe() {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) return Error::FromErrno(errno, "pipe");
  Pipe out{UniqueFd(fds[0]), UniqueFd(fds[1])};
  // The daemon's end only: the other is the container's.
  if (fcntl(out.read.get(), F_SETFL, O_NONBLOCK) != 0) return Error::FromErrno(errno, "fcntl");
  return out;
}

// Reads what is there, up to the limit; the rest is dropped. Closes the pipe at its end. False:
// nothing was there.
bool Drain(UniqueFd& pipe, std::string& out) {
  if (!pipe) return false;
  std::array<char, 65536> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
  const ssize_t n = read(pipe.get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) {
    pipe.Reset();
    return false;
  }
  const std::size_t room = kMaxOutput - std::min(kMaxOutput, out.size());
  out.append(buffer.data(), std::min(room, static_cast<std::size_t>(n)));
  return true;
}

// What Exec and StartExec pass of a spec.
struct Streams {
  std::vector<FdRef> fds;
  std::uint32_t flags = 0;
};

Streams StreamsOf(const ExecSpec& spec) {
  Streams out;
  const auto add = [&](FdRef fd, std::uint32_t flag) {
    if (!fd.valid() || spec.process.terminal) return;
    out.fds.push_back(fd);
    out.flags |= flag;
  };
  add(spec.stdin_fd, keeper::kExecStdin);
  add(spec.stdout_fd, keeper::kExecStdout);
  add(spec.stderr_fd, keeper::kExecStderr);
  return out;
}

// An exec under way: forgotten by the client when this goes.
class Running {
 public:
  Running(std::shared_ptr<KeeperClient> keeper, KeeperClient::Number number)
      : keeper_(std::move(keeper)), number_(number) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() { keeper_->ForgetExec(number_); }
  KeeperClient::Number number() const { return number_; }
  void KillTree() const {
    keeper::KillExec message;
    message.target_command = number_;
    (void)keeper_->Call(MakeCommand(message),
                        steady_clock::now() + seconds(1));  // gone already is fine
  }

 private:
  const std::shared_ptr<KeeperClient> keeper_;
  const KeeperClient::Number number_;
};

int MillisUntil(Deadline deadline) {
  if (deadline == Deadline::max()) return -1;
  const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

}  // namespace

Result<Command> RuntimeImpl::MakeExec(const ContainerId& id, const oci::Process& process,
                                      const std::vector<FdRef>& streams, std::uint32_t flags,
                                      milliseconds timeout) const {
  plan::Writer writer;
  const std::string bytes = LN_TRY(plan::BuildExec(process, writer));
  keeper::Exec message;
  message.flags = flags;
  message.timeout_millis = static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0));
  CopyId(message.id, id.str());
  return MakeCommand(message, bytes, streams, writer.fds());
}

Result<ExecResult> RuntimeImpl::Exec(const PodId& pod_id, const ContainerId& id,
                                     const ExecSpec& spec) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  if (spec.process.terminal && !spec.on_terminal)
    return InvalidArgument("exec with a terminal that nobody takes");
  const Streams streams = StreamsOf(spec);
  Command command = LN_TRY(MakeExec(id, spec.process, streams.fds, streams.flags, spec.timeout));
  const Deadline start = steady_clock::now() + kStartTime;
  const Running exec(pod->keeper,
                     LN_TRY(pod->keeper->SendExec(std::move(command), FdRef(-1), start)));
  KeeperClient::Answer started = LN_TRY(pod->keeper->Wait(exec.number(), start));
  if (spec.process.terminal) {
    if (!started.fd) return Internal("keeper sent no terminal");
    spec.on_terminal(std::move(started.fd));
  }
  const KeeperClient::ExecExit exit =
      LN_TRY(pod->keeper->WaitExecExit(exec.number(), Deadline::max()));
  return ExecResult{.exit_code = exit.code, .timed_out = exit.timed_out};
}

namespace {

class Session final : public ExecSession {
 public:
  Session(std::shared_ptr<KeeperClient> keeper, UniqueFd wake)
      : keeper_(std::move(keeper)), wake_(std::move(wake)) {}
  Result<void> Start(Command command, bool terminal) {
    const Deadline start = steady_clock::now() + kStartTime;
    running_.emplace(keeper_, LN_TRY(keeper_->SendExec(std::move(command), wake_, start)));
    KeeperClient::Answer started = LN_TRY(keeper_->Wait(running_->number(), start));
    if (!terminal) return Ok();
    if (!started.fd) return Internal("keeper sent no terminal");
    if (fcntl(started.fd.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0)
      return Error::FromErrno(errno, "fcntl of a terminal");
    terminal_ = std::move(started.fd);
    return Ok();
  }
  UniqueFd TakeTerminal() override { return std::move(terminal_); }
  FdRef ended() const override { return wake_; }
  Result<std::optional<ExecResult>> Poll() override {
    const auto exit = LN_TRY(keeper_->TakeExecExit(running_->number()));
    if (!exit) return std::optional<ExecResult>();
    return std::optional<ExecResult>(
        ExecResult{.exit_code = exit->code, .timed_out = exit->timed_out});
  }
  void Kill() override { running_->KillTree(); }

 private:
  const std::shared_ptr<KeeperClient> keeper_;
  const UniqueFd wake_;
  std::optional<Running> running_;  // goes before `wake_`
  UniqueFd terminal_;
};

}  // namespace

Result<std::unique_ptr<ExecSession>> RuntimeImpl::StartExec(const PodId& pod_id,
                                                            const ContainerId& id,
                                                            const ExecSpec& spec) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return Error::FromErrno(errno, "eventfd");
  const Streams streams = StreamsOf(spec);
  Command command = LN_TRY(MakeExec(id, spec.process, streams.fds, streams.flags, spec.timeout));
  auto session = std::make_unique<Session>(pod->keeper, std::move(wake));
  LN_TRY(session->Start(std::move(command), spec.process.terminal));
  return std::unique_ptr<ExecSession>(std::move(session));
}

Result<ExecOutput> RuntimeImpl::ExecSync(const PodId& pod_id, const ContainerId& id,
                                         const oci::Process& process, milliseconds timeout) {
  const PodPtr pod = LN_TRY(Get(pod_id));
  Pipe out = LN_TRY(MakePipe());
  Pipe err = LN_TRY(MakePipe());
  const UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return Error::FromErrno(errno, "eventfd");
  Command command = LN_TRY(
      MakeExec(id, process, {out.write, err.write},
               keeper::kExecKillOnDisconnect | keeper::kExecStdout | keeper::kExecStderr, timeout));
  const Deadline start = steady_clock::now() + kStartTime;
  const Running exec(pod->keeper, LN_TRY(pod->keeper->SendExec(std::move(command), wake, start)));
  out.write.Reset();
  err.write.Reset();
  (void)LN_TRY(pod->keeper->Wait(exec.number(), start));

  ExecOutput result;
  std::optional<KeeperClient::ExecExit> exit;
  Deadline until =
      timeout.count() > 0 ? steady_clock::now() + timeout + kKeeperGrace : Deadline::max();
  while (!exit || out.read || err.read) {
    // Negative descriptors are skipped by poll.
    std::array<pollfd, 3> wait = {{{.fd = out.read.get(), .events = POLLIN, .revents = 0},
                                   {.fd = err.read.get(), .events = POLLIN, .revents = 0},
                                   {.fd = exit ? -1 : wake.get(), .events = POLLIN, .revents = 0}}};
    const int n = poll(wait.data(), wait.size(), MillisUntil(until));
    if (n < 0 && errno != EINTR) return Error::FromErrno(errno, "poll");
    if (n == 0 && steady_clock::now() >= until) {
      if (exit) break;  // a grandchild keeps the pipes: what came is what there is
      exec.KillTree();
      return Error(Code::kDeadlineExceeded,
                   "command did not end in time and its keeper did not end it");
    }
    if (wait[0].revents != 0) (void)Drain(out.read, result.out);
    if (wait[1].revents != 0) (void)Drain(err.read, result.err);
    if (wait[2].revents != 0) {
      exit = LN_TRY(pod->keeper->TakeExecExit(exec.number()));
      if (exit && exit->timed_out) break;
      until = steady_clock::now() + kDrainTime;
    }
  }
  if (exit->timed_out) {
    return Error(
        Code::kDeadlineExceeded,
        "command did not end within " + std::to_string(timeout.count()) + " ms and was killed");
  }
  result.exit_code = exit->code;
  return result;
}

}  // namespace linnet::runtime
