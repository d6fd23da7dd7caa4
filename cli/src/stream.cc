#include "stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

#include "linnet/base/file.h"
#include "linnet/base/ip.h"
#include "linnet/base/json_view.h"
#include "linnet/base/text.h"
#include "linnet/base/unique_fd.h"

namespace linnet::cli {
namespace {

enum Channel : unsigned char {
  kStdin = 0,
  kStdout = 1,
  kStderr = 2,
  kError = 3,
  kResize = 4,
  kCloseSignal = 255
};
enum Op : unsigned char { kBinary = 2, kClose = 8, kPing = 9, kPong = 10 };
constexpr std::size_t kMaxFrame = 64U << 20;
constexpr std::size_t kMaxPending = 256U
                                    << 10;  // to the daemon, before standard input is read again

struct Url {
  IpAddress ip;
  std::uint16_t port = 0;
  std::string host, path;
};

Result<Url> ParseUrl(const std::string& url) {
  static constexpr std::string_view kScheme = "http://";
  const std::size_t slash = url.find('/', kScheme.size());
  const std::size_t colon = url.rfind(':', slash);
  if (!url.starts_with(kScheme) || slash == std::string::npos || colon == std::string::npos ||
      colon < kScheme.size()) {
    return InvalidArgument("the daemon answered a URL that is not http://ADDRESS:PORT/…: " + url);
  }
  Url out;
  out.host = url.substr(kScheme.size(), slash - kScheme.size());
  std::string host = url.substr(kScheme.size(), colon - kScheme.size());
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  out.ip = LN_TRY(IpAddress::Parse(host));
  out.port = LN_TRY(
      ParseNumber<std::uint16_t>(std::string_view(url).substr(colon + 1, slash - colon - 1)));
  out.path = url.substr(slash);
  return out;
}

Result<UniqueFd> Connect(const Url& url) {
  const bool v4 = url.ip.is_v4();
  UniqueFd out(socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!out) return Error::FromErrno(errno, "socket");
  sockaddr_storage storage{};
  const auto bytes = url.ip.bytes();
  socklen_t size = sizeof(sockaddr_in);
  if (v4) {
    auto* at = reinterpret_cast<sockaddr_in*>(&storage);
    at->sin_family = AF_INET;
    at->sin_port = htons(url.port);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::uint8_t*>(&at->sin_addr));
  } else {
    auto* at = reinterpret_cast<sockaddr_in6*>(&storage);
    at->sin6_family = AF_INET6;
    at->sin6_port = htons(url.port);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::uint8_t*>(&at->sin6_addr));
    size = sizeof(sockaddr_in6);
  }
  if (connect(out.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0)
    return Error::FromErrno(errno, "connect to " + url.host);
  return out;
}

// Raw while this lives, where standard input is a terminal.
class RawTerminal {
 public:
  explicit RawTerminal(bool wanted) {
    if (!wanted || tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios raw = before_;
    cfmakeraw(&raw);
    is_raw_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (is_raw_) (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_ = {};
  bool is_raw_ = false;
};

// SIGWINCH may come to any thread: it writes here. One stream in a process.
int g_resized = -1;
void OnResized(int) {
  const int err = errno;
  (void)!write(g_resized, "r", 1);
  errno = err;
}

class Stream {
 public:
  Stream(UniqueFd socket, const StreamOptions& options)
      : socket_(std::move(socket)), options_(options) {}

  Result<void> Greet(const Url& url) {
    std::array<char, 16> key{};
    if (getrandom(key.data(), key.size(), 0) < 0) return Error::FromErrno(errno, "getrandom");
    LN_TRY(WriteAll(socket_, "GET " + url.path + " HTTP/1.1\r\nHost: " + url.host +
                                 "\r\nConnection: Upgrade\r\nUpgrade: "
                                 "websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
                                 Base64Encode({key.data(), key.size()}) +
                                 "\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"));
    std::size_t end = std::string::npos;
    while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
      if (in_.size() > 16384 || !LN_TRY(Receive()))
        return Unavailable("the daemon's answer to the stream's request ended early");
    }
    const std::string head = in_.substr(0, end);
    if (!head.starts_with("HTTP/1.1 101"))
      return Unavailable("the daemon refused the stream: " + in_.substr(end + 4, 200));
    in_.erase(0, end + 4);
    return Ok();
  }

  Result<int> Run() {
    if (fcntl(socket_.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0)
      return Error::FromErrno(errno, "fcntl");
    if (options_.tty) LN_TRY(WatchSize());
    stdin_open_ = options_.stdin_open;
    while (!ended_) {
      LN_TRY(TakeFrames());
      if (ended_) break;
      LN_TRY(Flush());
      std::array<pollfd, 3> wait = {
          {{.fd = socket_.get(),
            .events = static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)),
            .revents = 0},
           {.fd = stdin_open_ && out_.size() < kMaxPending ? STDIN_FILENO : -1,
            .events = POLLIN,
            .revents = 0},
           {.fd = resized_.get(), .events = POLLIN, .revents = 0}}};
      if (poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR)
        return Error::FromErrno(errno, "poll");
      if (wait[2].revents != 0) SendSize();
      if (wait[1].revents != 0) ReadStdin();
      if ((wait[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !LN_TRY(Receive()))
        ended_ = true;
    }
    LN_TRY(TakeFrames());
    return Outcome();
  }

 private:
  // False: the connection has ended.
  Result<bool> Receive() {
    std::array<char, 65536>
        buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by recv
    const ssize_t size = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (size <= 0) return false;
    in_.append(buffer.data(), static_cast<std::size_t>(size));
    return true;
  }
  Result<void> Flush() {
    std::size_t sent = 0;
    while (sent < out_.size()) {
      const ssize_t size =
          send(socket_.get(), out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) break;
      if (size < 0) break;  // what it still has to say is read first
      sent += static_cast<std::size_t>(size);
    }
    out_.erase(0, sent);
    return Ok();
  }

  // Whole frames of what came.
  Result<void> TakeFrames() {
    std::size_t at = 0;
    while (in_.size() - at >= 2) {
      const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(in_[at + i]); };
      std::uint64_t size = byte(1) & 0x7FU;
      std::size_t head = 2;
      const std::size_t more = size == 126 ? 2 : size == 127 ? 8 : 0;
      if (in_.size() - at < head + more) break;
      if (more > 0) size = 0;
      for (std::size_t i = 0; i < more; ++i) size = size << 8 | byte(head++);
      if (size > kMaxFrame) return Unavailable("the daemon's frame is too large");
      if (in_.size() - at < head + size) break;
      LN_TRY(OnFrame(byte(0) & 0x0FU,
                     std::string_view(in_).substr(at + head, static_cast<std::size_t>(size))));
      at += head + static_cast<std::size_t>(size);
    }
    in_.erase(0, at);
    return Ok();
  }
  Result<void> OnFrame(unsigned op, std::string_view payload) {
    if (op == kClose) ended_ = true;
    if (op == kPing) Send(kPong, payload);
    if (op != kBinary || payload.empty()) return Ok();
    const auto channel = static_cast<unsigned char>(payload.front());
    payload.remove_prefix(1);
    if (channel == kStdout && !payload.empty()) return WriteAll(FdRef(STDOUT_FILENO), payload);
    if (channel == kStderr && !payload.empty()) return WriteAll(FdRef(STDERR_FILENO), payload);
    if (channel == kError) status_ += payload;
    return Ok();
  }

  void Send(unsigned char op, std::string_view payload) {
    std::array<unsigned char, 4> mask{};
    (void)!getrandom(mask.data(), mask.size(), 0);  // for proxies' sake, of which there are none
    out_.push_back(static_cast<char>(0x80U | op));
    const bool small = payload.size() < 126;
    out_.push_back(
        static_cast<char>(0x80U | (small ? payload.size() : 126)));  // never more than 64 KiB
    if (!small) {
      out_.push_back(static_cast<char>(payload.size() >> 8));
      out_.push_back(static_cast<char>(payload.size() & 0xFF));
    }
    for (const unsigned char byte : mask) out_.push_back(static_cast<char>(byte));
    for (std::size_t i = 0; i < payload.size(); ++i)
      out_.push_back(static_cast<char>(static_cast<unsigned char>(payload[i]) ^ mask[i & 3U]));
  }

  void ReadStdin() {
    std::array<char, 32768>
        buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by read
    const ssize_t size = read(STDIN_FILENO, buffer.data() + 1, buffer.size() - 1);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size > 0) {
      buffer[0] = static_cast<char>(kStdin);
      return Send(kBinary, {buffer.data(), static_cast<std::size_t>(size) + 1});
    }
    stdin_open_ = false;
    const char closed[] = {static_cast<char>(kCloseSignal), static_cast<char>(kStdin)};
    Send(kBinary, {closed, sizeof closed});
  }

  Result<void> WatchSize() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return Error::FromErrno(errno, "pipe");
    resized_ = UniqueFd(ends[0]);
    resized_write_ = UniqueFd(ends[1]);
    g_resized = resized_write_.get();
    std::signal(SIGWINCH, OnResized);
    SendSize();
    return Ok();
  }
  void SendSize() {
    std::array<char, 64> ignored{};
    (void)!read(resized_.get(), ignored.data(), ignored.size());
    winsize size = {};
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return;
    Send(kBinary, std::string(1, static_cast<char>(kResize)) + R"({"Width":)" +
                      std::to_string(size.ws_col) + R"(,"Height":)" + std::to_string(size.ws_row) +
                      "}");
  }

