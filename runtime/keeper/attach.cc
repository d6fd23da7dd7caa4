// Attach: others see what a container writes, and may write to its stdin.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <new>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

constexpr int kMaxAttachments = 32;  // of one container

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
  CloseFd(attachment->out);
  CloseFd(attachment->err);
  attachment->Close(keeper);
  attachment->~Attachment();
  free(attachment);
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
    int& fd = is_out ? a->out : a->err;
    if (fd >= 0 && size == 0) {
      CloseFd(fd);
    } else if (fd >= 0) {
      const ssize_t written = write(fd, data, size);
      if (written < 0 && errno == EPIPE) {
        CloseFd(fd);
      } else if (written != static_cast<ssize_t>(
                                size)) {  // full: the container does not wait for who does not read
        (void)!send(a->fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        Detach(keeper, a);
      }
    }
    a = next;
  }
}

void DetachAll(Keeper& keeper, Container& container) {
  while (container.attachments != nullptr) Detach(keeper, container.attachments);
}

void AttachCommand(Keeper& keeper, Command& command) {
  const auto& message = *reinterpret_cast<const Attach*>(command.header);
  const std::uint64_t number = command.header->command;
  Container* container = FindContainer(keeper, message.id);
  if (container == nullptr)
    return AnswerFailed(keeper, number, Stage::kUnknownContainer, ENOENT, message.id);
  if (container->state != State::kRunning || container->reaped)
    return AnswerFailed(keeper, number, Stage::kState, ESRCH, "is not running");
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
  attachment->fd = command.Take(0);
  std::uint32_t next = 1;
  if ((message.flags & kAttachStdout) != 0) attachment->out = command.Take(next++);
  if ((message.flags & kAttachStderr) != 0) attachment->err = command.Take(next++);
  for (const int fd : {attachment->out, attachment->err}) {
    if (fd >= 0) (void)fcntl(fd, F_SETFL, O_WRONLY | O_NONBLOCK);
  }
  // A stream that has ended already.
  if (container->out.fd < 0) CloseFd(attachment->out);
  if (container->err.fd < 0) CloseFd(attachment->err);
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
