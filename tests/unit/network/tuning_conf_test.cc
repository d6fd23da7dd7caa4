#include "plugins/tuning_conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::network {
namespace {

using ::testing::HasSubstr;

Result<TuningConf> Parse(const std::string& text, const std::string& args = {}) {
  Json json = LN_TRY(ParseJson(text));
  PluginRequest request;
  request.conf = &json;
  request.raw_text = text;
  request.args = args;
  return ParseTuningConf(request);
}

std::string ErrorOf(const std::string& text) {
  auto conf = Parse(text);
  return conf ? "" : conf.error().message();
}

TEST(TuningConf, EveryKeyIsRead) {
  const auto conf = LN_ASSERT_OK(Parse(
      R"({"type":"tuning","dataDir":"/d","sysctl":{"net.core.somaxconn":"500"},
          "mac":"c2:11:22:33:44:55","mtu":1454,"promisc":true,"allmulti":false,"txQLen":20000})"));
  EXPECT_EQ(conf.data_dir, "/d");
  EXPECT_EQ(conf.sysctls.at("net.core.somaxconn"), "500");
  ASSERT_TRUE(conf.link.mac);
  EXPECT_EQ(conf.link.mac->str(), "c2:11:22:33:44:55");
  EXPECT_EQ(conf.link.mtu, 1454U);
  EXPECT_EQ(conf.link.promiscuous, true);
  EXPECT_EQ(conf.link.all_multicast, false);
  EXPECT_EQ(conf.link.tx_queue_length, 20000U);
}

TEST(TuningConf, FalseAndZeroLeaveTheLinkAlone) {
  const auto conf = LN_ASSERT_OK(Parse(R"({"promisc":false,"mtu":0,"mac":""})"));
  EXPECT_TRUE(conf.link.empty());
  EXPECT_EQ(LN_ASSERT_OK(Parse(R"({"TXQLEN":0})")).link.tx_queue_length, 0U)
      << "a length of 0 is a length";
}

TEST(TuningConf, Mac_ArgsWinOverRuntimeConfigOverCniArgsOverConf) {
  const std::string conf = R"("mac":"02:00:00:00:00:01")";
  const std::string runtime = R"(,"runtimeConfig":{"mac":"02:00:00:00:00:03"})";
  const std::string args = R"(,"args":{"cni":{"mac":"02:00:00:00:00:04"}})";
  const std::string environment = "IgnoreUnknown=1;MAC=02:00:00:00:00:02";
  EXPECT_EQ(LN_ASSERT_OK(Parse("{" + conf + "}")).mac_text, "02:00:00:00:00:01");
  EXPECT_EQ(LN_ASSERT_OK(Parse("{" + conf + "}", environment)).mac_text, "02:00:00:00:00:02");
  EXPECT_EQ(LN_ASSERT_OK(Parse("{" + conf + runtime + "}", environment)).mac_text,
            "02:00:00:00:00:03");
  EXPECT_EQ(LN_ASSERT_OK(Parse("{" + conf + runtime + args + "}", environment)).mac_text,
            "02:00:00:00:00:04");
}

TEST(TuningConf, Args_OverrideEachKeyAndAddSysctlsToNone) {
  const auto conf = LN_ASSERT_OK(Parse(
      R"({"mtu":1400,"promisc":true,"args":{"cni":{"sysctl":{"net.core.somaxconn":"9"},"mtu":1300,
          "promisc":false,"allmulti":true,"txQLen":5}}})"));
  EXPECT_EQ(conf.sysctls.at("net.core.somaxconn"), "9") << "upstream's plugin panics here";
  EXPECT_EQ(conf.link.mtu, 1300U);
  EXPECT_EQ(conf.link.promiscuous, std::nullopt);
  EXPECT_EQ(conf.link.all_multicast, true);
  EXPECT_EQ(conf.link.tx_queue_length, 5U);
}

TEST(TuningConf, RepeatedSysctls_AreRefused) {
  EXPECT_EQ(ErrorOf(R"({"sysctl":{"net.core.somaxconn":"1","net.core.somaxconn":"2"}})"),
            "duplicated sysctl keys are not allowed");
  EXPECT_EQ(ErrorOf(R"({"sysctl":{"net.core.somaxconn":"1","net.core.\u0073omaxconn":"2"}})"),
            "duplicated sysctl keys are not allowed");
}

