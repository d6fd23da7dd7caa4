#include "registry/hosts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Bases(const Result<std::vector<Endpoint>>& endpoints) {
  std::vector<std::string> out;
  if (!endpoints) return {endpoints.error().message()};
  for (const Endpoint& e : *endpoints) out.push_back(e.base.str());
  return out;
}

Result<std::vector<Endpoint>> Parse(std::string_view text,
                                    const std::string& domain = "docker.io") {
  return ParseHostsToml(text, "/nonexistent", domain);
}

class HostsDirectory : public ::testing::Test {
 protected:
  linnet::testing::TempDir dir_;
};

TEST(EndpointsOf, NothingConfigured_TheRegistryItself) {
  EXPECT_THAT(Bases(EndpointsOf("docker.io", "")), ElementsAre("https://registry-1.docker.io/v2"));
  EXPECT_THAT(Bases(EndpointsOf("r.example:5000", "/nonexistent")),
              ElementsAre("https://r.example:5000/v2"));
  EXPECT_THAT(Bases(EndpointsOf("localhost:5000", "")), ElementsAre("http://localhost:5000/v2"));
  EXPECT_THAT(Bases(EndpointsOf("127.0.0.1:5000", "")), ElementsAre("http://127.0.0.1:5000/v2"));
  EXPECT_THAT(Bases(EndpointsOf("[::1]:5000", "")), ElementsAre("http://[::1]:5000/v2"));
}

TEST(ParseHostsToml, Hosts_InTheOrderOfTheText) {
  const auto endpoints = Parse(R"(
server = "https://upstream.example"
[host."https://zulu.example"]
[host."http://mike.example:5000"]
  capabilities = ["pull"]
[host."https://alpha.example"]
)");
  EXPECT_THAT(Bases(endpoints),
              ElementsAre("https://zulu.example/v2", "http://mike.example:5000/v2",
                          "https://alpha.example/v2", "https://upstream.example/v2"));
  EXPECT_TRUE((*endpoints)[0].resolve);
  EXPECT_FALSE((*endpoints)[1].resolve);
  EXPECT_TRUE((*endpoints)[1].pull);
  EXPECT_FALSE((*endpoints)[2].upstream);
  EXPECT_TRUE((*endpoints)[3].upstream);
}

TEST(ParseHostsToml, NoServer_TheRegistryItselfIsLast) {
  EXPECT_THAT(Bases(Parse("[host.\"https://m\"]")),
              ElementsAre("https://m/v2", "https://registry-1.docker.io/v2"));
  EXPECT_THAT(Bases(Parse("", "r.example")), ElementsAre("https://r.example/v2"));
}

