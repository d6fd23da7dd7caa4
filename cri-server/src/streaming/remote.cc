#include "remote.h"

#include <algorithm>
#include <array>
#include <optional>

#include "linnet/base/json_view.h"

namespace linnet::cri::streaming {
namespace {

constexpr std::array kSpdyProtocols = {"v4.channel.k8s.io", "v3.channel.k8s.io",
                                       "v2.channel.k8s.io", "channel.k8s.io"};
constexpr std::array kWebSocketProtocols = {"v5.channel.k8s.io", "v4.channel.k8s.io",
                                            "channel.k8s.io"};

template <class Protocols>
const char* Choose(const Protocols& known, const std::vector<std::string>& offered) {
  for (const char* protocol : known) {
    if (std::find(offered.begin(), offered.end(), protocol) != offered.end()) return protocol;
  }
  return nullptr;
}

// --------------------------------------------------------------------------------------------------------
// SPDY

class SpdyRemote final : public Remote, SpdyHandler {
 public:
  SpdyRemote(const StreamRequest& request, int version) : version_(version) {
    wanted_[Index(Channel::kError)] = true;
    wanted_[Index(Channel::kStdin)] = request.stdin_open;
    wanted_[Index(Channel::kStdout)] = request.stdout_open;
    wanted_[Index(Channel::kStderr)] = request.stderr_open;
    wanted_[Index(Channel::kResize)] = request.tty && version >= 3;
  }

  Result<void> Feed(std::string_view bytes, RemoteHandler& handler, std::string& out) override {
    handler_ = &handler;
    out_ = &out;
    return decoder_.Feed(bytes, *this);
  }
  bool ready() const override {
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      if (wanted_[i] && ids_[i] == 0) return false;
    }
    return true;
  }
  void Write(Channel channel, std::string_view data, std::string& out) override {
    if (const std::uint32_t id = ids_[Index(channel)]; id != 0)
      SpdyEncoder::Data(out, id, data, false);
  }
  bool WriteHead(Channel channel, std::size_t size, std::string& out) override {
    const std::uint32_t id = ids_[Index(channel)];
    if (id != 0) SpdyEncoder::DataHead(out, id, size, false);
    return id != 0;
  }
  void Finish(const StreamStatus& status, std::string& out) override {
    for (const Channel channel : {Channel::kStdout, Channel::kStderr}) {
      if (const std::uint32_t id = ids_[Index(channel)]; id != 0)
        SpdyEncoder::Data(out, id, "", true);
    }
    if (const std::uint32_t id = ids_[Index(Channel::kError)]; id != 0) {
      SpdyEncoder::Data(out, id, FormatStatus(status, version_), true);
    }
  }

 private:
  static constexpr std::size_t Index(Channel channel) { return static_cast<std::size_t>(channel); }

  Result<void> OnStream(std::uint32_t id, const SpdyHeaders& headers, bool /*fin*/) override {
    static constexpr std::array kNames = {"stdin", "stdout", "stderr", "error", "resize"};
    const auto type = headers.find("streamtype");
    for (std::size_t i = 0; type != headers.end() && i < kNames.size(); ++i) {
      if (type->second != kNames[i] || ids_[i] != 0) continue;
      ids_[i] = id;
      encoder_.SynReply(*out_, id);
      if (ready()) decoder_.StopReadingHeaders();
      return Ok();
    }
    SpdyEncoder::Reset(*out_, id, kSpdyRefusedStream);
    return Ok();
  }
  Result<void> OnData(std::uint32_t id, std::string_view piece, bool fin) override {
    if (id == ids_[Index(Channel::kStdin)]) {
      if (!piece.empty()) handler_->OnStdin(piece);
      if (fin) handler_->OnStdinEnd();
    } else if (id == ids_[Index(Channel::kResize)]) {
      handler_->OnResize(piece);
    }
    return Ok();
  }
  Result<void> OnReset(std::uint32_t id) override {
    for (std::uint32_t& known : ids_) {
      if (known != id) continue;
      if (&known == &ids_[Index(Channel::kStdin)]) handler_->OnStdinEnd();
      known = kGone;
    }
    return Ok();
  }
  Result<void> OnPing(std::uint32_t id) override {
    if (id % 2 == 1) SpdyEncoder::Ping(*out_, id);  // even ones would be answers to ours
    return Ok();
  }

  // Not 0, so that ready() stays; frames for it go nowhere at the client's.
  static constexpr std::uint32_t kGone = 0x7FFFFFFF;
  const int version_;
  std::array<bool, 5> wanted_{};
  std::array<std::uint32_t, 5> ids_{};
  SpdyDecoder decoder_;
  SpdyEncoder encoder_;
  RemoteHandler* handler_ = nullptr;  // during Feed
  std::string* out_ = nullptr;
};

// ---------------------------------------------------------------------------------------------------
// WebSocket

class WebSocketRemote final : public Remote, WebSocketHandler {
 public:
  WebSocketRemote(const StreamRequest& request, int version, std::string& out)
      : version_(version), stdout_open_(request.stdout_open), stderr_open_(request.stderr_open) {
    for (const Channel channel : {Channel::kStdout, Channel::kStderr, Channel::kError})
      Write(channel, "", out);
  }

