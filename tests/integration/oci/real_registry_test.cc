// The client against docker-registry: plain, with TLS of an own authority, with a password.
#include "real_registry.h"

#include <thread>

#include "registry_fixture.h"

namespace linnet::oci {
namespace {

using linnet::testing::RealRegistry;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RealRegistryTest : public RegistryFixture {
 protected:
  void SetUp() override {
    const auto missing = linnet::testing::MissingTools();
    if (!missing.empty()) GTEST_SKIP() << missing[0] << " is not installed";
  }

  // Manifest, config and layers of an image; checks what Push put in.
  void ExpectWholeImage(const std::string& name, const RegistryClient::Call& call = {}) {
    const Reference ref = Ref(name);
    const auto fetched = LN_ASSERT_OK(client_->FetchManifest(ref, call));
    const auto manifest = LN_ASSERT_OK(Manifest::Parse(fetched.body));
    EXPECT_EQ(manifest.media_type, fetched.media_type);
    LN_EXPECT_OK(Fetch(name, manifest.config, call));
    const auto config = LN_ASSERT_OK(ImageConfig::Parse(received_));
    EXPECT_THAT(config.cmd, ElementsAre("run"));
    EXPECT_EQ(config.os, "linux");
    ASSERT_EQ(manifest.layers.size(), 1U);
    ASSERT_EQ(config.diff_ids.size(), 1U);
    LN_EXPECT_OK(Fetch(name, manifest.layers[0], call));
    EXPECT_EQ(received_.size(), manifest.layers[0].size);
    Reference by_digest = ref;
    by_digest.digest = fetched.digest;
    EXPECT_EQ(LN_ASSERT_OK(client_->FetchManifest(by_digest, call)).body, fetched.body);
  }
};

TEST_F(RealRegistryTest, Plain_OciAndDockerManifests) {
  RealRegistry registry({});
  LN_ASSERT_OK(registry.Start());
  LN_ASSERT_OK(registry.Push("demo/web:1"));
  LN_ASSERT_OK(registry.Push("demo/web:docker", {"--format", "v2s2"}));
  LN_ASSERT_OK(registry.Push("demo/web:zstd", {"--dest-compress-format", "zstd"}));
  for (const char* tag : {"1", "docker", "zstd"})
    ExpectWholeImage(registry.authority() + "/demo/web:" + tag);
  const auto docker =
      LN_ASSERT_OK(client_->FetchManifest(Ref(registry.authority() + "/demo/web:docker"), {}));
  EXPECT_EQ(docker.media_type, media_type::kDockerManifest);
}

TEST_F(RealRegistryTest, Plain_UnknownNames_NotFound) {
  RealRegistry registry({});
  LN_ASSERT_OK(registry.Start());
  LN_EXPECT_ERROR(client_->FetchManifest(Ref(registry.authority() + "/no/such:1"), {}),
                  Code::kNotFound, "MANIFEST_UNKNOWN");
  LN_EXPECT_ERROR(Fetch(registry.authority() + "/no/such", DescriptorOf("x")), Code::kNotFound,
                  "/no/such@sha256:");
}

TEST_F(RealRegistryTest, Basic_PasswordNeededAndChecked) {
  RealRegistry registry({.basic = true});
  LN_ASSERT_OK(registry.Start());
  LN_ASSERT_OK(registry.Push("demo/web:1"));
  const std::string name = registry.authority() + "/demo/web:1";
  ExpectWholeImage(name, CallWith({.username = "user", .password = "secret"}));
  LN_EXPECT_ERROR(client_->FetchManifest(Ref(name), {}), Code::kPermissionDenied,
                  "user name and a password");
  LN_EXPECT_ERROR(
      client_->FetchManifest(Ref(name), CallWith({.username = "user", .password = "wrong"})),
      Code::kPermissionDenied, "UNAUTHORIZED");
}

TEST_F(RealRegistryTest, Tls_OwnAuthorityFromHostsToml) {
  RealRegistry registry({.tls = true});
  LN_ASSERT_OK(registry.Start());
  LN_ASSERT_OK(registry.Push("demo/web:1"));
  const std::string name = registry.authority() + "/demo/web:1";
  const std::string toml = registry.authority() + "/hosts.toml";
  config_.Write(toml, "server = \"https://" + registry.authority() + "\"\n");
  const auto untrusted = client_->FetchManifest(Ref(name), {});
  ASSERT_FALSE(untrusted);
  EXPECT_TRUE(untrusted.error().Is(Code::kUnavailable));
  EXPECT_THAT(untrusted.error().message(), HasSubstr("give its authority as \"ca\" in hosts.toml"));
  config_.Write(toml, "server = \"https://" + registry.authority() + "\"\nca = \"" +
                          registry.ca_path() + "\"\n");
  ExpectWholeImage(name);
  config_.Write(toml, "server = \"https://" + registry.authority() + "\"\nskip_verify = true\n");
  ExpectWholeImage(name);
}

TEST_F(RealRegistryTest, Tls_SpokenToInPlainHttp_Error) {
  RealRegistry registry({.tls = true});
  LN_ASSERT_OK(registry.Start());
  // docker-registry answers "Client sent an HTTP request to an HTTPS server" (400).
  LN_EXPECT_ERROR(client_->FetchManifest(Ref(registry.authority() + "/demo/web:1"), {}),
                  Code::kUnavailable, "400");
}

TEST_F(RealRegistryTest, PlainHttp_SpokenToInTls_HintsAtHostsToml) {
  RealRegistry registry({});
  LN_ASSERT_OK(registry.Start());
  config_.Write(registry.authority() + "/hosts.toml",
                "server = \"https://" + registry.authority() + "\"\n");
  LN_EXPECT_ERROR(client_->FetchManifest(Ref(registry.authority() + "/demo/web:1"), {}),
                  Code::kUnavailable, "speaks plain http");
}

// openssl s_server -HTTP sends files as they are, header included.
TEST_F(RealRegistryTest, Tls_RedirectToPlainHttp_Refused) {
  RealRegistry target({});
  LN_ASSERT_OK(target.Start());
  LN_ASSERT_OK(target.MakeCertificate("redirector"));
  target.dir().Write("v2/a/manifests/1", "HTTP/1.0 307 X\r\nLocation: http://" +
                                             target.authority() + "/v2/a/manifests/1\r\n\r\n");
  auto process = LN_ASSERT_OK(Spawn(
      {.path = "/usr/bin/openssl",
       .argv = {"openssl", "s_server", "-HTTP", "-quiet", "-accept", "127.0.0.1:18443", "-cert",
                target.dir() / "redirector.crt", "-key", target.dir() / "redirector.key"},
       .cwd = target.dir().path()}));
  config_.Write("r.example/hosts.toml",
                "server = \"https://127.0.0.1:18443\"\nca = \"" + target.ca_path() + "\"\n");
  const auto end = steady_clock::now() + std::chrono::seconds(10);
  const Reference ref = Ref("r.example/a:1");
  auto fetched = client_->FetchManifest(ref, {});
  while (fetched.error().message().starts_with("RegistryUnavailable") &&
         steady_clock::now() < end) {  // not yet listening
    std::this_thread::sleep_for(milliseconds(50));
    fetched = client_->FetchManifest(ref, {});
  }
  LN_EXPECT_ERROR(fetched, Code::kUnavailable, "from https to http");
  EXPECT_EQ(target.dir().Read("registry.log").find("manifests"), std::string::npos);
}

}  // namespace
}  // namespace linnet::oci
