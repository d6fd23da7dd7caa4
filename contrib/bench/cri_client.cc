#include "cri_client.h"

#include <grpcpp/grpcpp.h>

#include "cri.grpc.pb.h"

namespace linnet::bench {
namespace {

namespace v1 = runtime::v1;
constexpr const char* kNamespace = "linnet-bench";
constexpr auto kCallTimeout = std::chrono::minutes(2);

Error FromStatus(const grpc::Status& status, const char* what) {
  return Internal(std::string(what) + ": " + status.error_message() + " (code " +
                  std::to_string(status.error_code()) + ")");
}

}  // namespace

struct CriClient::Impl {
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::RuntimeService::Stub> runtime;
  std::unique_ptr<v1::ImageService::Stub> images;

  template <class Request, class Response, class Call>
  Result<Response> Do(const char* what, const Request& request, Call call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
    context.set_authority("localhost");
    Response response;
    const grpc::Status status = call(&context, request, &response);
    if (!status.ok()) return FromStatus(status, what);
    return response;
  }
};

#define BENCH_CALL(stub, method, request)                                                  \
  impl_->Do<v1::method##Request, v1::method##Response>(                                    \
      #method, request,                                                                    \
      [&](grpc::ClientContext* c, const v1::method##Request& q, v1::method##Response* r) { \
        return impl_->stub->method(c, q, r);                                               \
      })

CriClient::CriClient(const std::string& endpoint) : impl_(std::make_unique<Impl>()) {
  const std::string target = endpoint.starts_with("unix:") ? endpoint : "unix://" + endpoint;
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  args.SetMaxReceiveMessageSize(16 << 20);
  impl_->channel = grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), args);
  impl_->runtime = v1::RuntimeService::NewStub(impl_->channel);
  impl_->images = v1::ImageService::NewStub(impl_->channel);
}
CriClient::~CriClient() = default;

Result<std::string> CriClient::Version() {
  const v1::VersionResponse version = LN_TRY(BENCH_CALL(runtime, Version, v1::VersionRequest()));
  return version.runtime_name() + " " + version.runtime_version();
}

Result<void> CriClient::Pull(const std::string& image) {
  v1::ImageStatusRequest have;
  have.mutable_image()->set_image(image);
  if (LN_TRY(BENCH_CALL(images, ImageStatus, have)).has_image()) return Ok();
  v1::PullImageRequest request;
  request.mutable_image()->set_image(image);
  LN_TRY(BENCH_CALL(images, PullImage, request));
  return Ok();
}

namespace {

v1::PodSandboxConfig PodConfig(const PodOptions& options, const std::string& name) {
  v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_uid(name);
  config.mutable_metadata()->set_namespace_(kNamespace);
  // A pid namespace per container, as kubelet asks for.
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      v1::CONTAINER);
  config.mutable_dns_config();
  if (options.host_port != 0) {
    auto* port = config.add_port_mappings();
    port->set_container_port(80);
    port->set_host_port(options.host_port);
  }
  return config;
}

}  // namespace

Result<std::string> CriClient::RunPod(const PodOptions& options, const std::string& name) {
  v1::RunPodSandboxRequest request;
  *request.mutable_config() = PodConfig(options, name);
  return LN_TRY(BENCH_CALL(runtime, RunPodSandbox, request)).pod_sandbox_id();
}

Result<PodHandle> CriClient::Start(const PodOptions& options, const std::string& name) {
  PodHandle handle;
  handle.pod = LN_TRY(RunPod(options, name));
  v1::CreateContainerRequest create;
  create.set_pod_sandbox_id(handle.pod);
  *create.mutable_sandbox_config() = PodConfig(options, name);
  auto* config = create.mutable_config();
  config->mutable_metadata()->set_name("c");
  config->mutable_image()->set_image(options.image);
  for (const auto& word : options.command) config->add_command(word);
  auto* security = config->mutable_linux()->mutable_security_context();
  security->mutable_namespace_options()->set_pid(v1::CONTAINER);
  security->mutable_seccomp()->set_profile_type(v1::SecurityProfile::RuntimeDefault);
  handle.container = LN_TRY(BENCH_CALL(runtime, CreateContainer, create)).container_id();
  v1::StartContainerRequest start;
  start.set_container_id(handle.container);
  LN_TRY(BENCH_CALL(runtime, StartContainer, start));
  return handle;
}

Result<void> CriClient::StopAndRemove(const PodHandle& pod) {
  if (!pod.container.empty()) {
    // As kubelet does: the container first, at once.
    v1::StopContainerRequest stop;
    stop.set_container_id(pod.container);
    LN_TRY(BENCH_CALL(runtime, StopContainer, stop));
  }
  v1::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(pod.pod);
  LN_TRY(BENCH_CALL(runtime, StopPodSandbox, stop));
  if (!pod.container.empty()) {
    v1::RemoveContainerRequest remove;
    remove.set_container_id(pod.container);
    LN_TRY(BENCH_CALL(runtime, RemoveContainer, remove));
  }
  v1::RemovePodSandboxRequest remove;
  remove.set_pod_sandbox_id(pod.pod);
  LN_TRY(BENCH_CALL(runtime, RemovePodSandbox, remove));
  return Ok();
}

Result<int> CriClient::ExecSync(const std::string& container,
                                const std::vector<std::string>& command) {
  v1::ExecSyncRequest request;
  request.set_container_id(container);
  for (const auto& word : command) request.add_cmd(word);
  request.set_timeout(30);
  return LN_TRY(BENCH_CALL(runtime, ExecSync, request)).exit_code();
}

Result<std::string> CriClient::ExecUrl(const std::string& container,
                                       const std::vector<std::string>& command, bool with_stdin) {
  v1::ExecRequest request;
  request.set_container_id(container);
  for (const auto& word : command) request.add_cmd(word);
  request.set_stdout(true);
  request.set_stdin(with_stdin);
  return LN_TRY(BENCH_CALL(runtime, Exec, request)).url();
}

Result<std::string> CriClient::PortForwardUrl(const std::string& pod, int port) {
  v1::PortForwardRequest request;
  request.set_pod_sandbox_id(pod);
  request.add_port(port);
  return LN_TRY(BENCH_CALL(runtime, PortForward, request)).url();
}

Result<std::size_t> CriClient::CountPods() {
  const v1::ListPodSandboxResponse list =
      LN_TRY(BENCH_CALL(runtime, ListPodSandbox, v1::ListPodSandboxRequest()));
  return static_cast<std::size_t>(list.items_size());
}

Result<void> CriClient::RemoveAll() {
  const v1::ListPodSandboxResponse list =
      LN_TRY(BENCH_CALL(runtime, ListPodSandbox, v1::ListPodSandboxRequest()));
  for (const auto& pod : list.items()) {
    if (pod.metadata().namespace_() == kNamespace)
      LN_TRY(StopAndRemove({.pod = pod.id(), .container = ""}));
  }
  return Ok();
}

}  // namespace linnet::bench
