// WebSocket frames (RFC 6455), the server's side. No sockets here: bytes in, calls out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::cri::streaming {

// Sec-WebSocket-Accept for a client's Sec-WebSocket-Key.
std::string WebSocketAccept(std::string_view key);

enum class WebSocketOp : std::uint8_t {
  kContinuation = 0,
  kText = 1,
  kBinary = 2,
  kClose = 8,
  kPing = 9,
  kPong = 10
};

// Appends the head of an unmasked, unfragmented frame; `size` bytes of payload have to follow.
void AppendWebSocketHead(std::string& out, WebSocketOp op, std::size_t size);
void AppendWebSocketFrame(std::string& out, WebSocketOp op, std::string_view payload);
void AppendWebSocketClose(std::string& out, std::uint16_t code);

class WebSocketHandler {
 public:
  virtual ~WebSocketHandler() = default;
  // A piece of a message; `first` at its beginning. A message may come in any number of pieces,
  // also empty ones.
  virtual Result<void> OnMessage(std::string_view piece, bool first) = 0;
  virtual Result<void> OnPing(std::string_view payload) = 0;
  virtual Result<void> OnClose() = 0;
};

// Thread-compatible. Nothing of a message is kept: memory is bounded by what is fed.
class WebSocketDecoder {
 public:
  // Errors: kInvalidArgument what the client sent breaks the protocol; the decoder is of no use any
  // more.
  Result<void> Feed(std::string_view bytes, WebSocketHandler& handler);

 private:
  Result<void> ParseHead();
  Result<void> Deliver(std::string piece, WebSocketHandler& handler);

  std::string head_;     // of the frame under way, until it is whole
  std::string control_;  // payload of a control frame
  bool in_payload_ = false;
  WebSocketOp op_ = WebSocketOp::kContinuation;
  bool fin_ = false, in_message_ = false, piece_is_first_ = false;
  std::uint64_t left_ = 0;    // of the payload
  std::uint64_t offset_ = 0;  // in the payload, for the mask
  unsigned char mask_[4] = {};
};

}  // namespace linnet::cri::streaming
