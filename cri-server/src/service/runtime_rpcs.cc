#include "runtime_rpcs.h"

#include <algorithm>

#include "convert/text.h"

namespace linnet::cri {
namespace {

// What kubelet compares with: the version of the interface's own history, not ours.
constexpr const char* kKubeletApiVersion = "0.1.0";
constexpr const char* kRuntimeName = "linnet";

void AddCondition(v1::RuntimeStatus* status, const char* type, bool ok, const std::string& reason,
                  const std::string& message) {
  v1::RuntimeCondition* condition = status->add_conditions();
  condition->set_type(type);
  condition->set_status(ok);
  condition->set_reason(reason);
  condition->set_message(Utf8(message));
}

Json FeaturesJson(const runtime::Runtime::Features& f) {
  return {{"cgroupLayout", f.cgroup_layout},
          {"recursiveReadOnlyMounts", f.recursive_read_only},
          {"userNamespaces", f.user_namespaces},
          {"seccomp", f.seccomp},
          {"apparmor", f.apparmor},
          {"selinux", f.selinux}};
}

}  // namespace

Result<void> RuntimeRpcs::Version(const v1::VersionRequest&, v1::VersionResponse& response,
                                  const Call&) {
  response.set_version(kKubeletApiVersion);
  response.set_runtime_name(kRuntimeName);
  response.set_runtime_version(node_.version);
  response.set_runtime_api_version("v1");
  return Ok();
}

Result<void> RuntimeRpcs::Status(const v1::StatusRequest& request, v1::StatusResponse& response,
                                 const Call&) {
  const network::EngineStatus network = network_.Status();
  v1::RuntimeStatus* status = response.mutable_status();
  AddCondition(status, "RuntimeReady", true, "", "");
  AddCondition(status, "NetworkReady", network.ready,
               network.ready            ? ""
               : network.reason.empty() ? "NetworkPluginNotReady"
                                        : network.reason,
               network.ready ? "" : network.message);
  const runtime::Runtime::Features features = pods_.features();
  std::vector<std::string> handlers = node_.handlers;
  std::sort(handlers.begin(), handlers.end());
  for (const std::string& name : handlers) {
    v1::RuntimeHandler* handler = response.add_runtime_handlers();
    handler->set_name(name);
    handler->mutable_features()->set_recursive_read_only_mounts(features.recursive_read_only);
    handler->mutable_features()->set_user_namespaces(features.user_namespaces);
  }
  response.mutable_features()->set_supplemental_groups_policy(true);
  if (request.verbose()) {
    Json config = node_.config;
    config["stateDir"] = node_.state;  // critest looks for it at the top
    config["rootDir"] = node_.root;
    config["instance"] = node_.instance;
    (*response.mutable_info())["config"] = DumpJson(config);
    (*response.mutable_info())["features"] = DumpJson(FeaturesJson(features));
    (*response.mutable_info())["network"] = DumpJson({{"name", network.network},
                                                      {"source", network.source},
                                                      {"ready", network.ready},
                                                      {"message", network.message}});
  }
  return Ok();
}

Result<void> RuntimeRpcs::Config(const v1::RuntimeConfigRequest&,
                                 v1::RuntimeConfigResponse& response, const Call&) {
  response.mutable_linux()->set_cgroup_driver(v1::CGROUPFS);
  return Ok();
}

Result<void> RuntimeRpcs::Update(const v1::UpdateRuntimeConfigRequest& request,
                                 v1::UpdateRuntimeConfigResponse&, const Call&) {
  const std::string& cidr = request.runtime_config().network_config().pod_cidr();
  if (cidr.empty()) return Ok();
  return network_.SetPodCidr(cidr);
}

}  // namespace linnet::cri
