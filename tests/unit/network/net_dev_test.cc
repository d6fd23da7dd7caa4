#include "net_dev.h"

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::network {
namespace {

constexpr const char* kHeadings =
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop "
    "fifo colls carrier compressed\n";

TEST(NetDev, EveryColumn) {
  const auto all = LN_ASSERT_OK(
      ParseNetDev(std::string(kHeadings) +
                  "    lo:     100       2    0    0    0     0          0         0      100      "
                  " 2    0    0    0     0       0          0\n"
                  "  eth0: 18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"));
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].name, "lo");
  EXPECT_EQ(all[0].tx_bytes, 100U);
  const InterfaceCounters& eth0 = all[1];
  EXPECT_EQ(eth0.name, "eth0");
  EXPECT_EQ(eth0.rx_bytes, 18446744073709551615U);
  EXPECT_EQ(eth0.rx_packets, 2U);
  EXPECT_EQ(eth0.rx_errors, 3U);
  EXPECT_EQ(eth0.rx_dropped, 4U);
  EXPECT_EQ(eth0.tx_bytes, 9U);
  EXPECT_EQ(eth0.tx_packets, 10U);
  EXPECT_EQ(eth0.tx_errors, 11U);
  EXPECT_EQ(eth0.tx_dropped, 12U);
}

TEST(NetDev, NamesAsOldKernelsAllowThem_AndFullColumns) {
  const auto all = LN_ASSERT_OK(
      ParseNetDev(std::string(kHeadings) + "a:b:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"));
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].name, "a:b");
  EXPECT_EQ(all[0].rx_bytes, 1U);
}

TEST(NetDev, NothingAndGarbage) {
  EXPECT_TRUE(LN_ASSERT_OK(ParseNetDev("")).empty());
  EXPECT_TRUE(LN_ASSERT_OK(ParseNetDev(kHeadings)).empty());
  LN_EXPECT_ERROR(ParseNetDev(std::string(kHeadings) + "eth0: 1 2 3\n"), Code::kDataLoss,
                  "lacks columns");
  LN_EXPECT_ERROR(ParseNetDev(std::string(kHeadings) + "no colon\n"), Code::kDataLoss,
                  "lacks columns");
}

}  // namespace
}  // namespace linnet::network
