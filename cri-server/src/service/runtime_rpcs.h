// Version, Status, RuntimeConfig, UpdateRuntimeConfig.
#pragma once

#include "call.h"
#include "cri.pb.h"
#include "node.h"

namespace linnet::cri {

namespace v1 = ::runtime::v1;

class RuntimeRpcs {
 public:
  RuntimeRpcs(const Node& node, pods::PodManager& pods, network::Engine& network)
      : node_(node), pods_(pods), network_(network) {}
  Result<void> Version(const v1::VersionRequest& request, v1::VersionResponse& response,
                       const Call& call);
  Result<void> Status(const v1::StatusRequest& request, v1::StatusResponse& response,
                      const Call& call);
  Result<void> Config(const v1::RuntimeConfigRequest& request, v1::RuntimeConfigResponse& response,
                      const Call& call);
  Result<void> Update(const v1::UpdateRuntimeConfigRequest& request,
                      v1::UpdateRuntimeConfigResponse& response, const Call& call);

 private:
  const Node& node_;
  pods::PodManager& pods_;
  network::Engine& network_;
};

}  // namespace linnet::cri
