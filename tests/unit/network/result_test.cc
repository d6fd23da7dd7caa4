#include "cni/result.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

#include "cni/cache.h"
#include "cni/error.h"
#include "cni/version.h"

namespace linnet::network::cni {
namespace {

using ::testing::HasSubstr;

// With everything that a version can say.
constexpr const char* kWhole = R"({
  "cniVersion": "1.1.0",
  "interfaces": [{"name": "br0", "mac": "02:00:00:00:00:01"},
                 {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1400, "sandbox": "/run/netns/x", "socketPath": "/s", "pciID": "p"}],
  "ips": [{"interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
          {"interface": 1, "address": "10.1.0.6/24"},
          {"interface": 1, "address": "fd00::5/64", "gateway": "fd00::1"}],
  "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300, "advmss": 1200, "priority": 5, "table": 0, "scope": 0},
             {"dst": "::/0"}],
  "dns": {"nameservers": ["10.1.0.1"], "domain": "d", "search": ["s"], "options": ["o"]}})";

Json Convert(const std::string& text, const std::string& version) {
  auto result = ParseResult(text, "");
  EXPECT_TRUE(result.has_value()) << result.error().message();
  auto dumped = DumpResult(*result, version);
  EXPECT_TRUE(dumped.has_value()) << dumped.error().message();
  return *ParseJson(*dumped);
}

TEST(Result, Newest_LosesNothing) { EXPECT_EQ(Convert(kWhole, "1.1.0"), *ParseJson(kWhole)); }

TEST(Result, To1_0_IsACopy) {
  Json expected = *ParseJson(kWhole);
  expected["cniVersion"] = "1.0.0";
  EXPECT_EQ(Convert(kWhole, "1.0.0"), expected);
}

TEST(Result, To0_4_DropsWhatCameLater) {
  const Json json = Convert(kWhole, "0.4.0");
  EXPECT_EQ(json["cniVersion"], "0.4.0");
  EXPECT_EQ(json["ips"][0]["version"], "4");
  EXPECT_EQ(json["ips"][2]["version"], "6");
  EXPECT_EQ(json["interfaces"][1],
            Json({{"name", "eth0"}, {"mac", "02:00:00:00:00:02"}, {"sandbox", "/run/netns/x"}}));
  EXPECT_EQ(json["routes"][0]["mtu"], 1300);
  EXPECT_EQ(json["routes"][0]["table"], 0) << "0 is a value here";
}

TEST(Result, To0_2_FirstOfEachFamily) {
  const Json json = Convert(kWhole, "0.2.0");
  EXPECT_EQ(json, *ParseJson(R"({"cniVersion":"0.2.0",
    "ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]},
    "ip6":{"ip":"fd00::5/64","gateway":"fd00::1","routes":[{"dst":"::/0"}]},
    "dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["s"],"options":["o"]}})"));
  LN_EXPECT_ERROR(DumpResult({}, "0.2.0"), Code::kInvalidArgument, "no valid IP addresses");
}

TEST(Result, EveryPairOfVersions_Converts) {
  for (const std::string_view from : SupportedVersions()) {
    const Json old = Convert(kWhole, std::string(from));
    for (const std::string_view to : SupportedVersions()) {
      const Json there = Convert(DumpJson(old), std::string(to));
      EXPECT_EQ(there["cniVersion"], std::string(to));
      // What both can say survives the way there and back.
      const bool narrow = !AtLeast(from, "0.3.0") || !AtLeast(to, "0.3.0");
      const std::string back = DumpJson(Convert(DumpJson(there), narrow ? "0.1.0" : "0.4.0"));
      EXPECT_EQ(back, DumpJson(Convert(kWhole, narrow ? "0.1.0" : "0.4.0"))) << from << " → " << to;
    }
  }
}

TEST(Result, WithoutVersion_IsReadAsTheConfigurations) {
  EXPECT_EQ(LN_ASSERT_OK(ParseResult(R"({"ips":[{"address":"10.0.0.1/8"}]})", "1.0.0")).ips.size(),
            1U);
  EXPECT_EQ(LN_ASSERT_OK(ParseResult(R"({"ip4":{"ip":"10.0.0.1/8"}})", "")).ips.size(), 1U);
  EXPECT_TRUE(LN_ASSERT_OK(ParseResult("null", "1.0.0")).ips.empty());
  EXPECT_EQ(Convert(R"({"ip4":{"ip":"10.0.0.1/8"}})", "")["cniVersion"], "0.1.0");
}

TEST(Result, Broken_SaysWhere) {
  LN_EXPECT_ERROR(ParseResult("", "1.0.0"), Code::kInvalidArgument, "not JSON");
  LN_EXPECT_ERROR(ParseResult("7", "1.0.0"), Code::kInvalidArgument, "$");
  LN_EXPECT_ERROR(ParseResult(R"({"cniVersion":"7.0.0"})", ""), Code::kFailedPrecondition, "7.0.0");
  LN_EXPECT_ERROR(ParseResult(R"({"ips":[{"address":"10.0.0.1"}]})", "1.0.0"),
                  Code::kInvalidArgument, "$.ips[0]: address");
  LN_EXPECT_ERROR(ParseResult(R"({"ips":[{}]})", "1.0.0"), Code::kInvalidArgument, "$.ips[0]");
  LN_EXPECT_ERROR(ParseResult(R"({"routes":[{"dst":"x"}]})", "1.0.0"), Code::kInvalidArgument,
                  "$.routes[0]: dst");
}

