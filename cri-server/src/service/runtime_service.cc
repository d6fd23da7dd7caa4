#include "container_rpcs.h"
#include "cri.grpc.pb.h"
#include "list_stream.h"
#include "pod_rpcs.h"
#include "runtime_rpcs.h"
#include "serve.h"
#include "services.h"
#include "stats_rpcs.h"
#include "stream_rpcs.h"

namespace linnet::cri {
namespace {

using Context = grpc::CallbackServerContext;
using Reactor = grpc::ServerUnaryReactor;

class RuntimeService final : public v1::RuntimeService::CallbackService {
 public:
  RuntimeService(Edge& edge, const Node& node, pods::PodManager& pods, network::Engine& network,
                 streaming::Tickets& tickets)
      : edge_(edge),
        runtime_(node, pods, network),
        pods_(pods),
        containers_(pods),
        stats_(pods),
        streams_(pods, tickets) {}

  // The runtime
  Reactor* Version(Context* c, const v1::VersionRequest* q, v1::VersionResponse* r) override {
    return Do(c, {"Version"}, *q, *r, runtime_, &RuntimeRpcs::Version);
  }
  Reactor* Status(Context* c, const v1::StatusRequest* q, v1::StatusResponse* r) override {
    return Do(c, {"Status", Where::kShort}, *q, *r, runtime_, &RuntimeRpcs::Status);
  }
  Reactor* RuntimeConfig(Context* c, const v1::RuntimeConfigRequest* q,
                         v1::RuntimeConfigResponse* r) override {
    return Do(c, {"RuntimeConfig"}, *q, *r, runtime_, &RuntimeRpcs::Config);
  }
  Reactor* UpdateRuntimeConfig(Context* c, const v1::UpdateRuntimeConfigRequest* q,
                               v1::UpdateRuntimeConfigResponse* r) override {
    return Do(c, {"UpdateRuntimeConfig", Where::kShort, true}, *q, *r, runtime_,
              &RuntimeRpcs::Update);
  }

  // Pods
  Reactor* RunPodSandbox(Context* c, const v1::RunPodSandboxRequest* q,
                         v1::RunPodSandboxResponse* r) override {
    return Do(c, {"RunPodSandbox", Where::kShort, true}, *q, *r, pods_, &PodRpcs::Run);
  }
  Reactor* StopPodSandbox(Context* c, const v1::StopPodSandboxRequest* q,
                          v1::StopPodSandboxResponse* r) override {
    return Do(c, {"StopPodSandbox", Where::kWait, true}, *q, *r, pods_, &PodRpcs::Stop);
  }
  Reactor* RemovePodSandbox(Context* c, const v1::RemovePodSandboxRequest* q,
                            v1::RemovePodSandboxResponse* r) override {
    return Do(c, {"RemovePodSandbox", Where::kWait, true}, *q, *r, pods_, &PodRpcs::Remove);
  }
  Reactor* PodSandboxStatus(Context* c, const v1::PodSandboxStatusRequest* q,
                            v1::PodSandboxStatusResponse* r) override {
    return Do(c, {"PodSandboxStatus"}, *q, *r, pods_, &PodRpcs::Status);
  }
  Reactor* ListPodSandbox(Context* c, const v1::ListPodSandboxRequest* q,
                          v1::ListPodSandboxResponse* r) override {
    return Do(c, {"ListPodSandbox"}, *q, *r, pods_, &PodRpcs::List);
  }
  grpc::ServerWriteReactor<v1::StreamPodSandboxesResponse>* StreamPodSandboxes(
      Context* c, const v1::StreamPodSandboxesRequest* q) override {
    v1::ListPodSandboxRequest list;
    *list.mutable_filter() = q->filter();
    return ServeList<v1::StreamPodSandboxesResponse, v1::ListPodSandboxResponse, v1::PodSandbox>(
        edge_, c, {"StreamPodSandboxes"},
        [&](auto& r, const Call& call) { return pods_.List(list, r, call); },
        &v1::ListPodSandboxResponse::mutable_items,
        [](v1::StreamPodSandboxesResponse& r) { return r.mutable_pod_sandboxes(); });
  }

