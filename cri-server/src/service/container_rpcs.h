// Containers, and commands in them.
#pragma once

#include "call.h"
#include "cri.pb.h"

namespace linnet::cri {

namespace v1 = ::runtime::v1;

class ContainerRpcs {
 public:
  explicit ContainerRpcs(pods::PodManager& pods) : pods_(pods) {}
  Result<void> Create(const v1::CreateContainerRequest& request,
                      v1::CreateContainerResponse& response, const Call& call);
  Result<void> Start(const v1::StartContainerRequest& request, v1::StartContainerResponse& response,
                     const Call& call);
  Result<void> Stop(const v1::StopContainerRequest& request, v1::StopContainerResponse& response,
                    const Call& call);
  Result<void> Remove(const v1::RemoveContainerRequest& request,
                      v1::RemoveContainerResponse& response, const Call& call);
  Result<void> Status(const v1::ContainerStatusRequest& request,
                      v1::ContainerStatusResponse& response, const Call& call);
  Result<void> List(const v1::ListContainersRequest& request, v1::ListContainersResponse& response,
                    const Call& call);
  Result<void> Update(const v1::UpdateContainerResourcesRequest& request,
                      v1::UpdateContainerResourcesResponse& response, const Call& call);
  Result<void> ReopenLog(const v1::ReopenContainerLogRequest& request,
                         v1::ReopenContainerLogResponse& response, const Call& call);
  Result<void> ExecSync(const v1::ExecSyncRequest& request, v1::ExecSyncResponse& response,
                        const Call& call);

 private:
  pods::PodManager& pods_;
};

}  // namespace linnet::cri
