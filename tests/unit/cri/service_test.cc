// The services over a real socket: gRPC, worker threads, conversion and the orchestrator, with
// fakes of runtime, network and images behind it.
#include <csignal>
#include <future>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "cri.grpc.pb.h"
#include "daemon/listener.h"
#include "daemon/server.h"
#include "fakes.h"
#include "linnet.grpc.pb.h"
#include "service/serve.h"
#include "service/services.h"
#include "streaming/tickets.h"

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals

// Images whose pulls go on until they are told to stop, and that remember what was imported.
class SlowImages final : public oci::ImageStore {
 public:
  explicit SlowImages(const std::string& root) : inner_(root) {}
  std::vector<std::shared_ptr<const oci::Image>> List() const override { return inner_.List(); }
  std::shared_ptr<const oci::Image> Find(std::string_view ref) const override {
    return inner_.Find(ref);
  }
  Result<std::shared_ptr<const oci::Image>> Pull(const oci::Reference& ref,
                                                 const oci::PullOptions& options) override {
    if (ref.path == "library/down") return Unavailable("RegistryUnavailable: nobody answered");
    for (std::uint64_t i = 1; i <= 50 && options.progress; ++i) options.progress({"layer", i, 50});
    if (ref.path == "library/endless") {
      std::promise<void> stopped;
      const std::stop_callback on_stop(options.stop, [&] { stopped.set_value(); });
      stopped.get_future().wait();
      stopped_pulls.set_value();
      return Error(Code::kCancelled, "stopped");
    }
    return inner_.Pull(ref, options);
  }
  Result<std::shared_ptr<const oci::Image>> Import(FdRef archive,
                                                   const ImportOptions& options) override {
    imported = LN_TRY(ReadAll(archive));
    import_options = options;
    return inner_.Import(archive, options);
  }
  Result<void> Remove(std::string_view) override { return Ok(); }
  Result<std::shared_ptr<const void>> Hold(const oci::Digest& id) override {
    return inner_.Hold(id);
  }
  Result<oci::FsUsage> Usage() const override {
    return oci::FsUsage{.mountpoint = "/x", .used_bytes = 5, .inodes_used = 2};
  }

  std::promise<void> stopped_pulls;
  std::string imported;
  ImportOptions import_options;

