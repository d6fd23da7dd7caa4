#include "log_format.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace linnet::runtime::keeper {
namespace {

struct Collected : LogSink {
  Collected()
      : LogSink{[](LogSink* self, const iovec* parts, int count) {
          for (int i = 0; i < count; ++i) {
            static_cast<Collected*>(self)->text.append(static_cast<const char*>(parts[i].iov_base),
                                                       parts[i].iov_len);
          }
          ++static_cast<Collected*>(self)->writes;
        }} {}
  std::string text;
  int writes = 0;
};

constexpr std::int64_t kTime = 1767323045123456789;  // 2026-01-02T03:04:05.123456789Z
constexpr char kOut[] = "2026-01-02T03:04:05.123456789Z stdout ";

std::string Stamp(std::int64_t nanos) {
  char text[kStampSize];
  FormatStamp(nanos, text);
  return std::string(text, kStampSize);
}

TEST(FormatStamp, Dates) {
  EXPECT_EQ(Stamp(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(Stamp(kTime), "2026-01-02T03:04:05.123456789Z");
  EXPECT_EQ(Stamp(951782400LL * 1000000000), "2000-02-29T00:00:00.000000000Z");
  EXPECT_EQ(Stamp(4107542399LL * 1000000000 + 999999999), "2100-02-28T23:59:59.999999999Z");
  EXPECT_EQ(Stamp(4107542400LL * 1000000000), "2100-03-01T00:00:00.000000000Z");
  EXPECT_EQ(Stamp(-5), "1970-01-01T00:00:00.000000000Z");
}

// Every day of 200 years against the C library.
TEST(FormatStamp, AgreesWithGmtime) {
  for (std::int64_t day = 0; day < 365 * 200; ++day) {
    const time_t seconds = day * 86400 + day % 86400;
    tm parts = {};
    gmtime_r(&seconds, &parts);
    char expected[32];
    strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S", &parts);
    ASSERT_EQ(Stamp(std::int64_t{seconds} * 1000000000).substr(0, 19), expected);
  }
}

TEST(LogStream, WholeLines) {
  Collected sink;
  LogStream stream(LogStream::Name::kStdout);
  stream.Feed("a\n\nb c\r\n", 8, kTime, &sink);
  EXPECT_EQ(sink.text, std::string(kOut) + "F a\n" + kOut + "F \n" + kOut + "F b c\r\n");
  EXPECT_EQ(sink.writes, 1);
}

TEST(LogStream, LineInPieces_IsOne) {
  Collected sink;
  LogStream stream(LogStream::Name::kStderr);
  for (const char c : std::string("hello\nrest")) stream.Feed(&c, 1, kTime, &sink);
  EXPECT_EQ(sink.text, "2026-01-02T03:04:05.123456789Z stderr F hello\n");
  sink.text.clear();
  stream.Finish(kTime, &sink);
  EXPECT_EQ(sink.text, "2026-01-02T03:04:05.123456789Z stderr P rest\n");
  sink.text.clear();
  stream.Finish(kTime, &sink);
  EXPECT_EQ(sink.text, "");
}

TEST(LogStream, ExactlyTheLimit_IsWhole) {
  Collected sink;
  LogStream stream(LogStream::Name::kStdout);
  const std::string line(kMaxLogLine, 'x');
  stream.Feed((line + "\n").data(), line.size() + 1, kTime, &sink);
  EXPECT_EQ(sink.text, std::string(kOut) + "F " + line + "\n");
  sink.text.clear();
  stream.Feed((line + "y\n").data(), line.size() + 2, kTime, &sink);
  EXPECT_EQ(sink.text, std::string(kOut) + "P " + line + "\n" + kOut + "F y\n");
}

TEST(LogStream, TimeNeverGoesBack) {
  Collected sink;
  LogStream stream(LogStream::Name::kStdout);
  stream.Feed("a\n", 2, kTime, &sink);
  stream.Feed("b\n", 2, kTime - 1000000000, &sink);
  EXPECT_EQ(sink.text, std::string(kOut) + "F a\n" + kOut + "F b\n");
}

// However the bytes arrive: joined again, they are what was written.
TEST(LogStream, AnyCut_JoinsToTheSame) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string input;
    while (input.size() < 60000) {
      input.append(random() % (random() % 4 == 0 ? 40000 : 90),
                   static_cast<char>('a' + random() % 26));
      if (random() % 8 != 0) input += '\n';
    }
    Collected sink;
    LogStream stream(LogStream::Name::kStdout);
    for (std::size_t at = 0; at < input.size();) {
      const std::size_t size =
          std::min<std::size_t>(input.size() - at, 1 + random() % (random() % 3 == 0 ? 32768 : 50));
      stream.Feed(input.data() + at, size, kTime, &sink);
      at += size;
    }
    stream.Finish(kTime, &sink);
    std::string joined;
    for (std::size_t at = 0; at < sink.text.size();) {
      const std::size_t end = sink.text.find('\n', at);
      ASSERT_EQ(sink.text.compare(at, sizeof kOut - 1, kOut), 0);
      const std::string content =
          sink.text.substr(at + sizeof kOut + 1, end - at - sizeof kOut - 1);
      ASSERT_LE(content.size(), kMaxLogLine);
      joined += content;
      const char tag = sink.text[at + sizeof kOut - 1];
      ASSERT_TRUE(tag == 'F' || tag == 'P');
      if (tag == 'F') joined += '\n';
      at = end + 1;
    }
    ASSERT_EQ(joined, input);
  }
}

}  // namespace
}  // namespace linnet::runtime::keeper
