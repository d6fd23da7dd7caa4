#include <gtest/gtest.h>

#include "follow.h"

namespace linnet::cli {
namespace {

TEST(ParseLogLine, WholeLine_HasItsParts) {
  const auto line = ParseLogLine("2026-01-02T03:04:05.000000001Z stdout F hello  world ");
  ASSERT_TRUE(line);
  EXPECT_EQ(line->time, "2026-01-02T03:04:05.000000001Z");
  EXPECT_EQ(line->text, "hello  world ");
  EXPECT_FALSE(line->error);
  EXPECT_FALSE(line->partial);
}

TEST(ParseLogLine, PartialOnStderr_SaysSo) {
  const auto line = ParseLogLine("2026-01-02T03:04:05Z stderr P half");
  ASSERT_TRUE(line);
  EXPECT_TRUE(line->error);
  EXPECT_TRUE(line->partial);
}

TEST(ParseLogLine, EmptyText_IsALine) {
  for (const char* text : {"t stdout F", "t stdout F "}) {
    const auto line = ParseLogLine(text);
    ASSERT_TRUE(line) << text;
    EXPECT_EQ(line->text, "");
  }
}

TEST(ParseLogLine, OtherText_IsNone) {
  for (const char* text : {"", "hello", "t stdin F x", "t stdout"})
    EXPECT_FALSE(ParseLogLine(text)) << text;
}

}  // namespace
}  // namespace linnet::cli
