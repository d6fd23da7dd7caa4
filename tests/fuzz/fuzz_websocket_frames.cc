// A client's WebSocket bytes, after the handshake: frames, and an exec or attach made of them. The
// first byte says which streams were asked for, the second in pieces of what size the rest comes.
#include <string>
#include <string_view>

#include "linnet/base/check.h"

#include "streaming/remote.h"
#include "streaming/websocket.h"

namespace {

using namespace linnet;                  // NOLINT(google-build-using-namespace): a program
using namespace linnet::cri::streaming;  // NOLINT(google-build-using-namespace): a program

struct Messages final : WebSocketHandler {
  std::size_t size = 0;
  bool closed = false;
  Result<void> OnMessage(std::string_view piece, bool) override {
    LN_CHECK(!closed);
    size += piece.size();
    return Ok();
  }
  Result<void> OnPing(std::string_view payload) override {
    LN_CHECK(payload.size() <= 125);
    return Ok();
  }
  Result<void> OnClose() override {
    closed = true;
    return Unavailable("closed");
  }
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
  Messages messages;
  WebSocketDecoder decoder;
  Heard heard;
  std::string out;
  const auto remote = MakeWebSocketRemote({.id = "c",
                                           .command = {},
                                           .tty = (asked & 1) != 0,
                                           .stdin_open = (asked & 2) != 0,
                                           .stdout_open = (asked & 4) != 0,
                                           .stderr_open = (asked & 8) != 0},
                                          (asked & 16) != 0 ? 5 : 4, out);
  bool decoder_sound = true, remote_sound = true;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    const std::string_view piece = bytes.substr(at, step);
    decoder_sound = decoder_sound && decoder.Feed(piece, messages);
    remote_sound = remote_sound && remote->Feed(piece, heard, out);
  }
  LN_CHECK(messages.size <= bytes.size() && heard.size <= bytes.size());
  LN_CHECK(out.size() <= bytes.size() + 64);  // greetings; pongs have no mask, so they are shorter
  remote->Write(Channel::kStderr, "x", out);
  remote->Finish({}, out);
  return 0;
}
