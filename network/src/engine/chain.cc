#include "engine/chain.h"

#include <algorithm>

#include "linnet/base/log.h"
#include "linnet/base/text.h"

#include "cni/args.h"
#include "cni/version.h"
#include "exec/plugin_delegates.h"
#include "pod_side.h"

namespace linnet::network {
namespace {

// runtimeConfig for `plugin`: what is given of what it declares. Null: nothing, the key is not
// added.
Json RuntimeConfig(const cni::PluginConf& plugin, const Json& capability_args) {
  Json out;
  for (const std::string& capability : plugin.capabilities) {
    const auto it = capability_args.find(capability);
    if (it != capability_args.end()) out[capability] = *it;
  }
  return out;
}

std::string TextOf(const Json& json) { return json.is_null() ? std::string() : DumpJson(json); }

Error InPlugin(Error error, const std::string& type, std::string_view verb) {
  return std::move(error).With("plugin type=\"" + type + "\" failed (" + std::string(verb) + ")");
}

std::string GcExtra(const std::vector<ValidAttachment>& valid) {
  Json list = Json::array();
  for (const ValidAttachment& a : valid)
    list.push_back({{"containerID", a.container_id}, {"ifname", a.ifname}});
  const std::string text = DumpJson(list);
  // The second name is that of drafts of the specification; libcni sends both.
  return ",\"cni.dev/attachments\":" + text + ",\"cni.dev/valid-attachments\":" + text;
}

}  // namespace

// One verb over the chain: requests and calls.
class Chain::Call {
 public:
  Call(const Chain& chain, const cni::NetworkConf& network, const Subject& subject)
      : chain_(chain),
        network_(network),
        subject_(subject),
        own_pod_(subject.netns),
        delegates_(chain.registry_, chain.exec_, subject.foreign,
                   {.host = chain.host_,
                    .ipam_dir = chain.options_.ipam_dir,
                    .instance = chain.options_.instance}) {
    delegates_.CollectForeignFailures();
  }

  bool IsForeign(const std::string& type) const { return delegates_.IsForeign(type); }
  Result<Plugin*> Builtin(const std::string& type) const { return delegates_.Builtin(type); }
  PluginDelegates& delegates() { return delegates_; }
  PluginContext& context() { return delegates_.context(); }

  // Executes `type` with `input`.
  Result<std::string> Exec(const char* command, const std::string& type, std::string input,
                           Deadline deadline) const {
    Invocation invocation;
    invocation.command = command;
    invocation.type = type;
    invocation.container_id = subject_.container_id;
    invocation.netns_path = subject_.netns_path;
    invocation.ifname = subject_.ifname;
    invocation.args = subject_.args;
    invocation.input = std::move(input);
    invocation.deadline = deadline;
    return chain_.exec_.Run(invocation);
  }

  // The request of a built-in plugin; `conf` holds its configuration where that differs from the
  // parsed one.
  Result<PluginRequest> RequestFor(const cni::PluginConf& plugin,
                                   const std::optional<cni::AddResult>& prev,
                                   std::string_view prev_text, Json& conf,
                                   std::string_view extra = {}) {
    PluginRequest request;
    request.container_id = subject_.container_id;
    request.ifname = subject_.ifname;
    request.netns_path = subject_.netns_path;
    request.netns = subject_.netns;
    if (subject_.netns.valid())
      request.pod_side = subject_.pod_side != nullptr ? subject_.pod_side : &own_pod_;
    request.args = subject_.args;
    request.network = network_.name;
    request.cni_version = network_.version;
    request.prev_result = prev;
    request.deadline = subject_.deadline;
    request.conf = &plugin.json;
    request.raw_text = plugin.text;
    const Json runtime = RuntimeConfig(plugin, subject_.capability_args);
    if (!runtime.is_null()) {
      conf = plugin.json;
      conf["runtimeConfig"] = runtime;
      request.conf = &conf;
    }
    // Only a foreign IPAM plugin reads the bytes.
    if (IsForeign(plugin.ipam_type)) {
      request.conf_text =
          LN_TRY(cni::PluginInput(network_, plugin, TextOf(runtime), prev_text, extra));
    }
    return request;
  }

