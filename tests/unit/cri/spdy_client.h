// A client's SPDY frames.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "streaming/spdy.h"

namespace linnet::cri::streaming {

inline void Put32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift & 0xFF));
}

class SpdyClient {
 public:
  SpdyClient() {
    EXPECT_EQ(deflateInit(&stream_, Z_DEFAULT_COMPRESSION), Z_OK);
    const auto dictionary = SpdyDictionary();
    EXPECT_EQ(deflateSetDictionary(&stream_, reinterpret_cast<const Bytef*>(dictionary.data()),
                                   static_cast<uInt>(dictionary.size())),
              Z_OK);
  }
  ~SpdyClient() { deflateEnd(&stream_); }
  SpdyClient(const SpdyClient&) = delete;
  SpdyClient& operator=(const SpdyClient&) = delete;

  std::string Compress(std::string block) {
    std::string out(block.size() + 1024, '\0');
    stream_.next_in = reinterpret_cast<Bytef*>(block.data());
    stream_.avail_in = static_cast<uInt>(block.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream_, Z_SYNC_FLUSH), Z_OK);
    out.resize(out.size() - stream_.avail_out);
    return out;
  }
  std::string SynStreamWith(std::uint32_t id, const std::string& compressed) {
    std::string out;
    Put32(out, 0x80030001);
    Put32(out, static_cast<std::uint32_t>(compressed.size() + 10));
    Put32(out, id);
    Put32(out, 0);
    out.append(2, '\0');
    return out + compressed;
  }
  std::string SynStream(std::uint32_t id, const SpdyHeaders& headers) {
    std::string block;
    Put32(block, static_cast<std::uint32_t>(headers.size()));
    for (const auto& [name, value] : headers) {
      Put32(block, static_cast<std::uint32_t>(name.size()));
      block += name;
      Put32(block, static_cast<std::uint32_t>(value.size()));
      block += value;
    }
    return SynStreamWith(id, Compress(block));
  }

 private:
  z_stream stream_ = {};
};

}  // namespace linnet::cri::streaming
