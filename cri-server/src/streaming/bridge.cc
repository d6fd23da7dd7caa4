#include "bridge.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"

namespace linnet::cri::streaming {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kMaxInput =
    256U << 10;  // what a process may leave unread before the client has to wait
constexpr std::size_t kMaxResize = 4096;
// Output of that much at once is spliced.
constexpr std::size_t kMinSplice = 16384, kMaxSplice = 1U << 20;
constexpr std::size_t kUsualPipe = 65536;
constexpr int kLargePipe = 1 << 20;  // the most there is without CAP_SYS_RESOURCE
// After the process has ended: for what its children still write into pipes that they inherited.
constexpr auto kDrainTime = std::chrono::milliseconds(100);

// What the client speaks with.
struct Process {
  bool terminal = false;
  UniqueFd input;     // pipe, or master of the terminal
  UniqueFd out, err;  // pipes; with a terminal `out` may be its master
  FdRef ended{-1};    // readable at the end
  UniqueFd control;   // of an attachment: shut down with the input's end
};

class Bridge final : RemoteHandler {
 public:
  Bridge(Connection& connection, Remote& remote) : connection_(connection), remote_(remote) {}

  // Until all streams of the client are there. What came for stdin is kept.
  Result<void> AwaitStreams(std::string early) {
    LN_TRY(Feed(early));
    const Deadline deadline = steady_clock::now() + connection_.times().creation;
    std::vector<pollfd> none;
    while (!remote_.ready()) {
      if (input_.size() > kMaxInput) return InvalidArgument("input before all streams are there");
      LN_TRY(connection_.Flush());
      if (LN_TRY(connection_.Wait(none, true, deadline)).readable) LN_TRY(FeedFromSocket());
    }
    return connection_.Flush();
  }

  // Until the client has said how large its terminal is, for a moment.
  Result<void> AwaitSize() {
    const Deadline deadline = steady_clock::now() + connection_.times().first_size;
    std::vector<pollfd> none;
    while (size_.ws_row == 0) {
      const auto waited = connection_.Wait(none, input_.size() < kMaxInput, deadline);
      if (!waited && waited.error().Is(Code::kDeadlineExceeded)) break;
      if (!waited) return Result<void>(waited.error());
      if (waited->readable) LN_TRY(FeedFromSocket());
      LN_TRY(connection_.Flush());
    }
    return Ok();
  }

  void Connect(Process process) {
    process_ = std::move(process);
    PushInput();
    ApplyResize();
  }

  // Copies until the process has ended. Errors: the client has gone, or the daemon ends.
  Result<void> Run() {
    while (true) {
      PushInput();
      LN_TRY(connection_.Flush());
      const bool write = !connection_.congested();
      std::vector<pollfd> wait = {
          {.fd = write ? process_.out.get() : -1, .events = POLLIN, .revents = 0},
          {.fd = write ? process_.err.get() : -1, .events = POLLIN, .revents = 0},
          {.fd = InputToWatch(),
           .events = static_cast<short>(input_.empty() ? 0 : POLLOUT),
           .revents = 0},
          {.fd = process_.ended.get(), .events = POLLIN, .revents = 0}};
      const auto waited = LN_TRY(connection_.Wait(wait, input_.size() < kMaxInput, IdleDeadline()));
      if (waited.readable) LN_TRY(FeedFromSocket());
      if (wait[0].revents != 0) Pull(process_.out, Channel::kStdout);
      if (wait[1].revents != 0) Pull(process_.err, Channel::kStderr);
      if ((wait[2].revents & (POLLERR | POLLNVAL)) != 0) DropInput();  // nobody reads it any more
      if (wait[3].revents != 0) return Ok();
    }
  }

