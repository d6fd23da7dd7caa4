// Blobs from a server that drops, stalls and lies.
#include <future>

#include "linnet/base/file.h"

#include "http_server.h"
#include "registry_fixture.h"

namespace linnet::oci {
namespace {

using linnet::testing::HttpServer;
using Request = HttpServer::Request;
using Reply = HttpServer::Reply;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

const std::string kBlob = TestBlob();

// "bytes=N-" → N; 0 without.
std::size_t RangeStart(const Request& request) {
  const std::string range = request.Header("range");
  return range.starts_with("bytes=") ? std::stoul(range.substr(6)) : 0;
}

std::string PartHead(std::size_t from, std::size_t total = kBlob.size()) {
  return "HTTP/1.1 206 X\r\nContent-Length: " + std::to_string(kBlob.size() - from) +
         "\r\nContent-Range: bytes " + std::to_string(from) + "-" +
         std::to_string(kBlob.size() - 1) + "/" + std::to_string(total) + "\r\n\r\n";
}
std::string WholeHead(std::size_t length = kBlob.size()) {
  return "HTTP/1.1 200 X\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n";
}

// Honours ranges, and drops the connection after `piece` bytes each time.
HttpServer::Handler DropsAfter(std::size_t piece) {
  return [piece](const Request& request, Reply& reply) {
    const std::size_t from = RangeStart(request);
    reply.Raw(from == 0 ? WholeHead() : PartHead(from));
    reply.Raw(std::string_view(kBlob).substr(from, piece));
    reply.Close();
  };
}

class Blob : public RegistryFixture {
 protected:
  Result<void> FetchFrom(const HttpServer& server, const RegistryClient::Call& call = {}) {
    return Fetch(server.authority() + "/a/b", DescriptorOf(kBlob), call);
  }
};

TEST_F(Blob, Whole_InOrder) {
  HttpServer server([](const Request&, Reply& reply) { reply.Send(200, kBlob); });
  LN_EXPECT_OK(FetchFrom(server));
  EXPECT_TRUE(received_ == kBlob);
  EXPECT_EQ(server.requests()[0].path, "/v2/a/b/blobs/" + Digest::Sha256Of(kBlob).str());
}

TEST_F(Blob, Empty_NeedsNobody) {
  LN_EXPECT_OK(Fetch("127.0.0.1:1/a", DescriptorOf("")));
  Descriptor wrong = DescriptorOf("x");
  wrong.size = 0;
  LN_EXPECT_ERROR(Fetch("127.0.0.1:1/a", wrong), Code::kDataLoss, "digest");
}

TEST_F(Blob, Dropped_ResumedFromTheByteWhereItBroke) {
  HttpServer server(DropsAfter(100'000));
  LN_EXPECT_OK(FetchFrom(server));
  EXPECT_TRUE(received_ == kBlob);
  const auto requests = server.requests();
  ASSERT_GE(requests.size(), 3U);
  EXPECT_EQ(requests[0].Header("range"), "");
  EXPECT_EQ(requests[1].Header("range"), "bytes=100000-");
  EXPECT_EQ(requests[2].Header("range"), "bytes=200000-");
}

TEST_F(Blob, DroppedByAServerWithoutRanges_WhatIsKnownIsSkipped) {
  std::atomic<int> calls = 0;
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Raw(WholeHead());
    reply.Raw(std::string_view(kBlob).substr(0, calls++ == 0 ? 123'456 : kBlob.size()));
    reply.Close();
  });
  LN_EXPECT_OK(FetchFrom(server));
  EXPECT_TRUE(received_ == kBlob);
  EXPECT_EQ(calls, 2);
}

TEST_F(Blob, RangeNotSatisfiable_AskedForTheWholeAgain) {
  std::atomic<int> calls = 0;
  HttpServer server([&](const Request& request, Reply& reply) {
    if (!request.Header("range").empty()) return reply.Send(416, "");
    reply.Raw(WholeHead());
    reply.Raw(std::string_view(kBlob).substr(0, calls++ == 0 ? 1000 : kBlob.size()));
    reply.Close();
  });
  LN_EXPECT_OK(FetchFrom(server));
  EXPECT_TRUE(received_ == kBlob);
}

TEST_F(Blob, DropsEveryFewBytes_GivesUpInTheEnd) {
  HttpServer server(DropsAfter(10));
  LN_EXPECT_ERROR(FetchFrom(server, {.deadline = steady_clock::now() + seconds(60)}),
                  Code::kUnavailable, "");
  EXPECT_LE(server.requests().size(), 40U);
}

TEST_F(Blob, DropsBeforeAnyByte_GivesUpSoon) {
  HttpServer server(DropsAfter(0));
  LN_EXPECT_ERROR(FetchFrom(server), Code::kUnavailable, "");
  EXPECT_EQ(server.requests().size(), 4U);
}

TEST_F(Blob, WrongContent_DataLossAfterTheBytes) {
  std::string other = kBlob;
  other[200'000] ^= 1;
  HttpServer server([&](const Request&, Reply& reply) { reply.Send(200, other); });
  LN_EXPECT_ERROR(FetchFrom(server), Code::kDataLoss, "does not match its digest");
  EXPECT_EQ(received_.size(), kBlob.size());
}

TEST_F(Blob, WrongAnnouncedLength_NothingIsTaken) {
  for (const std::size_t length : {kBlob.size() + 1, kBlob.size() - 1, std::size_t{0}}) {
    HttpServer server(
        [&](const Request&, Reply& reply) { reply.Send(200, (kBlob + "x").substr(0, length)); });
    const auto fetched = FetchFrom(server, {.deadline = steady_clock::now() + seconds(30)});
    ASSERT_FALSE(fetched);
    EXPECT_TRUE(received_.empty()) << length;
  }
}

TEST_F(Blob, LongerThanAnnouncedByTheManifest_DataLoss) {
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Raw("HTTP/1.1 200 X\r\n\r\n" + kBlob);
    for (int i = 0; i < 100 && !reply.closed(); ++i) reply.Raw(kBlob);
    reply.Close();
  });
  LN_EXPECT_ERROR(FetchFrom(server), Code::kDataLoss, "more than the 300000 bytes");
  EXPECT_LE(received_.size(), kBlob.size());
}

TEST_F(Blob, WrongRange_Refused) {
  HttpServer server([&](const Request& request, Reply& reply) {
    const std::size_t from = RangeStart(request);
    reply.Raw(from == 0 ? WholeHead() : PartHead(from + 1));
    reply.Raw(std::string_view(kBlob).substr(from == 0 ? 0 : from + 1, 1000));
    reply.Close();
  });
  LN_EXPECT_ERROR(FetchFrom(server), Code::kDataLoss, "another range");
  EXPECT_EQ(received_, kBlob.substr(0, 1000));
}

TEST_F(Blob, Unknown_NotFound) {
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Send(404, R"({"errors":[{"code":"BLOB_UNKNOWN"}]})");
  });
  LN_EXPECT_ERROR(FetchFrom(server), Code::kNotFound, "BLOB_UNKNOWN");
}

TEST_F(Blob, StallsOnce_Resumed) {
  std::atomic<int> calls = 0;
  HttpServer server([&](const Request& request, Reply& reply) {
    const std::size_t from = RangeStart(request);
    if (calls++ > 0) return reply.Raw(PartHead(from) + kBlob.substr(from));
    reply.Raw(WholeHead() + kBlob.substr(0, 5000));
    reply.Hang();
  });
  LN_EXPECT_OK(FetchFrom(server));
  EXPECT_TRUE(received_ == kBlob);
}

TEST_F(Blob, StallsForEver_Unavailable) {
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Raw(WholeHead() + kBlob.substr(0, 5000));
    reply.Hang();
  });
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(FetchFrom(server), Code::kUnavailable, "nothing came for");
  EXPECT_LT(steady_clock::now() - start, seconds(5));
}

