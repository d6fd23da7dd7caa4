// What pods and containers use.
#pragma once

#include "call.h"
#include "cri.pb.h"

namespace linnet::cri {

namespace v1 = ::runtime::v1;

class StatsRpcs {
 public:
  explicit StatsRpcs(pods::PodManager& pods) : pods_(pods) {}
  Result<void> Container(const v1::ContainerStatsRequest& request,
                         v1::ContainerStatsResponse& response, const Call& call);
  Result<void> Containers(const v1::ListContainerStatsRequest& request,
                          v1::ListContainerStatsResponse& response, const Call& call);
  Result<void> Pod(const v1::PodSandboxStatsRequest& request, v1::PodSandboxStatsResponse& response,
                   const Call& call);
  Result<void> Pods(const v1::ListPodSandboxStatsRequest& request,
                    v1::ListPodSandboxStatsResponse& response, const Call& call);

 private:
  pods::PodManager& pods_;
};

}  // namespace linnet::cri
