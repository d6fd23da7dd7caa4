#include "stream_rpcs.h"

namespace linnet::cri {
namespace {

using streaming::StreamRequest;

// What Exec and Attach have in common.
template <class Request>
Result<StreamRequest> StreamsFrom(const Request& request, StreamRequest::Kind kind) {
  if (request.container_id().empty()) return InvalidArgument("container_id: missing");
  if (request.tty() && request.stderr())
    return InvalidArgument("tty and stderr cannot both be true");
  if (!request.stdin() && !request.stdout() && !request.stderr()) {
    return InvalidArgument("one of stdin, stdout or stderr must be set");
  }
  StreamRequest out;
  out.kind = kind;
  out.id = request.container_id();
  out.tty = request.tty();
  out.stdin_open = request.stdin();
  out.stdout_open = request.stdout();
  out.stderr_open = request.stderr();
  return out;
}

}  // namespace

Result<pods::ContainerStatus> StreamRpcs::RunningContainer(const std::string& id) const {
  pods::ContainerStatus status = LN_TRY(pods_.GetContainer(id));
  if (status.phase != pods::ContainerPhase::kRunning)
    return FailedPrecondition("container \"" + id + "\" is not running");
  return status;
}

Result<void> StreamRpcs::Exec(const v1::ExecRequest& request, v1::ExecResponse& response,
                              const Call&) {
  StreamRequest stream = LN_TRY(StreamsFrom(request, StreamRequest::Kind::kExec));
  if (request.cmd().empty()) return InvalidArgument("cmd: must not be empty");
  stream.command.assign(request.cmd().begin(), request.cmd().end());
  (void)LN_TRY(RunningContainer(stream.id));
  response.set_url(LN_TRY(tickets_.Issue(std::move(stream))));
  return Ok();
}

Result<void> StreamRpcs::Attach(const v1::AttachRequest& request, v1::AttachResponse& response,
                                const Call&) {
  StreamRequest stream = LN_TRY(StreamsFrom(request, StreamRequest::Kind::kAttach));
  // Whether there is a terminal is the container's affair.
  stream.tty = LN_TRY(RunningContainer(stream.id)).config.tty;
  if (stream.tty) stream.stderr_open = false;
  response.set_url(LN_TRY(tickets_.Issue(std::move(stream))));
  return Ok();
}

Result<void> StreamRpcs::PortForward(const v1::PortForwardRequest& request,
                                     v1::PortForwardResponse& response, const Call&) {
  if (request.pod_sandbox_id().empty()) return InvalidArgument("pod_sandbox_id: missing");
  const pods::PodStatus pod = LN_TRY(pods_.GetPod(request.pod_sandbox_id()));
  if (pod.state != pods::PodState::kReady) {
    return FailedPrecondition("pod sandbox \"" + request.pod_sandbox_id() + "\" is not ready");
  }
  StreamRequest stream;
  stream.kind = StreamRequest::Kind::kPortForward;
  stream.id = request.pod_sandbox_id();
  response.set_url(LN_TRY(tickets_.Issue(std::move(stream))));
  return Ok();
}

}  // namespace linnet::cri