  // Containers
  Reactor* CreateContainer(Context* c, const v1::CreateContainerRequest* q,
                           v1::CreateContainerResponse* r) override {
    return Do(c, {"CreateContainer", Where::kShort, true}, *q, *r, containers_,
              &ContainerRpcs::Create);
  }
  Reactor* StartContainer(Context* c, const v1::StartContainerRequest* q,
                          v1::StartContainerResponse* r) override {
    return Do(c, {"StartContainer", Where::kShort, true}, *q, *r, containers_,
              &ContainerRpcs::Start);
  }
  Reactor* StopContainer(Context* c, const v1::StopContainerRequest* q,
                         v1::StopContainerResponse* r) override {
    return Do(c, {"StopContainer", Where::kWait, true}, *q, *r, containers_, &ContainerRpcs::Stop);
  }
  Reactor* RemoveContainer(Context* c, const v1::RemoveContainerRequest* q,
                           v1::RemoveContainerResponse* r) override {
    return Do(c, {"RemoveContainer", Where::kWait, true}, *q, *r, containers_,
              &ContainerRpcs::Remove);
  }
  Reactor* ContainerStatus(Context* c, const v1::ContainerStatusRequest* q,
                           v1::ContainerStatusResponse* r) override {
    // With verbose a file is read.
    return Do(c, {"ContainerStatus", q->verbose() ? Where::kShort : Where::kInline}, *q, *r,
              containers_, &ContainerRpcs::Status);
  }
  Reactor* ListContainers(Context* c, const v1::ListContainersRequest* q,
                          v1::ListContainersResponse* r) override {
    return Do(c, {"ListContainers"}, *q, *r, containers_, &ContainerRpcs::List);
  }
  grpc::ServerWriteReactor<v1::StreamContainersResponse>* StreamContainers(
      Context* c, const v1::StreamContainersRequest* q) override {
    v1::ListContainersRequest list;
    *list.mutable_filter() = q->filter();
    return ServeList<v1::StreamContainersResponse, v1::ListContainersResponse, v1::Container>(
        edge_, c, {"StreamContainers"},
        [&](auto& r, const Call& call) { return containers_.List(list, r, call); },
        &v1::ListContainersResponse::mutable_containers,
        [](v1::StreamContainersResponse& r) { return r.mutable_containers(); });
  }
  Reactor* UpdateContainerResources(Context* c, const v1::UpdateContainerResourcesRequest* q,
                                    v1::UpdateContainerResourcesResponse* r) override {
    return Do(c, {"UpdateContainerResources", Where::kShort, true}, *q, *r, containers_,
              &ContainerRpcs::Update);
  }
  Reactor* ReopenContainerLog(Context* c, const v1::ReopenContainerLogRequest* q,
                              v1::ReopenContainerLogResponse* r) override {
    return Do(c, {"ReopenContainerLog", Where::kShort}, *q, *r, containers_,
              &ContainerRpcs::ReopenLog);
  }
  Reactor* ExecSync(Context* c, const v1::ExecSyncRequest* q, v1::ExecSyncResponse* r) override {
    return Do(c, {"ExecSync", Where::kWait}, *q, *r, containers_, &ContainerRpcs::ExecSync);
  }

