#include "linnet/base/ids.h"

#include <unordered_set>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet {
namespace {

TEST(Id, Generate_64HexDigitsEachDifferent) {
  std::unordered_set<PodId> seen;
  for (int i = 0; i < 100; ++i) {
    const PodId id = PodId::Generate();
    EXPECT_EQ(id.str().size(), 64U);
    EXPECT_EQ(id.str().find_first_not_of("0123456789abcdef"), std::string::npos);
    EXPECT_TRUE(seen.insert(id).second);
  }
}

TEST(Id, Parse_WhatIsSafeAsAFileName) {
  for (const std::string& text : {std::string("a"), std::string("0"), std::string("A_b.c-D9"),
                                  std::string("a..b"), std::string(128, 'x')}) {
    EXPECT_EQ(LN_ASSERT_OK(ContainerId::Parse(text)).str(), text);
  }
}

TEST(Id, Parse_Refuses) {
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("../x"), std::string("a/b"),
        std::string("-a"), std::string("_a"), std::string(".a"), std::string("a b"),
        std::string("a\nb"), std::string("a\0b", 3), std::string("ä"), std::string("a+b"),
        std::string(129, 'x')}) {
    LN_EXPECT_ERROR(ContainerId::Parse(text), Code::kInvalidArgument, "not an id");
  }
}

TEST(Id, Shortened) {
  EXPECT_EQ(LN_ASSERT_OK(PodId::Parse("0123456789abcdef")).shortened(), "0123456789abc");
  EXPECT_EQ(LN_ASSERT_OK(PodId::Parse("ab")).shortened(), "ab");
}

TEST(RandomHex, Length) {
  EXPECT_EQ(RandomHex(0), "");
  EXPECT_EQ(RandomHex(5).size(), 10U);
  EXPECT_NE(RandomHex(16), RandomHex(16));
}

}  // namespace
}  // namespace linnet