  Result<int> Outcome() const {
    if (status_.empty()) return Unavailable("the connection ended before the command");
    const Json json = LN_TRY(ParseJson(status_));
    const JsonView view(json);
    if (LN_TRY(view.Optional<std::string>("status", "")) == "Success") return 0;
    const std::string message = LN_TRY(view.Optional<std::string>("message", "the stream failed"));
    if (LN_TRY(view.Optional<std::string>("reason", "")) != "NonZeroExitCode")
      return Internal(message);
    const auto details = LN_TRY(view.Find("details"));
    if (!details) return Internal(message);
    for (const JsonView& cause : LN_TRY(details->Array("causes"))) {
      const std::string code = LN_TRY(cause.Optional<std::string>("message", ""));
      if (LN_TRY(cause.Optional<std::string>("reason", "")) == "ExitCode")
        return ParseNumber<int>(code);
    }
    return Internal(message);
  }

  const UniqueFd socket_;
  const StreamOptions options_;
  std::string in_, out_, status_;
  bool stdin_open_ = false, ended_ = false;
  UniqueFd resized_, resized_write_;
};

}  // namespace

Result<int> RunStream(const std::string& url, const StreamOptions& options) {
  const Url parsed = LN_TRY(ParseUrl(url));
  Stream stream(LN_TRY(Connect(parsed)), options);
  LN_TRY(stream.Greet(parsed));
  const RawTerminal raw(options.tty && options.stdin_open);
  Result<int> out = stream.Run();
  if (options.tty) std::signal(SIGWINCH, SIG_DFL);
  return out;
}

}  // namespace linnet::cli
