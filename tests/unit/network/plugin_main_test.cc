#include "plugin_main.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::network {
namespace {

using ::testing::HasSubstr;

// host-local and static need nothing of the kernel.
class PluginMainTest : public ::testing::Test {
 protected:
  static std::vector<std::unique_ptr<Plugin>> Plugins() {
    std::vector<std::unique_ptr<Plugin>> out;
    out.push_back(MakeHostLocalPlugin());
    out.push_back(MakeStaticPlugin());
    return out;
  }
  std::map<std::string, std::string> Env(const std::string& command) const {
    return {
        {"CNI_COMMAND", command}, {"CNI_CONTAINERID", "c1"},    {"CNI_NETNS", ""},
        {"CNI_IFNAME", "eth0"},   {"CNI_PATH", "/nonexistent"}, {"LINNET_IPAM_DIR", dir_.path()}};
  }
  int Run(const std::string& type, const std::map<std::string, std::string>& env,
          const std::string& input) {
    out_.clear();
    err_.clear();
    PluginIo io;
    io.env = [&](const char* name) -> std::optional<std::string> {
      const auto it = env.find(name);
      return it == env.end() ? std::nullopt : std::optional(it->second);
    };
    io.read_input = [&]() -> Result<std::string> { return input; };
    io.out = &out_;
    io.err = &err_;
    return RunPlugin(type, registry_, io);
  }
  void ExpectError(int code, const std::string& part) {
    const Json json = LN_ASSERT_OK(ParseJson(out_));
    EXPECT_EQ(json["code"], code) << out_;
    EXPECT_THAT(json["msg"].get<std::string>(), HasSubstr(part));
  }
  static constexpr const char* kConf =
      R"({"cniVersion":"1.1.0","name":"n","type":"host-local","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/29"}]],"routes":[{"dst":"0.0.0.0/0"}]}})";

