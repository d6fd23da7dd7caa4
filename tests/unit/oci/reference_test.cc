#include "linnet/oci/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linnet::oci {
namespace {

using testing::HasSubstr;

const std::string kDigest =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Good {
  std::string text, domain, path, tag;
};

TEST(Reference, Parse_Valid_SplitsAsDistributionDoes) {
  const std::string long_path(255, 'a');
  for (const Good& g : std::vector<Good>{
           {"busybox", "docker.io", "library/busybox", "latest"},
           {"busybox:1.36", "docker.io", "library/busybox", "1.36"},
           {"a/b", "docker.io", "a/b", "latest"},
           {"docker.io/busybox", "docker.io", "library/busybox", "latest"},
           {"docker.io/a/b:c", "docker.io", "a/b", "c"},
           {"index.docker.io/busybox", "docker.io", "library/busybox", "latest"},
           {"localhost/x", "localhost", "x", "latest"},
           {"localhost:5000/x:y", "localhost:5000", "x", "y"},
           {"127.0.0.1:5000/a/b/c:1", "127.0.0.1:5000", "a/b/c", "1"},
           {"[::1]:5000/x", "[::1]:5000", "x", "latest"},
           {"[2001:db8::1]/x:1", "[2001:db8::1]", "x", "1"},
           {"registry.k8s.io/pause:3.9", "registry.k8s.io", "pause", "3.9"},
           {"Registry/x", "Registry", "x", "latest"},
           {"xn--n3h.example/x", "xn--n3h.example", "x", "latest"},
           {"host.example:443/a--b__c.d_e:_T.-", "host.example:443", "a--b__c.d_e", "_T.-"},
           {"a---b", "docker.io", "library/a---b", "latest"},
           {"0", "docker.io", "library/0", "latest"},
           {"localhost", "docker.io", "library/localhost", "latest"},
           {"test.com", "docker.io", "library/test.com", "latest"},
           {"test:5000", "docker.io", "library/test", "5000"},
           {"r.example/" + long_path, "r.example", long_path, "latest"},
           {"r.example/x:" + std::string(128, 'T'), "r.example", "x", std::string(128, 'T')},
       }) {
    const auto ref = Reference::Parse(g.text);
    ASSERT_TRUE(ref) << g.text << ": " << ref.error().message();
    EXPECT_EQ(ref->domain, g.domain) << g.text;
    EXPECT_EQ(ref->path, g.path) << g.text;
    EXPECT_EQ(ref->tag, g.tag) << g.text;
    EXPECT_FALSE(ref->digest) << g.text;
    EXPECT_EQ(ref->str(), g.domain + "/" + g.path + ":" + g.tag) << g.text;
  }
}

TEST(Reference, Parse_Digest_NoDefaultTag) {
  const auto ref = Reference::Parse("busybox@" + kDigest);
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->tag, "");
  EXPECT_EQ(ref->digest->str(), kDigest);
  EXPECT_EQ(ref->str(), "docker.io/library/busybox@" + kDigest);
}

TEST(Reference, Parse_TagAndDigest_TextDropsTheTag) {
  const auto ref = Reference::Parse("localhost:5000/a/b:v1@" + kDigest);
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->tag, "v1");
  EXPECT_EQ(ref->domain, "localhost:5000");
  EXPECT_EQ(ref->str(), "localhost:5000/a/b@" + kDigest);
}

TEST(Reference, Parse_OwnText_RoundTrips) {
  for (const std::string& text :
       {std::string("busybox"), "a/b:c@" + kDigest, std::string("[::1]:5000/x:y")}) {
    const auto once = Reference::Parse(text);
    ASSERT_TRUE(once);
    const auto twice = Reference::Parse(once->str());
    ASSERT_TRUE(twice);
    EXPECT_EQ(twice->str(), once->str());
  }
}

TEST(Reference, Parse_Invalid_NamesThePart) {
  struct Bad {
    std::string text, part;
  };
  for (const Bad& b : std::vector<Bad>{
           {"", "empty"},
           {"Busybox", "lower case"},
           {"a/Busybox", "lower case"},
           {"docker.io/", "empty"},
           {":latest", "empty"},
           {"busybox:", "tag is empty"},
           {"busybox:-x", "tag"},
           {"busybox:a b", "tag"},
           {"busybox:" + std::string(129, 'a'), "tag"},
           {"busybox@", "digest"},
           {"busybox@sha256:abc", "digest"},
           {"busybox@" + kDigest + "@" + kDigest, "digest"},
           {"@" + kDigest, "empty"},
           {"-a", "component"},
           {"a-", "component"},
           {"a..b", "component"},
           {"a___b", "component"},
           {"a._b", "component"},
           {"_a", "component"},
           {"a//b", "component"},
           {"/a", "component"},
           {"a/", "component"},
           {"../../etc/passwd", "host"},
           {"r.example/../x", "component"},
           {"a/../b", "component"},
           {"r..example/x", "host"},
           {"-r.example/x", "host"},
           {"r.example-/x", "host"},
           {"r.example:/x", "port"},
           {"r.example:99999/x", "port"},
           {"r.example:0/x", "port"},
           {"r.example:5000:1/x", "host"},
           {"r_x.example/x", "host"},
           {"[::1/x", "host"},
           {"[zz]:5000/x", "host"},
           {"[1.2.3.4]/x", "host"},
           {"https://r.example/x", "port"},
           {"user@r.example/x", "digest"},
           {"büsybox", "component"},
           {"busy\nbox", "component"},
           {std::string("busy\0box", 8), "component"},
           {kDigest.substr(7), "image id"},
           {std::string(256, 'a'), "255"},
           {std::string(10240, 'a'), "1024"},
       }) {
    const auto ref = Reference::Parse(b.text);
    ASSERT_FALSE(ref) << b.text;
    EXPECT_TRUE(ref.error().Is(Code::kInvalidArgument)) << b.text;
    EXPECT_THAT(ref.error().message(), HasSubstr(b.part)) << b.text;
    EXPECT_LT(ref.error().message().size(), 600U);
  }
}

TEST(Reference, Compare_IsByValue) {
  EXPECT_EQ(*Reference::Parse("busybox"), *Reference::Parse("docker.io/library/busybox:latest"));
  EXPECT_NE(*Reference::Parse("busybox:1"), *Reference::Parse("busybox:2"));
}

}  // namespace
}  // namespace linnet::oci
