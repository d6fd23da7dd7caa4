// The client of an exec or attach, whatever it speaks: SPDY (v1–v4) or WebSocket (v1, v4, v5).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "spdy.h"
#include "tickets.h"
#include "websocket.h"

namespace linnet::cri::streaming {

enum class Channel : std::uint8_t {
  kStdin = 0,
  kStdout = 1,
  kStderr = 2,
  kError = 3,
  kResize = 4
};  // WebSocket's numbers

// How it ended.
struct StreamStatus {
  enum class Kind : std::uint8_t { kSuccess, kExitCode, kFailure } kind = Kind::kSuccess;
  int exit_code = 0;
  std::string message;
};
// "v4.channel.k8s.io" and "v5…" say it as metav1.Status, others as text, and nothing where all is
// well.
std::string FormatStatus(const StreamStatus& status, int version);

class RemoteHandler {
 public:
  virtual ~RemoteHandler() = default;
  virtual void OnStdin(std::string_view data) = 0;
  virtual void OnStdinEnd() = 0;
  virtual void OnResize(std::string_view data) = 0;
};

// Thread-compatible. What is to be sent is appended to `out`.
class Remote {
 public:
  virtual ~Remote() = default;
  // Errors: kInvalidArgument the protocol is broken; kUnavailable the client says goodbye.
  virtual Result<void> Feed(std::string_view bytes, RemoteHandler& handler, std::string& out) = 0;
  // All streams that were asked for are there.
  virtual bool ready() const = 0;
  virtual void Write(Channel channel, std::string_view data, std::string& out) = 0;
  // What has to stand before `size` (< 2^24) bytes of output that are sent without passing here.
  // False: nobody wants them.
  virtual bool WriteHead(Channel channel, std::size_t size, std::string& out) = 0;
  // Ends output, says how it went, and with that everything.
  virtual void Finish(const StreamStatus& status, std::string& out) = 0;
};

// The best protocol that both know, from X-Stream-Protocol-Version or Sec-WebSocket-Protocol.
// nullptr: none.
const char* ChooseSpdyProtocol(const std::vector<std::string>& offered);
const char* ChooseWebSocketProtocol(const std::vector<std::string>& offered);
// 4 of "v4.channel.k8s.io", 1 of "channel.k8s.io" and "".
int VersionOf(std::string_view protocol);

std::unique_ptr<Remote> MakeSpdyRemote(const StreamRequest& request, int version);
// Greets with empty messages in `out`.
std::unique_ptr<Remote> MakeWebSocketRemote(const StreamRequest& request, int version,
                                            std::string& out);

}  // namespace linnet::cri::streaming
