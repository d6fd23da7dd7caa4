#include "plugins/bandwidth_conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

#include "netlink/traffic_control.h"

namespace linnet::network {
namespace {

Result<Bandwidth> Parse(const std::string& text) {
  const Json json = LN_TRY(ParseJson(text));
  return ParseBandwidth(JsonView(json, "$", KeyMatch::kIgnoreCase));
}
std::string ErrorOf(const std::string& text) {
  auto conf = Parse(text);
  return conf ? "" : conf.error().message();
}

TEST(BandwidthConf, OwnValuesWinOverTheRuntimes) {
  const auto both = LN_ASSERT_OK(Parse(
      R"({"ingressRate":8,"ingressBurst":16,"runtimeConfig":{"bandwidth":{"egressRate":1,"egressBurst":1}}})"));
  EXPECT_EQ(both.ingress_rate, 8U);
  EXPECT_EQ(both.egress_rate, 0U);
  const auto runtime =
      LN_ASSERT_OK(Parse(R"({"runtimeConfig":{"bandwidth":{"EgressRate":80,"EgressBurst":160}}})"));
  EXPECT_EQ(runtime.egress_rate, 80U) << "go-cni's spelling";
  EXPECT_EQ(runtime.egress_burst, 160U);
  EXPECT_TRUE(LN_ASSERT_OK(Parse("{}")).empty());
  EXPECT_TRUE(LN_ASSERT_OK(Parse(R"({"runtimeConfig":{"bandwidth":null}})")).empty());
}

TEST(BandwidthConf, RateAndBurstComeTogether) {
  EXPECT_EQ(ErrorOf(R"({"ingressRate":8})"), "if rate is set, burst must also be set");
  EXPECT_EQ(ErrorOf(R"({"egressBurst":8})"), "if burst is set, rate must also be set");
  EXPECT_EQ(ErrorOf(R"({"egressRate":8,"egressBurst":34359738360})"),
            "burst cannot be more than 4GB");
  EXPECT_EQ(ErrorOf(R"({"egressRate":8,"egressBurst":34359738359})"), "");
  EXPECT_THAT(ErrorOf(R"({"egressRate":-8,"egressBurst":8})"), ::testing::HasSubstr("egressRate"));
}

// Computed with upstream's plugin: utils.MustFormatHashWithPrefix(15, "bwp", network + container).
TEST(IfbName, IsUpstreams) {
  EXPECT_EQ(IfbName("", ""), "bwpcf83e1357eef");  // SHA-512 of nothing
  EXPECT_EQ(IfbName("net", "c1").size(), 15U);
  EXPECT_NE(IfbName("net", "c1"), IfbName("net", "c2"));
  EXPECT_NE(IfbName("net", "c1"), IfbName("net", "c1", "eth1"));
}

TEST(TokenBucket, ComputedAsUpstreamDoes) {
  const double ticks = TicksPerMicrosecond("000003e8 00000040 000f4240 3b9aca00\n");
  EXPECT_DOUBLE_EQ(ticks, 15.625);
  EXPECT_DOUBLE_EQ(TicksPerMicrosecond(""), 15.625);
  // 1 MB/s, 100 KB burst: 100 ms.
  const TokenBucket bucket = MakeTokenBucket(8'000'000, 800'000, ticks);
  EXPECT_EQ(bucket.rate_bytes, 1'000'000U);
  EXPECT_EQ(bucket.buffer_ticks, 1'562'500U);
  EXPECT_EQ(bucket.limit_bytes, 125'000U);
  const TokenBucket huge = MakeTokenBucket(8'000, 8ULL * 0xfffffffeU, ticks);
  EXPECT_EQ(huge.buffer_ticks, 0xffffffffU) << "not wrapped to a small one";
}

}  // namespace
}  // namespace linnet::network