TEST_F(Blob, AFewBytesASecond_CountsAsStalled) {
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Raw(WholeHead());
    for (std::size_t i = 0; i < 300 && !reply.closed(); ++i) {
      reply.Raw(std::string_view(kBlob).substr(i, 1));
      std::this_thread::sleep_for(milliseconds(50));
    }
    reply.Close();
  });
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(FetchFrom(server), Code::kUnavailable, "");
  EXPECT_LT(steady_clock::now() - start, seconds(8));
}

TEST_F(Blob, Stall_DeadlineHolds) {
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Raw(WholeHead() + kBlob.substr(0, 5000));
    reply.Hang();
  });
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(FetchFrom(server, {.deadline = start + milliseconds(300)}),
                  Code::kDeadlineExceeded, "");
  EXPECT_LT(steady_clock::now() - start, milliseconds(700));
}

TEST_F(Blob, SlowSink_IsNotHeldAgainstTheRegistry) {
  const std::string small = kBlob.substr(0, 600);
  HttpServer server([&](const Request&, Reply& reply) {
    reply.Raw(WholeHead(small.size()) + small.substr(0, 500));
    std::this_thread::sleep_for(milliseconds(1600));
    reply.Raw(small.substr(500));
  });
  std::string received;
  LN_EXPECT_OK(client_->FetchBlob(Ref(server.authority() + "/a"), DescriptorOf(small), {},
                                  [&](std::string_view bytes) {
                                    if (received.empty())
                                      std::this_thread::sleep_for(milliseconds(1300));
                                    received += bytes;
                                    return Ok();
                                  }));
  EXPECT_TRUE(received == small);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST_F(Blob, SinkFails_ItsErrorComesBackAndNobodyElseIsAsked) {
  HttpServer server([](const Request&, Reply& reply) { reply.Send(200, kBlob); });
  int calls = 0;
  const auto fetched = client_->FetchBlob(
      Ref(server.authority() + "/a"), DescriptorOf(kBlob), {},
      [&](std::string_view) -> Result<void> {
        return ++calls == 3 ? Result<void>(Error(Code::kResourceExhausted, "disk full")) : Ok();
      });
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().message(), "disk full");
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST_F(Blob, Mirror_BreaksInTheMiddle_TheNextGoesOnFromThere) {
  HttpServer half([](const Request& request, Reply& reply) {
    if (RangeStart(request) > 0) return reply.Send(500, "");
    reply.Raw(WholeHead() + kBlob.substr(0, 150'000));
    reply.Close();
  });
  HttpServer whole([](const Request& request, Reply& reply) {
    const std::size_t from = RangeStart(request);
    reply.Raw(PartHead(from) + kBlob.substr(from));
  });
  config_.Write("r.example/hosts.toml", "server = \"http://" + whole.authority() +
                                            "\"\n[host.\"http://" + half.authority() + "\"]\n");
  LN_EXPECT_OK(Fetch("r.example/a", DescriptorOf(kBlob)));
  EXPECT_TRUE(received_ == kBlob);
  EXPECT_EQ(whole.requests()[0].Header("range"), "bytes=150000-");
}

TEST_F(Blob, SideBySide_EachOnItsOwnConnection) {
  HttpServer server([](const Request&, Reply& reply) { reply.Send(200, kBlob); });
  std::vector<std::future<std::string>> calls;
  for (int i = 0; i < 8; ++i) {
    calls.push_back(std::async(std::launch::async, [&] {
      std::string received;
      const auto r = client_->FetchBlob(Ref(server.authority() + "/a"), DescriptorOf(kBlob), {},
                                        [&](std::string_view bytes) {
                                          received += bytes;
                                          return Ok();
                                        });
      return r ? received : r.error().message();
    }));
  }
  for (auto& call : calls) EXPECT_TRUE(call.get() == kBlob);
}

TEST_F(Blob, ClientGone_NoDescriptorStays) {
  HttpServer server(DropsAfter(100'000));
  const auto before = LN_ASSERT_OK(ListDir("/proc/self/fd")).size();
  {
    const auto client = LN_ASSERT_OK(RegistryClient::Create({.no_progress_timeout = seconds(1)}));
    LN_EXPECT_OK(client->FetchBlob(Ref(server.authority() + "/a"), DescriptorOf(kBlob), {},
                                   [](std::string_view) { return Ok(); }));
    client->CloseIdle();
  }
  // The server's side closes when its thread has noticed.
  for (int i = 0; i < 200 && LN_ASSERT_OK(ListDir("/proc/self/fd")).size() > before; ++i) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_EQ(LN_ASSERT_OK(ListDir("/proc/self/fd")).size(), before);
}

}  // namespace
}  // namespace linnet::oci
