// A small client of D-Bus: calls with strings as arguments, one at a time. What the firewall plugin
// says to firewalld; everything else of D-Bus is not here.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::network {

struct BusCall {
  std::string destination, path, interface, member;
  std::vector<std::string> arguments;
};

// Thread-compatible. Blocks up to the limit of Connect() for each answer.
class SystemBus {
 public:
  // Errors: kUnavailable nobody listens at `socket_path`.
  static Result<SystemBus> Connect(const std::string& socket_path,
                                   std::chrono::milliseconds limit = std::chrono::seconds(10));
  // The first value of the answer, where it is a string or a boolean ("true", "false"); else "".
  // Errors: kFailedPrecondition, "<name of the error>: <its text>", what the other side answered.
  Result<std::string> Call(const BusCall& call);

 private:
  explicit SystemBus(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<void> Authenticate() const;
  UniqueFd fd_;
  std::uint32_t serial_ = 0;
};

// The wire format (D-Bus Specification, "Message Protocol"). Pure.
std::string EncodeBusCall(const BusCall& call, std::uint32_t serial);
struct BusMessage {
  std::uint8_t type = 0;  // 2: answer, 3: error, 4: signal
  std::uint32_t reply_to = 0;
  std::string error_name;
  std::string value;  // of the body, as Call() returns it
};
// Length of the message that starts with these 16 bytes; 0: they are no message.
std::size_t BusMessageLength(std::string_view head);
// A whole message. Errors: kInvalidArgument.
Result<BusMessage> DecodeBusMessage(std::string_view bytes);

}  // namespace linnet::network
