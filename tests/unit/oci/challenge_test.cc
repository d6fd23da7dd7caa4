#include "registry/challenge.h"

#include <gtest/gtest.h>

namespace linnet::oci {
namespace {

TEST(ParseChallenges, Bearer_ParametersInQuotes) {
  const auto c = ParseChallenges(
      {R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push")"});
  ASSERT_EQ(c.size(), 1U);
  EXPECT_EQ(c[0].scheme, "bearer");
  EXPECT_EQ(c[0].params.at("realm"), "https://auth.docker.io/token");
  EXPECT_EQ(c[0].params.at("service"), "registry.docker.io");
  EXPECT_EQ(c[0].params.at("scope"), "repository:a/b:pull,push");
}

TEST(ParseChallenges, SeveralInOneHeader_Separated) {
  const auto c = ParseChallenges({R"(Basic realm="a, b", Bearer realm="https://x" , service=y)"});
  ASSERT_EQ(c.size(), 2U);
  EXPECT_EQ(c[0].scheme, "basic");
  EXPECT_EQ(c[0].params.at("realm"), "a, b");
  EXPECT_EQ(c[1].scheme, "bearer");
  EXPECT_EQ(c[1].params.at("service"), "y");
}

TEST(ParseChallenges, SeveralHeaders_InOrder) {
  const auto c = ParseChallenges({"Negotiate", "Basic realm=x"});
  ASSERT_EQ(c.size(), 2U);
  EXPECT_EQ(c[0].scheme, "negotiate");
  EXPECT_EQ(c[1].params.at("realm"), "x");
}

TEST(ParseChallenges, Token68_Skipped) {
  const auto c = ParseChallenges({"Negotiate YIIabc/+==, Basic realm=x"});
  ASSERT_EQ(c.size(), 2U);
  EXPECT_TRUE(c[0].params.empty());
  EXPECT_EQ(c[1].scheme, "basic");
}

TEST(ParseChallenges, CaseBlanksAndEscapes_Understood) {
  const auto c = ParseChallenges({"  BEARER  Realm = \"a\\\"b\" ,, SERVICE\t=\tx"});
  ASSERT_EQ(c.size(), 1U);
  EXPECT_EQ(c[0].scheme, "bearer");
  EXPECT_EQ(c[0].params.at("realm"), "a\"b");
  EXPECT_EQ(c[0].params.at("service"), "x");
}

TEST(ParseChallenges, Garbage_NeverHangsOrThrows) {
  for (const std::string& text :
       {std::string(), std::string("="), std::string("=\"x"), std::string("Bearer realm="),
        std::string("Bearer realm=\"unterminated"), std::string("Bearer realm=\"x\\"),
        std::string(",,,,"), std::string("\xff\xfe, Basic"), std::string(1U << 20, '"'),
        std::string(1U << 20, ','), std::string("a=b, c=d")}) {
    EXPECT_LE(ParseChallenges({text}).size(), 16U);
  }
  EXPECT_TRUE(ParseChallenges({"realm=x, service=y"}).empty());
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "Basic, ";
  EXPECT_EQ(ParseChallenges({many}).size(), 16U);
}

}  // namespace
}  // namespace linnet::oci
