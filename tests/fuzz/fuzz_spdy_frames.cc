// A client's SPDY/3.1 bytes, after the upgrade: frames, and an exec or attach made of them. The
// first byte says which streams were asked for, the second in pieces of what size the rest comes.
#include <string>
#include <string_view>

#include "linnet/base/check.h"

#include "streaming/remote.h"
#include "streaming/spdy.h"

namespace {

using namespace linnet;                  // NOLINT(google-build-using-namespace): a program
using namespace linnet::cri::streaming;  // NOLINT(google-build-using-namespace): a program

struct Frames final : SpdyHandler {
  std::size_t data = 0, fields = 0;
  std::uint32_t last = 0;
  Result<void> OnStream(std::uint32_t id, const SpdyHeaders& headers, bool) override {
    LN_CHECK(id % 2 == 1 && id > last);
    last = id;
    std::size_t size = 0;
    for (const auto& [name, value] : headers) size += name.size() + value.size();
    LN_CHECK(size <= (16U << 10) + 4096 && headers.size() <= 64);
    return Ok();
  }
  Result<void> OnData(std::uint32_t id, std::string_view piece, bool) override {
    LN_CHECK((id & 0x80000000U) == 0);
    data += piece.size();
    return Ok();
  }
  Result<void> OnReset(std::uint32_t) override { return Ok(); }
  Result<void> OnPing(std::uint32_t) override { return Ok(); }
};

struct Heard final : RemoteHandler {
  std::size_t size = 0;
  void OnStdin(std::string_view data) override { size += data.size(); }
  void OnStdinEnd() override {}
  void OnResize(std::string_view data) override { size += data.size(); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned asked = data[0], step = data[1] == 0 ? 65536U : data[1];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  Frames frames;
  SpdyDecoder decoder;
  const auto remote = MakeSpdyRemote({.id = "c",
                                      .command = {},
                                      .tty = (asked & 1) != 0,
                                      .stdin_open = (asked & 2) != 0,
                                      .stdout_open = (asked & 4) != 0,
                                      .stderr_open = (asked & 8) != 0},
                                     static_cast<int>(asked >> 4 & 3) + 1);
  Heard heard;
  std::string out;
  bool frames_sound = true, remote_sound = true;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    const std::string_view piece = bytes.substr(at, step);
    frames_sound = frames_sound && decoder.Feed(piece, frames);
    remote_sound = remote_sound && remote->Feed(piece, heard, out);
  }
  LN_CHECK(frames.data <= bytes.size() && heard.size <= bytes.size());
  // Answers are not larger than what they answer, but for the replies to the five streams.
  LN_CHECK(out.size() <= 2 * bytes.size() + 512);
  remote->Write(Channel::kStdout, "x", out);
  remote->Finish({}, out);
  return 0;
}
