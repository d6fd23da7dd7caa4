#include "plugins_fixture.h"

#include "linnet/base/file.h"

namespace linnet::network {
namespace {

Json Parse(const std::string& text) {
  auto json = ParseJson(text);
  EXPECT_TRUE(json) << text;
  Json out = json ? *json : Json();
  if (!out.contains("name")) out["name"] = "net";
  out["cniVersion"] = "1.1.0";
  return out;
}

}  // namespace

void PluginsTest::SetUp() { NetTest::SetUp(); }

void PluginsTest::TearDown() {
  NetTest::TearDown();
  ShAny(
      "for l in $(ip -o link show type ifb | sed -n 's/^[0-9]*: \\([^@:]*\\).*/\\1/p'); do ip "
      "link del $l; done");
}

Plugin& PluginsTest::Find(const std::string& type) {
  for (const auto& plugin : plugins_) {
    if (plugin->type() == type) return *plugin;
  }
  ADD_FAILURE() << type << " is not built in";
  return *plugins_.front();
}

Result<void> PluginsTest::AddTo(Pod& pod, const std::string& type, const std::string& conf) {
  Json& json = confs_[pod.id + "/" + type];
  json = Parse(conf);
  auto context = Context();
  PluginRequest request = RequestFor(pod.id, pod.netns, json);
  request.raw_text = conf;
  request.prev_result = pod.result;
  pod.result = LN_TRY(Find(type).Add(context, request));
  return Ok();
}

Result<void> PluginsTest::CheckOf(const Pod& pod, const std::string& type) {
  auto context = Context();
  PluginRequest request = RequestFor(pod.id, pod.netns, confs_.at(pod.id + "/" + type));
  request.prev_result = pod.result;
  return Find(type).Check(context, request);
}

Result<void> PluginsTest::DelOf(const Pod& pod, const std::string& type, bool with_result) {
  auto context = Context();
  PluginRequest request = RequestFor(pod.id, pod.netns, confs_.at(pod.id + "/" + type));
  if (with_result) request.prev_result = pod.result;
  return Find(type).Del(context, request);
}

Result<void> PluginsTest::GcOf(const std::string& type, const std::string& conf,
                               const std::vector<std::string>& valid) {
  const Json json = Parse(conf);
  auto context = Context();
  PluginRequest request = RequestFor({}, kHost, json);
  std::vector<ValidAttachment> attachments;
  for (const std::string& id : valid) attachments.push_back({id, "eth0"});
  return Find(type).Gc(context, request, attachments);
}

Result<void> PluginsTest::StatusOf(const std::string& type, const std::string& conf) {
  const Json json = Parse(conf);
  auto context = Context();
  return Find(type).Status(context, RequestFor({}, kHost, json));
}

Pod PluginsTest::AddOwn(const std::string& id, const std::string& type, const std::string& conf) {
  Pod pod;
  pod.id = id;
  auto netns = NewNetns();
  EXPECT_TRUE(netns);
  pod.netns = *std::move(netns);
  Json& json = confs_[id + "/" + type];
  json = Parse(conf);
  auto context = Context();
  EXPECT_TRUE(loopback_->Add(context, RequestFor(id, pod.netns, json)));
  auto result = Find(type).Add(context, RequestFor(id, pod.netns, json));
  EXPECT_TRUE(result) << (result ? "" : result.error().message());
  if (!result) return pod;
  pod.result = *std::move(result);
  for (const cni::IpConfig& ip : pod.result.ips)
    (ip.address.family() == Family::kV4 ? pod.v4 : pod.v6) = ip.address.address().str();
  return pod;
}

std::string PluginsTest::In(const Pod& pod, const std::string& command) {
  const std::string path = "/run/netns/in-" + pod.id;
  if (!Exists(path)) {
    EXPECT_TRUE(Pin(path, pod.ns()));
  }
  return Sh("ip netns exec in-" + pod.id + " " + command);
}

}  // namespace linnet::network
