#include "bandwidth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::pods {
namespace {

using ::testing::HasSubstr;

TEST(Quantity, AllForms) {
  const std::pair<const char*, std::uint64_t> kCases[] = {{"0", 0},
                                                          {"1", 1},
                                                          {"10M", 10'000'000},
                                                          {"1k", 1000},
                                                          {"1.5Gi", 1610612736},
                                                          {"1e6", 1'000'000},
                                                          {"2E3", 2000},
                                                          {"1.5e+3", 1500},
                                                          {"0.1G", 100'000'000},
                                                          {".5k", 500},
                                                          {"1.", 1},
                                                          {"1500m", 2},
                                                          {"+7", 7},
                                                          {"1Ei", 1ULL << 60},
                                                          {"1E", 1'000'000'000'000'000'000},
                                                          {"1n", 1}};
  for (const auto& [text, value] : kCases)
    EXPECT_EQ(LN_ASSERT_OK(ParseQuantity(text)), value) << text;
  for (const char* text : {"", "M", "-1", "1 M", "1MM", "1K", "1.2.3", "0x10", "1e", "1e99", "ten",
                           "99999999999999999999", "20E"}) {
    EXPECT_FALSE(ParseQuantity(text)) << text;
  }
}

TEST(PodBandwidth, FromAnnotations) {
  const auto none = LN_ASSERT_OK(BandwidthOf({{"other", "10M"}}));
  EXPECT_FALSE(none.ingress || none.egress);
  const auto both = LN_ASSERT_OK(BandwidthOf(
      {{"kubernetes.io/ingress-bandwidth", "10M"}, {"kubernetes.io/egress-bandwidth", "1Gi"}}));
  EXPECT_EQ(both.ingress, 10'000'000U);
  EXPECT_EQ(both.egress, 1073741824U);
}

TEST(PodBandwidth, UnreasonableValuesAreRefusedByName) {
  const auto message = [](const char* value) {
    auto out = BandwidthOf({{"kubernetes.io/egress-bandwidth", value}});
    return out ? std::string() : out.error().message();
  };
  EXPECT_EQ(message("1k"), "");
  EXPECT_EQ(message("1P"), "");
  EXPECT_THAT(message("999"), HasSubstr("unreasonably small"));
  EXPECT_THAT(message("2P"), HasSubstr("unreasonably large"));
  EXPECT_THAT(message("fast"), HasSubstr("kubernetes.io/egress-bandwidth"));
}

}  // namespace
}  // namespace linnet::pods
