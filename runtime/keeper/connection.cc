#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdlib>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

void CloseAll(int* fds, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) CloseFd(fds[i]);
}

void ForgetPending(Keeper& keeper) {
  CloseAll(keeper.pending.fds, keeper.pending.count);
  free(keeper.pending.fds);
  keeper.pending = {};
}

// Adds descriptors to those that came before for the same command.
bool AddPending(Keeper& keeper, std::uint64_t command, int* fds, std::uint32_t count) {
  PendingFds& pending = keeper.pending;
  if (pending.command != command) ForgetPending(keeper);
  pending.command = command;
  if (pending.count + count > kMaxFds) return false;
  auto* grown = static_cast<int*>(realloc(pending.fds, (pending.count + count) * sizeof(int)));
  if (grown == nullptr) return false;
  memcpy(grown + pending.count, fds, count * sizeof(int));
  pending.fds = grown;
  pending.count += count;
  return true;
}

const Answer* FindAnswer(const Keeper& keeper, std::uint64_t command) {
  for (const Answer& answer : keeper.answers) {
    if (answer.message != nullptr && answer.command == command) return &answer;
  }
  return nullptr;
}

void Remember(Keeper& keeper, std::uint64_t command, const void* message, std::size_t size) {
  if (FindAnswer(keeper, command) != nullptr) return;
  void* copy = malloc(size);
  if (copy == nullptr) return;
  memcpy(copy, message, size);
  Answer& slot = keeper.answers[keeper.next_answer++ % kRemembered];
  free(slot.message);
  slot = {command, copy, static_cast<std::uint32_t>(size)};
}

bool Send(Keeper& keeper, const void* message, std::size_t size, int fd) {
  if (keeper.connection.fd < 0) return false;
  iovec data = {const_cast<void*>(message),
                size};  // NOLINT(cppcoreguidelines-pro-type-const-cast): sendmsg only reads
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  if (sendmsg(keeper.connection.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
  DropConnection(keeper);  // gone, or does not read: the next Hello tells everything
  return false;
}

struct Received {
  alignas(8) char data[kMaxMessage];
  std::size_t size = 0;
  int fds[kMaxFdsPerMessage];
  std::uint32_t fd_count = 0;
};

// False: the connection has ended.
bool Receive(int fd, Received& received) {
  iovec data = {received.data, sizeof received.data};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage)];
  msghdr header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) return false;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(received.fds + received.fd_count, CMSG_DATA(part), count * sizeof(int));
    received.fd_count += static_cast<std::uint32_t>(count);
  }
  received.size =
      (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ? 0 : static_cast<std::size_t>(size);
  return true;
}

void Handle(Keeper& keeper, Received& received) {
  const auto* header = reinterpret_cast<const MessageHeader*>(received.data);
  if (received.size < sizeof(MessageHeader)) {
    DropConnection(keeper);  // no number to answer to
    return;
  }
  if (header->type == Type::kMoreFds) {
    if (AddPending(keeper, header->command, received.fds, received.fd_count)) received.fd_count = 0;
    return;
  }
  if (const Answer* answer = FindAnswer(keeper, header->command); answer != nullptr) {
    (void)Send(keeper, answer->message, answer->size, -1);
    return;
  }
  if (IsUnderWay(keeper, header->command)) return;
  Command command;
  command.header = header;
  command.size = received.size;
  command.fds = received.fds;
  command.fd_count = received.fd_count;
  const bool batched = keeper.pending.count > 0 && keeper.pending.command == header->command;
  if (batched) {
    if (AddPending(keeper, header->command, received.fds, received.fd_count)) received.fd_count = 0;
    command.fds = keeper.pending.fds;
    command.fd_count = keeper.pending.count;
  }
  if (command.fd_count != header->fd_count) {
    AnswerFailed(keeper, header->command, Stage::kProtocol, EPROTO, "number of descriptors");
  } else {
    Dispatch(keeper, command);
  }
  if (batched) ForgetPending(keeper);
}

}  // namespace

void DropConnection(Keeper& keeper) {
  if (keeper.connection.fd < 0) return;
  keeper.connection.Close(keeper);
  keeper.greeted = false;
  ForgetPending(keeper);
  for (ExecRun* exec = keeper.execs; exec != nullptr; exec = exec->next) {
    if (exec->kill_on_disconnect && !exec->reaped) KillExecTree(keeper, *exec);
  }
}

void AcceptConnection(Keeper& keeper, Source* source, std::uint32_t /*events*/) {
  const int fd = accept4(source->fd, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != geteuid()) {
    close(fd);
    return;
  }
  DropConnection(keeper);
  keeper.connection.fd = fd;
  keeper.connection.Watch(keeper, EPOLLIN);
}

void ReadCommand(Keeper& keeper, Source* source, std::uint32_t /*events*/) {
  Received received;
  if (!Receive(source->fd, received)) {
    DropConnection(keeper);
    return;
  }
  if (received.size > 0) {
    Handle(keeper, received);
  } else if (received.fd_count > 0) {
    DropConnection(keeper);  // cut off
  }
  CloseAll(received.fds, received.fd_count);
}

void SendAnswer(Keeper& keeper, const void* message, std::size_t size, int fd) {
  const std::uint64_t command = static_cast<const MessageHeader*>(message)->command;
  if (command != 0) Remember(keeper, command, message, size);
  (void)Send(keeper, message, size, fd);
}

void SendEvent(Keeper& keeper, const void* message, std::size_t size) {
  (void)Send(keeper, message, size, -1);
}

void AnswerDone(Keeper& keeper, std::uint64_t command) {
  Done done;
  done.header.command = command;
  SendAnswer(keeper, &done, sizeof done);
}

void AnswerFailed(Keeper& keeper, std::uint64_t command, Stage stage, int error,
                  const char* detail) {
  Failed failed;
  failed.header.command = command;
  failed.stage = stage;
  failed.error = error;
  strncpy(failed.detail, detail, sizeof failed.detail - 1);
  SendAnswer(keeper, &failed, sizeof failed);
}

bool IsUnderWay(const Keeper& keeper, std::uint64_t command) {
  if (command == 0) return false;
  if (keeper.exit_command == command) return true;
  for (const Container* c = keeper.containers; c != nullptr; c = c->next) {
    if (c->remove_command == command ||
        (c->start_command == command && c->state == State::kStarting))
      return true;
  }
  for (const ExecRun* e = keeper.execs; e != nullptr; e = e->next) {
    if (e->command == command && !e->started) return true;
  }
  return false;
}

}  // namespace linnet::runtime::keeper
