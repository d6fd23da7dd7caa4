#include "spdy.h"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "linnet/base/text.h"

namespace linnet::cri::streaming {
namespace {

constexpr std::uint32_t kMaxControlBytes = 64U << 10;
constexpr std::size_t kMaxHeaderBytes = 16U << 10;  // uncompressed, of one stream
constexpr std::uint32_t kMaxHeaders = 64;
constexpr std::uint8_t kFin = 1;

enum Type : std::uint16_t {
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8
};

Error Broken(const char* what) { return InvalidArgument(std::string("spdy: ") + what); }

std::uint32_t Get32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i)
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

void Put32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift & 0xFF));
}

void ControlHead(std::string& out, Type type, std::uint32_t size) {
  Put32(out, 0x80030000U | type);
  Put32(out, size);  // no flags
}

std::string BuildDictionary() {
  static constexpr std::array kWords = {"options",
                                        "head",
                                        "post",
                                        "put",
                                        "delete",
                                        "trace",
                                        "accept",
                                        "accept-charset",
                                        "accept-encoding",
                                        "accept-language",
                                        "accept-ranges",
                                        "age",
                                        "allow",
                                        "authorization",
                                        "cache-control",
                                        "connection",
                                        "content-base",
                                        "content-encoding",
                                        "content-language",
                                        "content-length",
                                        "content-location",
                                        "content-md5",
                                        "content-range",
                                        "content-type",
                                        "date",
                                        "etag",
                                        "expect",
                                        "expires",
                                        "from",
                                        "host",
                                        "if-match",
                                        "if-modified-since",
                                        "if-none-match",
                                        "if-range",
                                        "if-unmodified-since",
                                        "last-modified",
                                        "location",
                                        "max-forwards",
                                        "pragma",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "range",
                                        "referer",
                                        "retry-after",
                                        "server",
                                        "te",
                                        "trailer",
                                        "transfer-encoding",
                                        "upgrade",
                                        "user-agent",
                                        "vary",
                                        "via",
                                        "warning",
                                        "www-authenticate",
                                        "method",
                                        "get",
                                        "status",
                                        "200 OK",
                                        "version",
                                        "HTTP/1.1",
                                        "url",
                                        "public",
                                        "set-cookie",
                                        "keep-alive",
                                        "origin"};
  std::string out;
  for (const std::string_view word : kWords) {
    Put32(out, static_cast<std::uint32_t>(word.size()));
    out += word;
  }
  out +=
      "10010120120220520630030230330430530630740240540640740840941041141241341441541641750250450520"
      "3 Non-Authoritative "
      "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 "
      "Forbidden404 Not Found500 Internal "
      "Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept "
      "Oct Nov Dec 00:00:00 Mon, "
      "Tue, Wed, Thu, Fri, Sat, Sun, "
      "GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,"
      "text/plain,text/"
      "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq="
      "0.";
  return out;
}

}  // namespace

std::string_view SpdyDictionary() {
  static const std::string kDictionary = BuildDictionary();
  return kDictionary;
}

// ------------------------------------------------------------------------------------------------------
// headers

class SpdyDecoder::Inflater {
 public:
  Inflater() : ok_(inflateInit(&stream_) == Z_OK) {}
  ~Inflater() {
    if (ok_) inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  Result<std::string> Inflate(std::string_view block) {
    if (!ok_) return Internal("spdy: zlib has no memory");
    std::string out;
    std::array<unsigned char, 4096>
        buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by inflate
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(
        block.data()));  // NOLINT(cppcoreguidelines-pro-type-const-cast): only read
    stream_.avail_in = static_cast<uInt>(block.size());
    while (true) {
      stream_.next_out = buffer.data();
      stream_.avail_out = buffer.size();
      int rc = inflate(&stream_, Z_SYNC_FLUSH);
      if (rc == Z_NEED_DICT) {
        const std::string_view dictionary = SpdyDictionary();
        rc = inflateSetDictionary(&stream_, reinterpret_cast<const Bytef*>(dictionary.data()),
                                  static_cast<uInt>(dictionary.size()));
        if (rc == Z_OK) continue;
      }
      if (rc != Z_OK && rc != Z_BUF_ERROR)
        return Broken("headers are not compressed as they should be");
      out.append(reinterpret_cast<const char*>(buffer.data()), buffer.size() - stream_.avail_out);
      if (out.size() > kMaxHeaderBytes) return Broken("headers are too large");
      if (stream_.avail_out > 0) break;  // everything there was
    }
    if (stream_.avail_in > 0) return Broken("bytes behind the headers");
    return out;
  }

 private:
  z_stream stream_ = {};
  const bool ok_;
};

namespace {

Result<SpdyHeaders> ParseHeaders(std::string_view block) {
  const auto take = [&block]() -> Result<std::string_view> {
    if (block.size() < 4) return Broken("headers end early");
    const std::uint32_t size = Get32(block, 0);
    block.remove_prefix(4);
    if (size > block.size()) return Broken("headers end early");
    const std::string_view out = block.substr(0, size);
    block.remove_prefix(size);
    return out;
  };
  if (block.size() < 4) return Broken("headers end early");
  const std::uint32_t count = Get32(block, 0);
  block.remove_prefix(4);
  if (count > kMaxHeaders) return Broken("too many headers");
  SpdyHeaders out;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string_view name = LN_TRY(take());
    const std::string_view value = LN_TRY(take());
    if (!out.emplace(ToLower(name), value).second) return Broken("header is there twice");
  }
  return out;
}

}  // namespace

// -------------------------------------------------------------------------------------------------------
// frames

