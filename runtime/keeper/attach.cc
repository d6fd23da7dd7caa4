// Attach: others see what a container writes, and may write to its stdin.
//
// A reader who is slower than the container holds it up, but not for long: it has credit for one
// second, and gets as much again with each MiB that it takes. So a container writes at least
// 1 MiB/s whatever happens to those who look on, and stands still for at most a second.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <new>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

constexpr int kMaxAttachments = 32;            // of one container
constexpr std::int64_t kMaxCredit = 1 << 20;   // bytes
constexpr std::int64_t kCreditOfMilli = 1049;  // kMaxCredit in a second
constexpr int kMaxPipeBytes = 1 << 20;         // more is for who has CAP_SYS_RESOURCE

OutputStream& StreamOf(const AttachedPipe& pipe) {
  Container& container = *pipe.owner->container;
  return &pipe == &pipe.owner->out ? container.out : container.err;
}

std::int64_t CreditAt(const Attachment& attachment, std::int64_t now) {
  return attachment.held_since == 0
             ? attachment.credit
             : attachment.credit - (now - attachment.held_since) * kCreditOfMilli;
}

void Took(Attachment& attachment, std::int64_t bytes) {
  const std::int64_t now = MonotonicMillis();
  const std::int64_t credit = CreditAt(attachment, now) + bytes;
  attachment.credit = credit < kMaxCredit ? credit : kMaxCredit;
  if (attachment.held_since != 0) attachment.held_since = now;
}

// The stream is read again, unless others hold it.
void Release(Keeper& keeper, AttachedPipe& pipe) {
  if (pipe.rest == nullptr) return;
  free(pipe.rest);
  pipe.rest = nullptr;
  pipe.Unwatch(keeper);
  Attachment& attachment = *pipe.owner;
  if (attachment.out.rest == nullptr && attachment.err.rest == nullptr) {
    Took(attachment, 0);
    attachment.held_since = 0;
  }
  OutputStream& stream = StreamOf(pipe);
  if (--stream.held == 0 && stream.fd >= 0) (void)stream.Watch(keeper, EPOLLIN);
}

void ClosePipe(Keeper& keeper, AttachedPipe& pipe) {
  Release(keeper, pipe);
  CloseFd(pipe.fd);
}

// The input of a container that takes it once.
void InputEnded(Attachment& attachment) {
  if (!attachment.takes_input) return;
  attachment.takes_input = false;
  Container& container = *attachment.container;
  if (container.stdin_once) CloseFd(container.stdin_pipe);
}

void Detach(Keeper& keeper, Attachment* attachment) {
  InputEnded(*attachment);
  for (Attachment** at = &attachment->container->attachments; *at != nullptr; at = &(*at)->next) {
    if (*at != attachment) continue;
    *at = attachment->next;
    break;
  }
  ClosePipe(keeper, attachment->out);
  ClosePipe(keeper, attachment->err);
  attachment->Close(keeper);
  attachment->~Attachment();
  free(attachment);
}

// The reader is told why.
void Drop(Keeper& keeper, Attachment* attachment) {
  (void)!send(attachment->fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  Detach(keeper, attachment);
}

void OnControl(Keeper& keeper, Source* source, std::uint32_t events) {
  auto* attachment = static_cast<Attachment*>(source);
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) return Detach(keeper, attachment);
  char ignored[64];
  const ssize_t size = recv(attachment->fd, ignored, sizeof ignored, MSG_DONTWAIT);
  if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR))) return;
  InputEnded(*attachment);
  epoll_event hangup = {};  // only that is left to wait for
  hangup.data.ptr = static_cast<Source*>(attachment);
  if (size < 0 || epoll_ctl(keeper.epoll, EPOLL_CTL_MOD, attachment->fd, &hangup) != 0)
    Detach(keeper, attachment);
}