TEST(CniError, ParseAndDump) {
  const auto error = ParseError(R"({"code": 11, "msg": "no more", "details": "later"})");
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->message(), "no more; later");
  EXPECT_EQ(error->code(), Code::kUnavailable);
  EXPECT_EQ(CodeOf(*error), 11);
  for (const char* none : {"", "garbage", "7", "{}", R"({"code":"x"})", R"({"msg":7})"})
    EXPECT_FALSE(ParseError(none)) << none;
  EXPECT_EQ(*ParseJson(DumpError(*error, "1.1.0")),
            Json({{"code", 11}, {"msg", "no more; later"}, {"cniVersion", "1.1.0"}}));
  EXPECT_EQ(CodeOf(Internal("x")), 999);
  EXPECT_EQ(CodeOf(InvalidArgument("x")), 7);
  EXPECT_EQ(CodeOf(Error(Code::kResourceExhausted, "x")), 11);
  EXPECT_EQ(CodeOf(Error::FromErrno(11, "x")), 11)
      << "EAGAIN is unavailable, which is 11 here by its own right";
  EXPECT_EQ(CodeOf(Error::FromErrno(5, "x")), 999);
}

Record MakeRecord() {
  Record record;
  record.container_id = "c-1";
  record.ifname = "eth0";
  record.network = "net";
  record.netns = "/run/netns/x";
  record.config = R"({"name":"net","plugins":[]})";
  record.args = {{"IgnoreUnknown", "1"}, {"A", "b"}};
  record.capability_args = {{"portMappings", Json::array({{{"hostPort", 80}}})}};
  record.mark = RecordMark{.instance = "ab2c", .foreign = {"calico"}};
  return record;
}

TEST(Cache, Format_IsLibcnis) {
  Record record = MakeRecord();
  record.result = R"({"cniVersion":"1.1.0","big":9007199254740993})";
  EXPECT_EQ(RecordName("net", "c-1", "eth0"), "net-c-1-eth0");
  const std::string text = DumpRecord(record);
  const Json json = *ParseJson(text);
  EXPECT_EQ(json["kind"], "cniCacheV1");
  EXPECT_EQ(json["containerId"], "c-1");
  EXPECT_EQ(json["ifName"], "eth0");
  EXPECT_EQ(json["networkName"], "net");
  EXPECT_EQ(json["netns"], "/run/netns/x");
  EXPECT_EQ(json["config"], "eyJuYW1lIjoibmV0IiwicGx1Z2lucyI6W119");
  EXPECT_EQ(json["cniArgs"],
            Json::array({Json::array({"IgnoreUnknown", "1"}), Json::array({"A", "b"})}));
  EXPECT_EQ(json["capabilityArgs"]["portMappings"][0]["hostPort"], 80);
  EXPECT_THAT(text, HasSubstr("9007199254740993")) << "a result keeps its bytes";

  const Record back = LN_ASSERT_OK(ParseRecord(text));
  EXPECT_EQ(back.config, record.config);
  EXPECT_EQ(back.args, record.args);
  EXPECT_EQ(back.capability_args, record.capability_args);
  EXPECT_EQ(back.result, record.result);
  ASSERT_TRUE(back.mark.has_value());
  EXPECT_EQ(back.mark->instance, "ab2c");
  EXPECT_THAT(back.mark->foreign, ::testing::ElementsAre("calico"));
}

TEST(Cache, Intent_HasNoResult) {
  const Record record = MakeRecord();
  const Json json = *ParseJson(DumpRecord(record));
  EXPECT_FALSE(json.contains("result"));
  EXPECT_TRUE(LN_ASSERT_OK(ParseRecord(DumpRecord(record))).result.empty());
}

TEST(Cache, OfLibcni_IsRead) {
  const Record record = LN_ASSERT_OK(ParseRecord(
      R"({"kind":"cniCacheV1","containerId":"c","config":"e30=","ifName":"eth0","networkName":"n","cniArgs":[["K","V"]],"result":{"cniVersion":"1.0.0","dns":{}}})"));
  EXPECT_EQ(record.config, "{}");
  EXPECT_FALSE(record.mark.has_value()) << "another runtime's";
  EXPECT_EQ(record.result, R"({"cniVersion":"1.0.0","dns":{}})");
}

TEST(Cache, TornAtAnyByte_IsAnErrorAndNothingWorse) {
  Record record = MakeRecord();
  record.result = R"({"cniVersion":"1.1.0"})";
  const std::string text = DumpRecord(record);
  for (std::size_t i = 0; i < text.size(); ++i) {
    LN_EXPECT_ERROR(ParseRecord(text.substr(0, i)), Code::kDataLoss, "");
  }
  LN_EXPECT_ERROR(ParseRecord(R"({"kind":"other"})"), Code::kDataLoss, "cniCacheV1");
  LN_EXPECT_ERROR(ParseRecord(R"({"cniVersion":"0.4.0","ips":[]})"), Code::kDataLoss, "");
}

}  // namespace
}  // namespace linnet::network::cni
