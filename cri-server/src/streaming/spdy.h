// SPDY/3.1 frames, as much as Kubernetes' streams use, the server's side. No sockets here: bytes
// in, calls out.
//
// Flow control: clients of this world send no WINDOW_UPDATE and look at none, so there is none; TCP
// holds back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::cri::streaming {

using SpdyHeaders =
    std::map<std::string, std::string>;  // names in lower case; several values are joined by NUL

class SpdyHandler {
 public:
  virtual ~SpdyHandler() = default;
  // A new stream of the client; its id is odd and higher than every one before.
  virtual Result<void> OnStream(std::uint32_t id, const SpdyHeaders& headers, bool fin) = 0;
  // A piece of data; `fin` with the last: the client's half of the stream ends.
  virtual Result<void> OnData(std::uint32_t id, std::string_view piece, bool fin) = 0;
  virtual Result<void> OnReset(std::uint32_t id) = 0;
  virtual Result<void> OnPing(std::uint32_t id) = 0;
};

// Thread-compatible. Data is handed on as it comes; control frames are kept until they are whole.
class SpdyDecoder {
 public:
  SpdyDecoder();
  ~SpdyDecoder();
  SpdyDecoder(const SpdyDecoder&) = delete;
  SpdyDecoder& operator=(const SpdyDecoder&) = delete;

  // Errors: kInvalidArgument what the client sent breaks the protocol; the decoder is of no use any
  // more.
  Result<void> Feed(std::string_view bytes, SpdyHandler& handler);
  // No more streams are expected: frees what headers need (40 KiB). Later ones come with no headers
  // at all.
  void StopReadingHeaders();

 private:
  class Inflater;
  Result<void> OnHead();
  Result<void> OnControl(SpdyHandler& handler);
  Result<void> OnSynStream(SpdyHandler& handler);

  std::string head_;     // 8 bytes, until they are whole
  std::string control_;  // payload of a control frame
  bool is_control_ = false, in_payload_ = false;
  std::uint16_t type_ = 0;
  std::uint32_t stream_ = 0, left_ = 0, last_stream_ = 0;
  std::uint8_t flags_ = 0;
  std::unique_ptr<Inflater> inflater_;
};

// Appends frames. One for a connection: headers that are sent share a compression context.
class SpdyEncoder {
 public:
  void SynReply(std::string& out, std::uint32_t id);  // without headers
  // The head of a frame whose `size` (< 2^24) bytes have to follow.
  static void DataHead(std::string& out, std::uint32_t id, std::size_t size, bool fin);
  static void Data(std::string& out, std::uint32_t id, std::string_view data, bool fin);
  static void Ping(std::string& out, std::uint32_t id);
  static void Reset(std::string& out, std::uint32_t id, std::uint32_t status);
  static void GoAway(std::string& out, std::uint32_t last_id);

 private:
  bool began_ = false;
};

inline constexpr std::uint32_t kSpdyProtocolError = 1, kSpdyRefusedStream = 3, kSpdyCancel = 5;

// The dictionary that SPDY/3 headers are compressed with.
std::string_view SpdyDictionary();

}  // namespace linnet::cri::streaming