// How much of it went; -1: nobody reads there any more.
ssize_t Push(AttachedPipe& pipe, const char* data, std::size_t size) {
  std::size_t sent = 0;
  while (sent < size) {
    const ssize_t written = write(pipe.fd, data + sent, size - sent);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) break;
    if (written < 0) return -1;
    sent += static_cast<std::size_t>(written);
  }
  if (sent > 0) Took(*pipe.owner, static_cast<std::int64_t>(sent));
  return static_cast<ssize_t>(sent);
}

void PushRest(Keeper& keeper, AttachedPipe& pipe) {
  const ssize_t sent = Push(pipe, pipe.rest + pipe.rest_sent, pipe.rest_size - pipe.rest_sent);
  if (sent < 0) return ClosePipe(keeper, pipe);
  pipe.rest_sent += static_cast<std::uint32_t>(sent);
  if (pipe.rest_sent == pipe.rest_size) Release(keeper, pipe);
}

void OnRoom(Keeper& keeper, Source* source, std::uint32_t events) {
  auto& pipe = *static_cast<AttachedPipe*>(source);
  if ((events & EPOLLERR) != 0) return ClosePipe(keeper, pipe);
  PushRest(keeper, pipe);
}

// False: no memory.
bool Hold(Keeper& keeper, AttachedPipe& pipe, const char* data, std::size_t size) {
  auto* rest = static_cast<char*>(malloc(size));
  if (rest == nullptr) return false;
  if (!pipe.Watch(keeper, EPOLLOUT)) {
    free(rest);
    return false;
  }
  memcpy(rest, data, size);
  pipe.rest = rest;
  pipe.rest_size = static_cast<std::uint32_t>(size);
  pipe.rest_sent = 0;
  if (pipe.owner->held_since == 0) pipe.owner->held_since = MonotonicMillis();
  OutputStream& stream = StreamOf(pipe);
  if (stream.held++ == 0) stream.Unwatch(keeper);
  return true;
}

// Room for the last words.
void Grow(const AttachedPipe& pipe) { (void)fcntl(pipe.fd, F_SETPIPE_SZ, kMaxPipeBytes); }

// False: the attachment has to go.
bool CopyTo(Keeper& keeper, AttachedPipe& pipe, const char* data, std::size_t size) {
  const bool ended = pipe.owner->container->reaped;
  ssize_t sent = Push(pipe, data, size);
  if (sent >= 0 && ended && static_cast<std::size_t>(sent) < size) {
    Grow(pipe);
    const ssize_t more = Push(pipe, data + sent, size - static_cast<std::size_t>(sent));
    sent = more < 0 ? more : sent + more;
  }
  if (sent < 0) {
    ClosePipe(keeper, pipe);
    return true;
  }
  const auto done = static_cast<std::size_t>(sent);
  return done == size || (!ended && Hold(keeper, pipe, data + done, size - done));
}

bool IsSocket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

int InputOf(const Container& container, std::uint32_t flags) {
  if (container.terminal) return container.out.fd;
  return (flags & kAttachStdin) != 0 ? container.stdin_pipe : -1;
}

}  // namespace

void CopyToAttached(Keeper& keeper, OutputStream& stream, const char* data, std::size_t size) {
  const bool is_out = &stream == &stream.container.out;
  for (Attachment* a = stream.container.attachments; a != nullptr;) {
    Attachment* next = a->next;
    AttachedPipe& pipe = is_out ? a->out : a->err;
    if (pipe.fd >= 0 && size == 0) {
      ClosePipe(keeper, pipe);
    } else if (pipe.fd >= 0 && !CopyTo(keeper, pipe, data, size)) {
      Drop(keeper, a);
    }
    a = next;
  }
}

void EndHolds(Keeper& keeper, Container& container) {
  for (Attachment* a = container.attachments; a != nullptr;) {
    Attachment* next = a->next;
    for (AttachedPipe* pipe : {&a->out, &a->err}) {
      if (pipe->rest == nullptr) continue;
      Grow(*pipe);
      PushRest(keeper, *pipe);
    }
    if (a->out.rest != nullptr || a->err.rest != nullptr) Drop(keeper, a);
    a = next;
  }
}

