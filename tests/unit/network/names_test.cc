#include "netlink/names.h"

#include <set>

#include <gtest/gtest.h>

#include "netns.h"

namespace linnet::network {
namespace {

const std::string kId(64, 'a');

TEST(HostLinkName, IsStableShortAndDifferent) {
  std::set<std::string> names;
  for (const char* scope : {"linnet", "linnet-ab3d", "linnet-cni"}) {
    for (int i = 0; i < 500; ++i) {
      const std::string name = HostLinkName(scope, kId + std::to_string(i), "eth0");
      EXPECT_EQ(name.size(), 15U);
      EXPECT_EQ(name, HostLinkName(scope, kId + std::to_string(i), "eth0"));
      names.insert(name);
    }
  }
  EXPECT_EQ(names.size(), 1500U);
  EXPECT_NE(HostLinkName("linnet", kId, "eth0"), HostLinkName("linnet", kId, "eth1"));
  EXPECT_TRUE(HostLinkName("linnet-ab3d", kId, "eth0").starts_with("lnab3d"));
  // A name must be found again by the next version of the program.
  EXPECT_EQ(HostLinkName("linnet", "pod-a", "eth0"), "lnpb3cu2cte43pa");
}

TEST(OwnerText, KeepsWhatFitsAndHashesTheRest) {
  EXPECT_EQ(OwnerText(AttachmentKey{kId, "eth0", "net"}), kId + "/eth0/net");
  EXPECT_EQ(OwnerText(kId, "eth0"), kId + "/eth0/");
  const std::string long_id(128, 'x');
  const AttachmentKey key{long_id, "abcdefghijklmno", std::string(200, 'n')};
  const std::string owner = OwnerText(key);
  EXPECT_LE(owner.size(), 120U);
  EXPECT_EQ(owner, OwnerText(key));
  EXPECT_TRUE(owner.starts_with(OwnerText(long_id, "abcdefghijklmno")));
  EXPECT_EQ(ContainerOf(owner), OwnerContainer(long_id));
  AttachmentKey other = key;
  other.network.back() = 'm';
  EXPECT_NE(OwnerText(other), owner);
  other = key;
  other.container_id.back() = 'y';
  EXPECT_NE(OwnerText(other), owner);
}

TEST(LinkAlias, BelongsToOneInstance) {
  const std::string alias = LinkAlias("linnet", "pod/eth0/net");
  EXPECT_EQ(OwnerOfAlias("linnet", alias), "pod/eth0/net");
  EXPECT_EQ(OwnerOfAlias("linnet-ab3d", alias), std::nullopt);
  EXPECT_EQ(OwnerOfAlias("linnet", LinkAlias("linnet-ab3d", "pod/eth0/net")), std::nullopt);
  EXPECT_EQ(OwnerOfAlias("linnet", ""), std::nullopt);
  EXPECT_EQ(OwnerOfAlias("linnet", "linnet "), std::nullopt);
}

TEST(StableMac, IsLocalAndUnicast) {
  for (int i = 0; i < 200; ++i) {
    const MacAddress mac = StableMac("x" + std::to_string(i));
    EXPECT_EQ(mac.bytes()[0] & 0x03U, 0x02U);
    EXPECT_EQ(mac, StableMac("x" + std::to_string(i)));
  }
}

TEST(PinPath, NamesTheInstance) {
  EXPECT_EQ(PinPath("/run/netns", "", "p1"), "/run/netns/linnet-p1");
  EXPECT_EQ(PinPath("/run/netns", "ab3d", "p1"), "/run/netns/linnet-ab3d-p1");
}

}  // namespace
}  // namespace linnet::network