  // What the process has left behind: to the end of its pipes, or what is in them a moment later.
  Result<void> Drain() {
    const Deadline soon = steady_clock::now() + kDrainTime;
    bool last_round = false;
    std::array<std::size_t, 2> rest{};
    DropInput();
    while (process_.out || process_.err) {
      LN_TRY(connection_.Flush());
      const bool write = !connection_.congested();
      if (write && last_round && rest[0] + rest[1] == 0) return Ok();  // nothing is spliced either
      std::vector<pollfd> wait = {
          {.fd = write ? process_.out.get() : -1, .events = POLLIN, .revents = 0},
          {.fd = write ? process_.err.get() : -1, .events = POLLIN, .revents = 0}};
      const auto waited =
          connection_.Wait(wait, true, last_round || !write ? IdleDeadline() : soon);
      if (!waited && !waited.error().Is(Code::kDeadlineExceeded))
        return Result<void>(waited.error());
      if (!waited && (last_round || !write)) return Result<void>(waited.error());
      if (waited && waited->readable) LN_TRY(FeedFromSocket());
      if (wait[0].revents != 0) Count(rest[0], Pull(process_.out, Channel::kStdout));
      if (wait[1].revents != 0) Count(rest[1], Pull(process_.err, Channel::kStderr));
      if (!process_.out) rest[0] = 0;
      if (!process_.err) rest[1] = 0;
      if (!last_round && steady_clock::now() >= soon) {
        last_round = true;
        rest = {Waiting(process_.out), Waiting(process_.err)};
      }
    }
    return Ok();
  }

  void Finish(const StreamStatus& status) {
    remote_.Finish(status, connection_.out());
    connection_.Finish(Connection::Goodbye::kWait);
  }

  const winsize& size() const { return size_; }
  bool fell_behind() const { return fell_behind_; }
  bool output_ended() const { return !process_.out && !process_.err; }
  // Reads what an attachment's control says. True: it has ended.
  bool ControlEnded() {
    char byte = 0;
    const ssize_t size = recv(process_.control.get(), &byte, 1, MSG_DONTWAIT);
    if (size > 0) fell_behind_ = true;
    return size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
  }
  // Closes everything towards the process.
  void Disconnect() { process_ = Process{}; }

 private:
  Deadline IdleDeadline() const { return steady_clock::now() + connection_.times().idle; }

  // --------------------------------------------------------------------------------------------
  // from the client

  Result<void> Feed(std::string_view bytes) {
    return remote_.Feed(bytes, *this, connection_.out());
  }
  Result<void> FeedFromSocket() {
    received_.clear();
    LN_TRY(connection_.Receive(received_));
    LN_TRY(Feed(received_));
    if (received_.size() < kReadBytes / 2) std::string().swap(received_);
    return Ok();
  }

  void OnStdin(std::string_view data) override {
    if (input_ended_ || input_dropped_) return;
    PushInput();
    if (input_.empty() && process_.input) data.remove_prefix(WriteInput(data));
    if (!input_dropped_) input_.append(data);
  }
  void OnStdinEnd() override {
    input_ended_ = true;
    PushInput();
  }
  // {"Width":80,"Height":24}, one after another, in pieces of any size.
  void OnResize(std::string_view data) override {
    resize_.append(data.substr(0, kMaxResize));
    std::size_t end = 0;
    while ((end = resize_.find('}')) != std::string::npos) {
      const auto json = ParseJson(std::string_view(resize_).substr(0, end + 1));
      resize_.erase(0, end + 1);
      if (!json || !json->is_object()) continue;
      const JsonView view(*json, "$", KeyMatch::kIgnoreCase);
      const auto width = view.Optional<std::uint16_t>("Width", 0);
      const auto height = view.Optional<std::uint16_t>("Height", 0);
      if (!width || !height || *width == 0 || *height == 0) continue;
      size_ = winsize{.ws_row = *height, .ws_col = *width, .ws_xpixel = 0, .ws_ypixel = 0};
      ApplyResize();
    }
    if (resize_.size() > kMaxResize) resize_.clear();
  }
  void ApplyResize() {
    if (!process_.terminal || size_.ws_row == 0) return;
    (void)ioctl(process_.input ? process_.input.get() : process_.out.get(), TIOCSWINSZ,
                &size_);  // a size is a wish
  }

  // ---------------------------------------------------------------------------------------------
  // to the process