 private:
  pods::FakeImages inner_;
};

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    dir_.Write("image/etc/");
    images_ = std::make_unique<SlowImages>(dir_ / "image");
    pods_ = std::make_unique<pods::Manager>(
        pods::PodManagerOptions{
            .root = dir_.path(), .state_dir = dir_.path(), .cgroup_root = "/linnet-test"},
        engine_, *images_);
    LN_EXPECT_OK(pods_->Start(
        [this](runtime::RuntimeEvents events) -> Result<std::unique_ptr<runtime::Runtime>> {
          auto runtime = std::make_unique<pods::FakeRuntime>(std::move(events));
          runtime_ = runtime.get();
          return std::unique_ptr<runtime::Runtime>(std::move(runtime));
        }));
    node_.version = "0.1.0";
    node_.root = dir_.path();
    node_.state = "/run/somewhere";
    workers_ = std::make_unique<WorkerPool>();
    edge_ = std::make_unique<Edge>(*workers_);
    services_.push_back(MakeRuntimeService(*edge_, node_, *pods_, engine_, tickets_));
    services_.push_back(MakeImageService(*edge_, *images_, *pods_));
    services_.push_back(MakeLinnetService(*edge_, node_, *pods_, engine_, *images_));
    socket_ = LN_ASSERT_OK(OpenSocket(dir_ / "linnet.sock"));
    std::vector<grpc::Service*> list;
    for (const auto& service : services_) list.push_back(service.get());
    server_ = LN_ASSERT_OK(Server::Start(socket_.fd, list));
    channel_ = Connect();
    runtime_stub_ = v1::RuntimeService::NewStub(channel_);
    image_stub_ = v1::ImageService::NewStub(channel_);
    linnet_stub_ = ::linnet::v1::Linnet::NewStub(channel_);
  }
  void TearDown() override {
    channel_.reset();
    server_->Shutdown();
  }

  std::shared_ptr<grpc::Channel> Connect() {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetMaxReceiveMessageSize(64 << 20);
    return grpc::CreateCustomChannel("unix://" + (dir_ / "linnet.sock"),
                                     grpc::InsecureChannelCredentials(), args);
  }
  template <class Stub, class Request, class Response>
  grpc::Status Do(Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_authority("localhost");
    context.set_deadline(std::chrono::system_clock::now() + 20s);
    return (stub.*method)(&context, request, response);
  }

  std::string RunPod(const std::string& name = "web") {
    v1::RunPodSandboxRequest q;
    q.mutable_config()->mutable_metadata()->set_name(name);
    q.mutable_config()->mutable_metadata()->set_uid(name);
    q.mutable_config()->mutable_metadata()->set_namespace_("default");
    q.mutable_config()->mutable_dns_config();
    v1::RunPodSandboxResponse r;
    const grpc::Status status = Do(*runtime_stub_, &v1::RuntimeService::Stub::RunPodSandbox, q, &r);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return r.pod_sandbox_id();
  }
  std::string StartContainer(const std::string& pod) {
    v1::CreateContainerRequest q;
    q.set_pod_sandbox_id(pod);
    q.mutable_config()->mutable_metadata()->set_name("c");
    q.mutable_config()->mutable_image()->set_image("busybox");
    v1::CreateContainerResponse r;
    grpc::Status status = Do(*runtime_stub_, &v1::RuntimeService::Stub::CreateContainer, q, &r);
    EXPECT_TRUE(status.ok()) << status.error_message();
    v1::StartContainerRequest start;
    start.set_container_id(r.container_id());
    v1::StartContainerResponse started;
    status = Do(*runtime_stub_, &v1::RuntimeService::Stub::StartContainer, start, &started);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return r.container_id();
  }

  testing::TempDir dir_;
  pods::FakeEngine engine_;
  std::unique_ptr<SlowImages> images_;
  pods::FakeRuntime* runtime_ = nullptr;
  std::unique_ptr<pods::Manager> pods_;
  Node node_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<Edge> edge_;
  streaming::Tickets tickets_{"http://127.0.0.1:1234"};
  std::vector<std::unique_ptr<grpc::Service>> services_;
  ListenSocket socket_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::RuntimeService::Stub> runtime_stub_;
  std::unique_ptr<v1::ImageService::Stub> image_stub_;
  std::unique_ptr<::linnet::v1::Linnet::Stub> linnet_stub_;
};

TEST_F(ServiceTest, Version_IsWhatClientsDemand) {
  v1::VersionResponse r;
  ASSERT_TRUE(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::Version, v1::VersionRequest(), &r).ok());
  EXPECT_EQ(r.version(), "0.1.0");
  EXPECT_EQ(r.runtime_name(), "linnet");
  EXPECT_EQ(r.runtime_version(), "0.1.0");
  EXPECT_EQ(r.runtime_api_version(), "v1");
}

