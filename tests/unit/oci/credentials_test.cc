#include <gtest/gtest.h>

#include "linnet/base/text.h"

#include "registry/auth.h"

namespace linnet::oci {
namespace {

Endpoint At(const std::string& base, bool upstream) {
  return Endpoint{.base = *Url::Parse(base), .upstream = upstream};
}
const Endpoint kHub = At("https://registry-1.docker.io/v2", true);
const Endpoint kMirror = At("https://mirror.example/v2", false);
const Endpoint kPlainMirror = At("http://mirror.example/v2", false);

bool Given(const Endpoint& endpoint, const std::string& server_address) {
  const RegistryAuth auth{.username = "u", .password = "p", .server_address = server_address};
  return !CredentialsFor(endpoint, "docker.io", &auth)->empty();
}

TEST(CredentialsFor, NoServerAddress_AllButPlainMirrors) {
  EXPECT_TRUE(Given(kHub, ""));
  EXPECT_TRUE(Given(kMirror, ""));
  EXPECT_FALSE(Given(kPlainMirror, ""));
  EXPECT_TRUE(Given(At("http://127.0.0.1:5000/v2", true), ""));
}

TEST(CredentialsFor, ServerAddress_OnlyThatHost) {
  for (const char* hub : {"docker.io", "https://index.docker.io/v1/", "registry-1.docker.io",
                          "https://Docker.io:443"}) {
    EXPECT_TRUE(Given(kHub, hub)) << hub;
    EXPECT_FALSE(Given(kMirror, hub)) << hub;
  }
  EXPECT_FALSE(Given(kHub, "https://other.example"));
  EXPECT_FALSE(Given(kHub, "https://mirror.example"));
  EXPECT_TRUE(Given(kMirror, "https://mirror.example"));
  EXPECT_FALSE(Given(kMirror, "https://mirror.example.evil"));
}

TEST(CredentialsFor, AuthText_Decoded) {
  const RegistryAuth auth{.auth = Base64Encode("user:pa:ss")};
  const auto c = CredentialsFor(kHub, "docker.io", &auth);
  ASSERT_TRUE(c);
  EXPECT_EQ(c->username, "user");
  EXPECT_EQ(c->password, "pa:ss");
}

TEST(CredentialsFor, AuthText_NotUserAndPassword_Error) {
  for (const std::string& text : {std::string("!!!"), Base64Encode("nocolon")}) {
    const RegistryAuth auth{.auth = text};
    const auto c = CredentialsFor(kHub, "docker.io", &auth);
    ASSERT_FALSE(c);
    EXPECT_EQ(c.error().message().find(text), std::string::npos) << "a secret in a message";
  }
}

TEST(CredentialsFor, None_Empty) {
  EXPECT_TRUE(CredentialsFor(kHub, "docker.io", nullptr)->empty());
}

}  // namespace
}  // namespace linnet::oci
