// Pods.
#pragma once

#include "call.h"
#include "cri.pb.h"

namespace linnet::cri {

namespace v1 = ::runtime::v1;

class PodRpcs {
 public:
  explicit PodRpcs(pods::PodManager& pods) : pods_(pods) {}
  Result<void> Run(const v1::RunPodSandboxRequest& request, v1::RunPodSandboxResponse& response,
                   const Call& call);
  Result<void> Stop(const v1::StopPodSandboxRequest& request, v1::StopPodSandboxResponse& response,
                    const Call& call);
  Result<void> Remove(const v1::RemovePodSandboxRequest& request,
                      v1::RemovePodSandboxResponse& response, const Call& call);
  Result<void> Status(const v1::PodSandboxStatusRequest& request,
                      v1::PodSandboxStatusResponse& response, const Call& call);
  Result<void> List(const v1::ListPodSandboxRequest& request, v1::ListPodSandboxResponse& response,
                    const Call& call);

 private:
  pods::PodManager& pods_;
};

}  // namespace linnet::cri