TEST(TuningConf, WrongTypesNameTheirPlace) {
  EXPECT_THAT(ErrorOf(R"({"mtu":"big"})"), HasSubstr("$.mtu"));
  EXPECT_THAT(ErrorOf(R"({"mtu":-1})"), HasSubstr("$.mtu"));
  EXPECT_THAT(ErrorOf(R"({"sysctl":{"net.a":1}})"), HasSubstr("sysctl"));
  EXPECT_THAT(ErrorOf(R"({"mac":"nonsense"})"), HasSubstr("invalid args nonsense for MAC addr"));
}

TEST(SysctlFile, DotsAndTheInterface) {
  EXPECT_EQ(LN_ASSERT_OK(SysctlFile("net.core.somaxconn", "eth0")), "/proc/sys/net/core/somaxconn");
  EXPECT_EQ(LN_ASSERT_OK(SysctlFile("net.ipv4.conf.IFNAME.arp_filter", "net.1")),
            "/proc/sys/net/ipv4/conf/net.1/arp_filter")
      << "dots of the interface stay";
  EXPECT_EQ(LN_ASSERT_OK(SysctlFile("net/ipv4/conf/IFNAME/arp_filter", "eth0")),
            "/proc/sys/net/ipv4/conf/eth0/arp_filter");
  // Dots are slashes, so none of them climbs.
  EXPECT_EQ(LN_ASSERT_OK(SysctlFile("net.ipv4.conf.../../../kernel.hostname", "eth0")),
            "/proc/sys/net/ipv4/conf/kernel/hostname");
  EXPECT_FALSE(SysctlFile("net.IFNAME", "../kernel/x")) << "nor does the interface";
  for (const char* key : {"kernel.hostname", "net", "", "../../etc/passwd", "network.x"}) {
    auto file = SysctlFile(key, "eth0");
    EXPECT_FALSE(file) << key << " → " << (file ? *file : "");
    if (file) continue;
    EXPECT_THAT(file.error().message(), HasSubstr("invalid net sysctl key: \""));
  }
}

TEST(Allowlist, ExpressionsAreMatchedAnywhere) {
  const std::map<std::string, std::string> sysctls = {{"net.ipv4.conf.IFNAME.log_martians", "1"}};
  LN_EXPECT_OK(
      CheckAllowed(sysctls, "^net\\.core\\..*$\n  ^net\\.ipv4\\.conf\\.IFNAME\\.\\w+$ \n"));
  LN_EXPECT_OK(CheckAllowed(sysctls, "martians"));
  const auto refused = CheckAllowed(sysctls, "^net\\.core\n\n^x\n");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "Sysctl net.ipv4.conf.IFNAME.log_martians is not allowed. Only the following sysctls "
            "are allowed: [^net\\.core ^x]");
  EXPECT_FALSE(CheckAllowed(sysctls, "")) << "an empty list allows nothing";
  EXPECT_THAT(CheckAllowed(sysctls, "(").error().message(), HasSubstr("error parsing regexp"));
}

TEST(Backup, RoundTripAndUpstreamsForm) {
  const LinkAttributes before{.mac = *MacAddress::Parse("02:00:00:00:00:01"),
                              .mtu = 1500,
                              .tx_queue_length = 1000,
                              .promiscuous = false,
                              .all_multicast = false};
  const Backup again = LN_ASSERT_OK(ParseBackup(DumpBackup(before, "net")));
  EXPECT_EQ(again.network, "net");
  EXPECT_EQ(again.before.mac, before.mac);
  EXPECT_EQ(again.before.mtu, before.mtu);
  EXPECT_EQ(again.before.tx_queue_length, before.tx_queue_length);
  EXPECT_EQ(again.before.promiscuous, before.promiscuous);
  EXPECT_EQ(again.before.all_multicast, before.all_multicast);
  const Backup theirs =
      LN_ASSERT_OK(ParseBackup("{\n \"mac\": \"02:00:00:00:00:01\",\n \"mtu\": 9000\n}"));
  EXPECT_EQ(theirs.network, "");
  EXPECT_EQ(theirs.before.mtu, 9000U);
  EXPECT_FALSE(ParseBackup("{"));
  EXPECT_EQ(BackupName("c1", "eth0"), "c1_eth0.json");
}

}  // namespace
}  // namespace linnet::network
