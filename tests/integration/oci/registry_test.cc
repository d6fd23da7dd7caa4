// Manifests, mirrors and errors, against a server that misbehaves on purpose.
#include <stdlib.h>

#include <future>

#include "http_server.h"
#include "registry_fixture.h"

namespace linnet::oci {
namespace {

using linnet::testing::HttpServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Request = HttpServer::Request;
using Reply = HttpServer::Reply;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

const std::string kType = "Content-Type: " + std::string(media_type::kOciManifest);

class Registry : public RegistryFixture {
 protected:
  Result<RegistryClient::Fetched> Manifest(const HttpServer& server,
                                           const std::string& name = "a/b:1",
                                           const RegistryClient::Call& call = {}) {
    return client_->FetchManifest(Ref(server.authority() + "/" + name), call);
  }
  void Mirrors(const std::string& domain, const std::string& toml) {
    config_.Write(domain + "/hosts.toml", toml);
  }
};

HttpServer::Handler Always(int status, const std::string& body,
                           const std::vector<std::string>& headers = {}) {
  return [=](const Request&, Reply& reply) { reply.Send(status, body, headers); };
}

TEST_F(Registry, Manifest_ByTag_DigestIsOfTheBytes) {
  // The header lies about the digest: it is never used.
  HttpServer server(Always(200, TestManifest(),
                           {kType, "Docker-Content-Digest: sha256:" + std::string(64, '0')}));
  const auto fetched = LN_ASSERT_OK(Manifest(server));
  EXPECT_EQ(fetched.body, TestManifest());
  EXPECT_EQ(fetched.media_type, media_type::kOciManifest);
  EXPECT_EQ(fetched.digest, Digest::Sha256Of(TestManifest()));
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].target, "/v2/a/b/manifests/1");
  for (const std::string_view type : {media_type::kOciIndex, media_type::kOciManifest,
                                      media_type::kDockerList, media_type::kDockerManifest}) {
    EXPECT_THAT(requests[0].Header("accept"), HasSubstr(std::string(type)));
  }
}

TEST_F(Registry, Manifest_ByDigest_Verified) {
  HttpServer server(Always(200, TestManifest(), {kType}));
  const Digest good = Digest::Sha256Of(TestManifest());
  EXPECT_EQ(LN_ASSERT_OK(Manifest(server, "a/b@" + good.str())).digest, good);
  LN_EXPECT_ERROR(Manifest(server, "a/b@" + Digest::Sha256Of("x").str()), Code::kDataLoss,
                  "does not match its digest");
  EXPECT_EQ(server.CountOf(good.str()), 1U);
}

TEST_F(Registry, Manifest_Unknown_NotFoundWithTheRegistrysWords) {
  HttpServer server(Always(
      404, R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001bunknown"}]})"));
  const auto fetched = Manifest(server);
  ASSERT_FALSE(fetched);
  EXPECT_TRUE(fetched.error().Is(Code::kNotFound));
  EXPECT_EQ(fetched.error().value(), 404);
  EXPECT_EQ(fetched.error().message(),
            server.authority() + "/a/b:1: " + server.authority() +
                ": manifest not found: check name, tag and digest (404: MANIFEST_UNKNOWN: "
                "manifest ?unknown)");
}

TEST_F(Registry, Manifest_Forbidden_PermissionDenied) {
  HttpServer server(Always(403, ""));
  LN_EXPECT_ERROR(Manifest(server), Code::kPermissionDenied, "pull secret");
}

TEST_F(Registry, Manifest_TypeMissingOrGeneric_TakenFromTheDocument) {
  Json document = Json::parse(TestManifest());
  HttpServer said(Always(200, document.dump(), {"Content-Type: application/json; charset=utf-8"}));
  EXPECT_EQ(LN_ASSERT_OK(Manifest(said)).media_type, media_type::kOciManifest);
  document.erase("mediaType");
  HttpServer header(Always(200, document.dump(), {kType + "; charset=utf-8"}));
  EXPECT_EQ(LN_ASSERT_OK(Manifest(header)).media_type, media_type::kOciManifest);
  HttpServer neither(Always(200, R"({"schemaVersion":2,"manifests":[]})"));
  EXPECT_EQ(LN_ASSERT_OK(Manifest(neither)).media_type, media_type::kOciIndex);
}

