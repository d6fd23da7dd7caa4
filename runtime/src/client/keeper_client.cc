#include "client/keeper_client.h"

#include <signal.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "linnet/base/log.h"

#include "keeper/failure.h"

namespace linnet::runtime {
namespace {

using keeper::Type;

// A keeper that hangs up again and again (another daemon takes it over) is left to that daemon.
constexpr int kMaxReconnects = 16;
constexpr auto kReconnectSpan = std::chrono::seconds(10);

Error Gone() { return Unavailable("the pod's keeper is gone"); }

std::optional<ContainerId> ParseId(const char* text, std::size_t size) {
  auto id = ContainerId::Parse(std::string_view(text, strnlen(text, size)));
  if (!id) return std::nullopt;
  return *std::move(id);
}

ContainerExit ToExit(const ContainerId& id, const keeper::Exit& exit) {
  return {.id = id,
          .exit_code = exit.code,
          .signal = exit.signal,
          .oom_killed = exit.oom_killed != 0,
          .started_at_ns = exit.started_at,
          .finished_at_ns = exit.finished_at};
}

// As callers of Runtime may branch on them.
Error Classify(const keeper::Failed& failed) {
  Error error = keeper::ToError(failed);
  switch (failed.stage) {
    case keeper::Stage::kUnknownContainer:
      return std::move(error).As(Code::kNotFound);
    case keeper::Stage::kState:
      return std::move(error).As(Code::kFailedPrecondition);
    default:
      return error;
  }
}

}  // namespace

KeeperClient::KeeperClient(UniqueFd socket, EventLoop& loop, Callbacks callbacks,
                           std::function<Result<UniqueFd>()> connect)
    : loop_(loop),
      callbacks_(std::move(callbacks)),
      connect_(std::move(connect)),
      socket_(std::make_shared<UniqueFd>(std::move(socket))) {
  std::uint32_t high = 0;
  // Numbers of one daemon must not meet those of another: answers are remembered by number.
  (void)getrandom(&high, sizeof high, 0);  // cannot fail for so few bytes once the machine is up
  last_number_ = std::uint64_t{high} << 32;
}

KeeperClient::~KeeperClient() {
  MutexLock lock(mu_);
  if (socket_ && socket_token_ != 0) loop_.Remove(*socket_, socket_token_);
  Unwatch(pidfd_);
}

// --------------------------------------------------------------------------------------------------
// watching

Result<void> KeeperClient::WatchSocket(UniqueFd socket) {
  socket_ = std::make_shared<UniqueFd>(std::move(socket));
  socket_token_ = LN_TRY(loop_.Add(*socket_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnSocket();
  }));
  return Ok();
}

Result<void> KeeperClient::WatchPidfd(UniqueFd pidfd) {
  pidfd_.fd = std::move(pidfd);
  pidfd_.token = LN_TRY(loop_.Add(pidfd_.fd, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnDeath();
  }));
  return Ok();
}

void KeeperClient::Unwatch(Watched& watched) {
  if (watched.token != 0) loop_.Remove(watched.fd, watched.token);
  watched = Watched{};
}

Result<void> KeeperClient::Watch(UniqueFd pidfd) {
  MutexLock lock(mu_);
  if (pidfd) LN_TRY(WatchPidfd(std::move(pidfd)));
  UniqueFd socket = std::move(*socket_);
  return WatchSocket(std::move(socket));
}

Result<void> KeeperClient::Greet(Deadline deadline) {
  (void)LN_TRY(Call(MakeCommand(keeper::Hello{}), deadline));
  MutexLock lock(mu_);
  if (pidfd_.fd || lost_) return Ok();
  // Of a keeper that another daemon started. Its pid cannot have passed to another process: it
  // answered, and the connection would show that it ended meanwhile, since a process closes its
  // descriptors before its number is free.
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, keeper_pid_, 0)));
  if (!pidfd) return Error::FromErrno(errno, "pidfd_open of keeper " + std::to_string(keeper_pid_));
  std::vector<ContainerExit>
      ignored;  // nobody has been told of these containers yet: the caller asks for the list
  if (!ReceiveAll(ignored)) return Gone();
  return WatchPidfd(std::move(pidfd));
}

bool KeeperClient::pod_is_set_up() const {
  MutexLock lock(mu_);
  return set_up_;
}

// ----------------------------------------------------------------------------------------------------
// sending

KeeperClient::Number KeeperClient::NextNumber() {
  if (++last_number_ == 0) ++last_number_;  // 0 is for events
  return last_number_;
}