  Result<void> Feed(std::string_view bytes, RemoteHandler& handler, std::string& out) override {
    handler_ = &handler;
    out_ = &out;
    return decoder_.Feed(bytes, *this);
  }
  bool ready() const override { return true; }
  void Write(Channel channel, std::string_view data, std::string& out) override {
    if (WriteHead(channel, data.size(), out)) out += data;
  }
  bool WriteHead(Channel channel, std::size_t size, std::string& out) override {
    if (channel == Channel::kStdout && !stdout_open_) return false;
    if (channel == Channel::kStderr && !stderr_open_) return false;
    AppendWebSocketHead(out, WebSocketOp::kBinary, size + 1);
    out.push_back(static_cast<char>(channel));
    return true;
  }
  void Finish(const StreamStatus& status, std::string& out) override {
    const std::string text = FormatStatus(status, version_);
    if (!text.empty()) Write(Channel::kError, text, out);
    AppendWebSocketClose(out, 1000);
  }

 private:
  Result<void> OnMessage(std::string_view piece, bool first) override {
    if (first) channel_.reset();
    if (piece.empty()) return Ok();
    if (!channel_) {
      channel_ = static_cast<unsigned char>(piece.front());
      piece.remove_prefix(1);
    }
    if (piece.empty()) return Ok();
    if (*channel_ == static_cast<unsigned char>(Channel::kStdin)) {
      handler_->OnStdin(piece);
    } else if (*channel_ == static_cast<unsigned char>(Channel::kResize)) {
      handler_->OnResize(piece);
    } else if (*channel_ == kCloseSignal && version_ >= 5 &&
               piece.front() == static_cast<char>(Channel::kStdin)) {
      handler_->OnStdinEnd();
    }
    return Ok();
  }
  Result<void> OnPing(std::string_view payload) override {
    AppendWebSocketFrame(*out_, WebSocketOp::kPong, payload);
    return Ok();
  }
  Result<void> OnClose() override { return Unavailable("the client has closed the connection"); }

  static constexpr unsigned char kCloseSignal = 255;
  const int version_;
  const bool stdout_open_, stderr_open_;
  WebSocketDecoder decoder_;
  std::optional<unsigned char> channel_;  // of the message under way
  RemoteHandler* handler_ = nullptr;
  std::string* out_ = nullptr;
};

}  // namespace

std::string FormatStatus(const StreamStatus& status, int version) {
  using Kind = StreamStatus::Kind;
  const std::string exit_text =
      "command terminated with exit code " + std::to_string(status.exit_code);
  if (version < 4) {
    if (status.kind == Kind::kSuccess) return "";
    return status.kind == Kind::kExitCode ? exit_text : status.message;
  }
  Json json = {{"metadata", Json::object()},
               {"status", status.kind == Kind::kSuccess ? "Success" : "Failure"}};
  if (status.kind == Kind::kExitCode) {
    json["reason"] = "NonZeroExitCode";
    json["message"] = "command terminated with non-zero exit code: " + exit_text;
    json["details"]["causes"] =
        Json::array({Json{{"reason", "ExitCode"}, {"message", std::to_string(status.exit_code)}}});
  } else if (status.kind == Kind::kFailure) {
    json["reason"] = "InternalError";
    json["message"] = "Internal error occurred: " + status.message;
    json["details"]["causes"] = Json::array({Json::object({{"message", status.message}})});
    json["code"] = 500;
  }
  return DumpJson(json);
}

const char* ChooseSpdyProtocol(const std::vector<std::string>& offered) {
  return Choose(kSpdyProtocols, offered);
}
const char* ChooseWebSocketProtocol(const std::vector<std::string>& offered) {
  return Choose(kWebSocketProtocols, offered);
}

int VersionOf(std::string_view protocol) {
  return protocol.size() > 1 && protocol[0] == 'v' && protocol[1] >= '1' && protocol[1] <= '9'
             ? protocol[1] - '0'
             : 1;
}

std::unique_ptr<Remote> MakeSpdyRemote(const StreamRequest& request, int version) {
  return std::make_unique<SpdyRemote>(request, version);
}
std::unique_ptr<Remote> MakeWebSocketRemote(const StreamRequest& request, int version,
                                            std::string& out) {
  return std::make_unique<WebSocketRemote>(request, version, out);
}

}  // namespace linnet::cri::streaming
