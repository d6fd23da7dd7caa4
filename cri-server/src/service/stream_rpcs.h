// Streams: a URL for each, where the streaming server waits.
#pragma once

#include "call.h"
#include "cri.pb.h"
#include "streaming/tickets.h"

namespace linnet::cri {

namespace v1 = ::runtime::v1;

class StreamRpcs {
 public:
  StreamRpcs(pods::PodManager& pods, streaming::Tickets& tickets)
      : pods_(pods), tickets_(tickets) {}
  Result<void> Exec(const v1::ExecRequest& request, v1::ExecResponse& response, const Call& call);
  Result<void> Attach(const v1::AttachRequest& request, v1::AttachResponse& response,
                      const Call& call);
  Result<void> PortForward(const v1::PortForwardRequest& request, v1::PortForwardResponse& response,
                           const Call& call);

 private:
  Result<pods::ContainerStatus> RunningContainer(const std::string& id) const;

  pods::PodManager& pods_;
  streaming::Tickets& tickets_;
};

}  // namespace linnet::cri