TEST(ParseHostsToml, Paths_V2IsAddedUnlessOverridden) {
  EXPECT_THAT(
      Bases(Parse(R"(
server = "https://up.example/"
[host."https://harbor.example/v2/proxy/"]
  override_path = true
[host."https://artifactory.example/api/docker"]
[host."https://has.example/v2"]
)")),
      ElementsAre("https://harbor.example/v2/proxy", "https://artifactory.example/api/docker/v2",
                  "https://has.example/v2", "https://up.example/v2"));
}

TEST(ParseHostsToml, NoScheme_HttpsOrLoopbackHttp) {
  EXPECT_THAT(
      Bases(Parse("server = \"up.example\"\n[host.\"localhost:5000\"]\n[host.\"m.example\"]")),
      ElementsAre("http://localhost:5000/v2", "https://m.example/v2", "https://up.example/v2"));
}

TEST(ParseHostsToml, Options_Read) {
  const auto endpoints = Parse(R"(
[host."https://m"]
  skip_verify = true
  client = [["c.pem", "/k.pem"], ["other", "other"]]
  dial_timeout = "3s"
  [host."https://m".header]
    x-one = "1"
    x-two = ["a", "b"]
)");
  ASSERT_TRUE(endpoints) << endpoints.error().message();
  const Endpoint& m = endpoints->front();
  EXPECT_TRUE(m.tls.skip_verify);
  EXPECT_EQ(m.tls.client_cert, "/nonexistent/c.pem");
  EXPECT_EQ(m.tls.client_key, "/k.pem");
  EXPECT_EQ(m.connect_timeout, std::chrono::seconds(3));
  EXPECT_THAT(m.headers, ElementsAre("x-one: 1", "x-two: a", "x-two: b"));
  EXPECT_FALSE(endpoints->back().tls.skip_verify);
}

TEST(ParseHostsToml, Invalid_NamesTheLine) {
  struct Bad {
    std::string text, part;
  };
  for (const Bad& b : std::vector<Bad>{
           {"server = 3", "line 1"},
           {"\n\nserver = \"ftp://x\"", "line 3"},
           {"\n[host.\"https://m\"]\n  ca = 7", "line 3"},
           {"[host.\"https://m\"]\nskip_verify = \"yes\"", "line 2"},
           {"[host.\"https://m\"]\ncapabilities = [1]", "line 2"},
           {"[host.\"https://m\"]\ndial_timeout = \"soon\"", "line 2"},
           {"[host.\"https://m\"]\nclient = [[1]]", "line 2"},
           {"[host.\"https://m\"]\n[host.\"https://m\".header]\n\"a b\" = \"x\"", "line 3"},
           {"[host.\"https://m\"]\n[host.\"https://m\".header]\na = \"x\\r\\nAuthorization: y\"",
            "line 3"},
           {"[host.\"https://user:pw@m\"]", "user name"},
           {"[host", "line 1"},
           {"host = 1", "line 1"},
       }) {
    const auto endpoints = Parse(b.text);
    ASSERT_FALSE(endpoints) << b.text;
    EXPECT_TRUE(endpoints.error().Is(Code::kInvalidArgument));
    EXPECT_THAT(endpoints.error().message(), HasSubstr(b.part)) << b.text;
  }
}

TEST(ParseHostsToml, CaMissing_NamesTheFile) {
  const auto endpoints = Parse("[host.\"https://m\"]\nca = \"ca.crt\"");
  ASSERT_FALSE(endpoints);
  EXPECT_THAT(endpoints.error().message(), HasSubstr("/nonexistent/ca.crt"));
}

TEST_F(HostsDirectory, Lookup_PortFormFirstThenPlainThenDefault) {
  dir_.Write("_default/hosts.toml", "[host.\"https://default.example\"]");
  EXPECT_THAT(Bases(EndpointsOf("r:5000", dir_.path())),
              ElementsAre("https://default.example/v2", "https://r:5000/v2"));
  dir_.Write("r:5000/hosts.toml", "[host.\"https://plain.example\"]");
  EXPECT_THAT(Bases(EndpointsOf("r:5000", dir_.path())),
              ElementsAre("https://plain.example/v2", "https://r:5000/v2"));
  dir_.Write("r_5000_/hosts.toml", "[host.\"https://port.example\"]");
  EXPECT_THAT(Bases(EndpointsOf("r:5000", dir_.path())),
              ElementsAre("https://port.example/v2", "https://r:5000/v2"));
  EXPECT_THAT(Bases(EndpointsOf("other", "/nonexistent:" + dir_.path())),
              ElementsAre("https://default.example/v2", "https://other/v2"));
}

TEST_F(HostsDirectory, Ca_RelativeToTheFile) {
  dir_.Write("r.example/ca.crt", "one");
  dir_.Write("r.example/more.crt", "two");
  dir_.Write("r.example/hosts.toml", "ca = [\"ca.crt\", \"more.crt\"]");
  const auto endpoints = EndpointsOf("r.example", dir_.path());
  ASSERT_TRUE(endpoints) << endpoints.error().message();
  EXPECT_EQ(endpoints->front().tls.ca_pem, "one\ntwo\n");
}

TEST_F(HostsDirectory, NoHostsToml_DockerStyleCertificates) {
  dir_.Write("r.example/a.crt", "authority");
  dir_.Write("r.example/client.cert", "");
  dir_.Write("r.example/client.key", "");
  const auto endpoints = EndpointsOf("r.example", dir_.path());
  ASSERT_TRUE(endpoints) << endpoints.error().message();
  EXPECT_EQ(endpoints->front().tls.ca_pem, "authority\n");
  EXPECT_EQ(endpoints->front().tls.client_key, JoinPath(dir_.path(), "r.example/client.key"));
}

TEST_F(HostsDirectory, Broken_ErrorNamesTheFile) {
  dir_.Write("r.example/hosts.toml", "server = [");
  const auto endpoints = EndpointsOf("r.example", dir_.path());
  ASSERT_FALSE(endpoints);
  EXPECT_THAT(endpoints.error().message(),
              HasSubstr(dir_.path() + "/r.example/hosts.toml: line 1"));
}

}  // namespace
}  // namespace linnet::oci
