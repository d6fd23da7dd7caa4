// Frames, heads and tickets of the streaming server: what clients say, and what hostile ones may
// say.
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "linnet/base/json_view.h"
#include "linnet/testing/result.h"

#include "spdy_client.h"
#include "streaming/http.h"
#include "streaming/remote.h"
#include "streaming/spdy.h"
#include "streaming/tickets.h"
#include "streaming/websocket.h"

namespace linnet::cri::streaming {
namespace {

struct SpdyLog final : SpdyHandler {
  std::string text;
  Result<void> OnStream(std::uint32_t id, const SpdyHeaders& headers, bool fin) override {
    text += "stream " + std::to_string(id);
    for (const auto& [name, value] : headers) text += " " + name + "=" + value;
    text += fin ? " fin;" : ";";
    return Ok();
  }
  Result<void> OnData(std::uint32_t id, std::string_view piece, bool fin) override {
    data += piece;
    if (fin) text += "fin " + std::to_string(id) + ";";
    return Ok();
  }
  Result<void> OnReset(std::uint32_t id) override {
    text += "reset " + std::to_string(id) + ";";
    return Ok();
  }
  Result<void> OnPing(std::uint32_t id) override {
    text += "ping " + std::to_string(id) + ";";
    return Ok();
  }
  std::string data;
};

TEST(Spdy, DictionaryIsTheOneOfTheStandard) {
  const auto dictionary = SpdyDictionary();
  EXPECT_EQ(dictionary.size(), 1423U);
  EXPECT_EQ(adler32(adler32(0, nullptr, 0), reinterpret_cast<const Bytef*>(dictionary.data()),
                    static_cast<uInt>(dictionary.size())),
            0xE3C6A7C2U);
}

std::string Conversation() {
  SpdyClient client;
  std::string bytes = client.SynStream(1, {{"StreamType", "error"}, {"port", "80"}});
  bytes += client.SynStream(3, {{"streamtype", "data"}});
  SpdyEncoder::Data(bytes, 3, "hello", false);
  SpdyEncoder::Ping(bytes, 7);
  SpdyEncoder::Data(bytes, 3, "", true);
  SpdyEncoder::Reset(bytes, 1, kSpdyCancel);
  SpdyEncoder::GoAway(bytes, 0);
  return bytes;
}
constexpr const char* kConversation =
    "stream 1 port=80 streamtype=error;stream 3 streamtype=data;ping 7;fin 3;reset 1;";

TEST(Spdy, ReadsFramesInPiecesOfAnySize) {
  const std::string bytes = Conversation();
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    SpdyDecoder decoder;
    SpdyLog log;
    for (std::size_t at = 0; at < bytes.size(); at += step)
      LN_ASSERT_OK(decoder.Feed(std::string_view(bytes).substr(at, step), log));
    ASSERT_EQ(log.text, kConversation) << step;
    ASSERT_EQ(log.data, "hello");
  }
}

TEST(Spdy, RepliesAreAZlibStreamThatTheClientCanRead) {
  SpdyEncoder encoder;
  std::string bytes;
  encoder.SynReply(bytes, 1);
  encoder.SynReply(bytes, 3);
  z_stream stream = {};
  ASSERT_EQ(inflateInit(&stream), Z_OK);
  for (std::size_t at = 0, n = 0; n < 2; ++n) {
    const std::size_t size = static_cast<unsigned char>(bytes[at + 7]);
    char out[64];
    stream.next_in = reinterpret_cast<Bytef*>(bytes.data()) + at + 12;
    stream.avail_in = static_cast<uInt>(size - 4);
    stream.next_out = reinterpret_cast<Bytef*>(out);
    stream.avail_out = sizeof out;
    int rc = inflate(&stream, Z_SYNC_FLUSH);
    if (n == 0) {
      ASSERT_EQ(rc, Z_NEED_DICT);
      ASSERT_EQ(inflateSetDictionary(&stream,
                                     reinterpret_cast<const Bytef*>(SpdyDictionary().data()), 1423),
                Z_OK);
      rc = inflate(&stream, Z_SYNC_FLUSH);
    }
    EXPECT_EQ(rc, Z_OK);
    EXPECT_EQ(std::string(out, sizeof out - stream.avail_out), std::string(4, '\0'));
    EXPECT_EQ(stream.avail_in, 0U);
    at += 8 + size;
  }
  inflateEnd(&stream);
}

Error SpdyErrorOf(const std::string& bytes) {
  SpdyDecoder decoder;
  SpdyLog log;
  const auto result = decoder.Feed(bytes, log);
  return result ? Error(Code::kInternal, "it was taken: " + log.text) : result.error();
}

TEST(Spdy, RefusesWhatBreaksTheProtocol) {
  SpdyClient client;
  std::string version;
  Put32(version, 0x80020001);
  Put32(version, 10);
  EXPECT_TRUE(SpdyErrorOf(version).Is(Code::kInvalidArgument));
  std::string large;
  Put32(large, 0x80030001);
  Put32(large, 0x00FFFFFF);
  EXPECT_TRUE(SpdyErrorOf(large).Is(Code::kInvalidArgument));  // before any of it is kept
  std::string data_of_none;
  SpdyEncoder::Data(data_of_none, 0, "x", false);
  EXPECT_TRUE(SpdyErrorOf(data_of_none).Is(Code::kInvalidArgument));
  EXPECT_TRUE(SpdyErrorOf(client.SynStream(2, {})).Is(Code::kInvalidArgument)) << "even id";
  EXPECT_TRUE(SpdyErrorOf(client.SynStreamWith(1, "this is not zlib")).Is(Code::kInvalidArgument));
  std::string empty;
  Put32(empty, 0x80030001);
  Put32(empty, 0);
  EXPECT_TRUE(SpdyErrorOf(empty).Is(Code::kInvalidArgument));
}

TEST(Spdy, RefusesIdsThatGoBack) {
  SpdyClient client;
  std::string bytes = client.SynStream(5, {});
  bytes += client.SynStream(3, {});
  EXPECT_TRUE(SpdyErrorOf(bytes).Is(Code::kInvalidArgument));
}

TEST(Spdy, RefusesHeadersThatLieAboutTheirSize) {
  for (const auto& [count, size] :
       {std::pair<std::uint32_t, std::uint32_t>{1, 0xFFFFFFFF}, {0xFFFFFFFF, 1}, {1, 100}}) {
    SpdyClient client;
    std::string block;
    Put32(block, count);
    Put32(block, size);
    block += "name";
    EXPECT_TRUE(
        SpdyErrorOf(client.SynStreamWith(1, client.Compress(block))).Is(Code::kInvalidArgument))
        << count << " " << size;
  }
}

TEST(Spdy, RefusesCompressionBombs) {
  SpdyClient client;
  EXPECT_TRUE(SpdyErrorOf(client.SynStreamWith(
                              1, client.Compress(std::string(8 << 20, '\0')).substr(0, 60000)))
                  .Is(Code::kInvalidArgument));
}

TEST(Spdy, NoiseNeverDoesMoreThanFail) {
  std::mt19937 random(7);
  const std::string bytes = Conversation();
  for (int round = 0; round < 3000; ++round) {
    std::string broken = bytes;
    for (int n = 0; n < 3; ++n) broken[random() % broken.size()] = static_cast<char>(random());
    SpdyDecoder decoder;
    SpdyLog log;
    (void)decoder.Feed(broken, log);  // sanitizers watch
    EXPECT_LE(log.data.size(), broken.size());
  }
}

// ---------------------------------------------------------------------------------------------------
// WebSocket

std::string ClientFrame(std::uint8_t first, std::string payload, bool masked = true) {
  std::string out(1, static_cast<char>(first));
  const unsigned char mask_bit = masked ? 0x80 : 0;
  if (payload.size() < 126) {
    out.push_back(static_cast<char>(mask_bit | payload.size()));
  } else {
    out.push_back(static_cast<char>(mask_bit | 126));
    out.push_back(static_cast<char>(payload.size() >> 8));
    out.push_back(static_cast<char>(payload.size() & 0xFF));
  }
  if (!masked) return out + payload;
  const char mask[] = {0x11, 0x22, 0x33, 0x44};
  out.append(mask, 4);
  for (std::size_t i = 0; i < payload.size(); ++i)
    payload[i] = static_cast<char>(payload[i] ^ mask[i % 4]);
  return out + payload;
}

struct WebSocketLog final : WebSocketHandler {
  std::string text;
  Result<void> OnMessage(std::string_view piece, bool first) override {
    if (first) text += "|";
    text += piece;
    return Ok();
  }
  Result<void> OnPing(std::string_view payload) override {
    text += "<ping " + std::string(payload) + ">";
    return Ok();
  }
  Result<void> OnClose() override {
    text += "<close>";
    return Ok();
  }
};

TEST(WebSocket, AcceptIsThatOfTheStandardsExample) {
  EXPECT_EQ(WebSocketAccept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(WebSocket, ReadsFramesInPiecesOfAnySize) {
  const std::string bytes = ClientFrame(0x82, "one") + ClientFrame(0x02, "tw") +
                            ClientFrame(0x89, "p") + ClientFrame(0x80, "o") +
                            ClientFrame(0x82, "") + ClientFrame(0x82, std::string(300, 'x')) +
                            ClientFrame(0x88, "\x03\xE8");
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    WebSocketDecoder decoder;
    WebSocketLog log;
    for (std::size_t at = 0; at < bytes.size(); at += step)
      LN_ASSERT_OK(decoder.Feed(std::string_view(bytes).substr(at, step), log));
    ASSERT_EQ(log.text, "|one|tw<ping p>o||" + std::string(300, 'x') + "<close>") << step;
  }
}

TEST(WebSocket, RefusesWhatBreaksTheProtocol) {
  const std::string huge = std::string("\x82\xFF\x7F", 3) + std::string(7, '\xFF') + "mask";
  for (const std::string& bytes :
       {ClientFrame(0x82, "x", false), ClientFrame(0xC2, "x"), ClientFrame(0x80, "x"),
        ClientFrame(0x02, "x") + ClientFrame(0x82, "y"), ClientFrame(0x09, "x"),
        ClientFrame(0x89, std::string(126, 'x')), ClientFrame(0x83, "x"), huge}) {
    WebSocketDecoder decoder;
    WebSocketLog log;
    const auto result = decoder.Feed(bytes, log);
    ASSERT_FALSE(result) << log.text;
    EXPECT_TRUE(result.error().Is(Code::kInvalidArgument));
  }
}

TEST(WebSocket, HeadsHaveTheirThreeSizes) {
  for (const auto& [size, head] : {std::pair<std::size_t, std::string>{5, {"\x82\x05", 2}},
                                   {126, {"\x82\x7E\x00\x7E", 4}},
                                   {65536, {"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00", 10}}}) {
    std::string out;
    AppendWebSocketHead(out, WebSocketOp::kBinary, size);
    EXPECT_EQ(out, head);
  }
}

// ------------------------------------------------------------------------------------------------------
// clients

struct Heard final : RemoteHandler {
  std::string text;
  void OnStdin(std::string_view data) override { text += data; }
  void OnStdinEnd() override { text += "<end>"; }
  void OnResize(std::string_view data) override { text += "<" + std::string(data) + ">"; }
};

TEST(Remote, SpdyIsReadyOnceAllStreamsAreThere) {
  SpdyClient client;
  const auto remote = MakeSpdyRemote(
      {.id = "c", .command = {}, .tty = true, .stdin_open = true, .stdout_open = true}, 4);
  Heard heard;
  std::string out;
  std::uint32_t id = 1;
  for (const char* type : {"error", "stdin", "stdout", "resize"}) {
    EXPECT_FALSE(remote->ready());
    LN_ASSERT_OK(remote->Feed(client.SynStream(id, {{"streamtype", type}}), heard, out));
    id += 2;
  }
  EXPECT_TRUE(remote->ready());
  std::string bytes;
  SpdyEncoder::Data(bytes, 3, "ls", false);
  SpdyEncoder::Data(bytes, 7, "{}", false);
  SpdyEncoder::Data(bytes, 3, "", true);
  bytes += client.SynStream(9, {{"streamtype", "stdin"}});  // once more: refused
  LN_ASSERT_OK(remote->Feed(bytes, heard, out));
  EXPECT_EQ(heard.text, "ls<{}><end>");
  out.clear();
  remote->Finish({}, out);
  EXPECT_NE(out.find(R"("status":"Success")"), std::string::npos);
}

TEST(Remote, WebSocketHasChannelsAndV5AnEndOfInput) {
  for (const int version : {4, 5}) {
    std::string out;
    const auto remote = MakeWebSocketRemote(
        {.id = "c", .command = {}, .stdin_open = true, .stdout_open = true, .stderr_open = true},
        version, out);
    EXPECT_EQ(out, std::string("\x82\x01\x01\x82\x01\x02\x82\x01\x03", 9));
    Heard heard;
    out.clear();
    LN_ASSERT_OK(remote->Feed(ClientFrame(0x82, std::string("\0in", 3)) +
                                  ClientFrame(0x82, "\x04{}") +
                                  ClientFrame(0x82, std::string("\xFF\0", 2)),
                              heard, out));
    EXPECT_EQ(heard.text, version == 5 ? "in<{}><end>" : "in<{}>");
    remote->Write(Channel::kStdout, "hi", out);
    EXPECT_EQ(out, std::string("\x82\x03\x01hi", 5));
  }
}

TEST(Remote, StatusIsWhatClientsDecode) {
  const std::string text = FormatStatus({StreamStatus::Kind::kExitCode, 3, ""}, 4);
  const Json json = LN_ASSERT_OK(ParseJson(text));
  EXPECT_EQ(json["status"], "Failure");
  EXPECT_EQ(json["reason"], "NonZeroExitCode");
  EXPECT_EQ(json["details"]["causes"][0]["reason"], "ExitCode");
  EXPECT_EQ(json["details"]["causes"][0]["message"], "3");
  const Json failure =
      LN_ASSERT_OK(ParseJson(FormatStatus({StreamStatus::Kind::kFailure, 0, "no \xFF shell"}, 5)));
  EXPECT_EQ(failure["code"], 500);
  EXPECT_TRUE(failure["details"]["causes"].is_array());
  EXPECT_EQ(FormatStatus({}, 1), "");
  EXPECT_EQ(FormatStatus({StreamStatus::Kind::kExitCode, 3, ""}, 3),
            "command terminated with exit code 3");
}

TEST(Remote, TheBestCommonProtocolIsChosen) {
  EXPECT_STREQ(ChooseSpdyProtocol({"channel.k8s.io", "v3.channel.k8s.io", "v5.channel.k8s.io"}),
               "v3.channel.k8s.io");
  EXPECT_STREQ(ChooseWebSocketProtocol({"v4.channel.k8s.io", "v5.channel.k8s.io"}),
               "v5.channel.k8s.io");
  EXPECT_EQ(ChooseSpdyProtocol({"v9.channel.k8s.io"}), nullptr);
  EXPECT_EQ(VersionOf("v4.channel.k8s.io"), 4);
  EXPECT_EQ(VersionOf("channel.k8s.io"), 1);
  EXPECT_EQ(VersionOf(""), 1);
}

// ---------------------------------------------------------------------------------------------
// heads and tickets

TEST(Http, ReadsHeads) {
  const auto head = LN_ASSERT_OK(
      ParseRequestHead("POST /exec/abc?x=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, "
                       "Upgrade\r\nX-Stream-Protocol-Version: v4.channel.k8s.io, v3\r\n"
                       "X-Stream-Protocol-Version: channel.k8s.io"));
  EXPECT_EQ(head.path, "/exec/abc");
  EXPECT_TRUE(head.Has("connection", "upgrade"));
  EXPECT_EQ(head.List("x-stream-protocol-version"),
            (std::vector<std::string>{"v4.channel.k8s.io", "v3", "channel.k8s.io"}));
  for (const char* text :
       {"", "GET", "GET / SPDY/3", "GET x HTTP/1.1", "GET / HTTP/1.1\r\nno colon",
        "GET / HTTP/1.1\r\n: x", "G T / HTTP/1.1"}) {
    EXPECT_FALSE(ParseRequestHead(text)) << text;
  }
  std::string many = "GET / HTTP/1.1";
  for (int i = 0; i < 200; ++i) many += "\r\na: b";
  EXPECT_FALSE(ParseRequestHead(many));
}

std::chrono::steady_clock::time_point g_now;

TEST(Tickets, ServeOnceAndExpire) {
  Tickets tickets("http://127.0.0.1:1", [] { return g_now; });
  const std::string url = LN_ASSERT_OK(
      tickets.Issue({.kind = StreamRequest::Kind::kAttach, .id = "c1", .command = {}}));
  ASSERT_TRUE(url.starts_with("http://127.0.0.1:1/attach/"));
  const std::string path = url.substr(std::strlen("http://127.0.0.1:1"));
  EXPECT_FALSE(tickets.Redeem("/exec/" + path.substr(8)));
  EXPECT_EQ(LN_ASSERT_OK(tickets.Redeem(path)).id, "c1");
  EXPECT_FALSE(tickets.Redeem(path));

  std::string last;
  for (std::size_t i = 0; i < Tickets::kMaxPending; ++i)
    last = LN_ASSERT_OK(tickets.Issue({.id = "c", .command = {}}));
  const auto refused = tickets.Issue({.id = "c", .command = {}});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().Is(Code::kResourceExhausted));
  g_now += std::chrono::seconds(61);
  EXPECT_FALSE(tickets.Redeem(last.substr(std::strlen("http://127.0.0.1:1"))));
  EXPECT_TRUE(tickets.Issue({.id = "c", .command = {}}));
}

}  // namespace
}  // namespace linnet::cri::streaming
