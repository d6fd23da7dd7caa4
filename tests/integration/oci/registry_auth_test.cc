// Who sees which credentials.
#include "linnet/base/text.h"

#include "http_server.h"
#include "registry_fixture.h"

namespace linnet::oci {
namespace {

using linnet::testing::HttpServer;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using Request = HttpServer::Request;
using Reply = HttpServer::Reply;

const std::string kType = "Content-Type: " + std::string(media_type::kOciManifest);
const std::string kBlob = TestBlob();
const std::string kBasic = "Basic " + Base64Encode("user:secret");
const RegistryAuth kUser{.username = "user", .password = "secret"};

// A registry that wants the token its own token server gives, and serves the manifest and the blob.
class TokenRegistry {
 public:
  std::string token = "token-1";
  std::string challenge_extra = R"(,service="a service",scope="repository:*:*")";
  std::string token_body;  // instead of the usual one
  int token_status = 200;
  std::string blob_redirect;  // where blobs are, if not here

  HttpServer server{[this](const Request& request, Reply& reply) { Handle(request, reply); }};
  std::string authority() const { return server.authority(); }

  std::vector<Request> TokenRequests() const {
    auto all = server.requests();
    std::erase_if(all, [](const Request& r) { return r.path != "/token"; });
    return all;
  }

 private:
  void Handle(const Request& request, Reply& reply) {
    if (request.path == "/token") {
      return reply.Send(token_status, token_body.empty()
                                          ? Json{{"token", token}, {"expires_in", 300}}.dump()
                                          : token_body);
    }
    if (request.Header("authorization") != "Bearer " + token) {
      return reply.Send(401, "",
                        {"WWW-Authenticate: Bearer realm=\"http://" + authority() + "/token\"" +
                         challenge_extra});
    }
    if (request.path.find("/blobs/") == std::string::npos)
      return reply.Send(200, TestManifest(), {kType});
    if (blob_redirect.empty()) return reply.Send(200, kBlob);
    reply.Send(307, "", {"Location: " + blob_redirect});
  }
};

class Auth : public RegistryFixture {
 protected:
  Result<RegistryClient::Fetched> Manifest(const std::string& authority,
                                           const RegistryClient::Call& call = {}) {
    return client_->FetchManifest(Ref(authority + "/a/b:1"), call);
  }
};

std::vector<std::string> Authorizations(const HttpServer& server) {
  std::vector<std::string> out;
  for (const Request& r : server.requests()) out.push_back(r.Header("authorization"));
  return out;
}

TEST_F(Auth, Token_Anonymous_AskedOnceForAllCalls) {
  TokenRegistry registry;
  LN_ASSERT_OK(Manifest(registry.authority()));
  LN_ASSERT_OK(Manifest(registry.authority()));
  LN_EXPECT_OK(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob)));
  const auto asked = registry.TokenRequests();
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].method, "GET");
  EXPECT_EQ(asked[0].Header("authorization"), "");
  // The scope is made from the reference: what the server offers is not echoed.
  EXPECT_EQ(asked[0].target, "/token?service=a%20service&scope=repository%3Aa%2Fb%3Apull");
}

TEST_F(Auth, Token_WithPassword_OnlyTheTokenServerSeesIt) {
  TokenRegistry registry;
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith(kUser)));
  ASSERT_EQ(registry.TokenRequests().size(), 1U);
  EXPECT_EQ(registry.TokenRequests()[0].Header("authorization"), kBasic);
  for (const Request& r : registry.server.requests()) {
    EXPECT_TRUE(r.path == "/token" || r.Header("authorization") != kBasic);
  }
}

TEST_F(Auth, Token_OfOneUser_IsNotUsedForAnother) {
  TokenRegistry registry;
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith(kUser)));
  LN_ASSERT_OK(Manifest(registry.authority()));
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith({.username = "user", .password = "other"})));
  EXPECT_EQ(registry.TokenRequests().size(), 3U);
}

TEST_F(Auth, Token_OfOneRepository_IsNotUsedForAnother) {
  TokenRegistry registry;
  LN_ASSERT_OK(Manifest(registry.authority()));
  LN_ASSERT_OK(client_->FetchManifest(Ref(registry.authority() + "/other:1"), {}));
  ASSERT_EQ(registry.TokenRequests().size(), 2U);
  EXPECT_THAT(registry.TokenRequests()[1].target, HasSubstr("repository%3Aother%3Apull"));
}

TEST_F(Auth, Token_Stale_FetchedAgain) {
  TokenRegistry registry;
  LN_ASSERT_OK(Manifest(registry.authority()));
  registry.token = "token-2";
  LN_ASSERT_OK(Manifest(registry.authority()));
  EXPECT_EQ(registry.TokenRequests().size(), 2U);
}