 private:
  const Chain& chain_;
  const cni::NetworkConf& network_;
  const Subject& subject_;
  PodSide own_pod_;
  PluginDelegates delegates_;
};

std::set<std::string> Chain::Foreign(const cni::NetworkConf& network) const {
  std::set<std::string> out;
  const auto consider = [&](const std::string& type) {
    if (type.empty()) return;
    const auto& external = options_.prefer_external;
    const bool prefer = std::find(external.begin(), external.end(), type) != external.end();
    if (registry_.Find(type) == nullptr || (prefer && exec_.Find(type))) out.insert(type);
  };
  for (const cni::PluginConf& plugin : network.plugins) {
    consider(plugin.type);
    consider(plugin.ipam_type);
  }
  return out;
}

Result<void> Chain::Validate(const cni::NetworkConf& network, Deadline deadline) const {
  const std::string version = network.version.empty() ? "0.1.0" : network.version;
  for (const std::string& type : Foreign(network)) {
    LN_TRY(exec_.Find(type));
    // Many a plugin that works does not answer properly: only a clear answer counts.
    const auto versions = exec_.Versions(type, deadline);
    if (!versions) {
      log::Debug("plugin does not say its versions", {{"type", type}, {"err", versions.error()}});
      continue;
    }
    if (std::find(versions->begin(), versions->end(), version) == versions->end()) {
      return cni::CniError(cni::ErrorCode::kIncompatibleVersion,
                           "plugin " + type + " does not support config version \"" + version +
                               "\" (it supports " + Join(*versions, " ") + ")");
    }
  }
  return Ok();
}

Result<ChainResult> Chain::Add(const cni::NetworkConf& network, const Subject& subject) const {
  Call call(*this, network, subject);
  std::optional<cni::AddResult> prev;
  std::string prev_text;  // empty: not written yet
  for (const cni::PluginConf& plugin : network.plugins) {
    if (call.IsForeign(plugin.type)) {
      if (prev && prev_text.empty()) prev_text = LN_TRY(cni::DumpResult(*prev, network.version));
      const std::string runtime = TextOf(RuntimeConfig(plugin, subject.capability_args));
      std::string input = LN_TRY(cni::PluginInput(network, plugin, runtime, prev_text));
      auto output = call.Exec("ADD", plugin.type, std::move(input), subject.deadline);
      if (!output) return InPlugin(std::move(output).error(), plugin.type, "add");
      auto document = ParseJson(*output);
      if (!document)
        return InPlugin(std::move(document).error().With("result"), plugin.type, "add");
      const JsonView view(*document, "$", KeyMatch::kIgnoreCase);
      auto result = cni::ParseResult(view, network.version);
      if (!result) return InPlugin(std::move(result).error().With("result"), plugin.type, "add");
      prev = *std::move(result);
      const auto stated = view.Optional<std::string>("cniVersion", "");
      prev_text = stated && *stated == network.version && !stated->empty()
                      ? std::string(Trim(*output))
                      : std::string();
      continue;
    }
    Plugin* builtin = LN_TRY(call.Builtin(plugin.type));
    if (auto known = cni::CheckArgs(plugin.type, subject.args); !known)
      return InPlugin(std::move(known).error(), plugin.type, "add");
    if (prev && prev_text.empty() && call.IsForeign(plugin.ipam_type))
      prev_text = LN_TRY(cni::DumpResult(*prev, network.version));
    Json conf;
    const PluginRequest request = LN_TRY(call.RequestFor(plugin, prev, prev_text, conf));
    auto result = builtin->Add(call.context(), request);
    if (!result) return InPlugin(std::move(result).error(), plugin.type, "add");
    prev = *std::move(result);
    prev_text.clear();
  }
  if (prev_text.empty()) prev_text = LN_TRY(cni::DumpResult(*prev, network.version));
  // Foreign plugins may have changed what ours have made before them: another MAC address would
  // lose to the guard of its port.
  if (!subject.foreign.empty()) LN_TRY(Restore(network, subject, prev_text));
  return ChainResult{*std::move(prev), std::move(prev_text)};
}

DelReport Chain::Del(const cni::NetworkConf& network, const Subject& subject,
                     const std::string& result) const {
  Call call(*this, network, subject);
  DelReport report;
  std::string prev_text;
  std::optional<cni::AddResult> prev;
  if (cni::AtLeast(network.version, "0.4.0") && !result.empty()) {
    auto parsed = cni::ParseResult(result, network.version);
    if (parsed) {  // a result that nobody can read helps nobody: plugins must do without
      prev = *std::move(parsed);
      prev_text = result;
    }
  }
  const auto note_foreign = [&](Error error, const std::string& type) {
    call.delegates().QuarantineAddresses();
    if (!report.foreign) report.foreign = InPlugin(std::move(error), type, "delete");
  };
  for (auto plugin = network.plugins.rbegin(); plugin != network.plugins.rend(); ++plugin) {
    if (call.IsForeign(plugin->type)) {
      const std::string runtime = TextOf(RuntimeConfig(*plugin, subject.capability_args));
      auto input = cni::PluginInput(network, *plugin, runtime, prev_text);
      auto output = input ? call.Exec("DEL", plugin->type, *std::move(input), subject.deadline)
                          : std::move(input);
      if (!output) note_foreign(std::move(output).error(), plugin->type);
      continue;
    }
    Json conf;
    auto builtin = call.Builtin(plugin->type);
    auto request = call.RequestFor(*plugin, prev, prev_text, conf);
    Result<void> done = !builtin   ? Result<void>(std::move(builtin).error())
                        : !request ? Result<void>(std::move(request).error())
                                   : (*builtin)->Del(call.context(), *request);
    if (auto failure = call.delegates().TakeForeignFailure())
      note_foreign(*std::move(failure), plugin->type);
    if (!done && !report.builtin)
      report.builtin = InPlugin(std::move(done).error(), plugin->type, "delete");
  }
  return report;
}

Result<void> Chain::Check(const cni::NetworkConf& network, const Subject& subject,
                          const std::string& result) const {
  if (!cni::AtLeast(network.version, "0.4.0")) {
    return cni::CniError(
        cni::ErrorCode::kIncompatibleVersion,
        "configuration version \"" + network.version + "\" does not support CHECK");
  }
  if (network.disable_check) return Ok();
  Call call(*this, network, subject);
  std::optional<cni::AddResult> prev;
  if (!result.empty()) prev = LN_TRY(cni::ParseResult(result, network.version));
  for (const cni::PluginConf& plugin : network.plugins) {
    if (call.IsForeign(plugin.type)) {
      const std::string runtime = TextOf(RuntimeConfig(plugin, subject.capability_args));
      std::string input = LN_TRY(cni::PluginInput(network, plugin, runtime, result));
      LN_TRY(call.Exec("CHECK", plugin.type, std::move(input), subject.deadline));
      continue;
    }
    Plugin* builtin = LN_TRY(call.Builtin(plugin.type));
    Json conf;
    const PluginRequest request = LN_TRY(call.RequestFor(plugin, prev, result, conf));
    LN_TRY(builtin->Check(call.context(), request));
  }
  return Ok();
}

Result<void> Chain::Gc(const cni::NetworkConf& network, const std::set<std::string>& foreign,
                       const std::vector<ValidAttachment>& valid, Deadline deadline) const {
  if (network.disable_gc || !cni::AtLeast(network.version, "1.1.0")) return Ok();
  Subject subject;
  subject.foreign = foreign;
  subject.deadline = deadline;
  Call call(*this, network, subject);
  const std::string extra = GcExtra(valid);
  Result<void> first;
  const auto note = [&](Error error, const std::string& type) {
    if (first) first = InPlugin(std::move(error), type, "gc");
  };
  for (const cni::PluginConf& plugin : network.plugins) {
    const std::string input = LN_TRY(cni::PluginInput(network, plugin, {}, {}, extra));
    if (call.IsForeign(plugin.type)) {
      auto output = call.Exec("GC", plugin.type, input, deadline);
      if (!output) note(std::move(output).error(), plugin.type);
      continue;
    }
    Plugin* builtin = LN_TRY(call.Builtin(plugin.type));
    Json conf;
    PluginRequest request = LN_TRY(call.RequestFor(plugin, {}, {}, conf));
    const Json whole = LN_TRY(ParseJson(input));
    request.conf = &whole;
    request.conf_text = input;
    auto done = builtin->Gc(call.context(), request, valid);
    if (!done) note(std::move(done).error(), plugin.type);
  }
  return first;
}

Result<void> Chain::Restore(const cni::NetworkConf& network, const Subject& subject,
                            const std::string& result) const {
  Call call(*this, network, subject);
  std::optional<cni::AddResult> prev;
  if (!result.empty()) prev = LN_TRY(cni::ParseResult(result, network.version));
  Result<void> first;
  for (const cni::PluginConf& plugin : network.plugins) {
    if (call.IsForeign(plugin.type)) continue;
    Plugin* builtin = LN_TRY(call.Builtin(plugin.type));
    Json conf;
    const PluginRequest request = LN_TRY(call.RequestFor(plugin, prev, result, conf));
    auto done = builtin->Restore(call.context(), request);
    if (!done && first) first = InPlugin(std::move(done).error(), plugin.type, "restore");
  }
  return first;
}

Result<void> Chain::Status(const cni::NetworkConf& network, const std::set<std::string>& foreign,
                           Deadline deadline) const {
  if (!cni::AtLeast(network.version, "1.1.0")) return Ok();
  Subject subject;
  subject.foreign = foreign;
  subject.deadline = deadline;
  Call call(*this, network, subject);
  for (const cni::PluginConf& plugin : network.plugins) {
    if (call.IsForeign(plugin.type)) {
      std::string input = LN_TRY(cni::PluginInput(network, plugin, {}, {}));
      LN_TRY(call.Exec("STATUS", plugin.type, std::move(input), deadline));
      continue;
    }
    Plugin* builtin = LN_TRY(call.Builtin(plugin.type));
    Json conf;
    const PluginRequest request = LN_TRY(call.RequestFor(plugin, {}, {}, conf));
    LN_TRY(builtin->Status(call.context(), request));
  }
  return Ok();
}

}  // namespace linnet::network
