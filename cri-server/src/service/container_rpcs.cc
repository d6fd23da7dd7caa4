#include "container_rpcs.h"

#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"

#include "convert/from_cri.h"
#include "convert/to_cri.h"

namespace linnet::cri {
namespace {

// Clients take messages of 16 MiB: what a command wrote beyond is dropped, stderr before stdout.
constexpr std::size_t kMaxOutputBytes = (16U << 20) - 4096;

// Longer than any client waits, and far from overflow in nanoseconds.
constexpr std::int64_t kMaxSeconds = 100LL * 365 * 24 * 3600;

Result<std::chrono::seconds> SecondsFrom(std::int64_t value, const char* field) {
  if (value < 0) return InvalidArgument(std::string(field) + ": must not be negative");
  return std::chrono::seconds(std::min(value, kMaxSeconds));
}

// What `crictl inspect` shows; the names of the keys are those that other tools read.
std::string Describe(const pods::ContainerStatus& c) {
  Json json = {{"sandboxID", c.pod_id},
               {"pid", c.pid},
               {"privileged", c.config.security.privileged},
               {"runtimeType", "linnet"},
               {"runtimeSpecPath", c.runtime_spec_path}};
  if (auto text = ReadFile(c.runtime_spec_path)) {
    if (auto spec = ParseJson(*text)) json["runtimeSpec"] = *std::move(spec);
  }
  return DumpJson(json);
}

}  // namespace

Result<void> ContainerRpcs::Create(const v1::CreateContainerRequest& request,
                                   v1::CreateContainerResponse& response, const Call& call) {
  if (!request.has_config()) return InvalidArgument("config: missing");
  const pods::ContainerConfig config = LN_TRY(ContainerConfigFrom(request.config()));
  response.set_container_id(
      LN_TRY(pods_.CreateContainer(request.pod_sandbox_id(), config, call.caller())));
  return Ok();
}

Result<void> ContainerRpcs::Start(const v1::StartContainerRequest& request,
                                  v1::StartContainerResponse&, const Call& call) {
  return pods_.StartContainer(request.container_id(), call.caller());
}

Result<void> ContainerRpcs::Stop(const v1::StopContainerRequest& request,
                                 v1::StopContainerResponse&, const Call& call) {
  const std::chrono::seconds timeout = LN_TRY(SecondsFrom(request.timeout(), "timeout"));
  return pods_.StopContainer(request.container_id(), timeout, call.caller());
}

Result<void> ContainerRpcs::Remove(const v1::RemoveContainerRequest& request,
                                   v1::RemoveContainerResponse&, const Call& call) {
  return pods_.RemoveContainer(request.container_id(), call.caller());
}

Result<void> ContainerRpcs::Status(const v1::ContainerStatusRequest& request,
                                   v1::ContainerStatusResponse& response, const Call&) {
  const pods::ContainerStatus container = LN_TRY(pods_.GetContainer(request.container_id()));
  ToCri(container, response.mutable_status());
  if (request.verbose()) (*response.mutable_info())["info"] = Describe(container);
  return Ok();
}

Result<void> ContainerRpcs::List(const v1::ListContainersRequest& request,
                                 v1::ListContainersResponse& response, const Call&) {
  for (const pods::ContainerStatus& container :
       pods_.ListContainers(LN_TRY(ContainerFilterFrom(request.filter())))) {
    ToCri(container, response.add_containers());
  }
  return Ok();
}

Result<void> ContainerRpcs::Update(const v1::UpdateContainerResourcesRequest& request,
                                   v1::UpdateContainerResourcesResponse&, const Call&) {
  return pods_.UpdateContainer(request.container_id(), ResourcesFrom(request.linux()));
}

Result<void> ContainerRpcs::ReopenLog(const v1::ReopenContainerLogRequest& request,
                                      v1::ReopenContainerLogResponse&, const Call&) {
  return pods_.ReopenLog(request.container_id());
}

Result<void> ContainerRpcs::ExecSync(const v1::ExecSyncRequest& request,
                                     v1::ExecSyncResponse& response, const Call& call) {
  const std::vector<std::string> command(request.cmd().begin(), request.cmd().end());
  const std::chrono::seconds timeout = LN_TRY(SecondsFrom(request.timeout(), "timeout"));
  pods::ExecSyncResult result =
      LN_TRY(pods_.ExecSync(request.container_id(), command, timeout, call.caller()));
  if (result.out.size() > kMaxOutputBytes) result.out.resize(kMaxOutputBytes);
  if (result.err.size() > kMaxOutputBytes - result.out.size())
    result.err.resize(kMaxOutputBytes - result.out.size());
  response.set_stdout(std::move(result.out));
  response.set_stderr(std::move(result.err));
  response.set_exit_code(result.exit_code);
  return Ok();
}

}  // namespace linnet::cri