SpdyDecoder::SpdyDecoder() : inflater_(std::make_unique<Inflater>()) {}
SpdyDecoder::~SpdyDecoder() = default;

void SpdyDecoder::StopReadingHeaders() { inflater_.reset(); }

Result<void> SpdyDecoder::OnHead() {
  const std::uint32_t first = Get32(head_, 0);
  const std::uint32_t second = Get32(head_, 4);
  flags_ = static_cast<std::uint8_t>(second >> 24);
  left_ = second & 0xFFFFFFU;
  is_control_ = (first & 0x80000000U) != 0;
  in_payload_ = true;
  if (!is_control_) {
    stream_ = first;
    if (stream_ == 0) return Broken("data of no stream");
    return Ok();
  }
  if ((first >> 16 & 0x7FFFU) != 3) return Broken("version of a control frame is not 3");
  type_ = static_cast<std::uint16_t>(first & 0xFFFFU);
  if (left_ > kMaxControlBytes) return Broken("control frame is too large");
  control_.clear();
  return Ok();
}

Result<void> SpdyDecoder::OnSynStream(SpdyHandler& handler) {
  if (control_.size() < 10) return Broken("SYN_STREAM is too short");
  const std::uint32_t id = Get32(control_, 0) & 0x7FFFFFFFU;
  if (id % 2 == 0 || id <= last_stream_) return Broken("id of a new stream");
  last_stream_ = id;
  SpdyHeaders headers;
  if (inflater_) {
    const std::string block = LN_TRY(inflater_->Inflate(std::string_view(control_).substr(10)));
    headers = LN_TRY(ParseHeaders(block));
  }
  return handler.OnStream(id, headers, (flags_ & kFin) != 0);
}

Result<void> SpdyDecoder::OnControl(SpdyHandler& handler) {
  switch (type_) {
    case kSynStream:
      return OnSynStream(handler);
    case kRstStream:
      if (control_.size() != 8) return Broken("size of RST_STREAM");
      return handler.OnReset(Get32(control_, 0) & 0x7FFFFFFFU);
    case kPing:
      if (control_.size() != 4) return Broken("size of PING");
      return handler.OnPing(Get32(control_, 0));
    case kHeaders:
    case kSynReply: {
      if (control_.size() < 4) return Broken("HEADERS is too short");
      // Of no use, but part of the compression context.
      if (inflater_) (void)LN_TRY(inflater_->Inflate(std::string_view(control_).substr(4)));
      const bool fin = (flags_ & kFin) != 0;
      return fin ? handler.OnData(Get32(control_, 0) & 0x7FFFFFFFU, "", true) : Ok();
    }
    default:
      return Ok();  // SETTINGS, GOAWAY, WINDOW_UPDATE, and what later versions may have
  }
}

Result<void> SpdyDecoder::Feed(std::string_view bytes, SpdyHandler& handler) {
  while (!bytes.empty() || (in_payload_ && left_ == 0)) {
    if (!in_payload_) {
      const std::size_t taken = std::min<std::size_t>(8 - head_.size(), bytes.size());
      head_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      if (head_.size() < 8) break;
      LN_TRY(OnHead());
      head_.clear();
      if (left_ > 0) continue;
    }
    const std::size_t taken = std::min<std::size_t>(left_, bytes.size());
    const std::string_view piece = bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    left_ -= static_cast<std::uint32_t>(taken);
    in_payload_ = left_ > 0;
    if (!is_control_) {
      LN_TRY(handler.OnData(stream_, piece, !in_payload_ && (flags_ & kFin) != 0));
    } else {
      control_.append(piece);
      if (!in_payload_) LN_TRY(OnControl(handler));
    }
  }
  return Ok();
}

// ------------------------------------------------------------------------------------------------------
// sending

void SpdyEncoder::SynReply(std::string& out, std::uint32_t id) {
  // A stored block with "no headers", and an empty one: as after Z_SYNC_FLUSH, without which Go's
  // reader takes the end of the frame for the end of the stream. The first one begins the zlib
  // stream and names the dictionary.
  static constexpr std::string_view kBegin("\x78\xBB\xE3\xC6\xA7\xC2", 6);
  static constexpr std::string_view kNoHeaders(
      "\x00\x04\x00\xFB\xFF\x00\x00\x00\x00\x00\x00\x00\xFF\xFF", 14);
  ControlHead(out, kSynReply,
              static_cast<std::uint32_t>(4 + (began_ ? 0 : kBegin.size()) + kNoHeaders.size()));
  Put32(out, id);
  if (!began_) out += kBegin;
  began_ = true;
  out += kNoHeaders;
}

void SpdyEncoder::DataHead(std::string& out, std::uint32_t id, std::size_t size, bool fin) {
  Put32(out, id);
  Put32(out, static_cast<std::uint32_t>(size) | (fin ? std::uint32_t{kFin} << 24 : 0));
}

void SpdyEncoder::Data(std::string& out, std::uint32_t id, std::string_view data, bool fin) {
  DataHead(out, id, data.size(), fin);
  out += data;
}

void SpdyEncoder::Ping(std::string& out, std::uint32_t id) {
  ControlHead(out, kPing, 4);
  Put32(out, id);
}

void SpdyEncoder::Reset(std::string& out, std::uint32_t id, std::uint32_t status) {
  ControlHead(out, kRstStream, 8);
  Put32(out, id);
  Put32(out, status);
}

void SpdyEncoder::GoAway(std::string& out, std::uint32_t last_id) {
  ControlHead(out, kGoAway, 8);
  Put32(out, last_id);
  Put32(out, 0);
}

}  // namespace linnet::cri::streaming
