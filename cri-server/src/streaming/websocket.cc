#include "websocket.h"

#include <algorithm>
#include <cstring>

#include <openssl/sha.h>

#include "linnet/base/text.h"

namespace linnet::cri::streaming {
namespace {

constexpr std::uint64_t kMaxFrame = 1ULL << 31;
constexpr std::size_t kMaxControl = 125;

Error Broken(const char* what) { return InvalidArgument(std::string("websocket: ") + what); }

bool IsControl(WebSocketOp op) { return (static_cast<unsigned>(op) & 8U) != 0; }

// Bytes of the head that starts with these two.
std::size_t HeadSize(unsigned char second) {
  const unsigned size = second & 0x7FU;
  return 2U + (size == 126 ? 2U : size == 127 ? 8U : 0U) + 4U;
}

}  // namespace

std::string WebSocketAccept(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return Base64Encode({reinterpret_cast<const char*>(digest), sizeof digest});
}

void AppendWebSocketHead(std::string& out, WebSocketOp op, std::size_t size) {
  out.push_back(static_cast<char>(0x80U | static_cast<unsigned>(op)));
  int bytes = 0;
  if (size < 126) {
    out.push_back(static_cast<char>(size));
  } else if (size <= 0xFFFF) {
    out.push_back(126);
    bytes = 2;
  } else {
    out.push_back(127);
    bytes = 8;
  }
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<char>(size >> (8 * i) & 0xFF));
}

void AppendWebSocketFrame(std::string& out, WebSocketOp op, std::string_view payload) {
  AppendWebSocketHead(out, op, payload.size());
  out.append(payload);
}

void AppendWebSocketClose(std::string& out, std::uint16_t code) {
  const char payload[2] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
  AppendWebSocketFrame(out, WebSocketOp::kClose, {payload, sizeof payload});
}

Result<void> WebSocketDecoder::ParseHead() {
  const auto byte = [this](std::size_t i) { return static_cast<unsigned char>(head_[i]); };
  if ((byte(0) & 0x70U) != 0) return Broken("reserved bits are set");
  fin_ = (byte(0) & 0x80U) != 0;
  op_ = static_cast<WebSocketOp>(byte(0) & 0x0FU);
  const unsigned size = byte(1) & 0x7FU;
  left_ = size;
  std::size_t at = 2;
  if (size >= 126) {
    left_ = 0;
    for (std::size_t i = 0; i < (size == 126 ? 2U : 8U); ++i) left_ = left_ << 8 | byte(at++);
  }
  std::memcpy(mask_, head_.data() + at, sizeof mask_);
  offset_ = 0;
  if (left_ > kMaxFrame) return Broken("frame is too large");
  switch (op_) {
    case WebSocketOp::kContinuation:
      if (!in_message_) return Broken("continuation of nothing");
      break;
    case WebSocketOp::kText:
    case WebSocketOp::kBinary:
      if (in_message_) return Broken("message within a message");
      in_message_ = true;
      piece_is_first_ = true;
      break;
    case WebSocketOp::kClose:
    case WebSocketOp::kPing:
    case WebSocketOp::kPong:
      if (!fin_ || left_ > kMaxControl) return Broken("malformed control frame");
      control_.clear();
      break;
    default:
      return Broken("unknown opcode");
  }
  return Ok();
}

// A piece of the frame's payload, unmasked; the last one when left_ is 0.
Result<void> WebSocketDecoder::Deliver(std::string piece, WebSocketHandler& handler) {
  if (!IsControl(op_)) {
    const bool first = std::exchange(piece_is_first_, false);
    if (left_ == 0 && fin_) in_message_ = false;
    return handler.OnMessage(piece, first);
  }
  control_ += piece;
  if (left_ > 0) return Ok();
  if (op_ == WebSocketOp::kPing) return handler.OnPing(control_);
  if (op_ == WebSocketOp::kClose) return handler.OnClose();
  return Ok();
}

Result<void> WebSocketDecoder::Feed(std::string_view bytes, WebSocketHandler& handler) {
  while (!bytes.empty()) {
    if (!in_payload_) {
      const std::size_t wanted =
          head_.size() < 2 ? 2 : HeadSize(static_cast<unsigned char>(head_[1]));
      const std::size_t taken = std::min(wanted - head_.size(), bytes.size());
      head_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      if (head_.size() < 2) continue;
      if ((static_cast<unsigned char>(head_[1]) & 0x80U) == 0)
        return Broken("frame of a client is not masked");
      if (head_.size() < HeadSize(static_cast<unsigned char>(head_[1]))) continue;
      LN_TRY(ParseHead());
      head_.clear();
      in_payload_ = left_ > 0;
      if (!in_payload_) LN_TRY(Deliver("", handler));
      continue;
    }
    const std::size_t taken =
        static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
    std::string piece(bytes.substr(0, taken));
    bytes.remove_prefix(taken);
    for (char& c : piece)
      c = static_cast<char>(static_cast<unsigned char>(c) ^ mask_[offset_++ & 3U]);
    left_ -= taken;
    in_payload_ = left_ > 0;
    LN_TRY(Deliver(std::move(piece), handler));
  }
  return Ok();
}

}  // namespace linnet::cri::streaming