Result<KeeperClient::Number> KeeperClient::Send(Command command, Deadline deadline,
                                                std::optional<ContainerId> container) {
  keeper::MessageHeader header;
  LN_CHECK(command.bytes.size() >= sizeof header);
  std::memcpy(&header, command.bytes.data(), sizeof header);
  std::shared_ptr<UniqueFd> socket;
  Number number = 0;
  {
    MutexLock lock(mu_);
    if (lost_ || !socket_ || !*socket_) return Gone();
    socket = socket_;
    number = NextNumber();
    pending_.emplace(number,
                     Pending{.type = header.type, .container = std::move(container), .answer = {}});
  }
  auto sent = SendCommand(*socket, command, number, deadline);
  if (sent) return number;
  MutexLock lock(mu_);
  pending_.erase(number);
  return std::move(sent).error();
}

Result<KeeperClient::Answer> KeeperClient::Wait(Number number, Deadline deadline) {
  MutexLock lock(mu_);
  for (;;) {
    const auto it = pending_.find(number);
    LN_CHECK(it != pending_.end());
    if (it->second.answered) {
      Answer answer = std::move(it->second.answer);
      pending_.erase(it);
      const auto failed = answer.As<keeper::Failed>();
      if (failed && failed->header.type == Type::kFailed) return Classify(*failed);
      return answer;
    }
    if (it->second.broken || lost_) {
      pending_.erase(it);
      return Gone();
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      pending_.erase(it);
      return Error(Code::kDeadlineExceeded, "keeper did not answer in time");
    }
    if (deadline == Deadline::max()) {
      changed_.Wait(mu_);
    } else {
      (void)changed_.WaitUntil(mu_, deadline);
    }
  }
}

// ------------------------------------------------------------------------------------------------------
// execs

Result<KeeperClient::Number> KeeperClient::SendExec(Command command, FdRef wake,
                                                    Deadline deadline) {
  std::shared_ptr<UniqueFd> socket;
  Number number = 0;
  {
    MutexLock lock(mu_);
    if (lost_ || !socket_ || !*socket_) return Gone();
    socket = socket_;
    number = NextNumber();
    pending_.emplace(number, Pending{.type = Type::kExec, .container = {}, .answer = {}});
    execs_.emplace(number, ExecState{.exit = {}, .broken = false, .wake = wake.get()});
  }
  auto sent = SendCommand(*socket, command, number, deadline);
  if (sent) return number;
  MutexLock lock(mu_);
  pending_.erase(number);
  execs_.erase(number);
  return std::move(sent).error();
}

Result<std::optional<KeeperClient::ExecExit>> KeeperClient::TakeExecExit(Number number) {
  MutexLock lock(mu_);
  const ExecState& state = execs_.at(number);
  if (!state.exit && (state.broken || lost_)) return Gone();
  return state.exit;
}

Result<KeeperClient::ExecExit> KeeperClient::WaitExecExit(Number number, Deadline deadline) {
  MutexLock lock(mu_);
  for (;;) {
    const ExecState& state = execs_.at(number);
    if (state.exit) return *state.exit;
    if (state.broken || lost_) return Gone();
    if (deadline == Deadline::max()) {
      changed_.Wait(mu_);
    } else if (changed_.WaitUntil(mu_, deadline) == std::cv_status::timeout &&
               !execs_.at(number).exit) {
      return Error(Code::kDeadlineExceeded, "process still runs");
    }
  }
}

void KeeperClient::ForgetExec(Number number) {
  MutexLock lock(mu_);
  execs_.erase(number);
}

// --------------------------------------------------------------------------------------------------
// containers

std::vector<ContainerInfo> KeeperClient::Containers() const {
  MutexLock lock(mu_);
  std::vector<ContainerInfo> out;
  out.reserve(containers_.size());
  for (const auto& [id, info] : containers_) out.push_back(info);
  return out;
}

std::optional<ContainerInfo> KeeperClient::Find(const ContainerId& id) const {
  MutexLock lock(mu_);
  const auto it = containers_.find(id);
  if (it == containers_.end()) return std::nullopt;
  return it->second;
}

void KeeperClient::Forget(const ContainerId& id) {
  MutexLock lock(mu_);
  containers_.erase(id);
  changed_.NotifyAll();
}

