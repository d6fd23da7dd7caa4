#include "client/message.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

namespace linnet::runtime {
namespace {

Result<void> WaitWritable(FdRef socket, Deadline deadline) {
  for (;;) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero())
      return Error(Code::kDeadlineExceeded, "keeper does not read its commands");
    const auto millis =
        std::min<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(left).count(), 60'000);
    pollfd wait{.fd = socket.get(), .events = POLLOUT, .revents = 0};
    const int n = poll(&wait, 1, static_cast<int>(millis));
    if (n > 0) return Ok();
    if (n < 0 && errno != EINTR) return Error::FromErrno(errno, "poll");
  }
}

Result<void> SendOne(FdRef socket, const void* bytes, std::size_t size, std::span<const FdRef> fds,
                     Deadline deadline) {
  iovec data{.iov_base = const_cast<void*>(bytes),
             .iov_len = size};  // NOLINT(cppcoreguidelines-pro-type-const-cast): sendmsg reads it
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * keeper::kMaxFdsPerMessage)>
      control;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    auto* out = reinterpret_cast<int*>(CMSG_DATA(header));
    for (const FdRef fd : fds) *out++ = fd.get();
  }
  for (;;) {
    if (sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return Ok();
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      const int err = errno;
      const Error error = Error::FromErrno(err, "send to keeper");
      return err == EPIPE || err == ECONNRESET || err == EBADF ? Error(error).As(Code::kUnavailable)
                                                               : error;
    }
    LN_TRY(WaitWritable(socket, deadline));
  }
}

}  // namespace

Result<void> SendCommand(FdRef socket, Command& command, std::uint64_t number, Deadline deadline) {
  LN_CHECK(command.bytes.size() >= sizeof(keeper::MessageHeader));
  keeper::MessageHeader header;
  std::memcpy(&header, command.bytes.data(), sizeof header);
  header.command = number;
  header.fd_count = static_cast<std::uint32_t>(command.fds.size());
  std::memcpy(command.bytes.data(), &header, sizeof header);
  if (command.fds.size() > keeper::kMaxFds) {
    return Error(Code::kResourceExhausted,
                 "a command with " + std::to_string(command.fds.size()) + " descriptors");
  }
  std::span<const FdRef> fds(command.fds);
  while (fds.size() > keeper::kMaxFdsPerMessage) {
    keeper::MessageHeader more = header;
    more.type = keeper::Type::kMoreFds;
    LN_TRY(SendOne(socket, &more, sizeof more, fds.first(keeper::kMaxFdsPerMessage), deadline));
    fds = fds.subspan(keeper::kMaxFdsPerMessage);
  }
  return SendOne(socket, command.bytes.data(), command.bytes.size(), fds, deadline);
}

ReceiveStatus Receive(FdRef socket, Received& out) {
  constexpr std::size_t kMost = 8;  // descriptors; one is what any answer has
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMost)>
      control;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  iovec data{.iov_base = out.bytes, .iov_len = sizeof out.bytes};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  out.fd.Reset();
  ssize_t n = 0;
  do {
    n = recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN ? ReceiveStatus::kNothing : ReceiveStatus::kClosed;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const auto* fds = reinterpret_cast<const int*>(CMSG_DATA(c));
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      UniqueFd fd(fds[i]);
      if (!out.fd) out.fd = std::move(fd);
    }
  }
  if (n == 0) return ReceiveStatus::kClosed;
  out.size = static_cast<std::size_t>(n);
  return ReceiveStatus::kMessage;
}

}  // namespace linnet::runtime