TEST_F(Registry, Manifest_Garbage_DataLoss) {
  for (const std::string& body :
       {std::string("<html>Log in to this network</html>"), std::string(), std::string("{}"),
        std::string("[]"), std::string(R"({"schemaVersion":2,"mediaType":"text/plain"})"),
        std::string(R"({"schemaVersion":2,"mediaType":7})"), std::string(1000, '[')}) {
    HttpServer server(Always(200, body, {"Content-Type: text/html"}));
    LN_EXPECT_ERROR(Manifest(server), Code::kDataLoss, server.authority());
  }
}

TEST_F(Registry, Manifest_TypesContradict_Refused) {
  HttpServer server(
      Always(200, TestManifest(), {"Content-Type: " + std::string(media_type::kOciIndex)}));
  LN_EXPECT_ERROR(Manifest(server), Code::kDataLoss, "refused");
}

TEST_F(Registry, Manifest_Schema1_SaysWhatToDo) {
  HttpServer typed(
      Always(200, "{}", {"Content-Type: " + std::string(media_type::kDockerSchema1Signed)}));
  LN_EXPECT_ERROR(Manifest(typed), Code::kFailedPrecondition, "push it again");
  HttpServer plain(
      Always(200, R"({"schemaVersion":1,"fsLayers":[]})", {"Content-Type: application/json"}));
  LN_EXPECT_ERROR(Manifest(plain), Code::kFailedPrecondition, "schema 1");
}

TEST_F(Registry, Manifest_TooLarge_Refused) {
  HttpServer server(Always(200, std::string(5U << 20, ' '), {kType}));
  LN_EXPECT_ERROR(Manifest(server), Code::kResourceExhausted, "larger than");
}

