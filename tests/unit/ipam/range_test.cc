#include "linnet/ipam/range.h"

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::ipam {
namespace {

Range Make(const std::string& subnet, const std::string& start = "", const std::string& end = "",
           const std::string& gw = "") {
  auto range =
      Range::Make({.subnet = subnet, .range_start = start, .range_end = end, .gateway = gw});
  EXPECT_TRUE(range.has_value()) << range.error().message();
  return *std::move(range);
}

RangeSet Set(std::vector<Range> ranges) {
  auto set = RangeSet::Make(std::move(ranges));
  EXPECT_TRUE(set.has_value()) << set.error().message();
  return *std::move(set);
}

std::vector<std::string> Round(const RangeSet& set, const std::optional<IpAddress>& last) {
  RoundRobin round(set, last);
  std::vector<std::string> out;
  while (const auto next = round.Next()) out.push_back(next->ip.str());
  return out;
}

TEST(Range, Defaults_AreThoseOfHostLocal) {
  const Range v4 = Make("10.1.0.0/24");
  EXPECT_EQ(v4.start().str(), "10.1.0.1");
  EXPECT_EQ(v4.end().str(), "10.1.0.254");
  EXPECT_EQ(v4.gateway().str(), "10.1.0.1");
  EXPECT_EQ(v4.Capacity(), 253U);
  const Range v6 = Make("fd00::/126");
  EXPECT_EQ(v6.start().str(), "fd00::1");
  EXPECT_EQ(v6.end().str(), "fd00::3");
  EXPECT_EQ(v6.Capacity(), 2U);
}

TEST(Range, Invalid_IsRefusedWithTheReason) {
  const struct {
    RangeSpec spec;
    const char* why;
  } cases[] = {
      {{"10.1.0.0/31", "", "", ""}, "too small to allocate from"},
      {{"10.1.0.1/32", "", "", ""}, "too small to allocate from"},
      {{"fd00::/127", "", "", ""}, "too small to allocate from"},
      {{"10.1.0.5/24", "", "", ""}, "the network address is 10.1.0.0"},
      {{"10.1.0.0/24", "10.2.0.1", "", ""}, "rangeStart 10.2.0.1 is not in network 10.1.0.0/24"},
      {{"10.1.0.0/24", "", "fd00::1", ""}, "rangeEnd fd00::1 is not in network"},
      {{"10.1.0.0/24", "", "", "10.1.1.1"}, "gateway 10.1.1.1 is not in network"},
      {{"10.1.0.0/24", "10.1.0.9", "10.1.0.8", ""}, "is before rangeStart"},
      {{"nonsense", "", "", ""}, "subnet"},
  };
  for (const auto& c : cases) {
    const auto range = Range::Make(c.spec);
    ASSERT_FALSE(range.has_value()) << c.why;
    EXPECT_EQ(range.error().code(), Code::kInvalidArgument);
    EXPECT_NE(range.error().message().find(c.why), std::string::npos) << range.error().message();
  }
}

TEST(RangeSet, OverlapAndMixedFamilies_AreRefused) {
  EXPECT_FALSE(RangeSet::Make({}).has_value());
  EXPECT_FALSE(RangeSet::Make({Make("10.1.0.0/24"), Make("fd00::/64")}).has_value());
  EXPECT_FALSE(RangeSet::Make({Make("10.1.0.0/24"), Make("10.1.0.0/16")}).has_value());
  const auto disjoint =
      CheckDisjoint({Set({Make("10.1.0.0/24")}), Set({Make("10.2.0.0/24"), Make("10.1.0.0/25")})});
  ASSERT_FALSE(disjoint.has_value());
  EXPECT_EQ(disjoint.error().message(), "range set 0 overlaps with 1");
}

TEST(RoundRobin, StartsAfterLast_WrapsAndSkipsGateways) {
  const RangeSet set = Set(
      {Make("10.1.0.0/29"), Make("10.2.0.0/30")});  // .1–.6 with gateway .1; .1–.2 with gateway .1
  EXPECT_EQ(Round(set, std::nullopt),
            (std::vector<std::string>{"10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6",
                                      "10.2.0.2"}));
  EXPECT_EQ(Round(set, *IpAddress::Parse("10.1.0.5")),
            (std::vector<std::string>{"10.1.0.6", "10.2.0.2", "10.1.0.2", "10.1.0.3", "10.1.0.4",
                                      "10.1.0.5"}));
  EXPECT_EQ(Round(set, *IpAddress::Parse("10.2.0.2")).front(), "10.1.0.2");
  EXPECT_EQ(Round(set, *IpAddress::Parse("192.0.2.1")).front(), "10.1.0.2")
      << "not of this set: from its start";
}

TEST(RoundRobin, OnlyTheGateway_GivesNothing) {
  EXPECT_TRUE(Round(Set({Make("10.1.0.0/30", "10.1.0.1", "10.1.0.1")}), std::nullopt).empty());
}

TEST(Range, Capacity_OfAHugeRangeIsCapped) {
  EXPECT_GE(Make("fd00::/48").Capacity(), std::uint64_t{1} << 62);
  EXPECT_GE(Set({Make("fd00::/48"), Make("fd01::/48")}).Capacity(), std::uint64_t{1} << 62);
}

}  // namespace
}  // namespace linnet::ipam
