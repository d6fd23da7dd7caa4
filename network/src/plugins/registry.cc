#include "plugins/registry.h"

namespace linnet::network {

std::vector<std::unique_ptr<Plugin>> MakeBuiltinPlugins() {
  std::vector<std::unique_ptr<Plugin>> out;
  out.push_back(MakeBandwidthPlugin());
  out.push_back(MakeBridgePlugin());
  out.push_back(MakeFirewallPlugin());
  out.push_back(MakeHostLocalPlugin());
  out.push_back(MakeLoopbackPlugin());
  out.push_back(MakePortmapPlugin());
  out.push_back(MakePtpPlugin());
  out.push_back(MakeStaticPlugin());
  out.push_back(MakeTuningPlugin());
  return out;
}

Plugin* PluginRegistry::Find(std::string_view type) const {
  for (const auto& plugin : plugins_) {
    if (plugin->type() == type) return plugin.get();
  }
  return nullptr;
}

std::vector<std::string> PluginRegistry::Types() const {
  std::vector<std::string> out;
  for (const auto& plugin : plugins_) out.emplace_back(plugin->type());
  return out;
}

Result<std::vector<ValidAttachment>> ParseValidAttachments(const Json& conf) {
  constexpr const char* kKey = "cni.dev/valid-attachments";
  const auto it = conf.is_object() ? conf.find(kKey) : conf.end();
  if (it == conf.end()) {
    return cni::CniError(cni::ErrorCode::kInvalidConfig,
                         std::string("GC without the key \"") + kKey + "\"");
  }
  std::vector<ValidAttachment> out;
  if (it->is_null()) return out;
  const JsonView view(*it, std::string("$.") + kKey, KeyMatch::kIgnoreCase);
  for (const JsonView& item : LN_TRY(view.Elements())) {
    ValidAttachment attachment;
    attachment.container_id = LN_TRY(item.Required<std::string>("containerID"));
    attachment.ifname = LN_TRY(item.Required<std::string>("ifname"));
    out.push_back(std::move(attachment));
  }
  return out;
}

}  // namespace linnet::network