  // Statistics
  Reactor* ContainerStats(Context* c, const v1::ContainerStatsRequest* q,
                          v1::ContainerStatsResponse* r) override {
    return Do(c, {"ContainerStats", Where::kShort}, *q, *r, stats_, &StatsRpcs::Container);
  }
  Reactor* ListContainerStats(Context* c, const v1::ListContainerStatsRequest* q,
                              v1::ListContainerStatsResponse* r) override {
    return Do(c, {"ListContainerStats", Where::kShort}, *q, *r, stats_, &StatsRpcs::Containers);
  }
  grpc::ServerWriteReactor<v1::StreamContainerStatsResponse>* StreamContainerStats(
      Context* c, const v1::StreamContainerStatsRequest* q) override {
    v1::ListContainerStatsRequest list;
    *list.mutable_filter() = q->filter();
    return ServeList<v1::StreamContainerStatsResponse, v1::ListContainerStatsResponse,
                     v1::ContainerStats>(
        edge_, c, {"StreamContainerStats"},
        [&](auto& r, const Call& call) { return stats_.Containers(list, r, call); },
        &v1::ListContainerStatsResponse::mutable_stats,
        [](v1::StreamContainerStatsResponse& r) { return r.mutable_container_stats(); });
  }
  Reactor* PodSandboxStats(Context* c, const v1::PodSandboxStatsRequest* q,
                           v1::PodSandboxStatsResponse* r) override {
    return Do(c, {"PodSandboxStats", Where::kShort}, *q, *r, stats_, &StatsRpcs::Pod);
  }
  Reactor* ListPodSandboxStats(Context* c, const v1::ListPodSandboxStatsRequest* q,
                               v1::ListPodSandboxStatsResponse* r) override {
    return Do(c, {"ListPodSandboxStats", Where::kShort}, *q, *r, stats_, &StatsRpcs::Pods);
  }
  grpc::ServerWriteReactor<v1::StreamPodSandboxStatsResponse>* StreamPodSandboxStats(
      Context* c, const v1::StreamPodSandboxStatsRequest* q) override {
    v1::ListPodSandboxStatsRequest list;
    *list.mutable_filter() = q->filter();
    return ServeList<v1::StreamPodSandboxStatsResponse, v1::ListPodSandboxStatsResponse,
                     v1::PodSandboxStats>(
        edge_, c, {"StreamPodSandboxStats"},
        [&](auto& r, const Call& call) { return stats_.Pods(list, r, call); },
        &v1::ListPodSandboxStatsResponse::mutable_stats,
        [](v1::StreamPodSandboxStatsResponse& r) { return r.mutable_pod_sandbox_stats(); });
  }

  // Streams
  Reactor* Exec(Context* c, const v1::ExecRequest* q, v1::ExecResponse* r) override {
    return Do(c, {"Exec"}, *q, *r, streams_, &StreamRpcs::Exec);
  }
  Reactor* Attach(Context* c, const v1::AttachRequest* q, v1::AttachResponse* r) override {
    return Do(c, {"Attach"}, *q, *r, streams_, &StreamRpcs::Attach);
  }
  Reactor* PortForward(Context* c, const v1::PortForwardRequest* q,
                       v1::PortForwardResponse* r) override {
    return Do(c, {"PortForward"}, *q, *r, streams_, &StreamRpcs::PortForward);
  }

 private:
  template <class Rpcs, class Request, class Response>
  Reactor* Do(Context* context, const Method& method, const Request& request, Response& response,
              Rpcs& rpcs, Result<void> (Rpcs::*rpc)(const Request&, Response&, const Call&)) {
    return edge_.Serve(
        context, method, [&request, &response] { return SubjectOf(request, response); },
        [&request, &response, &rpcs, rpc](const Call& call) {
          return (rpcs.*rpc)(request, response, call);
        });
  }

  Edge& edge_;
  RuntimeRpcs runtime_;
  PodRpcs pods_;
  ContainerRpcs containers_;
  StatsRpcs stats_;
  StreamRpcs streams_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeRuntimeService(Edge& edge, const Node& node,
                                                  pods::PodManager& pods, network::Engine& network,
                                                  streaming::Tickets& tickets) {
  return std::make_unique<RuntimeService>(edge, node, pods, network, tickets);
}

}  // namespace linnet::cri