Result<ContainerExit> KeeperClient::WaitExit(const ContainerId& id, Deadline deadline) {
  MutexLock lock(mu_);
  for (;;) {
    const auto it = containers_.find(id);
    if (it == containers_.end())
      return NotFound("container " + id.str() + " is not known to its keeper");
    if (it->second.exit) return *it->second.exit;
    if (lost_) return NotFound("container " + id.str() + " was lost with its keeper");
    if (std::chrono::steady_clock::now() >= deadline) {
      return Error(Code::kDeadlineExceeded, "container " + id.str() + " still runs");
    }
    if (deadline == Deadline::max()) {
      changed_.Wait(mu_);
    } else {
      (void)changed_.WaitUntil(mu_, deadline);
    }
  }
}

// ------------------------------------------------------------------------------------------------
// life and death

void KeeperClient::ExpectEnd() {
  MutexLock lock(mu_);
  silent_ = true;
}

bool KeeperClient::Publish() {
  MutexLock lock(mu_);
  silent_ = false;
  return !lost_;
}

bool KeeperClient::lost() const {
  MutexLock lock(mu_);
  return lost_;
}

void KeeperClient::Kill() {
  MutexLock lock(mu_);
  if (pidfd_.fd)
    (void)syscall(SYS_pidfd_send_signal, pidfd_.fd.get(), SIGKILL, nullptr,
                  0);  // dead already is fine
}

Result<void> KeeperClient::WaitEnd(Deadline deadline) {
  MutexLock lock(mu_);
  while (!lost_) {
    if (std::chrono::steady_clock::now() >= deadline)
      return Error(Code::kDeadlineExceeded, "keeper still runs");
    (void)changed_.WaitUntil(mu_, deadline);
  }
  return Ok();
}

void KeeperClient::BreakPending() {
  for (auto& [number, pending] : pending_) pending.broken = !pending.answered;
  for (auto& [number, exec] : execs_) {
    if (exec.exit) continue;
    exec.broken = true;
    const std::uint64_t one = 1;
    if (exec.wake >= 0) (void)!write(exec.wake, &one, sizeof one);  // an eventfd takes it
  }
  changed_.NotifyAll();
}

void KeeperClient::Report(const std::vector<ContainerExit>& exits) const {
  if (!callbacks_.on_exit) return;
  for (const ContainerExit& exit : exits) callbacks_.on_exit(exit);
}

void KeeperClient::OnDeath() {
  std::vector<ContainerExit> exits;
  bool tell = false;
  {
    MutexLock lock(mu_);
    if (lost_ || !pidfd_.fd) return;
    (void)ReceiveAll(exits);  // its last words
    siginfo_t info{};
    // Ours to reap where this daemon started it, not where it outlived another.
    (void)waitid(P_PIDFD, static_cast<id_t>(pidfd_.fd.get()), &info, WEXITED | WNOHANG);
    Unwatch(pidfd_);
    if (socket_ && *socket_) loop_.Remove(*socket_, socket_token_);
    socket_.reset();
    lost_ = true;
    tell = !silent_;
    BreakPending();
  }
  Report(exits);
  if (tell && callbacks_.on_lost) callbacks_.on_lost();
}

void KeeperClient::OnSocket() {
  std::vector<ContainerExit> exits;
  bool open = true;
  {
    MutexLock lock(mu_);
    if (!socket_ || !*socket_) return;
    open = ReceiveAll(exits);
    if (!open) {
      loop_.Remove(*socket_, socket_token_);
      socket_.reset();
      BreakPending();
    }
  }
  Report(exits);
  if (!open) Reconnect();
}

// The keeper lives, or its pidfd tells next.
void KeeperClient::Reconnect() {
  {
    MutexLock lock(mu_);
    if (lost_ || silent_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_reconnect_ > kReconnectSpan) reconnects_ = 0;
    last_reconnect_ = now;
    if (++reconnects_ > kMaxReconnects) return;
  }
  auto socket = connect_();
  if (!socket) return;  // dead: the pidfd tells
  MutexLock lock(mu_);
  Command hello = MakeCommand(keeper::Hello{});
  const Number number = NextNumber();
  auto sent = SendCommand(*socket, hello, number, std::chrono::steady_clock::now());
  if (!sent) return;
  if (regreeting_) pending_.erase(*regreeting_);
  pending_.emplace(number, Pending{.type = Type::kHello, .container = {}, .answer = {}});
  regreeting_ = number;
  auto watched = WatchSocket(*std::move(socket));
  if (!watched) log::Warn("connection to keeper not watched, ignoring", {{"err", watched.error()}});
}

// ---------------------------------------------------------------------------------------------------
// receiving

