#include "exec/plugin_delegates.h"

namespace linnet::network {

Result<Plugin*> PluginDelegates::Builtin(const std::string& type) const {
  Plugin* plugin = registry_.Find(type);
  if (plugin == nullptr)
    return NotFound("failed to find plugin \"" + type + "\": it is not built in");
  return plugin;
}

Result<std::string> PluginDelegates::Exec(const char* command, const std::string& type,
                                          const PluginRequest& request) const {
  Invocation invocation;
  invocation.command = command;
  invocation.type = type;
  invocation.container_id = request.container_id;
  invocation.netns_path = request.netns_path;
  invocation.ifname = request.ifname;
  invocation.args = request.args;
  invocation.input = request.conf_text.empty() ? DumpJson(*request.conf) : request.conf_text;
  invocation.deadline = request.deadline;
  return exec_.Run(invocation);
}

Result<cni::AddResult> PluginDelegates::Add(const std::string& type, const PluginRequest& request) {
  if (!IsForeign(type)) return LN_TRY(Builtin(type))->Add(context_, request);
  auto output = Exec("ADD", type, request);
  if (!output) return std::move(output).error();
  return cni::ParseResult(*output, request.cni_version);
}

Result<void> PluginDelegates::Check(const std::string& type, const PluginRequest& request) {
  if (!IsForeign(type)) return LN_TRY(Builtin(type))->Check(context_, request);
  LN_TRY(Exec("CHECK", type, request));
  return Ok();
}

Result<void> PluginDelegates::Del(const std::string& type, const PluginRequest& request) {
  if (quarantine_) return Ok();
  if (!IsForeign(type)) return LN_TRY(Builtin(type))->Del(context_, request);
  auto output = Exec("DEL", type, request);
  if (output) return Ok();
  if (!collect_) return std::move(output).error();
  foreign_failure_ = std::move(output).error();
  return Ok();
}

Result<void> PluginDelegates::Gc(const std::string& type, const PluginRequest& request) {
  if (!IsForeign(type)) {
    const std::vector<ValidAttachment> valid = LN_TRY(ParseValidAttachments(*request.conf));
    return LN_TRY(Builtin(type))->Gc(context_, request, valid);
  }
  LN_TRY(Exec("GC", type, request));
  return Ok();
}

Result<void> PluginDelegates::Status(const std::string& type, const PluginRequest& request) {
  if (!IsForeign(type)) return LN_TRY(Builtin(type))->Status(context_, request);
  LN_TRY(Exec("STATUS", type, request));
  return Ok();
}

}  // namespace linnet::network
