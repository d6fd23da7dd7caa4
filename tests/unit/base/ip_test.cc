#include "linnet/base/ip.h"

#include <set>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet {
namespace {

IpAddress Ip(std::string_view text) {
  auto ip = IpAddress::Parse(text);
  EXPECT_TRUE(ip.has_value()) << text;
  return ip ? *ip : IpAddress::V4(0);
}
Cidr Net(std::string_view text) {
  auto cidr = Cidr::Parse(text);
  EXPECT_TRUE(cidr.has_value()) << text;
  return cidr ? *cidr : Cidr(IpAddress::V4(0), 0);
}

TEST(IpAddress, Parse_BothFamilies) {
  EXPECT_TRUE(Ip("10.1.2.3").is_v4());
  EXPECT_EQ(Ip("10.1.2.3").v4_host_order(), 0x0a010203U);
  EXPECT_EQ(Ip("10.1.2.3").bits(), 32);
  EXPECT_EQ(Ip("fd00::1").family(), Family::kV6);
  EXPECT_EQ(Ip("fd00::1").bytes().size(), 16U);
}

TEST(IpAddress, Parse_MappedIsV4) {
  EXPECT_EQ(Ip("::ffff:1.2.3.4"), Ip("1.2.3.4"));
  EXPECT_EQ(Ip("::ffff:102:304").str(), "1.2.3.4");
}

TEST(IpAddress, Parse_Refuses) {
  for (const std::string& text :
       {std::string(), std::string("1.2.3"), std::string("1.2.3.256"), std::string("01.2.3.4"),
        std::string("1.2.3.4 "), std::string("1.2.3.4/8"), std::string("fe80::1%eth0"),
        std::string("::g"), std::string("1:2"), std::string("1.2.3.4\0x", 9),
        std::string("::1\0", 4)}) {
    LN_EXPECT_ERROR(IpAddress::Parse(text), Code::kInvalidArgument, "");
  }
}

TEST(IpAddress, Str_Rfc5952) {
  EXPECT_EQ(Ip("FD00:0:0:0:0:0:0:1").str(), "fd00::1");
  EXPECT_EQ(Ip("2001:db8:0:1:1:1:1:1").str(), "2001:db8:0:1:1:1:1:1");
  EXPECT_EQ(Ip("::").str(), "::");
  EXPECT_EQ(IpAddress::V4(0x7f000001).str(), "127.0.0.1");
}

TEST(IpAddress, FromBytes_4Or16) {
  const std::array<std::uint8_t, 4> four = {1, 2, 3, 4};
  EXPECT_EQ(LN_ASSERT_OK(IpAddress::FromBytes(four)), Ip("1.2.3.4"));
  std::array<std::uint8_t, 16> sixteen{};
  sixteen[15] = 1;
  EXPECT_EQ(LN_ASSERT_OK(IpAddress::FromBytes(sixteen)), Ip("::1"));
  EXPECT_EQ(IpAddress::V6(sixteen), Ip("::1"));
  const std::array<std::uint8_t, 5> five{};
  LN_EXPECT_ERROR(IpAddress::FromBytes(five), Code::kInvalidArgument, "5");
}

TEST(IpAddress, Arithmetic) {
  EXPECT_EQ(Ip("10.0.0.255").Next(), Ip("10.0.1.0"));
  EXPECT_EQ(Ip("10.0.1.0").Previous(), Ip("10.0.0.255"));
  EXPECT_EQ(Ip("fd00::ffff").Next(), Ip("fd00::1:0"));
  EXPECT_EQ(Ip("fd00::1:0").Previous(), Ip("fd00::ffff"));
  EXPECT_EQ(Ip("10.0.0.0").Plus(0x10001), Ip("10.1.0.1"));
  EXPECT_EQ(Ip("fd00::").Plus(UINT64_MAX), Ip("fd00::ffff:ffff:ffff:ffff"));
  EXPECT_EQ(Ip("fd00::1").Plus(UINT64_MAX), Ip("fd00::1:0:0:0:0"));
  EXPECT_EQ(Ip("1.2.3.4").Plus(0), Ip("1.2.3.4"));
}

TEST(IpAddress, Arithmetic_EndsWithTheFamily) {
  EXPECT_EQ(Ip("255.255.255.255").Next(), std::nullopt);
  EXPECT_EQ(Ip("0.0.0.0").Previous(), std::nullopt);
  EXPECT_EQ(Ip("0.0.0.1").Plus(0xffffffff), std::nullopt);
  EXPECT_EQ(Ip("0.0.0.0").Plus(0xffffffff), Ip("255.255.255.255"));
  EXPECT_EQ(Ip("0.0.0.0").Plus(1ULL << 32), std::nullopt);
  EXPECT_EQ(Ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").Next(), std::nullopt);
  EXPECT_EQ(Ip("::").Previous(), std::nullopt);
}

TEST(IpAddress, Kinds) {
  EXPECT_TRUE(Ip("0.0.0.0").IsUnspecified());
  EXPECT_TRUE(Ip("::").IsUnspecified());
  EXPECT_FALSE(Ip("::1").IsUnspecified());
  EXPECT_TRUE(Ip("127.9.9.9").IsLoopback());
  EXPECT_TRUE(Ip("::1").IsLoopback());
  EXPECT_FALSE(Ip("::2").IsLoopback());
}

TEST(IpAddress, Order) {
  EXPECT_LT(Ip("9.255.255.255"), Ip("10.0.0.0"));
  EXPECT_LT(Ip("255.255.255.255"), Ip("::1"));
  EXPECT_EQ(std::set<IpAddress>({Ip("1.1.1.1"), Ip("1.1.1.1"), Ip("101:101::")}).size(), 2U);
}

TEST(Cidr, ParseAndStr) {
  EXPECT_EQ(Net("10.1.0.5/24").str(), "10.1.0.5/24");
  EXPECT_EQ(Net("10.1.0.5/24").Network().str(), "10.1.0.0/24");
  EXPECT_EQ(Net("fd00:1::5/64").Network().str(), "fd00:1::/64");
  for (const char* text :
       {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/-0", "10.0.0.0/8/8", "/8",
        "fd00::/129", "x/8", "10.0.0.0/ 8", "10.0.0.0/+8"}) {
    LN_EXPECT_ERROR(Cidr::Parse(text), Code::kInvalidArgument, "prefix");
  }
}

TEST(Cidr, Ends) {
  EXPECT_EQ(Net("10.1.2.3/22").First(), Ip("10.1.0.0"));
  EXPECT_EQ(Net("10.1.2.3/22").Last(), Ip("10.1.3.255"));
  EXPECT_EQ(Net("1.2.3.4/0").First(), Ip("0.0.0.0"));
  EXPECT_EQ(Net("1.2.3.4/0").Last(), Ip("255.255.255.255"));
  EXPECT_EQ(Net("1.2.3.4/32").Last(), Ip("1.2.3.4"));
  EXPECT_EQ(Net("fd00::/126").Last(), Ip("fd00::3"));
}

TEST(Cidr, Contains) {
  EXPECT_TRUE(Net("10.1.0.0/16").Contains(Ip("10.1.255.255")));
  EXPECT_FALSE(Net("10.1.0.0/16").Contains(Ip("10.2.0.0")));
  EXPECT_FALSE(Net("0.0.0.0/0").Contains(Ip("::1")));
  EXPECT_TRUE(Net("::/0").Contains(Ip("fd00::")));
}

TEST(Cidr, Overlaps) {
  EXPECT_TRUE(Net("10.0.0.0/8").Overlaps(Net("10.83.0.0/16")));
  EXPECT_TRUE(Net("10.83.0.0/16").Overlaps(Net("10.0.0.0/8")));
  EXPECT_FALSE(Net("10.83.0.0/16").Overlaps(Net("10.84.0.0/16")));
  EXPECT_FALSE(Net("0.0.0.0/0").Overlaps(Net("::/0")));
}

TEST(MacAddress, ParseAndStr) {
  EXPECT_EQ(LN_ASSERT_OK(MacAddress::Parse("02:00:5E:00:53:aB")).str(), "02:00:5e:00:53:ab");
  EXPECT_EQ(LN_ASSERT_OK(MacAddress::Parse("02-00-5e-00-53-01")).str(), "02:00:5e:00:53:01");
  for (const char* text : {"", "02:00:5e:00:53", "02:00:5e:00:53:0", "02:00:5e:00:53:0g",
                           "02:00:5e:00:53:01:02", "0200.5e00.5301..", "2:00:5e:00:53:001",
                           "02 00 5e 00 53 01", "+2:00:5e:00:53:01", "-2:00:5e:00:53:01"}) {
    LN_EXPECT_ERROR(MacAddress::Parse(text), Code::kInvalidArgument, "MAC");
  }
}

TEST(MacAddress, Random_LocalAndUnicast) {
  std::set<MacAddress> seen;
  for (int i = 0; i < 100; ++i) {
    const MacAddress mac = MacAddress::Random();
    EXPECT_EQ(mac.bytes()[0] & 3, 2);
    seen.insert(mac);
  }
  EXPECT_EQ(seen.size(), 100U);
}

}  // namespace
}  // namespace linnet
