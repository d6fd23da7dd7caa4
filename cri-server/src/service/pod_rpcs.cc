#include "pod_rpcs.h"

#include "linnet/base/json_view.h"

#include "convert/from_cri.h"
#include "convert/to_cri.h"

namespace linnet::cri {
namespace {

// What `crictl inspectp` shows; the names of the keys are those that other tools read.
std::string Describe(const pods::PodStatus& pod) {
  const auto cni = ParseJson(pod.cni_result_json);
  Json json = {{"netNamespace", pod.netns_path},
               {"hostname", pod.config.hostname},
               {"cgroupParent", pod.config.cgroup_parent},
               {"logDirectory", pod.config.log_directory},
               {"runtimeHandler", pod.config.runtime_handler},
               {"privileged", pod.config.privileged},
               {"cniResult", cni ? *cni : Json()}};
  return DumpJson(json);
}

}  // namespace

Result<void> PodRpcs::Run(const v1::RunPodSandboxRequest& request,
                          v1::RunPodSandboxResponse& response, const Call& call) {
  if (!request.has_config()) return InvalidArgument("config: missing");
  const pods::PodConfig config = LN_TRY(PodConfigFrom(request.config(), request.runtime_handler()));
  response.set_pod_sandbox_id(LN_TRY(pods_.RunPod(config, call.caller())));
  return Ok();
}

Result<void> PodRpcs::Stop(const v1::StopPodSandboxRequest& request, v1::StopPodSandboxResponse&,
                           const Call& call) {
  return pods_.StopPod(request.pod_sandbox_id(), call.caller());
}

Result<void> PodRpcs::Remove(const v1::RemovePodSandboxRequest& request,
                             v1::RemovePodSandboxResponse&, const Call& call) {
  return pods_.RemovePod(request.pod_sandbox_id(), call.caller());
}

Result<void> PodRpcs::Status(const v1::PodSandboxStatusRequest& request,
                             v1::PodSandboxStatusResponse& response, const Call&) {
  const pods::PodStatus pod = LN_TRY(pods_.GetPod(request.pod_sandbox_id()));
  ToCri(pod, response.mutable_status());
  if (request.verbose()) (*response.mutable_info())["info"] = Describe(pod);
  return Ok();
}

Result<void> PodRpcs::List(const v1::ListPodSandboxRequest& request,
                           v1::ListPodSandboxResponse& response, const Call&) {
  for (const pods::PodStatus& pod : pods_.ListPods(LN_TRY(PodFilterFrom(request.filter())))) {
    ToCri(pod, response.add_items());
  }
  return Ok();
}

}  // namespace linnet::cri
