// linnet.v1.Linnet: what CRI does not offer and the command line wants.
#include <mutex>

#include "convert/text.h"
#include "image_calls.h"
#include "linnet.grpc.pb.h"
#include "network_rpcs.h"
#include "serve.h"
#include "services.h"

namespace linnet::cri {
namespace {

using Context = grpc::CallbackServerContext;

// One write at a time; what comes meanwhile is kept by subject, the newest only.
class PullCall final : public grpc::ServerWriteReactor<ext::PullProgress> {
 public:
  PullCall(Edge& edge, oci::ImageStore& images, Context* context,
           const ext::PullImageRequest& request)
      : edge_(edge),
        images_(images),
        request_(request),
        call_(edge.Begin(context, stop_.get_token())) {}

  void Start() {
    if (!edge_.workers().Submit(Work::kWait, [this] { Pull(); })) Finish(Edge::Busy());
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mu_);
    writing_ = false;
    if (!ok) pending_.clear();
    Advance(lock);
  }
  void OnDone() override { delete this; }

 private:
  void Pull() {
    Handler run = [this](const Call& call) -> Result<void> {
      const oci::Reference reference = LN_TRY_CTX(oci::Reference::Parse(request_.image()), "image");
      oci::PullOptions options;
      options.auth.username = request_.auth().username();
      options.auth.password = request_.auth().password();
      if (call.deadline != Deadline::max()) options.deadline = call.deadline;
      options.stop = call.stop;
      options.progress = [this](const oci::PullProgress& progress) { Show(progress); };
      last_.set_image_id(LN_TRY(images_.Pull(reference, options))->id.str());
      last_.set_what("done");
      return Ok();
    };
    About about = [this] { return Subject{"name", request_.image()}; };
    const grpc::Status status =
        edge_.Run(call_, {"linnet.PullImage", Where::kWait, true}, about, run);
    std::unique_lock lock(mu_);
    if (status.ok()) pending_.emplace_back(last_);
    result_ = status;
    Advance(lock);
  }

  void Show(const oci::PullProgress& progress) {
    ext::PullProgress message;
    message.set_what(Utf8(progress.what));
    message.set_done_bytes(progress.done_bytes);
    message.set_total_bytes(progress.total_bytes);
    std::unique_lock lock(mu_);
    for (ext::PullProgress& other : pending_) {
      if (other.what() != message.what()) continue;
      other = std::move(message);
      return;
    }
    pending_.push_back(std::move(message));
    Advance(lock);
  }

  // Unlocks before it tells gRPC: after Finish this object may be gone at once.
  void Advance(std::unique_lock<std::mutex>& lock) {
    if (writing_) return;
    if (!pending_.empty()) {
      writing_ = true;
      message_ = std::move(pending_.front());
      pending_.erase(pending_.begin());
      lock.unlock();
      StartWrite(&message_);
    } else if (result_) {
      const grpc::Status result = *result_;
      lock.unlock();
      Finish(result);
    }
  }

  Edge& edge_;
  oci::ImageStore& images_;
  const ext::PullImageRequest request_;
  std::stop_source stop_;
  const Call call_;
  ext::PullProgress last_;

  std::mutex mu_;
  bool writing_ = false;
  ext::PullProgress message_;
  std::vector<ext::PullProgress> pending_;
  std::optional<grpc::Status> result_;
};

class LinnetService final : public ext::Linnet::CallbackService {
 public:
  LinnetService(Edge& edge, const Node& node, pods::PodManager& pods, network::Engine& network,
                oci::ImageStore& images)
      : edge_(edge),
        node_(node),
        pods_(pods),
        network_(network),
        images_(images),
        calls_(edge, images, node.preload_dir) {}