  testing::TempDir dir_;
  PluginRegistry registry_{Plugins()};
  std::string out_, err_;
};

TEST_F(PluginMainTest, NoCommand_SaysWhatItIs) {
  EXPECT_EQ(Run("host-local", {}, ""), 0);
  EXPECT_EQ(out_, "");
  EXPECT_THAT(
      err_,
      HasSubstr(
          "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"));
}

TEST_F(PluginMainTest, Version_NeedsNothing) {
  EXPECT_EQ(Run("host-local", {{"CNI_COMMAND", "VERSION"}}, "rubbish"), 0);
  EXPECT_EQ(out_,
            "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3."
            "1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n");
}

TEST_F(PluginMainTest, BadCalls_HaveTheSpecificationsCodes) {
  auto env = Env("FOO");
  EXPECT_EQ(Run("host-local", env, kConf), 1);
  ExpectError(4, "unknown CNI_COMMAND: FOO");

  EXPECT_EQ(Run("host-local", {{"CNI_COMMAND", "ADD"}}, kConf), 1);
  ExpectError(4, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing");
  EXPECT_EQ(Run("host-local", {{"CNI_COMMAND", "DEL"}}, kConf), 1);
  ExpectError(4, "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing");
  EXPECT_EQ(Run("host-local", {{"CNI_COMMAND", "GC"}}, kConf), 1);
  ExpectError(4, "required env variables [CNI_PATH] missing");

  env = Env("DEL");
  env["CNI_CONTAINERID"] = "-x";
  EXPECT_EQ(Run("host-local", env, kConf), 1);
  ExpectError(4, "invalid characters in containerID");
  for (const auto& [ifname, why] :
       std::map<std::string, std::string>{{"a234567890123456", "interface name is too long"},
                                          {"..", "is . or .."},
                                          {"a b", "contains / or : or whitespace"}}) {
    env = Env("DEL");
    env["CNI_IFNAME"] = ifname;
    EXPECT_EQ(Run("host-local", env, kConf), 1);
    ExpectError(4, why);
  }

  env = Env("DEL");
  const struct {
    const char* input;
    int code;
    const char* why;
  } cases[] = {
      {"{", 6, "error unmarshall network config"},
      {"[]", 6, "error unmarshall network config"},
      {R"({"cniVersion":7})", 6, "cniVersion"},
      {R"({"cniVersion":"1.0.0"})", 7, "missing network name"},
      {R"({"cniVersion":"1.0.0","name":"../x"})", 7, "invalid characters found in network name"},
      {R"({"cniVersion":"9.9.9","name":"n"})", 1,
       "incompatible CNI versions; config is \"9.9.9\", plugin supports [\"0.1.0\" "},
      {R"({"cniVersion":"1.0.0","name":"n"})", 7, "IPAM config missing 'ipam' key"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(Run("host-local", env, c.input), 1) << c.input;
    ExpectError(c.code, c.why);
  }
  EXPECT_EQ(Run("host-local", Env("GC"), R"({"cniVersion":"1.0.0","name":"n"})"), 1);
  ExpectError(1, "config version does not allow GC");
  EXPECT_EQ(Run("host-local", Env("STATUS"), R"({"cniVersion":"0.4.0","name":"n"})"), 1);
  ExpectError(1, "config version does not allow STATUS");
}

TEST_F(PluginMainTest, OwnNamespace_IsRefusedBeforeAnythingIsDone) {
  auto env = Env("ADD");
  env["CNI_NETNS"] = "/proc/self/ns/net";
  EXPECT_EQ(Run("host-local", env, kConf), 1);
  const Json json = LN_ASSERT_OK(ParseJson(out_));  // one document: not a result and an error
  EXPECT_FALSE(Exists(dir_ / "n/10.1.0.2"));
  env["CNI_NETNS"] = "/nonexistent";
  EXPECT_EQ(Run("host-local", env, kConf), 1);
  ExpectError(999, "/nonexistent");
}

TEST_F(PluginMainTest, HostLocal_DelGcStatusWithoutANamespace) {
  LN_EXPECT_OK(MakeDirs(dir_ / "n", 0755));
  LN_EXPECT_OK(ReplaceFile(dir_ / "n/10.1.0.2", "c1\r\neth0"));
  LN_EXPECT_OK(ReplaceFile(dir_ / "n/10.1.0.3", "c2\r\neth0"));
  EXPECT_EQ(Run("host-local", Env("STATUS"), kConf), 0) << out_;
  EXPECT_EQ(Run("host-local", Env("DEL"), kConf), 0) << out_;
  EXPECT_EQ(out_, "");
  EXPECT_FALSE(Exists(dir_ / "n/10.1.0.2"));
  EXPECT_EQ(Run("host-local", Env("DEL"), kConf), 0) << "again";
  std::string gc = kConf;
  gc.pop_back();
  EXPECT_EQ(Run("host-local", Env("GC"), kConf), 1);
  ExpectError(7, "valid-attachments");
  EXPECT_TRUE(Exists(dir_ / "n/10.1.0.3"));
  EXPECT_EQ(Run("host-local", Env("GC"),
                gc + R"(,"cni.dev/valid-attachments":[{"containerID":"c2","ifname":"eth0"}]})"),
            0);
  EXPECT_TRUE(Exists(dir_ / "n/10.1.0.3"));
  EXPECT_EQ(Run("host-local", Env("GC"), gc + R"(,"cni.dev/valid-attachments":[]})"), 0);
  EXPECT_FALSE(Exists(dir_ / "n/10.1.0.3"));
  for (int i = 2; i <= 6; ++i)
    LN_EXPECT_OK(ReplaceFile(dir_ / ("n/10.1.0." + std::to_string(i)), "c\r\neth0"));
  EXPECT_EQ(Run("host-local", Env("STATUS"), kConf), 1);
  ExpectError(50, "no IP addresses available in range set: 10.1.0.1-10.1.0.6");
}

// In process: what the plugins make of their configurations.
class IpamPluginTest : public PluginMainTest {
 protected:
  Result<cni::AddResult> Add(const std::string& type, const std::string& text,
                             const std::string& args = "", const std::string& version = "1.1.0") {
    conf_ = *ParseJson(text);
    auto host = HostNetworkFor();
    PluginContext context{
        .host = *host, .ipam_dir = dir_.path(), .instance = "", .delegates = nullptr};
    PluginRequest request;
    request.container_id = "c" + std::to_string(++count_);
    request.ifname = "eth0";
    request.args = args;
    request.network = "n";
    request.cni_version = version;
    request.conf = &conf_;
    return registry_.Find(type)->Add(context, request);
  }
  static std::unique_ptr<HostNetwork> HostNetworkFor();
  Json conf_;
  int count_ = 0;
};

}  // namespace
}  // namespace linnet::network

#include "netlink/host_network.h"

namespace linnet::network {
namespace {

std::unique_ptr<HostNetwork> IpamPluginTest::HostNetworkFor() {
  return *HostNetwork::Create({.instance = "", .mode = NftMode::kExec, .state_dir = ""});
}

std::string Ips(const Result<cni::AddResult>& result) {
  if (!result) return result.error().message();
  std::string out;
  for (const auto& ip : result->ips)
    out +=
        (out.empty() ? "" : " ") + ip.address.str() + (ip.gateway ? "@" + ip.gateway->str() : "");
  return out;
}

TEST_F(IpamPluginTest, HostLocal_RangesAndRequests) {
  EXPECT_EQ(
      Ips(Add(
          "host-local",
          R"({"ipam":{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","gateway":"10.1.0.254"}})")),
      "10.1.0.9/24@10.1.0.254");
  EXPECT_EQ(Ips(Add("host-local",
                    R"({"ipam":{"Subnet":"10.2.0.0/24","ranges":[[{"subnet":"fd00::/64"}]]}})")),
            "10.2.0.2/24@10.2.0.1 fd00::2/64@fd00::1");
  EXPECT_EQ(
      Ips(Add(
          "host-local",
          R"({"runtimeConfig":{"ipRanges":[[{"subnet":"10.3.0.0/24"}]]},"ipam":{"ranges":[[{"subnet":"fd01::/64"}]]}})")),
      "10.3.0.2/24@10.3.0.1 fd01::2/64@fd01::1");
  const std::string plain = R"("ipam":{"subnet":"10.4.0.0/24"})";
  EXPECT_EQ(Ips(Add("host-local", "{" + plain + "}",
                    "IgnoreUnknown=1;IP=10.4.0.44;MAC=02:00:00:00:00:01")),
            "10.4.0.44/24@10.4.0.1");
  EXPECT_EQ(Ips(Add("host-local", R"({"args":{"cni":{"ips":["10.4.0.45/24"]}},)" + plain + "}")),
            "10.4.0.45/24@10.4.0.1");
  EXPECT_EQ(Ips(Add("host-local", R"({"runtimeConfig":{"ips":["10.4.0.46"]},)" + plain + "}")),
            "10.4.0.46/24@10.4.0.1");
  EXPECT_THAT(Ips(Add("host-local", R"({"runtimeConfig":{"ips":["10.4.0.46"]},)" + plain + "}")),
              HasSubstr("is not available"));
}

TEST_F(IpamPluginTest, HostLocal_Broken) {
  EXPECT_THAT(Ips(Add("host-local", R"({"ipam":{}})")),
              HasSubstr("$.ipam: no IP ranges specified"));
  EXPECT_THAT(Ips(Add("host-local", R"({"ipam":{"ranges":[[{"subnet":"10.1.0.0/33"}]]}})")),
              HasSubstr("$.ipam.ranges[0][0]"));
  EXPECT_THAT(
      Ips(Add("host-local",
              R"({"ipam":{"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.1.0.0/16"}]]}})")),
      HasSubstr("range set 0 overlaps with 1"));
  EXPECT_THAT(
      Ips(Add("host-local",
              R"({"ipam":{"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/16"}]]}})", "",
              "0.2.0")),
      HasSubstr("does not support more than 1 address per family"));
  EXPECT_THAT(Ips(Add("host-local", R"({"ipam":{"subnet":"10.1.0.0/24","routes":[{"dst":"x"}]}})")),
              HasSubstr("$.ipam.routes[0].dst"));
  EXPECT_THAT(Ips(Add("host-local", R"({"ipam":{"subnet":"10.1.0.0/24"}})", "IP")),
              HasSubstr("ARGS: invalid pair"));
}

TEST_F(IpamPluginTest, HostLocal_RoutesAndResolvConf) {
  LN_EXPECT_OK(ReplaceFile(dir_ / "resolv.conf",
                           "# c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\ndomain d\nsearch a "
                           "b\noptions ndots:5 x\n;\n"));
  const auto result = Add(
      "host-local",
      R"({"ipam":{"subnet":"10.1.0.0/24","routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.9","mtu":1400}],"resolvConf":")" +
          (dir_ / "resolv.conf") + R"("}})");
  ASSERT_TRUE(result.has_value()) << result.error().message();
  ASSERT_EQ(result->routes.size(), 1U);
  EXPECT_EQ(result->routes[0].gw->str(), "10.1.0.9");
  EXPECT_EQ(result->routes[0].mtu, 1400U);
  EXPECT_THAT(result->dns.nameservers, ::testing::ElementsAre("10.0.0.1", "10.0.0.2"));
  EXPECT_THAT(result->dns.search, ::testing::ElementsAre("a", "b"));
  EXPECT_THAT(result->dns.options, ::testing::ElementsAre("ndots:5", "x"));
  EXPECT_EQ(result->dns.domain, "d");
}

