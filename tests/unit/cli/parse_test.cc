#include "parse.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linnet::cli {
namespace {

using ::testing::HasSubstr;

TEST(ParsePort, HostAndPod_ReadsBoth) {
  const auto port = ParsePort("8080:80");
  ASSERT_TRUE(port);
  EXPECT_EQ(port->host, 8080);
  EXPECT_EQ(port->container, 80);
  EXPECT_EQ(port->protocol, "tcp");
  EXPECT_EQ(port->address, "");
}

TEST(ParsePort, AddressAndProtocol_ReadsAll) {
  const auto port = ParsePort("127.0.0.1:53:5353/UDP");
  ASSERT_TRUE(port);
  EXPECT_EQ(port->address, "127.0.0.1");
  EXPECT_EQ(port->host, 53);
  EXPECT_EQ(port->protocol, "udp");
}

TEST(ParsePort, Ipv6InBrackets_ReadsAddress) {
  const auto port = ParsePort("[fd00::1]:80:8080");
  ASSERT_TRUE(port);
  EXPECT_EQ(port->address, "fd00::1");
}

class BadPort : public ::testing::TestWithParam<const char*> {};
TEST_P(BadPort, IsRefusedWithTheText) {
  const auto port = ParsePort(GetParam());
  ASSERT_FALSE(port);
  EXPECT_TRUE(port.error().Is(Code::kInvalidArgument));
  EXPECT_THAT(port.error().message(), HasSubstr(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Texts, BadPort,
                         ::testing::Values("80", "0:80", "80:0", "65536:80", "80:x", "80:80/icmp",
                                           "nowhere:80:80", "80:80/", ":80"));

TEST(ParseVolume, Options_SetReadOnlyAndPropagation) {
  const auto volume = ParseVolume("/a:/b:rro");
  ASSERT_TRUE(volume);
  EXPECT_TRUE(volume->readonly);
  EXPECT_TRUE(volume->recursive);
  const auto slave = ParseVolume("/a:/b:ro,rslave");
  ASSERT_TRUE(slave);
  EXPECT_TRUE(slave->readonly);
  EXPECT_FALSE(slave->recursive);
  EXPECT_EQ(slave->propagation, "rslave");
}

TEST(ParseVolume, BadText_IsRefused) {
  for (const char* text : {"", "/a", "/a:", ":/b", "/a:b", "/a:/b:rx", "/a:/b:ro:x"})
    EXPECT_FALSE(ParseVolume(text)) << text;
}

TEST(ParseEnv, WithoutValue_TakesThisProcessesOne) {
  ASSERT_EQ(::setenv("LINNET_TEST_ENV", "here", 1), 0);
  const auto entry = ParseEnv("LINNET_TEST_ENV");
  ASSERT_TRUE(entry);
  ASSERT_TRUE(entry->has_value());
  EXPECT_EQ((*entry)->second, "here");
  ::unsetenv("LINNET_TEST_ENV");
  const auto none = ParseEnv("LINNET_TEST_ENV");
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->has_value());
}

TEST(ParseEnv, ValueWithEquals_KeepsIt) {
  const auto entry = ParseEnv("A=b=c");
  ASSERT_TRUE(entry);
  EXPECT_EQ((*entry)->first, "A");
  EXPECT_EQ((*entry)->second, "b=c");
}

TEST(ParseBytes, Units_AreBinary) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"4096", 4096},         {"64m", 64ULL << 20}, {"64M", 64ULL << 20},
      {"64MiB", 64ULL << 20}, {"1.5g", 3ULL << 29}, {"1kb", 1024}};
  for (const auto& [text, bytes] : cases) {
    const auto got = ParseBytes(text);
    ASSERT_TRUE(got) << text;
    EXPECT_EQ(*got, bytes) << text;
  }
}

TEST(ParseBytes, BadText_IsRefused) {
  for (const char* text : {"", "m", "-1", "0", "1x", "1e30", "nan", "64 m"})
    EXPECT_FALSE(ParseBytes(text)) << text;
}

TEST(ParseCpus, Fraction_IsMicrosecondsOfThePeriod) {
  const auto half = ParseCpus("0.5");
  ASSERT_TRUE(half);
  EXPECT_EQ(*half, 50'000);
  EXPECT_FALSE(ParseCpus("0"));
  EXPECT_FALSE(ParseCpus("0.001"));
  EXPECT_FALSE(ParseCpus("two"));
}

TEST(ParseSeconds, NumberOrDuration_IsWholeSeconds) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"0", 0}, {"10", 10}, {"1m30s", 90}, {"500ms", 1}};
  for (const auto& [text, seconds] : cases) {
    const auto got = ParseSeconds(text);
    ASSERT_TRUE(got) << text;
    EXPECT_EQ(*got, seconds) << text;
  }
  EXPECT_FALSE(ParseSeconds("soon"));
}

}  // namespace
}  // namespace linnet::cli