  grpc::ServerUnaryReactor* Info(Context* context, const ext::InfoRequest*,
                                 ext::InfoResponse* response) override {
    return edge_.Serve(
        context, {"linnet.Info", Where::kShort}, [] { return Subject(); },
        [this, response](const Call&) {
          Fill(*response);
          return Ok();
        });
  }
  grpc::ServerWriteReactor<ext::PullProgress>* PullImage(
      Context* context, const ext::PullImageRequest* request) override {
    auto* call = new PullCall(edge_, images_, context, *request);  // OnDone deletes it
    call->Start();
    return call;
  }
  grpc::ServerReadReactor<ext::ImportImageRequest>* ImportImage(
      Context* context, ext::ImportImageResponse* response) override {
    return calls_.Import(context, *response);
  }
  grpc::ServerWriteReactor<ext::SaveImagesPart>* SaveImages(
      Context* context, const ext::SaveImagesRequest* request) override {
    return calls_.Save(context, *request);
  }
  grpc::ServerWriteReactor<ext::CheckImagesPart>* CheckImages(
      Context* context, const ext::CheckImagesRequest* request) override {
    return calls_.Check(context, *request);
  }
  grpc::ServerUnaryReactor* TagImage(Context* context, const ext::TagImageRequest* request,
                                     ext::TagImageResponse* response) override {
    return Unary(context, {"linnet.TagImage", Where::kShort, true}, request->image(),
                 [=, this](const Call&) { return calls_.Tag(*request, *response); });
  }
  grpc::ServerUnaryReactor* PinImage(Context* context, const ext::PinImageRequest* request,
                                     ext::PinImageResponse* response) override {
    return Unary(context, {"linnet.PinImage", Where::kShort, true}, request->image(),
                 [=, this](const Call&) { return calls_.Pin(*request, *response); });
  }
  grpc::ServerUnaryReactor* InspectImage(Context* context, const ext::InspectImageRequest* request,
                                         ext::InspectImageResponse* response) override {
    return Unary(context, {"linnet.InspectImage", Where::kShort}, request->image(),
                 [=, this](const Call&) { return calls_.Inspect(*request, *response); });
  }
  grpc::ServerUnaryReactor* DiskUse(Context* context, const ext::DiskUseRequest*,
                                    ext::DiskUseResponse* response) override {
    return Unary(context, {"linnet.DiskUse", Where::kShort}, "",
                 [=, this](const Call&) -> Result<void> {
                   LN_TRY(calls_.Use(*response));
                   std::uint64_t bytes = 0;
                   for (const pods::ContainerStats& stats : pods_.ListContainerStats({}))
                     bytes += stats.layer ? stats.layer->used_bytes : 0;
                   response->set_containers_bytes(bytes);
                   return Ok();
                 });
  }
  grpc::ServerUnaryReactor* PruneImages(Context* context, const ext::PruneImagesRequest* request,
                                        ext::PruneImagesResponse* response) override {
    return Unary(context, {"linnet.PruneImages", Where::kWait, true}, "",
                 [=, this](const Call&) { return calls_.Prune(*request, *response); });
  }
  grpc::ServerUnaryReactor* MountImage(Context* context, const ext::MountImageRequest* request,
                                       ext::ImageMount* response) override {
    return Unary(context, {"linnet.MountImage", Where::kShort, true}, request->image(),
                 [=, this](const Call&) { return calls_.Mount(*request, *response); });
  }
  grpc::ServerUnaryReactor* UnmountImage(Context* context, const ext::UnmountImageRequest* request,
                                         ext::ImageMounts* response) override {
    return Unary(context, {"linnet.UnmountImage", Where::kShort, true}, request->target_or_image(),
                 [=, this](const Call&) { return calls_.Unmount(*request, *response); });
  }
  grpc::ServerUnaryReactor* ListImageMounts(Context* context, const ext::ListImageMountsRequest*,
                                            ext::ImageMounts* response) override {
    return Unary(context, {"linnet.ListImageMounts", Where::kShort}, "",
                 [=, this](const Call&) { return calls_.Mounts(*response); });
  }
  grpc::ServerUnaryReactor* Preload(Context* context, const ext::PreloadRequest* request,
                                    ext::PreloadResponse* response) override {
    return Unary(context, {"linnet.Preload", Where::kWait}, "",
                 [=, this](const Call& call) { return calls_.Preload(*request, *response, call); });
  }
  grpc::ServerUnaryReactor* NetworkDump(Context* context, const ext::NetworkDumpRequest*,
                                        ext::NetworkDumpResponse* response) override {
    return edge_.Serve(
        context, {"linnet.NetworkDump", Where::kWait}, [] { return Subject(); },
        [this, response](const Call&) { return DumpNetwork(network_, *response); });
  }
  grpc::ServerUnaryReactor* NetworkCheck(Context* context, const ext::NetworkCheckRequest* request,
                                         ext::NetworkCheckResponse* response) override {
    return edge_.Serve(
        context, {"linnet.NetworkCheck", Where::kWait},
        [request] {
          return Subject{"pod", request->pod_id()};
        },
        [this, request, response](const Call&) {
          return CheckNetwork(network_, *request, *response);
        });
  }
  grpc::ServerUnaryReactor* NetworkGc(Context* context, const ext::NetworkGcRequest*,
                                      ext::NetworkGcResponse* response) override {
    return edge_.Serve(
        context, {"linnet.NetworkGc", Where::kWait, true}, [] { return Subject(); },
        [this, response](const Call&) { return CollectNetworkGarbage(network_, *response); });
  }
  grpc::ServerUnaryReactor* ListAddresses(Context* context, const ext::ListAddressesRequest*,
                                          ext::ListAddressesResponse* response) override {
    return edge_.Serve(
        context, {"linnet.ListAddresses", Where::kWait}, [] { return Subject(); },
        [this, response](const Call&) { return ListNetworkAddresses(network_, *response); });
  }
  grpc::ServerUnaryReactor* Doctor(Context* context, const ext::DoctorRequest*,
                                   ext::DoctorResponse* response) override {
    return edge_.Serve(
        context, {"linnet.Doctor", Where::kWait}, [] { return Subject(); },
        [this, response](const Call&) {
          Diagnose(network_, pods_.features(), *response);
          return Ok();
        });
  }

