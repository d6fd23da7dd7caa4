#include "plugins/portmap_plan.h"

#include <netinet/in.h>

#include <algorithm>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet::network {
namespace {

Result<PortmapConf> Parse(const std::string& text) {
  const Json json = LN_TRY(ParseJson(text));
  return ParsePortmapConf(JsonView(json, "$", KeyMatch::kIgnoreCase));
}
std::string Mappings(const std::string& list) {
  return R"({"runtimeConfig":{"portMappings":[)" + list + "]}}";
}
const PodAddresses kPod{IpAddress::Parse("10.0.0.5").value(), IpAddress::Parse("fd00::5").value()};

std::vector<std::string> SetsOf(const PortmapPlan& plan) {
  std::vector<std::string> out;
  for (const NftElement& e : plan.elements) out.push_back(e.set);
  return out;
}

TEST(PortmapConf, ReadsWhatGoCniSends) {
  const auto conf = LN_ASSERT_OK(Parse(
      R"({"RuntimeConfig":{"PortMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"TCP","HostIP":""}]}})"));
  ASSERT_EQ(conf.mappings.size(), 1U);
  EXPECT_EQ(conf.mappings[0].host_port, 8080);
  EXPECT_EQ(conf.mappings[0].container_port, 80);
  EXPECT_EQ(conf.mappings[0].protocol, IPPROTO_TCP);
  EXPECT_FALSE(conf.mappings[0].host_ip);
  EXPECT_TRUE(conf.snat);
}

TEST(PortmapConf, RefusesWhatCannotBe) {
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {Mappings(R"({"hostPort":0,"containerPort":80})"), "Invalid host port number: 0"},
           {Mappings(R"({"hostPort":70000,"containerPort":80})"),
            "Invalid host port number: 70000"},
           {Mappings(R"({"hostPort":80,"containerPort":-1})"), "Invalid container port number: -1"},
           {Mappings(R"({"hostPort":80,"containerPort":80,"protocol":"icmp"})"),
            "Invalid protocol"},
           {Mappings(R"({"hostPort":80,"containerPort":80,"hostIP":"localhost"})"), "hostIP"},
           {R"({"backend":"pf"})", "unrecognized backend \"pf\""},
           {R"({"markMasqBit":32})", "between 0 and 31"},
           {R"({"markMasqBit":3,"externalSetMarkChain":"X"})", "Cannot specify"},
           {R"({"backend":"nftables","externalSetMarkChain":"X"})",
            "iptables-specific options [externalSetMarkChain]"}}) {
    LN_EXPECT_ERROR(Parse(text), Code::kInvalidArgument, message);
  }
  LN_EXPECT_ERROR(Parse(R"({"conditionsV4":["-m","mark"]})"), Code::kUnimplemented, "conditionsV4");
  EXPECT_TRUE(Parse(R"({"conditionsV4":[],"backend":"iptables","markMasqBit":13})"));
}

TEST(PlanPortmap, MapsBothFamilies) {
  const auto conf =
      LN_ASSERT_OK(Parse(Mappings(R"({"hostPort":80,"containerPort":8080,"protocol":"udp"})")));
  const auto plan = LN_ASSERT_OK(PlanPortmap(conf, kPod));
  EXPECT_EQ(SetsOf(plan),
            (std::vector<std::string>{"hostport4", "hairpin4", "hostport6", "hairpin6"}));
}

TEST(PlanPortmap, AddressesDecideTheFamily) {
  const auto conf =
      LN_ASSERT_OK(Parse(Mappings(R"({"hostPort":80,"containerPort":1,"hostIP":"192.0.2.1"},
      {"hostPort":81,"containerPort":1,"hostIP":"0.0.0.0"},{"hostPort":82,"containerPort":1,"hostIP":"::"})")));
  const auto plan = LN_ASSERT_OK(PlanPortmap(conf, kPod));
  EXPECT_EQ(SetsOf(plan), (std::vector<std::string>{"hostipport4", "hostport4", "hairpin4",
                                                    "hostport6", "hairpin6"}));
}

TEST(PlanPortmap, SnatAndMasqAll) {
  const std::string list =
      R"("runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":1}]})";
  const auto bare = LN_ASSERT_OK(Parse(R"({"snat":false,)" + list + "}"));
  EXPECT_EQ(SetsOf(LN_ASSERT_OK(PlanPortmap(bare, {kPod.v4, {}}))),
            (std::vector<std::string>{"hostport4"}));
  const auto all = LN_ASSERT_OK(Parse(R"({"masqAll":true,)" + list + "}"));
  EXPECT_EQ(SetsOf(LN_ASSERT_OK(PlanPortmap(all, {kPod.v4, {}}))),
            (std::vector<std::string>{"hostport4", "hairpin4", "masqall4"}));
}

TEST(PlanPortmap, OnePortGoesToOnePlace) {
  const auto twice = LN_ASSERT_OK(
      Parse(Mappings(R"({"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":2})")));
  LN_EXPECT_ERROR(PlanPortmap(twice, kPod), Code::kInvalidArgument,
                  "host port 80/tcp is mapped twice");
  const auto same = LN_ASSERT_OK(
      Parse(Mappings(R"({"hostPort":80,"containerPort":1},{"hostPort":80,"containerPort":1})")));
  const auto plan = LN_ASSERT_OK(PlanPortmap(same, {kPod.v4, {}}));
  EXPECT_EQ(plan.ports.size(), 1U);
}

TEST(AddressesOf, TakesThePodsOwn) {
  cni::AddResult result;
  result.interfaces = {
      {.name = "br"}, {.name = "eth0", .sandbox = "/n"}, {.name = "net1", .sandbox = "/n"}};
  result.ips = {{.interface = 0, .address = *Cidr::Parse("10.0.0.1/24")},
                {.interface = 2, .address = *Cidr::Parse("10.0.0.2/24")},
                {.interface = 1, .address = *Cidr::Parse("10.0.0.3/24")},
                {.interface = 9, .address = *Cidr::Parse("fd00::1/64")},
                {.address = *Cidr::Parse("fd00::2/64")}};
  const PodAddresses pod = AddressesOf(result, "eth0");
  EXPECT_EQ(pod.v4->str(), "10.0.0.3");
  EXPECT_EQ(pod.v6->str(), "fd00::2");
}

}  // namespace
}  // namespace linnet::network
