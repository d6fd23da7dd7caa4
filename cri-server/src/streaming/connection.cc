#include "connection.h"

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

int MillisUntil(Deadline deadline) {
  if (deadline == Deadline::max()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 24 * 3600 * 1000));
}

}  // namespace

Result<void> Connection::Receive(std::string& in) {
  const std::size_t before = in.size();
  in.resize(before + kReadBytes);
  const ssize_t size = recv(socket_.get(), in.data() + before, kReadBytes, 0);
  const int err = errno;
  in.resize(before + static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  if (size > 0 || (size < 0 && (err == EAGAIN || err == EINTR))) return Ok();
  return Gone();
}

Result<void> Connection::Flush() {
  while (sent_ < out_.size()) {
    const ssize_t size =
        send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) break;
    if (size < 0) return Gone();
    sent_ += static_cast<std::size_t>(size);
  }
  if (sent_ == out_.size()) {
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
  const std::size_t count = others.size();
  const short events = static_cast<short>((read ? POLLIN : 0) | (pending() ? POLLOUT : 0));
  others.push_back({.fd = socket_.get(), .events = events, .revents = 0});
  others.push_back({.fd = stop_.get(), .events = POLLIN, .revents = 0});
  const int n = poll(others.data(), others.size(), MillisUntil(deadline));
  const int err = errno;
  const pollfd own = others[count], stop = others[count + 1];
  others.resize(count);
  if (n < 0) {
    for (pollfd& other : others) other.revents = 0;
    if (err == EINTR) return Waited{};
    return Error::FromErrno(err, "poll");
  }
  if (stop.revents != 0) return Error(Code::kCancelled, "the daemon ends");
  if (n == 0 && steady_clock::now() >= deadline)
    return Error(Code::kDeadlineExceeded, "nothing came in time");
  // With data still to be read a hang-up shows in Receive.
  if (!read && (own.revents & (POLLHUP | POLLERR)) != 0) return Gone();
  return Waited{.readable = read && (own.revents & (POLLIN | POLLHUP | POLLERR)) != 0};
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

void Connection::Finish() {
  std::vector<pollfd> none;
  std::string ignored;
  Deadline deadline = steady_clock::now() + kLastWords;
  bool said = false;
  while (true) {
    if (!Flush()) return;
    if (!pending() && !said) {
      said = true;
      deadline = steady_clock::now() + kHangUp;
    }
    const auto waited = Wait(none, true, deadline);
    if (!waited) break;
    ignored.clear();
    if (waited->readable && !Receive(ignored)) return;
  }
  (void)shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace linnet::cri::streaming