TEST_F(IpamPluginTest, HostLocal_Full_IsTryAgainLater) {
  for (int i = 2; i <= 6; ++i)
    EXPECT_EQ(Ips(Add("host-local", R"({"ipam":{"subnet":"10.1.0.0/29"}})")),
              "10.1.0." + std::to_string(i) + "/29@10.1.0.1");
  LN_EXPECT_ERROR(Add("host-local", R"({"ipam":{"subnet":"10.1.0.0/29"}})"),
                  Code::kResourceExhausted, "10.1.0.1-10.1.0.6");
}

TEST_F(IpamPluginTest, Static_AllItsSources) {
  const std::string conf =
      R"("ipam":{"addresses":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"},{"address":"fd00::5/64"}],"dns":{"nameservers":["10.0.0.1"]}})";
  EXPECT_EQ(Ips(Add("static", "{" + conf + "}")), "10.1.0.5/24@10.1.0.1 fd00::5/64");
  EXPECT_EQ(Ips(Add("static", "{" + conf + "}", "IP=10.9.0.1/16;GATEWAY=10.9.0.254,fd00::1")),
            "10.1.0.5/24@10.1.0.1 fd00::5/64@fd00::1 10.9.0.1/16@10.9.0.254");
  EXPECT_EQ(Ips(Add("static", R"({"runtimeConfig":{"ips":["10.8.0.1/24"]},)" + conf + "}")),
            "10.8.0.1/24");
  EXPECT_THAT(Ips(Add("static", R"({"ipam":{"addresses":[{"address":"10.1.0.5"}]}})")),
              HasSubstr("CIDR notation"));
}

}  // namespace
}  // namespace linnet::network