TEST_F(Registry, Manifest_EndlessHeader_Refused) {
  HttpServer server([](const Request&, Reply& reply) {
    reply.Raw("HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 100'000 && !reply.closed(); ++i)
      reply.Raw("X-More: " + std::string(1000, 'x') + "\r\n");
    reply.Close();
  });
  LN_EXPECT_ERROR(Manifest(server), Code::kResourceExhausted, "header is too large");
}

TEST_F(Registry, Manifest_NotHttp_Unavailable) {
  HttpServer server([](const Request&, Reply& reply) {
    reply.Raw("SSH-2.0-OpenSSH_9.2\r\n");
    reply.Close();
  });
  LN_EXPECT_ERROR(Manifest(server), Code::kUnavailable, "RegistryUnavailable");
}

TEST_F(Registry, Manifest_ConnectionsAreReused) {
  HttpServer server(Always(200, TestManifest(), {kType}));
  for (int i = 0; i < 5; ++i) LN_ASSERT_OK(Manifest(server));
  EXPECT_EQ(server.requests().back().connection, 1);
  client_->CloseIdle();
  LN_ASSERT_OK(Manifest(server));
  EXPECT_EQ(server.requests().back().connection, 2);
}

TEST_F(Registry, Manifest_RateLimitWithRetryAfter_WaitsThenSucceeds) {
  std::atomic<int> calls = 0;
  HttpServer server([&](const Request&, Reply& reply) {
    if (calls++ == 0) return reply.Send(429, "", {"Retry-After: 1"});
    reply.Send(200, TestManifest(), {kType});
  });
  const auto start = steady_clock::now();
  LN_ASSERT_OK(Manifest(server));
  EXPECT_GE(steady_clock::now() - start, seconds(1));
  EXPECT_EQ(calls, 2);
}

TEST_F(Registry, Manifest_RateLimitForHours_FailsAtOnce) {
  HttpServer server(Always(429, "", {"Retry-After: 3600"}));
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(Manifest(server), Code::kUnavailable, "rate limit");
  EXPECT_LT(steady_clock::now() - start, seconds(1));
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST_F(Registry, Manifest_RateLimitBeyondTheDeadline_FailsAtOnce) {
  HttpServer server(Always(429, "", {"Retry-After: 20"}));
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(Manifest(server, "a/b:1", {.deadline = start + seconds(5)}), Code::kUnavailable,
                  "rate limit");
  EXPECT_LT(steady_clock::now() - start, seconds(1));
}

TEST_F(Registry, Manifest_ServerErrors_RetriedALittle) {
  std::atomic<int> calls = 0;
  HttpServer recovers([&](const Request&, Reply& reply) {
    if (calls++ < 2) return reply.Send(503, "");
    reply.Send(200, TestManifest(), {kType});
  });
  LN_ASSERT_OK(Manifest(recovers));
  EXPECT_EQ(calls, 3);
  HttpServer broken(Always(500, R"({"errors":[{"code":"UNKNOWN","message":"disk on fire"}]})"));
  LN_EXPECT_ERROR(Manifest(broken), Code::kUnavailable, "disk on fire");
  EXPECT_EQ(broken.requests().size(), 3U);
}

TEST_F(Registry, Manifest_Truncated_RetriedThenSucceeds) {
  std::atomic<int> calls = 0;
  HttpServer server([&](const Request&, Reply& reply) {
    if (calls++ > 0) return reply.Send(200, TestManifest(), {kType});
    reply.Raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"schema");
    reply.Close();
  });
  LN_ASSERT_OK(Manifest(server));
}

TEST_F(Registry, Manifest_NoAnswer_UnavailableAfterTheNoProgressTime) {
  HttpServer server([](const Request&, Reply& reply) { reply.Hang(); });
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(Manifest(server), Code::kUnavailable,
                  "RegistryUnavailable: " + server.authority() + "/a/b:1: ");
  EXPECT_LT(steady_clock::now() - start, seconds(3));
}

TEST_F(Registry, Manifest_NoAnswer_DeadlineHolds) {
  HttpServer server([](const Request&, Reply& reply) { reply.Hang(); });
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(Manifest(server, "a/b:1", {.deadline = start + milliseconds(200)}),
                  Code::kDeadlineExceeded, server.authority());
  EXPECT_GE(steady_clock::now() - start, milliseconds(200));
  EXPECT_LT(steady_clock::now() - start, milliseconds(600));
  LN_EXPECT_ERROR(Manifest(server, "a/b:1", {.deadline = start}), Code::kDeadlineExceeded, "");
}

TEST_F(Registry, Manifest_Cancelled_EndsAtOnce) {
  HttpServer server([](const Request&, Reply& reply) { reply.Hang(); });
  std::stop_source source;
  auto call = std::async(std::launch::async,
                         [&] { return Manifest(server, "a/b:1", {.stop = source.get_token()}); });
  while (server.requests().empty()) std::this_thread::sleep_for(milliseconds(1));
  std::this_thread::sleep_for(milliseconds(250));  // past libcurl's own timers
  const auto start = steady_clock::now();
  source.request_stop();
  LN_EXPECT_ERROR(call.get(), Code::kCancelled, "");
  EXPECT_LT(steady_clock::now() - start, milliseconds(100));
}

TEST_F(Registry, Manifest_CancelledWhileWaitingToRetry_EndsAtOnce) {
  HttpServer server(Always(429, "", {"Retry-After: 20"}));
  std::stop_source source;
  auto call = std::async(std::launch::async,
                         [&] { return Manifest(server, "a/b:1", {.stop = source.get_token()}); });
  while (server.requests().empty()) std::this_thread::sleep_for(milliseconds(1));
  const auto start = steady_clock::now();
  source.request_stop();
  LN_EXPECT_ERROR(call.get(), Code::kCancelled, "");
  EXPECT_LT(steady_clock::now() - start, milliseconds(300));
}

TEST_F(Registry, ProxyOfTheEnvironment_NotForThisMachine) {
  ASSERT_EQ(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
  HttpServer server(Always(200, TestManifest(), {kType}));
  LN_EXPECT_OK(Manifest(server));
  ASSERT_EQ(unsetenv("http_proxy"), 0);
}

TEST_F(Registry, NothingListens_RegistryUnavailable) {
  const auto fetched = client_->FetchManifest(Ref("127.0.0.1:1/a/b:1"), {});
  ASSERT_FALSE(fetched);
  EXPECT_TRUE(fetched.error().Is(Code::kUnavailable));
  EXPECT_THAT(fetched.error().message(),
              StartsWith("RegistryUnavailable: 127.0.0.1:1/a/b:1: 127.0.0.1:1: "));
  EXPECT_THAT(fetched.error().message(), HasSubstr("hosts.toml"));
}

TEST_F(Registry, NameUnknown_RegistryUnavailable) {
  LN_EXPECT_ERROR(client_->FetchManifest(Ref("no-such-host.invalid/a"),
                                         {.deadline = steady_clock::now() + seconds(20)}),
                  Code::kUnavailable, "RegistryUnavailable");
}

TEST_F(Registry, Mirrors_AskedInOrderUntilOneHasIt) {
  HttpServer lacks(Always(404, ""));
  HttpServer has(Always(200, TestManifest(), {kType}));
  HttpServer never(Always(200, TestManifest(), {kType}));
  Mirrors("docker.io", "server = \"http://" + never.authority() +
                           "\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://" +
                           lacks.authority() + "\"]\n[host.\"http://" + has.authority() + "\"]\n");
  LN_ASSERT_OK(client_->FetchManifest(Ref("busybox"), {}));
  ASSERT_EQ(lacks.requests().size(), 1U);
  EXPECT_EQ(lacks.requests()[0].target, "/v2/library/busybox/manifests/latest?ns=docker.io");
  EXPECT_EQ(has.requests().size(), 1U);
  EXPECT_EQ(never.requests().size(), 0U);
}

TEST_F(Registry, Mirrors_LyingMirror_TheNextIsAsked) {
  HttpServer lies(Always(200, "<html>", {"Content-Type: text/html"}));
  HttpServer upstream(Always(200, TestManifest(), {kType}));
  Mirrors("r.example", "server = \"http://" + upstream.authority() + "\"\n[host.\"http://" +
                           lies.authority() + "\"]\n");
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));
  EXPECT_EQ(upstream.requests()[0].target, "/v2/x/manifests/1");  // the registry itself needs no ns
}

