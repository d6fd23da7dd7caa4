// result.convert.<from>_<to>: every version of a result into every other, and what is lost on the
// way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

#include "cni/result.h"
#include "cni/version.h"

namespace linnet::network::cni {
namespace {

// One result in the words of each of the three formats, as the reference implementation converts
// it. "whole": as 1.x says it; "named": with what 0.3.0 to 0.4.0 can say; "plain": with what 0.1.0
// and 0.2.0 can say. The format is of the version in which it is written.
constexpr const char* kDns =
    R"("dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["s"],"options":["o"]})";
constexpr const char* kRoutes =
    R"("routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1300,"advmss":1200,"priority":5,"table":0,"scope":0},{"dst":"::/0"}])";
constexpr const char* kPlainRoutes =
    R"("routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0"}])";

enum class Format { kOld, kMiddle, kNew };

Format FormatOf(std::string_view version) {
  if (!AtLeast(version, "0.3.0")) return Format::kOld;
  return AtLeast(version, "1.0.0") ? Format::kNew : Format::kMiddle;
}

std::string Interfaces(Format format, bool whole) {
  const std::string more =
      whole && format == Format::kNew ? R"(,"mtu":1400,"socketPath":"/s","pciID":"p")" : "";
  return R"("interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/x")" +
         more + "}],";
}

std::string Address(Format format, const char* body, const char* family) {
  return std::string("{") + body +
         (format == Format::kMiddle ? R"(,"version":")" + std::string(family) + "\"" : "") + "}";
}

// What `version` says of a result that was once in the format `least`, the poorest on its way.
Json Expected(std::string_view version, Format least, bool whole) {
  const Format format = FormatOf(version);
  std::string text = R"({"cniVersion":")" + std::string(version) + "\",";
  if (format == Format::kOld) {
    text +=
        R"("ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]},)"
        R"("ip6":{"ip":"fd00::5/64","gateway":"fd00::1","routes":[{"dst":"::/0"}]},)";
    text += kDns;
  } else if (least == Format::kOld) {
    text += R"("ips":[)" + Address(format, R"("address":"10.1.0.5/24","gateway":"10.1.0.1")", "4") +
            "," + Address(format, R"("address":"fd00::5/64","gateway":"fd00::1")", "6") + "]," +
            kPlainRoutes + "," + kDns;
  } else {
    text += Interfaces(format, whole && least == Format::kNew) + R"("ips":[)" +
            Address(format, R"("interface":1,"address":"10.1.0.5/24","gateway":"10.1.0.1")", "4") +
            "," + Address(format, R"("interface":1,"address":"10.1.0.6/24")", "4") + "," +
            Address(format, R"("interface":1,"address":"fd00::5/64","gateway":"fd00::1")", "6") +
            "]," + kRoutes + "," + kDns;
  }
  auto json = ParseJson(text + "}");
  EXPECT_TRUE(json) << text;
  return json ? *json : Json();
}

Json Convert(const Json& from, std::string_view to) {
  auto result = ParseResult(DumpJson(from), "");
  EXPECT_TRUE(result) << result.error().message();
  if (!result) return {};
  auto json = ResultToJson(*result, to);
  EXPECT_TRUE(json) << json.error().message();
  return json ? *json : Json();
}

TEST(Conversion, EveryVersionIntoEveryOther) {
  int pairs = 0;
  for (const std::string_view from : SupportedVersions()) {
    const Json source = Expected(from, FormatOf(from), true);
    for (const std::string_view to : SupportedVersions()) {
      const Format least = std::min(FormatOf(from), FormatOf(to));
      EXPECT_EQ(Convert(source, to), Expected(to, least, true)) << from << " to " << to;
      ++pairs;
    }
  }
  EXPECT_EQ(pairs, 49);
}

TEST(Conversion, ThereAndBack_LosesWhatThePoorerFormatCannotSay) {
  for (const std::string_view from : SupportedVersions()) {
    const Json source = Expected(from, FormatOf(from), true);
    for (const std::string_view by : SupportedVersions()) {
      const Format least = std::min(FormatOf(from), FormatOf(by));
      EXPECT_EQ(Convert(Convert(source, by), from), Expected(from, least, true))
          << from << " by " << by;
    }
  }
}

TEST(Conversion, OneFamilyAlone) {
  for (const char* ip : {"10.1.0.5/24", "fd00::5/64"}) {
    const bool v4 = std::string(ip).find('.') != std::string::npos;
    const Json source = {{"cniVersion", "1.0.0"}, {"ips", {{{"address", ip}}}}};
    const Json old = Convert(source, "0.2.0");
    EXPECT_EQ(old.contains("ip4"), v4) << ip;
    EXPECT_EQ(old.contains("ip6"), !v4) << ip;
    EXPECT_EQ(Convert(source, "0.3.1")["ips"][0]["version"], v4 ? "4" : "6");
  }
}

// A route whose family has no address has no place in the old format.
TEST(Conversion, RoutesGoWithTheirFamily) {
  const Json source = {{"cniVersion", "1.1.0"},
                       {"ips", {{{"address", "10.1.0.5/24"}}}},
                       {"routes", {{{"dst", "::/0"}}, {{"dst", "10.2.0.0/16"}}}}};
  const Json old = Convert(source, "0.1.0");
  EXPECT_EQ(old["ip4"]["routes"], Json::array({{{"dst", "10.2.0.0/16"}}}));
  EXPECT_FALSE(old.contains("ip6"));
}

TEST(Conversion, WithoutAddresses) {
  const Json source = {{"cniVersion", "1.1.0"}, {"interfaces", {{{"name", "eth0"}}}}};
  const AddResult result = LN_ASSERT_OK(ParseResult(DumpJson(source), ""));
  for (const std::string_view to : SupportedVersions()) {
    auto json = ResultToJson(result, to);
    if (FormatOf(to) == Format::kOld) {
      LN_EXPECT_ERROR(json, Code::kInvalidArgument, "cannot convert: no valid IP addresses");
    } else {
      EXPECT_TRUE(json) << to;
    }
  }
  LN_EXPECT_ERROR(ResultToJson(result, "1.2.0"), Code::kFailedPrecondition,
                  "no converter for CNI result version to 1.2.0");
}

}  // namespace
}  // namespace linnet::network::cni