TEST_F(Auth, Token_OfIdentityToken_ByPost) {
  TokenRegistry registry;
  registry.token_body = R"({"access_token":"token-1","expires_in":60})";
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith({.identity_token = "refresh me/+"})));
  const auto asked = registry.TokenRequests();
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].method, "POST");
  EXPECT_EQ(asked[0].target, "/token");
  EXPECT_EQ(asked[0].body,
            "grant_type=refresh_token&client_id=linnet&service=a%20service&scope=repository%3Aa%"
            "2Fb%3Apull"
            "&refresh_token=refresh%20me%2F%2B");
}

TEST_F(Auth, RegistryToken_UsedAsItIs) {
  TokenRegistry registry;
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith({.registry_token = "token-1"})));
  EXPECT_TRUE(registry.TokenRequests().empty());
}

TEST_F(Auth, Token_Refused_PermissionDenied) {
  TokenRegistry registry;
  registry.token_status = 401;
  registry.token_body = R"({"details":"incorrect username or password"})";
  const auto fetched = Manifest(registry.authority(), CallWith(kUser));
  ASSERT_FALSE(fetched);
  EXPECT_TRUE(fetched.error().Is(Code::kPermissionDenied));
  EXPECT_THAT(fetched.error().message(),
              HasSubstr("refuses these credentials: incorrect username or password"));
  EXPECT_THAT(fetched.error().message(), Not(HasSubstr("secret")));
}

TEST_F(Auth, Token_NotGoodEnough_PermissionDeniedAfterOneTry) {
  TokenRegistry registry;
  registry.token_body = R"({"token":"worthless"})";
  LN_EXPECT_ERROR(Manifest(registry.authority()), Code::kPermissionDenied, "pull secret");
  EXPECT_EQ(registry.TokenRequests().size(), 1U);
}

TEST_F(Auth, Token_Garbage_Error) {
  for (const char* body : {"<html>", "{}", R"({"token":""})", R"({"token":7})", "[]"}) {
    TokenRegistry registry;
    registry.token_body = body;
    const auto fetched = Manifest(registry.authority());
    ASSERT_FALSE(fetched) << body;
    EXPECT_THAT(fetched.error().message(), HasSubstr("token server " + registry.authority()));
  }
}

TEST_F(Auth, Token_WithLineBreak_NeverInAHeader) {
  TokenRegistry registry;
  registry.token_body = R"({"token":"x\r\nX-Injected: 1"})";
  LN_EXPECT_ERROR(Manifest(registry.authority()), Code::kPermissionDenied, "characters");
  for (const Request& r : registry.server.requests()) EXPECT_EQ(r.Header("x-injected"), "");
}

TEST_F(Auth, Token_ServerDown_NamesIt) {
  HttpServer registry([](const Request&, Reply& reply) {
    reply.Send(401, "", {"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/token\""});
  });
  LN_EXPECT_ERROR(Manifest(registry.authority()), Code::kUnavailable, "token server 127.0.0.1:1");
}

TEST_F(Auth, Basic_SentOnlyWhenAsked_ThenAtOnce) {
  HttpServer registry([](const Request& request, Reply& reply) {
    if (request.Header("authorization") != kBasic)
      return reply.Send(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
    reply.Send(200, TestManifest(), {kType});
  });
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith({.auth = Base64Encode("user:secret")})));
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith(kUser)));
  EXPECT_EQ(Authorizations(registry), (std::vector<std::string>{"", kBasic, kBasic}));
  LN_EXPECT_ERROR(Manifest(registry.authority()), Code::kPermissionDenied,
                  "user name and a password");
  LN_EXPECT_ERROR(
      Manifest(registry.authority(), CallWith({.username = "user", .password = "wrong"})),
      Code::kPermissionDenied, "denied");
}

TEST_F(Auth, NoKnownScheme_PermissionDenied) {
  HttpServer registry(
      [](const Request&, Reply& reply) { reply.Send(401, "", {"WWW-Authenticate: Negotiate"}); });
  LN_EXPECT_ERROR(Manifest(registry.authority(), CallWith(kUser)), Code::kPermissionDenied,
                  "neither");
}

TEST_F(Auth, ServerAddressOfAnotherHost_NothingIsShown) {
  TokenRegistry registry;
  RegistryAuth auth = kUser;
  auth.server_address = "https://other.example";
  LN_ASSERT_OK(Manifest(registry.authority(), CallWith(auth)));
  EXPECT_THAT(Authorizations(registry.server), Each(Not(kBasic)));
}