TEST_F(Registry, Mirrors_CapabilitiesHold) {
  HttpServer by_digest_only(Always(200, TestManifest(), {kType}));
  HttpServer upstream(Always(200, TestManifest(), {kType}));
  Mirrors("r.example", "server = \"http://" + upstream.authority() + "\"\n[host.\"http://" +
                           by_digest_only.authority() + "\"]\ncapabilities = [\"pull\"]\n");
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));
  EXPECT_EQ(by_digest_only.requests().size(), 0U);
  LN_ASSERT_OK(
      client_->FetchManifest(Ref("r.example/x@" + Digest::Sha256Of(TestManifest()).str()), {}));
  EXPECT_EQ(by_digest_only.requests().size(), 1U);
}

TEST_F(Registry, Mirrors_NoneHasIt_TheLastAnswerCountsAndAllAreNamed) {
  HttpServer lacks(Always(404, ""));
  Mirrors("r.example",
          "server = \"http://127.0.0.1:1\"\n[host.\"http://" + lacks.authority() + "\"]\n");
  const auto fetched = client_->FetchManifest(Ref("r.example/x:1"), {});
  ASSERT_FALSE(fetched);
  EXPECT_TRUE(fetched.error().Is(Code::kNotFound));
  EXPECT_THAT(fetched.error().message(), StartsWith("r.example/x:1: " + lacks.authority()));
  EXPECT_THAT(fetched.error().message(), HasSubstr("127.0.0.1:1: "));
}

TEST_F(Registry, Mirrors_UnreachableOne_IsAskedLastForAWhile) {
  std::uint16_t port = 0;
  {
    HttpServer gone(Always(500, ""));
    port = gone.port();
  }
  std::atomic<int> status = 200;
  HttpServer upstream(
      [&](const Request&, Reply& reply) { reply.Send(status, TestManifest(), {kType}); });
  Mirrors("r.example", "server = \"http://" + upstream.authority() +
                           "\"\n[host.\"http://127.0.0.1:" + std::to_string(port) + "\"]\n");
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));
  HttpServer back(Always(200, TestManifest(), {kType}), "127.0.0.1", port);
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));
  EXPECT_EQ(back.requests().size(), 0U);
  status = 404;
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));  // last, but asked
  EXPECT_EQ(back.requests().size(), 1U);
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));  // it answered: first again
  EXPECT_EQ(upstream.requests().size(), 3U);
}

TEST_F(Registry, HostsToml_Invalid_ErrorNamesTheFile) {
  Mirrors("r.example", "server = [");
  LN_EXPECT_ERROR(client_->FetchManifest(Ref("r.example/x"), {}), Code::kInvalidArgument,
                  "r.example/hosts.toml: line 1");
}

TEST_F(Registry, HostsToml_HeadersAndPath_Sent) {
  HttpServer server(Always(200, TestManifest(), {kType}));
  Mirrors("r.example", "[host.\"http://" + server.authority() +
                           "/v2/proxy\"]\noverride_path = true\n[host.\"http://" +
                           server.authority() + "/v2/proxy\".header]\nx-token = \"abc\"\n");
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/x:1"), {}));
  EXPECT_EQ(server.requests()[0].path, "/v2/proxy/x/manifests/1");
  EXPECT_EQ(server.requests()[0].Header("x-token"), "abc");
}

}  // namespace
}  // namespace linnet::oci