  void PushInput() {
    if (!process_.input) {
      if (connected()) input_.clear();
      return;
    }
    input_.erase(0, WriteInput(input_));
    if (input_.empty() && input_.capacity() > kReadBytes) std::string().swap(input_);
    if (!input_.empty() || !input_ended_) return;
    if (process_.control) (void)shutdown(process_.control.get(), SHUT_WR);
    // A terminal has no end of input; it is kept for its size.
    if (!process_.terminal) process_.input.Reset();
  }
  // How much of it the process took; where it takes none any more, input is dropped.
  std::size_t WriteInput(std::string_view data) {
    std::size_t written = 0;
    while (written < data.size()) {
      const ssize_t size =
          write(process_.input.get(), data.data() + written, data.size() - written);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) break;
      if (size < 0) {
        DropInput();
        return 0;
      }
      written += static_cast<std::size_t>(size);
    }
    return written;
  }
  void DropInput() {
    input_.clear();
    input_dropped_ = true;
    if (!process_.terminal) process_.input.Reset();
  }
  bool connected() const { return process_.ended.valid(); }
  // A terminal's master says of its other end what reading says as well.
  int InputToWatch() const {
    return process_.terminal && input_.empty() ? -1 : process_.input.get();
  }

  // -------------------------------------------------------------------------------------------
  // from the process

  // One read. The bytes that came; at the end the descriptor is closed.
  std::size_t Pull(UniqueFd& from, Channel channel) {
    if (connection_.congested()) return 0;  // the other stream was first
    if (const std::size_t size = SpliceFrom(from, channel); size > 0) return size;
    if (buffer_.empty()) buffer_.resize(kReadBytes);
    const ssize_t size = read(from.get(), buffer_.data(), buffer_.size());
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (size <= 0) {  // EIO: a terminal whose other end was closed
      from.Reset();
      return 0;
    }
    remote_.Write(channel, {buffer_.data(), static_cast<std::size_t>(size)}, connection_.out());
    if (static_cast<std::size_t>(size) < kReadBytes / 4)
      std::vector<char>().swap(buffer_);  // idle streams hold no memory
    return static_cast<std::size_t>(size);
  }
  // Where much is waiting in a pipe it goes to the client without passing through here.
  std::size_t SpliceFrom(const UniqueFd& from, Channel channel) {
    if (process_.terminal || !connection_.plain()) return 0;
    const std::size_t size = std::min(Waiting(from), kMaxSplice);
    if (size < kMinSplice || !remote_.WriteHead(channel, size, connection_.out())) return 0;
    connection_.Splice(from, size);
    // An exec that is faster than we are: with more room both do more at a time.
    if (size >= kUsualPipe && !process_.control) (void)fcntl(from.get(), F_SETPIPE_SZ, kLargePipe);
    return size;
  }
  static void Count(std::size_t& rest, std::size_t came) { rest -= std::min(rest, came); }
  static std::size_t Waiting(const UniqueFd& fd) {
    int bytes = 0;
    return fd && ioctl(fd.get(), FIONREAD, &bytes) == 0
               ? static_cast<std::size_t>(std::max(bytes, 0))
               : 0;
  }

  Connection& connection_;
  Remote& remote_;
  Process process_;
  std::string input_;  // for the process, at most kMaxInput and one read more
  bool input_ended_ = false, input_dropped_ = false, fell_behind_ = false;
  std::string resize_, received_;
  winsize size_ = {};
  std::vector<char> buffer_;
};

struct Pipe {
  UniqueFd ours, theirs;
};

enum class Direction : std::uint8_t { kToProcess, kFromProcess };

Result<Pipe> MakePipe(Direction direction) {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) return Error::FromErrno(errno, "pipe");
  UniqueFd read_end(fds[0]), write_end(fds[1]);
  Pipe out;
  out.ours = std::move(direction == Direction::kToProcess ? write_end : read_end);
  out.theirs = std::move(direction == Direction::kToProcess ? read_end : write_end);
  // Ours only: the other end is the process's.
  const int access = direction == Direction::kToProcess ? O_WRONLY : O_RDONLY;
  if (fcntl(out.ours.get(), F_SETFL, access | O_NONBLOCK) != 0)
    return Error::FromErrno(errno, "fcntl");
  return out;
}

struct Started {
  std::unique_ptr<runtime::ExecSession> session;
  Process process;
};

