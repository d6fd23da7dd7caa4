#include "connection.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace linnet::cri::streaming {
namespace {

using std::chrono::steady_clock;

constexpr auto kLastWords = std::chrono::seconds(30);  // for a slow client to take what is left
constexpr auto kHangUp = std::chrono::seconds(5);

Error Gone() { return Unavailable("the client has gone"); }

bool Holds(FdRef pipe) {
  int bytes = 0;
  return ioctl(pipe.get(), FIONREAD, &bytes) == 0 && bytes > 0;
}

int MillisUntil(Deadline deadline) {
  if (deadline == Deadline::max()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 24 * 3600 * 1000));
}

}  // namespace

Result<void> Connection::StartTls(std::unique_ptr<TlsSession> tls, Deadline deadline) {
  std::vector<pollfd> none;
  while (true) {
    const auto outcome = tls->Handshake();
    if (outcome == TlsSession::Outcome::kDone) break;
    if (outcome == TlsSession::Outcome::kGone) return Unavailable("TLS: " + tls->problem());
    tls_wants_write_ = outcome == TlsSession::Outcome::kWantWrite;
    (void)LN_TRY(Wait(none, true, deadline));
  }
  tls_wants_write_ = false;
  tls_ = std::move(tls);
  return Ok();
}

Result<std::size_t> Connection::Moved(const TlsSession::Moved& moved) {
  tls_wants_write_ = moved.outcome == TlsSession::Outcome::kWantWrite;
  if (moved.outcome == TlsSession::Outcome::kGone) return Gone();
  return moved.bytes;
}

Result<std::size_t> Connection::Read(char* buffer, std::size_t size) {
  if (tls_) return Moved(tls_->Read(buffer, size));
  const ssize_t got = recv(socket_.get(), buffer, size, 0);
  if (got > 0) return static_cast<std::size_t>(got);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::size_t{0};
  return Gone();
}

Result<std::size_t> Connection::Write(const char* data, std::size_t size, int flags) {
  if (tls_) return Moved(tls_->Write(data, size));
  while (true) {
    const ssize_t sent = send(socket_.get(), data, size, MSG_NOSIGNAL | flags);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN) return std::size_t{0};
    if (errno != EINTR) return Gone();
  }
}

Result<void> Connection::Receive(std::string& in) {
  const std::size_t before = in.size();
  in.resize(before + kReadBytes);
  std::size_t size = 0;
  while (size < kReadBytes) {
    const auto got = Read(in.data() + before + size, kReadBytes - size);
    if (!got && size == 0) {
      in.resize(before);
      return std::move(got).error();
    }
    if (!got || *got == 0) break;  // an end shows again
    size += *got;
    if (!tls_ || !tls_->HasBuffered()) break;  // the rest of a record is nowhere to be polled for
  }
  in.resize(before + size);
  return Ok();
}

void Connection::Splice(FdRef pipe, std::size_t size) {
  splice_from_ = pipe;
  splice_left_ = size;
  splice_at_ = out_.size();
}

Result<bool> Connection::SendTo(std::size_t end, int flags) {
  while (sent_ < end) {
    const std::size_t sent = LN_TRY(Write(out_.data() + sent_, end - sent_, flags));
    if (sent == 0) return false;
    sent_ += sent;
  }
  return true;
}

Result<void> Connection::Flush() {
  if (splice_left_ > 0) {
    if (!LN_TRY(SendTo(splice_at_, MSG_MORE))) return Ok();
    while (splice_left_ > 0) {
      const ssize_t moved = splice(splice_from_.get(), nullptr, socket_.get(), nullptr,
                                   splice_left_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (moved < 0 && errno == EINTR) continue;
      if (moved < 0 && errno == EAGAIN && Holds(splice_from_)) return Ok();
      // The process has read its own output (its pipe can be opened by /proc): the frame that was
      // begun cannot be ended.
      if (moved <= 0 && (moved == 0 || errno == EAGAIN))
        return Error(Code::kDataLoss, "output that was announced has gone from its pipe");
      if (moved <= 0) return Gone();
      splice_left_ -= static_cast<std::size_t>(moved);
    }
  }
  if (LN_TRY(SendTo(out_.size(), 0))) {
    sent_ = 0;
    out_.clear();
  } else if (sent_ > kHighWater) {
    out_.erase(0, std::exchange(sent_, 0));
  }
  return Ok();
}

Result<Connection::Waited> Connection::Wait(std::vector<pollfd>& others, bool read,
                                            Deadline deadline) {
  if (out_.empty()) std::string().swap(out_);  // idle clients hold no memory
  read = read && !full();
  const bool buffered = read && tls_ && tls_->HasBuffered();
  const std::size_t count = others.size();
  const bool write_to_read = read && tls_wants_write_;
  const short events =
      static_cast<short>((read ? POLLIN : 0) | (pending() || write_to_read ? POLLOUT : 0));
  others.push_back({.fd = socket_.get(), .events = events, .revents = 0});
  others.push_back({.fd = stop_.get(), .events = POLLIN, .revents = 0});
  const int n = poll(others.data(), others.size(), buffered ? 0 : MillisUntil(deadline));
  const int err = errno;
  const pollfd own = others[count], stop = others[count + 1];
  others.resize(count);
  if (n < 0) {
    for (pollfd& other : others) other.revents = 0;
    if (err == EINTR) return Waited{};
    return Error::FromErrno(err, "poll");
  }
  if (stop.revents != 0) return Error(Code::kCancelled, "the daemon ends");
  if (n == 0 && !buffered && steady_clock::now() >= deadline)
    return Error(Code::kDeadlineExceeded, "nothing came in time");
  // With data still to be read a hang-up shows in Receive.
  if (!read && (own.revents & (POLLHUP | POLLERR)) != 0) return Gone();
  const int readable = POLLIN | POLLHUP | POLLERR | (write_to_read ? POLLOUT : 0);
  return Waited{.readable = buffered || (read && (own.revents & readable) != 0)};
}

Result<void> Connection::WaitOthers(std::vector<pollfd>& others,
                                    std::chrono::milliseconds time) const {
  others.push_back({.fd = stop_.get(), .events = POLLIN, .revents = 0});
  const int n = poll(others.data(), others.size(), static_cast<int>(time.count()));
  const int err = errno;
  others.pop_back();
  if (n < 0) return Error::FromErrno(err, "poll");
  if (n == 0) return Error(Code::kDeadlineExceeded, "nothing came in time");
  return Ok();
}

void Connection::HangUp() { (void)shutdown(socket_.get(), SHUT_RDWR); }

void Connection::Finish(Goodbye goodbye) {
  std::vector<pollfd> none;
  std::string ignored;
  Deadline deadline = steady_clock::now() + kLastWords;
  bool said = false;
  while (true) {
    if (!Flush()) return;
    if (!pending() && !said) {
      said = true;
      if (tls_) tls_->SayGoodbye();
      if (goodbye == Goodbye::kHangUp) (void)shutdown(socket_.get(), SHUT_WR);
      deadline = steady_clock::now() + kHangUp;
    }
    const auto waited = Wait(none, true, deadline);
    if (!waited) break;
    ignored.clear();
    if (waited->readable && !Receive(ignored)) return;
  }
  HangUp();
}

}  // namespace linnet::cri::streaming
