// Commands for a keeper: bytes and descriptors.
#pragma once

#include <sys/types.h>

#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/file.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "keeper/protocol.h"

namespace linnet::runtime {

struct Command {
  std::string bytes;       // starts with keeper::MessageHeader; `command` is set when it is sent
  std::vector<FdRef> fds;  // lent until it was sent
  UniqueFd plan;           // the memfd among them, where the plan did not fit into the message
};

template <class Message>
Command MakeCommand(const Message& message) {
  static_assert(std::is_trivially_copyable_v<Message>);
  return {.bytes = std::string(reinterpret_cast<const char*>(&message), sizeof message),
          .fds = {},
          .plan = {}};
}

// A command that carries a plan, and after it `first` and then `rest`.
template <class Message>
Result<Command> MakeCommand(Message message, const std::string& plan,
                            const std::vector<FdRef>& first, const std::vector<FdRef>& rest) {
  static_assert(sizeof(Message) % 8 == 0);
  Command out;
  const bool fits = sizeof message + plan.size() <= keeper::kMaxMessage;
  message.inline_size = fits ? static_cast<std::uint32_t>(plan.size()) : 0;
  out.bytes.assign(reinterpret_cast<const char*>(&message), sizeof message);
  if (fits) {
    out.bytes += plan;
  } else {
    out.plan = LN_TRY(SealedMemfd("linnet-plan", plan, MemfdUse::kData));
    out.fds.push_back(out.plan);
  }
  out.fds.insert(out.fds.end(), first.begin(), first.end());
  out.fds.insert(out.fds.end(), rest.begin(), rest.end());
  return out;
}

template <std::size_t N>
void CopyId(char (&to)[N], const std::string& id) {
  static_assert(N > 128);  // ids are at most that long
  std::memcpy(to, id.data(), std::min(id.size(), N - 1));
}

// Sends it as command `number`, in several messages where it has many descriptors.
// Errors: kDeadlineExceeded the keeper does not read; kUnavailable it is gone.
Result<void> SendCommand(FdRef socket, Command& command, std::uint64_t number, Deadline deadline);

// One message and what came with it. A peer's message that is longer than ours may be: cut.
struct Received {
  alignas(8) char bytes[keeper::kMaxMessage];
  std::size_t size = 0;
  UniqueFd fd;  // the first descriptor; others are closed
  template <class Message>
  const Message* As() const {
    return size >= sizeof(Message) ? reinterpret_cast<const Message*>(bytes) : nullptr;
  }
};
enum class ReceiveStatus : std::uint8_t { kMessage, kNothing, kClosed };
ReceiveStatus Receive(FdRef socket, Received& out);

}  // namespace linnet::runtime
