#include "linnet/base/text.h"

#include <cstdint>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ParseNumber, WholeTextOnly) {
  EXPECT_EQ(LN_ASSERT_OK(ParseNumber<int>("-12")), -12);
  EXPECT_EQ(LN_ASSERT_OK(ParseNumber<std::uint8_t>("255")), 255);
  for (const char* text : {"", " 1", "1 ", "+1", "1x", "x", "0x10", "1.5", "--1"}) {
    LN_EXPECT_ERROR(ParseNumber<int>(text), Code::kInvalidArgument, "not a number");
  }
  LN_EXPECT_ERROR(ParseNumber<unsigned>("-1"), Code::kInvalidArgument, "not a number");
}

TEST(ParseNumber, Range) {
  LN_EXPECT_ERROR(ParseNumber<std::uint8_t>("256"), Code::kInvalidArgument, "out of range");
  LN_EXPECT_ERROR(ParseNumber<std::int64_t>("9223372036854775808"), Code::kInvalidArgument,
                  "out of range");
  EXPECT_EQ(LN_ASSERT_OK(ParseNumber<std::int64_t>("-9223372036854775808")), INT64_MIN);
  EXPECT_EQ(LN_ASSERT_OK(ParseNumber<std::uint64_t>("18446744073709551615")), UINT64_MAX);
}

TEST(Split, KeepsEmptyParts) {
  EXPECT_THAT(Split("a,b", ','), ElementsAre("a", "b"));
  EXPECT_THAT(Split(",a,,b,", ','), ElementsAre("", "a", "", "b", ""));
  EXPECT_THAT(Split("", ','), ElementsAre(""));
}

TEST(SplitFields, ByRunsOfBlanks) {
  EXPECT_THAT(SplitFields("  a\t b\n"), ElementsAre("a", "b"));
  EXPECT_THAT(SplitFields(" \t "), IsEmpty());
  EXPECT_THAT(SplitFields(""), IsEmpty());
}

TEST(Join, Parts) {
  EXPECT_EQ(Join({}, ", "), "");
  EXPECT_EQ(Join({"a"}, ", "), "a");
  EXPECT_EQ(Join({"a", "", "b"}, ", "), "a, , b");
  EXPECT_EQ(Join({"x", "x"}, "-"), "x-x");
}

TEST(Trim, BothEnds) {
  EXPECT_EQ(Trim(" \t\r\n\v\fa b "), "a b");
  EXPECT_EQ(Trim("   "), "");
  EXPECT_EQ(Trim(""), "");
}

TEST(Case, AsciiOnly) {
  EXPECT_EQ(ToLower("ABC-xyz-Ä"), "abc-xyz-Ä");
  EXPECT_EQ(ToUpper("ABC-xyz-ä"), "ABC-XYZ-ä");
}

TEST(Hex, Bytes) { EXPECT_EQ(Hex(std::string("\x00\x7f\xff", 3)), "007fff"); }

TEST(Base64, RoundTrip) {
  // RFC 4648, section 10.
  for (const auto& [plain, coded] :
       std::initializer_list<std::pair<std::string, std::string>>{{"", ""},
                                                                  {"f", "Zg=="},
                                                                  {"fo", "Zm8="},
                                                                  {"foo", "Zm9v"},
                                                                  {"foob", "Zm9vYg=="},
                                                                  {"fooba", "Zm9vYmE="},
                                                                  {"foobar", "Zm9vYmFy"}}) {
    EXPECT_EQ(Base64Encode(plain), coded);
    EXPECT_EQ(LN_ASSERT_OK(Base64Decode(coded)), plain);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(LN_ASSERT_OK(Base64Decode(Base64Encode(all))), all);
}

TEST(Base64, UrlAlphabetAndNoPadding) {
  EXPECT_EQ(LN_ASSERT_OK(Base64Decode("_-8")), "\xff\xef");
  EXPECT_EQ(LN_ASSERT_OK(Base64Decode("/+8=")), "\xff\xef");
}

TEST(Base64, Nonsense) {
  for (const char* text : {"a", "Zm9v\n", "Zm9v Zg", "Z=m9", "Zm9*"})
    LN_EXPECT_ERROR(Base64Decode(text), Code::kInvalidArgument, "base64");
}

TEST(FormatBytes, Units) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(12'900'000), "12.3 MiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16384.0 PiB");
}

}  // namespace
}  // namespace linnet