void CheckAttachments(Keeper& keeper, std::int64_t now) {
  for (Container* c = keeper.containers; c != nullptr; c = c->next) {
    for (Attachment* a = c->attachments; a != nullptr;) {
      Attachment* next = a->next;
      if (a->held_since != 0 && CreditAt(*a, now) <= 0) Drop(keeper, a);
      a = next;
    }
  }
}

std::int64_t NextDrop(const Container& container) {
  std::int64_t soonest = 0;
  for (const Attachment* a = container.attachments; a != nullptr; a = a->next) {
    if (a->held_since == 0) continue;
    const std::int64_t at = a->held_since + a->credit / kCreditOfMilli + 1;
    if (soonest == 0 || at < soonest) soonest = at;
  }
  return soonest;
}

void DetachAll(Keeper& keeper, Container& container) {
  while (container.attachments != nullptr) Detach(keeper, container.attachments);
}

void AttachCommand(Keeper& keeper, Command& command) {
  const auto& message = *reinterpret_cast<const Attach*>(command.header);
  const std::uint64_t number = command.header->command;
  Container* container = FindRunning(keeper, number, message.id);
  if (container == nullptr) return;
  const std::uint32_t streams = ((message.flags & kAttachStdout) != 0 ? 1U : 0U) +
                                ((message.flags & kAttachStderr) != 0 ? 1U : 0U);
  if (command.fd_count != 1 + streams || !IsSocket(command.fds[0]))
    return AnswerFailed(keeper, number, Stage::kProtocol, EPROTO, "descriptors");
  int count = 0;
  for (const Attachment* a = container->attachments; a != nullptr; a = a->next) ++count;
  if (count >= kMaxAttachments)
    return AnswerFailed(keeper, number, Stage::kState, EMFILE, "too many are attached");

  void* memory = calloc(1, sizeof(Attachment));
  if (memory == nullptr) return AnswerFailed(keeper, number, Stage::kStdio, ENOMEM);
  auto* attachment = new (memory) Attachment();
  attachment->ready = OnControl;
  attachment->container = container;
  attachment->credit = kMaxCredit;
  attachment->fd = command.Take(0);
  std::uint32_t next = 1;
  if ((message.flags & kAttachStdout) != 0) attachment->out.fd = command.Take(next++);
  if ((message.flags & kAttachStderr) != 0) attachment->err.fd = command.Take(next++);
  for (AttachedPipe* pipe : {&attachment->out, &attachment->err}) {
    pipe->owner = attachment;
    pipe->ready = OnRoom;
    if (pipe->fd >= 0) (void)fcntl(pipe->fd, F_SETFL, O_WRONLY | O_NONBLOCK);
  }
  // A stream that has ended already.
  if (container->out.fd < 0) CloseFd(attachment->out.fd);
  if (container->err.fd < 0) CloseFd(attachment->err.fd);
  attachment->next = container->attachments;
  container->attachments = attachment;
  if (!attachment->Watch(keeper, EPOLLIN)) {
    const int err = errno;
    Detach(keeper, attachment);
    return AnswerFailed(keeper, number, Stage::kStdio, err);
  }
  attachment->takes_input = (message.flags & kAttachStdin) != 0;
  Attached answer;
  answer.header.command = number;
  answer.terminal = container->terminal ? 1 : 0;
  const int input = InputOf(*container, message.flags);
  answer.header.fd_count = input >= 0 ? 1 : 0;
  if (input >= 0)
    (void)fcntl(input, F_SETFL, O_NONBLOCK | (container->terminal ? O_RDWR : O_WRONLY));
  SendAnswer(keeper, &answer, sizeof answer, input);
}

}  // namespace linnet::runtime::keeper
