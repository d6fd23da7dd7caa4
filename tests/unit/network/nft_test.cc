// Bytes of elements and batches, names of sets.
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <cstring>

#include <gtest/gtest.h>

#include "linnet/base/text.h"
#include "linnet/testing/result.h"

#include "nft/elements.h"
#include "nft/schema.h"

namespace linnet::network {
namespace {

IpAddress Ip(const char* text) { return *IpAddress::Parse(text); }

TEST(HostPortElement, PadsEachFieldToFourBytes) {
  const NftElement e =
      HostPortElement({.protocol = 6, .port = 8080, .pod = Ip("10.83.0.2"), .pod_port = 80});
  EXPECT_EQ(e.set, "hostport4");
  EXPECT_EQ(Hex(e.key), "060000001f900000");
  EXPECT_EQ(Hex(e.data), "0a53000200500000");
}

TEST(HostPortElement, OfAnAddressHasItsOwnMap) {
  const NftElement e = HostPortElement({.protocol = 17,
                                        .port = 53,
                                        .host_ip = Ip("2001:db8::1"),
                                        .pod = Ip("fd00::2"),
                                        .pod_port = 5353});
  EXPECT_EQ(e.set, "hostipport6");
  EXPECT_EQ(Hex(e.key),
            "20010db8000000000000000000000001"
            "11000000"
            "00350000");
  EXPECT_EQ(Hex(e.data),
            "fd000000000000000000000000000002"
            "14e90000");
}

TEST(HostPortElement, ReadsBackWhatItWrote) {
  for (const HostPort& port :
       {HostPort{.protocol = 132, .port = 65535, .pod = Ip("10.1.2.3"), .pod_port = 1},
        HostPort{.protocol = 6,
        .port = 1,
        .host_ip = Ip("127.0.0.1"),
        .pod = Ip("10.1.2.3"),
        .pod_port = 65535},
        HostPort{.protocol = 17,
        .port = 300,
        .host_ip = Ip("::1"),
        .pod = Ip("fd00::9"),
        .pod_port = 301}}) {
    const auto read = ParseHostPort(HostPortElement(port));
    ASSERT_TRUE(read);
    EXPECT_EQ(Describe(*read), Describe(port));
    EXPECT_EQ(read->pod, port.pod);
    EXPECT_EQ(read->pod_port, port.pod_port);
  }
  EXPECT_FALSE(ParseHostPort(HairpinElement(Ip("10.1.2.3"))));
  EXPECT_FALSE(ParseHostPort({.set = "hostport4", .key = "short", .data = "x"}));
}

TEST(Overlap, AnyAddressMeetsEveryAddress) {
  const HostPort any{.protocol = 6, .port = 80, .pod = Ip("10.0.0.1")};
  HostPort one = any, other = any, six = any, udp = any;
  one.host_ip = Ip("192.0.2.1");
  other.host_ip = Ip("192.0.2.2");
  six.pod = Ip("fd00::1");
  udp.protocol = 17;
  EXPECT_TRUE(Overlap(any, one));
  EXPECT_TRUE(Overlap(one, any));
  EXPECT_FALSE(Overlap(one, other));
  EXPECT_FALSE(Overlap(any, six));
  EXPECT_FALSE(Overlap(any, udp));
}

TEST(GuardElements, NameThePortFirst) {
  const MacAddress mac = *MacAddress::Parse("02:00:5e:00:53:01");
  EXPECT_TRUE(GuardElements(Guard::kNone, "lnx", mac, {}).empty());
  const auto elements = GuardElements(Guard::kRouted, "lnx", mac, {Ip("10.0.0.5"), Ip("fd00::5")});
  ASSERT_EQ(elements.size(), 5U);
  EXPECT_EQ(elements[0].set, "port_routed");
  EXPECT_EQ(Hex(elements[1].key),
            "6c6e7800000000000000000000000000"
            "02005e0053010000");
  EXPECT_EQ(Hex(elements[2].key),
            "6c6e7800000000000000000000000000"
            "0a000005");
  EXPECT_EQ(elements[3].set, "address6");
  EXPECT_EQ(Hex(elements[4].key).substr(32),
            "fe80000000000000"
            "00005efffe005301");
  EXPECT_EQ(GuardElements(Guard::kMac, "lnx", mac, {Ip("10.0.0.5")}).size(), 2U);
}

TEST(Sets, ElementsHaveTheLengthsOfTheirSets) {
  std::vector<NftElement> all =
      BridgeElements("linnet0", MacAddress({2, 0, 0, 0, 0, 1}), BridgeUse::kRouted);
  all.push_back(HairpinBridgeElement("cni0"));
  all.push_back(LocalnetElement("cni0"));
  for (const char* pod : {"10.83.0.2", "fd00::2"}) {
    const Cidr subnet(Ip(pod), pod[0] == '1' ? 16 : 64);
    for (NftElement e :
         {HairpinElement(Ip(pod)), MasqAllElement(Ip(pod)), MasqueradeElement(subnet, Ip(pod)),
          HostPortElement({.port = 1, .pod = Ip(pod), .pod_port = 1}),
          HostPortElement({.port = 1, .host_ip = Ip(pod), .pod = Ip(pod), .pod_port = 1})}) {
      all.push_back(std::move(e));
    }
    for (const Guard guard : {Guard::kMac, Guard::kFull, Guard::kRouted}) {
      for (NftElement& e : GuardElements(guard, "lnabc", MacAddress({2, 0, 0, 0, 0, 1}), {Ip(pod)}))
        all.push_back(std::move(e));
    }
  }
  for (const NftElement& e : all) {
    const auto set = FindSet(e.family, e.set);
    ASSERT_TRUE(set) << e.set;
    EXPECT_EQ(e.key.size(), set->key_length) << e.set;
    EXPECT_EQ(e.data.size(), set->data_length) << e.set;
  }
}

TEST(MasqueradeSet, SaysItsSubnet) {
  for (const char* text : {"10.83.0.0/16", "fd00:83::/64", "2001:db8:1:2:3:4:5:0/112"}) {
    const Cidr subnet = *Cidr::Parse(text);
    EXPECT_EQ(SubnetOfSet(MasqueradeSet(subnet)), subnet) << MasqueradeSet(subnet);
  }
  EXPECT_EQ(MasqueradeSet(*Cidr::Parse("10.83.4.7/16")), "masq_10.83.0.0/16");
  EXPECT_EQ(SubnetOfSet("hostport4"), std::nullopt);
  EXPECT_EQ(SubnetOfSet("masq_rubbish"), std::nullopt);
}

// Walks the messages of a finished batch.
std::vector<const nlmsghdr*> MessagesOf(std::string_view bytes) {
  std::vector<const nlmsghdr*> out;
  for (std::size_t at = 0; at + sizeof(nlmsghdr) <= bytes.size();) {
    const auto* m = reinterpret_cast<const nlmsghdr*>(bytes.data() + at);
    out.push_back(m);
    at += NLMSG_ALIGN(m->nlmsg_len);
  }
  return out;
}

TEST(NftBatch, StandsBetweenBeginAndEndAndAsksForOneAnswer) {
  NftBatch batch(77);
  EXPECT_TRUE(batch.empty());
  batch.AddElement("linnet", HairpinElement(Ip("10.0.0.1")), "pod-a/eth0/net");
  batch.DelElement("linnet", HairpinElement(Ip("10.0.0.2")));
  EXPECT_FALSE(batch.empty());
  batch.Finish(100);
  const auto messages = MessagesOf(batch.bytes());
  ASSERT_EQ(messages.size(), 4U);
  EXPECT_EQ(messages[0]->nlmsg_type, NFNL_MSG_BATCH_BEGIN);
  EXPECT_EQ(messages[1]->nlmsg_type, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM);
  EXPECT_EQ(messages[2]->nlmsg_type, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM);
  EXPECT_EQ(messages[3]->nlmsg_type, NFNL_MSG_BATCH_END);
  EXPECT_EQ(messages[0]->nlmsg_len, sizeof(nlmsghdr) + sizeof(nfgenmsg) + 8) << "the generation";
  EXPECT_FALSE(messages[1]->nlmsg_flags & NLM_F_ACK);
  EXPECT_TRUE(messages[2]->nlmsg_flags & NLM_F_ACK);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(messages[i]->nlmsg_seq, 100 + i);
  EXPECT_NE(batch.bytes().find("pod-a/eth0/net"), std::string_view::npos);
  EXPECT_EQ(batch.message_count(), 3U);
}

}  // namespace
}  // namespace linnet::network