TEST_F(ServiceTest, Streams_AnswerWithUrlsAndRefuseWhatCannotBe) {
  using Stub = v1::RuntimeService::Stub;
  const std::string pod = RunPod();
  const std::string container = StartContainer(pod);
  v1::ExecRequest exec;
  v1::ExecResponse exec_response;
  const auto code_of_exec = [&] {
    return Do(*runtime_stub_, &Stub::Exec, exec, &exec_response).error_code();
  };
  EXPECT_EQ(code_of_exec(), grpc::StatusCode::INVALID_ARGUMENT) << "no id";
  exec.set_container_id(container);
  exec.add_cmd("true");
  EXPECT_EQ(code_of_exec(), grpc::StatusCode::INVALID_ARGUMENT) << "no streams";
  exec.set_stdout(true);
  EXPECT_EQ(code_of_exec(), grpc::StatusCode::OK);
  EXPECT_TRUE(exec_response.url().starts_with("http://127.0.0.1:1234/exec/"));
  exec.set_tty(true);
  exec.set_stderr(true);
  EXPECT_EQ(code_of_exec(), grpc::StatusCode::INVALID_ARGUMENT) << "tty and stderr";
  exec.set_stderr(false);
  exec.set_container_id("unknown");
  EXPECT_EQ(code_of_exec(), grpc::StatusCode::NOT_FOUND);

  v1::AttachRequest attach;
  v1::AttachResponse attach_response;
  attach.set_container_id(container);
  attach.set_stdin(true);
  EXPECT_TRUE(Do(*runtime_stub_, &Stub::Attach, attach, &attach_response).ok());
  EXPECT_TRUE(attach_response.url().starts_with("http://127.0.0.1:1234/attach/"));

  v1::PortForwardRequest forward;
  v1::PortForwardResponse forward_response;
  EXPECT_EQ(Do(*runtime_stub_, &Stub::PortForward, forward, &forward_response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  forward.set_pod_sandbox_id(pod);
  EXPECT_TRUE(Do(*runtime_stub_, &Stub::PortForward, forward, &forward_response).ok());
  EXPECT_TRUE(forward_response.url().starts_with("http://127.0.0.1:1234/portforward/"));

  v1::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(pod);
  v1::StopPodSandboxResponse stopped;
  ASSERT_TRUE(Do(*runtime_stub_, &Stub::StopPodSandbox, stop, &stopped).ok());
  EXPECT_EQ(Do(*runtime_stub_, &Stub::PortForward, forward, &forward_response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Do(*runtime_stub_, &Stub::Attach, attach, &attach_response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ServiceTest, Status_HasBothConditionsAndSortedHandlers) {
  v1::StatusRequest q;
  q.set_verbose(true);
  v1::StatusResponse r;
  ASSERT_TRUE(Do(*runtime_stub_, &v1::RuntimeService::Stub::Status, q, &r).ok());
  ASSERT_EQ(r.status().conditions_size(), 2);
  EXPECT_EQ(r.status().conditions(0).type(), "RuntimeReady");
  EXPECT_EQ(r.status().conditions(1).type(), "NetworkReady");
  EXPECT_TRUE(r.status().conditions(1).status());
  ASSERT_EQ(r.runtime_handlers_size(), 2);
  EXPECT_EQ(r.runtime_handlers(0).name(), "");
  const Json config = LN_ASSERT_OK(ParseJson(r.info().at("config")));
  EXPECT_EQ(config["stateDir"], "/run/somewhere");
}

TEST_F(ServiceTest, RuntimeConfig_IsCgroupfs) {
  v1::RuntimeConfigResponse r;
  ASSERT_TRUE(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::RuntimeConfig, v1::RuntimeConfigRequest(), &r)
          .ok());
  EXPECT_EQ(r.linux().cgroup_driver(), v1::CGROUPFS);
}

TEST_F(ServiceTest, PodAndContainer_LifeOverTheWire) {
  const std::string pod = RunPod();
  const std::string container = StartContainer(pod);

  v1::PodSandboxStatusRequest ask;
  ask.set_pod_sandbox_id(pod);
  ask.set_verbose(true);
  v1::PodSandboxStatusResponse status;
  ASSERT_TRUE(Do(*runtime_stub_, &v1::RuntimeService::Stub::PodSandboxStatus, ask, &status).ok());
  EXPECT_EQ(status.status().state(), v1::SANDBOX_READY);
  EXPECT_EQ(status.status().network().ip(), "10.83.0.2");
  EXPECT_TRUE(status.info().contains("info"));

  v1::ContainerStatusRequest ask_container;
  ask_container.set_container_id(container);
  ask_container.set_verbose(true);
  v1::ContainerStatusResponse running;
  ASSERT_TRUE(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::ContainerStatus, ask_container, &running).ok());
  EXPECT_EQ(running.status().state(), v1::CONTAINER_RUNNING);
  const Json info = LN_ASSERT_OK(ParseJson(running.info().at("info")));
  EXPECT_EQ(info["pid"], 4711);
  EXPECT_TRUE(info["runtimeSpec"].contains("process"));

  v1::ExecSyncRequest exec;
  exec.set_container_id(container);
  exec.add_cmd("echo");
  v1::ExecSyncResponse output;
  ASSERT_TRUE(Do(*runtime_stub_, &v1::RuntimeService::Stub::ExecSync, exec, &output).ok());
  EXPECT_EQ(output.stdout(), "echo");

  v1::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(pod);
  v1::StopPodSandboxResponse stopped;
  ASSERT_TRUE(Do(*runtime_stub_, &v1::RuntimeService::Stub::StopPodSandbox, stop, &stopped).ok());
  v1::RemovePodSandboxRequest remove;
  remove.set_pod_sandbox_id(pod);
  v1::RemovePodSandboxResponse removed;
  ASSERT_TRUE(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::RemovePodSandbox, remove, &removed).ok());
  EXPECT_EQ(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::PodSandboxStatus, ask, &status).error_code(),
      grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, UnknownIds_AreNotFoundOrNothing) {
  v1::ContainerStatusRequest status;
  status.set_container_id("nope");
  v1::ContainerStatusResponse status_response;
  const grpc::Status s =
      Do(*runtime_stub_, &v1::RuntimeService::Stub::ContainerStatus, status, &status_response);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(s.error_message().find("nope"), std::string::npos);
  v1::StopContainerRequest stop;
  stop.set_container_id("nope");
  v1::StopContainerResponse stop_response;
  EXPECT_TRUE(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::StopContainer, stop, &stop_response).ok());
  v1::ExecSyncRequest exec;
  exec.set_container_id("nope");
  exec.add_cmd("true");
  v1::ExecSyncResponse exec_response;
  EXPECT_EQ(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::ExecSync, exec, &exec_response).error_code(),
      grpc::StatusCode::NOT_FOUND);
  v1::RunPodSandboxResponse run;
  EXPECT_EQ(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::RunPodSandbox, v1::RunPodSandboxRequest(), &run)
          .error_code(),
      grpc::StatusCode::INVALID_ARGUMENT);
  v1::StopContainerRequest negative;
  negative.set_timeout(-1);
  EXPECT_EQ(Do(*runtime_stub_, &v1::RuntimeService::Stub::StopContainer, negative, &stop_response)
                .error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, RpcsToCome_AnswerUnimplemented) {
  v1::CheckpointContainerResponse checkpoint;
  EXPECT_EQ(Do(*runtime_stub_, &v1::RuntimeService::Stub::CheckpointContainer,
               v1::CheckpointContainerRequest(), &checkpoint)
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  grpc::ClientContext context;
  auto reader = runtime_stub_->GetContainerEvents(&context, v1::GetEventsRequest());
  v1::ContainerEventResponse event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ServiceTest, StreamPodSandboxes_SendsEachPodOnce) {
  const auto read_all = [this] {
    grpc::ClientContext context;
    auto reader = runtime_stub_->StreamPodSandboxes(&context, v1::StreamPodSandboxesRequest());
    std::set<std::string> ids;
    std::size_t items = 0, messages = 0;
    v1::StreamPodSandboxesResponse response;
    while (reader->Read(&response)) {
      ++messages;
      EXPECT_GT(response.pod_sandboxes_size(), 0);
      for (const auto& pod : response.pod_sandboxes()) ids.insert(pod.id());
      items += static_cast<std::size_t>(response.pod_sandboxes_size());
    }
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(items, ids.size());
    return std::pair(items, messages);
  };
  EXPECT_EQ(read_all(), (std::pair<std::size_t, std::size_t>(0, 0)));
  for (int i = 0; i < 70; ++i) RunPod("p" + std::to_string(i));
  EXPECT_EQ(read_all(), (std::pair<std::size_t, std::size_t>(70, 2)));
}

TEST_F(ServiceTest, ManyStopsThatWait_DoNotHinderOthers) {
  const std::string container = StartContainer(RunPod());
  runtime_->ignore_signals = true;
  std::vector<std::thread> stops;
  std::atomic<int> stopped = 0;
  for (int i = 0; i < 80; ++i) {
    stops.emplace_back([&] {
      v1::StopContainerRequest q;
      q.set_container_id(container);
      q.set_timeout(600);
      v1::StopContainerResponse r;
      grpc::ClientContext context;
      if (runtime_stub_->StopContainer(&context, q, &r).ok()) ++stopped;
    });
  }
  while (workers_->threads() < 80) std::this_thread::yield();
  EXPECT_FALSE(RunPod("other").empty());
  v1::ListContainersResponse list;
  EXPECT_TRUE(Do(*runtime_stub_, &v1::RuntimeService::Stub::ListContainers,
                 v1::ListContainersRequest(), &list)
                  .ok());
  EXPECT_EQ(stopped, 0);
  // A stop that waits less ends the others, too.
  v1::StopContainerRequest now;
  now.set_container_id(container);
  v1::StopContainerResponse r;
  EXPECT_TRUE(Do(*runtime_stub_, &v1::RuntimeService::Stub::StopContainer, now, &r).ok());
  for (std::thread& thread : stops) thread.join();
  EXPECT_EQ(stopped, 80);
}

TEST_F(ServiceTest, Images_ListStatusAndFsInfo) {
  v1::ListImagesResponse list;
  ASSERT_TRUE(
      Do(*image_stub_, &v1::ImageService::Stub::ListImages, v1::ListImagesRequest(), &list).ok());
  ASSERT_EQ(list.images_size(), 1);
  v1::ImageStatusRequest q;
  q.mutable_image()->set_image("busybox");
  q.set_verbose(true);
  v1::ImageStatusResponse by_name, by_id;
  ASSERT_TRUE(Do(*image_stub_, &v1::ImageService::Stub::ImageStatus, q, &by_name).ok());
  q.mutable_image()->set_image(list.images(0).id());
  ASSERT_TRUE(Do(*image_stub_, &v1::ImageService::Stub::ImageStatus, q, &by_id).ok());
  EXPECT_EQ(by_name.image().SerializeAsString(), by_id.image().SerializeAsString());
  EXPECT_TRUE(by_name.info().contains("info"));
  q.mutable_image()->set_image("absent");
  v1::ImageStatusResponse absent;
  ASSERT_TRUE(Do(*image_stub_, &v1::ImageService::Stub::ImageStatus, q, &absent).ok());
  EXPECT_FALSE(absent.has_image());
  v1::ImageFsInfoResponse fs;
  ASSERT_TRUE(
      Do(*image_stub_, &v1::ImageService::Stub::ImageFsInfo, v1::ImageFsInfoRequest(), &fs).ok());
  ASSERT_EQ(fs.image_filesystems_size(), 1);
  EXPECT_EQ(fs.image_filesystems(0).used_bytes().value(), 5U);
  EXPECT_GT(fs.image_filesystems(0).timestamp(), 0);
}

TEST_F(ServiceTest, PullImage_RegistryDown_IsUnknownWithItsPrefix) {
  v1::PullImageRequest q;
  q.mutable_image()->set_image("down");
  v1::PullImageResponse r;
  const grpc::Status status = Do(*image_stub_, &v1::ImageService::Stub::PullImage, q, &r);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNKNOWN);
  EXPECT_TRUE(status.error_message().starts_with("RegistryUnavailable")) << status.error_message();
}

