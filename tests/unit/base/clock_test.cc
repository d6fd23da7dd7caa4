#include "linnet/base/clock.h"

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet {
namespace {

using namespace std::chrono_literals;

TEST(FormatRfc3339Nano, Instants) {
  EXPECT_EQ(FormatRfc3339Nano(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(FormatRfc3339Nano(1'767'323'045'123'456'789), "2026-01-02T03:04:05.123456789Z");
  EXPECT_EQ(FormatRfc3339Nano(-1), "1969-12-31T23:59:59.999999999Z");
  EXPECT_EQ(FormatRfc3339Nano(951'782'400'000'000'000), "2000-02-29T00:00:00.000000000Z");
}

TEST(ParseDuration, AsGo) {
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("250ms")), 250ms);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("10s")), 10s);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("1m30s")), 90s);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("2h")), 2h);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("1.5h")), 90min);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration(".5s")), 500ms);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("1h1m1s1ms1us1ns")), 1h + 1min + 1s + 1ms + 1us + 1ns);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("3µs")), 3us);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("3\u03bcs")), 3us) << "the Greek letter, which Go takes too";
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("0")), 0ns);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("-1.5s")), -1500ms);
  EXPECT_EQ(LN_ASSERT_OK(ParseDuration("+5s")), 5s);
}

TEST(ParseDuration, Refuses) {
  for (const char* text : {"", "-", "10", "s", "1x", "1 s", "1s ", "1..5s", ".s", "1s2", "--1s",
                           "1d", "1e3s", "inf", "nans", "9999999999h"}) {
    LN_EXPECT_ERROR(ParseDuration(text), Code::kInvalidArgument, "duration");
  }
}

TEST(BootId, LooksLikeOne) { EXPECT_EQ(LN_ASSERT_OK(BootId()).size(), 36U); }

TEST(SystemClock, GoesOn) {
  const SystemClock clock;
  const auto a = clock.Now();
  EXPECT_LE(a, clock.Now());
  EXPECT_GT(clock.WallNanos(), 1'700'000'000'000'000'000);
}

}  // namespace
}  // namespace linnet
