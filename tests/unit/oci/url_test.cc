#include "registry/url.h"

#include <gtest/gtest.h>

namespace linnet::oci {
namespace {

TEST(Url, Parse_Parts) {
  const auto u = Url::Parse("https://Registry.Example:8443/a/b?x=1&y=2");
  ASSERT_TRUE(u) << u.error().message();
  EXPECT_EQ(u->scheme, "https");
  EXPECT_EQ(u->host, "registry.example");
  EXPECT_EQ(u->port, 8443);
  EXPECT_EQ(u->path, "/a/b");
  EXPECT_EQ(u->query, "x=1&y=2");
  EXPECT_EQ(u->str(), "https://registry.example:8443/a/b?x=1&y=2");
}

TEST(Url, Authority_DefaultPortLeftOut) {
  EXPECT_EQ(Url::Parse("https://a:443/")->authority(), "a");
  EXPECT_EQ(Url::Parse("http://a/")->port, 80);
  EXPECT_EQ(Url::Parse("http://[::1]:5000/v2")->str(), "http://[::1]:5000/v2");
}

TEST(Url, Parse_WhatIsNotForRegistries_Refused) {
  for (const char* text : {"", "file:///etc/passwd", "ftp://a/", "https://user:pw@a/", "https://",
                           "a b", "gopher://x", "//x"}) {
    EXPECT_FALSE(Url::Parse(text)) << text;
  }
}

TEST(Url, Resolve_RelativeAndAbsolute) {
  const Url base = *Url::Parse("https://a.example/v2/x/blobs/y?ns=z");
  EXPECT_EQ(base.Resolve("/blob?sig=1")->str(), "https://a.example/blob?sig=1");
  EXPECT_EQ(base.Resolve("other")->str(), "https://a.example/v2/x/blobs/other");
  EXPECT_EQ(base.Resolve("//b.example/c")->str(), "https://b.example/c");
  EXPECT_EQ(base.Resolve("http://c.example:99/d")->authority(), "c.example:99");
  EXPECT_FALSE(base.Resolve(""));
  EXPECT_FALSE(base.Resolve("file:///etc/shadow"));
  EXPECT_FALSE(base.Resolve("https://u:p@x/"));
}

TEST(Url, SameOrigin_SchemeHostAndPort) {
  const Url a = *Url::Parse("https://a/x");
  EXPECT_TRUE(a.SameOrigin(*Url::Parse("https://A:443/y")));
  EXPECT_FALSE(a.SameOrigin(*Url::Parse("http://a/x")));
  EXPECT_FALSE(a.SameOrigin(*Url::Parse("https://a:8443/x")));
  EXPECT_FALSE(a.SameOrigin(*Url::Parse("https://b/x")));
}

TEST(IsLoopbackHost, Table) {
  for (const char* host : {"localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"})
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  for (const char* host : {"localhost.example", "128.0.0.1", "127.example", "[::2]", ""})
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
}

TEST(UrlEncode, ReservedAndBinary) {
  EXPECT_EQ(UrlEncode("repository:a/b:pull \xff~"), "repository%3Aa%2Fb%3Apull%20%FF~");
}

}  // namespace
}  // namespace linnet::oci