Result<Started> StartExec(const StreamRequest& request, const winsize& size,
                          pods::StreamTargets& pods) {
  Pipe in, out, err;
  if (!request.tty) {
    if (request.stdin_open) in = LN_TRY(MakePipe(Direction::kToProcess));
    if (request.stdout_open) out = LN_TRY(MakePipe(Direction::kFromProcess));
    if (request.stderr_open) err = LN_TRY(MakePipe(Direction::kFromProcess));
  }
  Started started;
  started.session = LN_TRY(pods.Exec(request.id, {.command = request.command,
                                                  .terminal = request.tty,
                                                  .rows = size.ws_row,
                                                  .columns = size.ws_col,
                                                  .stdin_fd = in.theirs,
                                                  .stdout_fd = out.theirs,
                                                  .stderr_fd = err.theirs}));
  Process& process = started.process;
  process.terminal = request.tty;
  process.ended = started.session->ended();
  if (request.tty) {
    process.out = started.session->TakeTerminal();
    process.input = LN_TRY(Dup(process.out));
  } else {
    process.input = std::move(in.ours);
    process.out = std::move(out.ours);
    process.err = std::move(err.ours);
  }
  return started;
}

StreamStatus StatusOf(const Result<std::optional<runtime::ExecResult>>& result) {
  if (!result)
    return {StreamStatus::Kind::kFailure, 0,
            "error executing command in container: " + result.error().message()};
  const int code = *result ? (*result)->exit_code : 0;
  return {code == 0 ? StreamStatus::Kind::kSuccess : StreamStatus::Kind::kExitCode, code, ""};
}

// The client has gone, or the daemon ends: input, output and terminal have been closed.
void AbandonExec(Connection& connection, runtime::ExecSession& session,
                 const StreamRequest& request, const Error& why) {
  connection.HangUp();
  if (!request.tty && !request.stdin_open)
    return;  // it was nobody's to speak with: it runs on, as it would elsewhere
  std::vector<pollfd> wait = {{.fd = session.ended().get(), .events = POLLIN, .revents = 0}};
  if (!why.Is(Code::kCancelled)) (void)connection.WaitOthers(wait, connection.times().orphan);
  const auto end = session.Poll();
  if (end && !*end) session.Kill();
}

}  // namespace

Result<StreamStatus> RunExec(Connection& connection, Remote& remote, const StreamRequest& request,
                             pods::StreamTargets& pods, std::string early) {
  Bridge bridge(connection, remote);
  LN_TRY_CTX(bridge.AwaitStreams(std::move(early)), "before its start");
  if (request.tty) LN_TRY_CTX(bridge.AwaitSize(), "before its start");
  auto started = StartExec(request, bridge.size(), pods);
  if (!started) {
    StreamStatus status{StreamStatus::Kind::kFailure, 0,
                        "error executing command in container: " + started.error().message()};
    bridge.Finish(status);
    return status;
  }
  bridge.Connect(std::move(started->process));
  Result<void> done = bridge.Run();
  if (done) done = bridge.Drain();
  bridge.Disconnect();
  if (!done) {
    AbandonExec(connection, *started->session, request, done.error());
    return std::move(done).error();
  }
  StreamStatus status = StatusOf(started->session->Poll());
  bridge.Finish(status);
  return status;
}

Result<StreamStatus> RunAttach(Connection& connection, Remote& remote, const StreamRequest& request,
                               pods::StreamTargets& pods, std::string early) {
  Bridge bridge(connection, remote);
  LN_TRY_CTX(bridge.AwaitStreams(std::move(early)), "before its start");
  auto attached = pods.Attach(request.id, {.stdin_open = request.stdin_open,
                                           .stdout_open = request.stdout_open,
                                           .stderr_open = request.stderr_open && !request.tty});
  if (!attached) {
    StreamStatus status{StreamStatus::Kind::kFailure, 0,
                        "error attaching to container: " + attached.error().message()};
    bridge.Finish(status);
    return status;
  }
  Process process{.terminal = attached->terminal,
                  .input = std::move(attached->input),
                  .out = std::move(attached->out),
                  .err = std::move(attached->err),
                  .ended = attached->control.ref(),
                  .control = std::move(attached->control)};
  bridge.Connect(std::move(process));
  while (true) {
    LN_TRY(bridge.Run());
    if (bridge.ControlEnded()) break;
  }
  LN_TRY(bridge.Drain());
  StreamStatus status;
  if (bridge.fell_behind()) {
    status = {StreamStatus::Kind::kFailure, 0,
              "error attaching to container: output was not read in time, see the container's log"};
  }
  bridge.Finish(status);
  return status;
}

}  // namespace linnet::cri::streaming