bool KeeperClient::ReceiveAll(std::vector<ContainerExit>& exits) {
  if (!socket_ || !*socket_) return false;
  Received message;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by Receive
  for (;;) {
    switch (Receive(*socket_, message)) {
      case ReceiveStatus::kNothing:
        return true;
      case ReceiveStatus::kClosed:
        return false;
      case ReceiveStatus::kMessage:
        Handle(message, exits);
    }
  }
}

void KeeperClient::Handle(Received& message, std::vector<ContainerExit>& exits) {
  const auto* header = message.As<keeper::MessageHeader>();
  if (header == nullptr) return;
  if (header->type == Type::kContainerExited) {
    const auto* event = message.As<keeper::ContainerExited>();
    const auto id = event == nullptr ? std::nullopt : ParseId(event->id, sizeof event->id);
    if (!id) return;
    ContainerInfo& info =
        containers_.emplace(*id, ContainerInfo{.id = *id, .exit = {}}).first->second;
    info.state = ContainerState::kExited;
    info.pid = -1;
    info.exit = ToExit(*id, event->exit);
    info.started_at_ns = event->exit.started_at;
    exits.push_back(*info.exit);
    changed_.NotifyAll();
    return;
  }
  if (header->type == Type::kExecExited) {
    const auto* event = message.As<keeper::ExecExited>();
    const auto it = execs_.find(header->command);
    if (event == nullptr || it == execs_.end()) return;
    it->second.exit = ExecExit{.code = event->code, .timed_out = event->timed_out != 0};
    const std::uint64_t one = 1;
    if (it->second.wake >= 0)
      (void)!write(it->second.wake, &one, sizeof one);  // an eventfd takes it
    changed_.NotifyAll();
    return;
  }
  const auto it = pending_.find(header->command);
  if (it == pending_.end()) return;  // whoever asked has given up
  Pending& pending = it->second;
  if (header->type == Type::kContainerState) {
    if (const auto* state = message.As<keeper::ContainerState>())
      HandleState(*state, pending, exits);
  } else {
    HandleAnswer(message, pending);
  }
  if (pending.answered && regreeting_ == header->command) {  // nobody waits for this one
    regreeting_.reset();
    pending_.erase(header->command);
  }
}

void KeeperClient::HandleState(const keeper::ContainerState& state, Pending& pending,
                               std::vector<ContainerExit>& exits) {
  if (const auto id = ParseId(state.id, sizeof state.id)) {
    listed_.insert(*id);
    ContainerInfo& info =
        containers_.emplace(*id, ContainerInfo{.id = *id, .exit = {}}).first->second;
    info.started_at_ns = state.exit.started_at;
    if (state.state == keeper::State::kExited) {
      const bool news = !info.exit && regreeting_.has_value();
      info.state = ContainerState::kExited;
      info.pid = -1;
      info.exit = ToExit(*id, state.exit);
      if (news) exits.push_back(*info.exit);
    } else {
      info.state = state.state == keeper::State::kRunning ? ContainerState::kRunning
                                                          : ContainerState::kCreated;
      info.pid = state.pid;
    }
  }
  if (pending.states_left > 0 && --pending.states_left == 0) Greeted();
  pending.answered = pending.states_left == 0;
}

// A list is complete: what it does not name is gone.
void KeeperClient::Greeted() {
  std::erase_if(containers_, [this](const auto& entry) { return !listed_.contains(entry.first); });
  listed_.clear();
  changed_.NotifyAll();
}

void KeeperClient::HandleAnswer(Received& message, Pending& pending) {
  const auto* header = message.As<keeper::MessageHeader>();
  pending.answer = {.bytes = std::string(message.bytes, message.size), .fd = std::move(message.fd)};
  pending.answered = true;
  if (header->type == Type::kHelloAnswer) {
    if (const auto* hello = message.As<keeper::HelloAnswer>()) {
      keeper_pid_ = hello->keeper_pid;
      set_up_ = hello->pod_is_set_up != 0;
      pending.states_left = hello->container_count;
      listed_.clear();
      pending.answered = pending.states_left == 0;
      if (pending.answered) Greeted();
    }
  }
  if (header->type == Type::kStarted && pending.type == Type::kStartContainer &&
      pending.container) {
    if (const auto* started = message.As<keeper::Started>()) {
      ContainerInfo& info =
          containers_
              .emplace(*pending.container, ContainerInfo{.id = *pending.container, .exit = {}})
              .first->second;
      if (!info.exit) {
        info.state = ContainerState::kRunning;
        info.pid = started->pid;
        info.started_at_ns = started->started_at;
      }
    }
  }
  if (pending.answered) changed_.NotifyAll();
}

}  // namespace linnet::runtime