TEST_F(ServiceTest, PullImage_ClientGivesUp_StopsThePull) {
  v1::PullImageRequest q;
  q.mutable_image()->set_image("endless");
  v1::PullImageResponse r;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 50ms);
  EXPECT_EQ(image_stub_->PullImage(&context, q, &r).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(images_->stopped_pulls.get_future().wait_for(10s), std::future_status::ready);
}

TEST_F(ServiceTest, PullWithProgress_EndsWithTheImage) {
  ::linnet::v1::PullImageRequest q;
  q.set_image("busybox");
  grpc::ClientContext context;
  auto reader = linnet_stub_->PullImage(&context, q);
  ::linnet::v1::PullProgress progress;
  std::uint64_t last = 0;
  std::string id;
  while (reader->Read(&progress)) {
    if (progress.what() == "layer") {
      EXPECT_GT(progress.done_bytes(), last);
      last = progress.done_bytes();
    }
    id = progress.image_id();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(last, 50U);
  EXPECT_EQ(id, oci::Digest::Sha256Of("config").str());
}

TEST_F(ServiceTest, PullWithProgress_Fails_TellsWhy) {
  ::linnet::v1::PullImageRequest q;
  q.set_image("down");
  grpc::ClientContext context;
  auto reader = linnet_stub_->PullImage(&context, q);
  ::linnet::v1::PullProgress progress;
  while (reader->Read(&progress)) {
  }
  EXPECT_TRUE(reader->Finish().error_message().starts_with("RegistryUnavailable"));
}

TEST_F(ServiceTest, PullWithProgress_ClientGoes_StopsThePull) {
  ::linnet::v1::PullImageRequest q;
  q.set_image("endless");
  grpc::ClientContext context;
  auto reader = linnet_stub_->PullImage(&context, q);
  ::linnet::v1::PullProgress progress;
  ASSERT_TRUE(reader->Read(&progress));
  context.TryCancel();
  EXPECT_EQ(images_->stopped_pulls.get_future().wait_for(10s), std::future_status::ready);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ServiceTest, Import_ManyChunks_ArriveInOrder) {
  grpc::ClientContext context;
  ::linnet::v1::ImportImageResponse r;
  auto writer = linnet_stub_->ImportImage(&context, &r);
  ::linnet::v1::ImportImageRequest first;
  first.mutable_options()->set_name("local/x:1");
  first.mutable_options()->add_cmd("/bin/sh");
  ASSERT_TRUE(writer->Write(first));
  std::string sent;
  for (int i = 0; i < 20; ++i) {
    ::linnet::v1::ImportImageRequest chunk;
    chunk.set_data(std::string(100'000, static_cast<char>('a' + i)));
    sent += chunk.data();
    ASSERT_TRUE(writer->Write(chunk));
  }
  ASSERT_TRUE(writer->WritesDone());
  const grpc::Status status = writer->Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(images_->imported, sent);
  EXPECT_EQ(images_->import_options.name, "local/x:1");
  EXPECT_EQ(images_->import_options.config.cmd, std::vector<std::string>{"/bin/sh"});
  EXPECT_FALSE(r.image_id().empty());
  EXPECT_FALSE(Exists(dir_ / "tmp"));  // nothing is spooled
}

TEST_F(ServiceTest, Import_WithoutBytes_IsRefused) {
  grpc::ClientContext context;
  ::linnet::v1::ImportImageResponse r;
  auto writer = linnet_stub_->ImportImage(&context, &r);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, Info_CountsWhatIsHere) {
  StartContainer(RunPod());
  ::linnet::v1::InfoResponse r;
  ASSERT_TRUE(
      Do(*linnet_stub_, &::linnet::v1::Linnet::Stub::Info, ::linnet::v1::InfoRequest(), &r).ok());
  EXPECT_EQ(r.pods(), 1U);
  EXPECT_EQ(r.containers(), 1U);
  EXPECT_EQ(r.images(), 1U);
  EXPECT_EQ(r.version(), "0.1.0");
  EXPECT_TRUE(r.network_ready());
}

TEST_F(ServiceTest, TooLargeRequest_IsRefusedAndTheDaemonLives) {
  v1::ExecSyncRequest q;
  q.set_container_id(std::string(17 << 20, 'x'));
  v1::ExecSyncResponse r;
  EXPECT_EQ(Do(*runtime_stub_, &v1::RuntimeService::Stub::ExecSync, q, &r).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::VersionResponse version;
  EXPECT_TRUE(
      Do(*runtime_stub_, &v1::RuntimeService::Stub::Version, v1::VersionRequest(), &version).ok());
}

}  // namespace
}  // namespace linnet::cri
