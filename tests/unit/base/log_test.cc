#include "linnet/base/log.h"

#include <gtest/gtest.h>

#include "linnet/base/ids.h"
#include "linnet/base/json_view.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet {
namespace {

class Log : public ::testing::Test {
 protected:
  // The first logger writes to its file until the process ends; every test therefore has a file of
  // its own.
  void Use(log::Level level, log::Format format) {
    LN_EXPECT_OK(log::Init({.level = level, .format = format, .file = dir_ / "log"}));
  }
  std::vector<std::string> Lines() const {
    auto lines = Split(dir_.Read("log"), '\n');
    if (!lines.empty() && lines.back().empty()) lines.pop_back();
    return lines;
  }
  testing::TempDir dir_;
};

TEST_F(Log, Logfmt) {
  Use(log::Level::kInfo, log::Format::kLogfmt);
  log::Info("pod ready", {{"pod", LN_ASSERT_OK(PodId::Parse("p1"))},
                          {"ms", 12},
                          {"ok", true},
                          {"err", NotFound("no such thing")}});
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_TRUE(lines[0].starts_with("time=20")) << lines[0];
  EXPECT_TRUE(lines[0].ends_with(
      "Z level=info msg=\"pod ready\" pod=p1 ms=12 ok=true err=\"no such thing\""))
      << lines[0];
}

TEST_F(Log, OneEventIsOneLine) {
  Use(log::Level::kInfo, log::Format::kLogfmt);
  log::Warn("m", {{"a", "x\nlevel=error msg=forged"},
                  {"b", "\x1b[2J"},
                  {"c", ""},
                  {"d", "a=b"},
                  {"e", "q\"q"}});
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_TRUE(
      lines[0].ends_with(R"(a="x\nlevel=error msg=forged" b="\u001b[2J" c="" d="a=b" e="q\"q")"))
      << lines[0];
}

TEST_F(Log, Json) {
  Use(log::Level::kInfo, log::Format::kJson);
  log::Err("m", {{"bytes", "\xff"}, {"n", 1.5}});
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1U);
  const Json line = LN_ASSERT_OK(ParseJson(lines[0]));
  EXPECT_EQ(line["level"], "error");
  EXPECT_EQ(line["msg"], "m");
  EXPECT_EQ(line["bytes"], "\xef\xbf\xbd");
}

TEST_F(Log, Levels) {
  Use(log::Level::kWarn, log::Format::kLogfmt);
  EXPECT_FALSE(log::Enabled(log::Level::kInfo));
  log::Debug("no");
  log::Info("no");
  log::Warn("yes");
  EXPECT_EQ(Lines().size(), 1U);
  EXPECT_EQ(LN_ASSERT_OK(log::ParseLevel("debug")), log::Level::kDebug);
  LN_EXPECT_ERROR(log::ParseLevel("loud"), Code::kInvalidArgument, "loud");
}

TEST_F(Log, UnusableFile) {
  EXPECT_FALSE(log::Init(
      {.level = log::Level::kInfo, .format = log::Format::kLogfmt, .file = "/proc/no/log"}));
}

}  // namespace
}  // namespace linnet