 private:
  grpc::ServerUnaryReactor* Unary(Context* context, const Method& method, const std::string& name,
                                  Handler handler) {
    return edge_.Serve(
        context, method,
        [name] {
          return Subject{"name", name};
        },
        std::move(handler));
  }

  void Fill(ext::InfoResponse& r) {
    r.set_version(node_.version);
    r.set_instance(node_.instance);
    r.set_root(node_.root);
    r.set_state(node_.state);
    r.set_socket(node_.socket);
    const runtime::Runtime::Features features = pods_.features();
    r.set_cgroup_layout(features.cgroup_layout);
    r.mutable_features()->set_recursive_read_only(features.recursive_read_only);
    r.mutable_features()->set_user_namespaces(features.user_namespaces);
    r.mutable_features()->set_seccomp(features.seccomp);
    r.mutable_features()->set_apparmor(features.apparmor);
    r.mutable_features()->set_selinux(features.selinux);
    const network::EngineStatus network = network_.Status();
    r.set_network(network.network);
    r.set_network_source(network.source);
    r.set_network_ready(network.ready);
    r.set_network_message(Utf8(network.message));
    r.set_pods(pods_.ListPods({}).size());
    r.set_containers(pods_.ListContainers({}).size());
    r.set_images(images_.List().size());
  }

  Edge& edge_;
  const Node& node_;
  pods::PodManager& pods_;
  network::Engine& network_;
  oci::ImageStore& images_;
  ImageCalls calls_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLinnetService(Edge& edge, const Node& node,
                                                 pods::PodManager& pods, network::Engine& network,
                                                 oci::ImageStore& images) {
  return std::make_unique<LinnetService>(edge, node, pods, network, images);
}

}  // namespace linnet::cri