TEST_F(Auth, PlainHttpMirror_GetsNoPassword) {
  HttpServer mirror([](const Request&, Reply& reply) {
    reply.Send(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
  });
  TokenRegistry registry;
  config_.Write("r.example/hosts.toml", "server = \"http://" + registry.authority() +
                                            "\"\n[host.\"http://" + mirror.authority() + "\"]\n");
  LN_ASSERT_OK(client_->FetchManifest(Ref("r.example/a:1"), CallWith(kUser)));
  EXPECT_THAT(Authorizations(mirror), Each(std::string()));
  EXPECT_EQ(registry.TokenRequests().at(0).Header("authorization"), kBasic);
}

TEST_F(Auth, Redirect_ToAnotherHost_NoSecretsGoAlong) {
  int calls = 0;
  HttpServer store(
      [&](const Request& request, Reply& reply) {
        if (calls++ > 0) {
          const std::size_t from = std::stoul(request.Header("range").substr(6));
          return reply.Send(206, kBlob.substr(from),
                            {"Content-Range: bytes " + std::to_string(from) + "-299999/300000"});
        }
        reply.Raw("HTTP/1.1 200 X\r\nContent-Length: 300000\r\n\r\n" + kBlob.substr(0, 1000));
        reply.Close();
      },
      "127.0.0.2");
  TokenRegistry registry;
  registry.blob_redirect = "http://" + store.authority() + "/bucket/blob?signature=x%2By";
  config_.Write(registry.authority() + "/hosts.toml",
                "[header]\nx-private = \"yes\"\ncookie = \"a=b\"\n");
  LN_EXPECT_OK(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob), CallWith(kUser)));
  EXPECT_TRUE(received_ == kBlob);
  const auto seen = store.requests();
  ASSERT_EQ(seen.size(), 2U);
  for (const Request& r : seen) {
    EXPECT_EQ(r.target, "/bucket/blob?signature=x%2By");
    for (const char* name : {"authorization", "x-private", "cookie"})
      EXPECT_FALSE(r.headers.contains(name)) << name;
  }
  EXPECT_EQ(seen[1].Header("range"), "bytes=1000-");
  EXPECT_EQ(registry.server.requests().back().Header("x-private"), "yes");
}

TEST_F(Auth, Redirect_ToAnotherPort_IsAnotherHost) {
  HttpServer store([&](const Request&, Reply& reply) { reply.Send(200, kBlob); });
  TokenRegistry registry;
  registry.blob_redirect = "http://" + store.authority() + "/b";
  LN_EXPECT_OK(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob), CallWith(kUser)));
  EXPECT_THAT(Authorizations(store), Each(std::string()));
}

TEST_F(Auth, Redirect_OnTheSameHost_StillAuthorized) {
  HttpServer registry([](const Request& request, Reply& reply) {
    if (request.Header("authorization") != kBasic)
      return reply.Send(401, "", {"WWW-Authenticate: Basic realm=\"x\""});
    if (request.path.starts_with("/v2/")) return reply.Send(307, "", {"Location: /store/blob"});
    reply.Send(200, kBlob);
  });
  LN_EXPECT_OK(Fetch(registry.authority() + "/a", DescriptorOf(kBlob), CallWith(kUser)));
  EXPECT_EQ(registry.requests().back().path, "/store/blob");
}

TEST_F(Auth, RedirectTarget_AsksForCredentials_GetsNone) {
  std::string challenge;
  HttpServer thief([&](const Request&, Reply& reply) {
    reply.Send(401, "", {"WWW-Authenticate: " + challenge});
  });
  for (const std::string& asked : {std::string("Basic realm=\"x\""),
                                   "Bearer realm=\"http://" + thief.authority() + "/token\""}) {
    challenge = asked;
    TokenRegistry registry;
    registry.blob_redirect = "http://" + thief.authority() + "/b";
    LN_ASSERT_OK(Manifest(registry.authority(), CallWith(kUser)));  // the token is there already
    LN_EXPECT_ERROR(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob), CallWith(kUser)),
                    Code::kPermissionDenied, "");
    EXPECT_EQ(registry.TokenRequests().size(), 1U);
  }
  EXPECT_THAT(Authorizations(thief), Each(std::string()));
  EXPECT_EQ(thief.CountOf("/token"), 0U);
}

TEST_F(Auth, RedirectInCircles_Ends) {
  TokenRegistry registry;
  registry.blob_redirect = "/v2/a/b/blobs/again";
  LN_EXPECT_ERROR(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob)), Code::kUnavailable,
                  "more than five");
  EXPECT_LT(registry.server.requests().size(), 12U);
}

TEST_F(Auth, RedirectToAFile_Refused) {
  for (const char* target :
       {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "", "http://"}) {
    TokenRegistry registry;
    registry.blob_redirect = target;
    if (*target == 0) registry.blob_redirect = " ";
    LN_EXPECT_ERROR(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob)), Code::kUnavailable,
                    registry.authority());
    EXPECT_TRUE(received_.empty());
  }
}

TEST_F(Auth, ForeignUrlsOfALayer_NeverAsked) {
  // Descriptor has no place for "urls": what a manifest says there reaches nobody (CVE-2020-15157).
  TokenRegistry registry;
  LN_EXPECT_OK(Fetch(registry.authority() + "/a/b", DescriptorOf(kBlob), CallWith(kUser)));
  for (const Request& r : registry.server.requests())
    EXPECT_TRUE(r.path == "/token" || r.path.starts_with("/v2/a/b/"));
}

}  // namespace
}  // namespace linnet::oci
