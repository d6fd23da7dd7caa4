// linnet.v1.Linnet: what CRI does not offer and the command line wants.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"

#include "convert/text.h"
#include "linnet.grpc.pb.h"
#include "serve.h"
#include "services.h"

namespace linnet::cri {
namespace {

namespace ext = ::linnet::v1;
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

// The archive is spooled to a file without a name, since some archives have their table of contents
// last. Each chunk is written by a worker, and only then is the next one read.
class ImportCall final : public grpc::ServerReadReactor<ext::ImportImageRequest> {
 public:
  ImportCall(Edge& edge, oci::ImageStore& images, const std::string& root, Context* context,
             ext::ImportImageResponse& response)
      : edge_(edge),
        images_(images),
        spool_dir_(JoinPath(root, "tmp")),
        response_(response),
        call_(edge.Begin(context, {})) {}

  void Start() { StartRead(&message_); }
  void OnReadDone(bool ok) override {
    const bool taken = edge_.workers().Submit(Work::kWait, [this, ok] {
      if (ok) {
        Take();
      } else {
        Import();
      }
    });
    if (!taken) Finish(Edge::Busy());
  }
  void OnDone() override { delete this; }

 private:
  static constexpr Method kMethod{"linnet.ImportImage", Where::kWait, true};

  void Take() {
    Handler run = [this](const Call&) -> Result<void> {
      if (message_.has_options()) {
        if (spool_) return InvalidArgument("options: only in the first message");
        options_ = message_.options();
        return Ok();
      }
      if (!spool_) LN_TRY(OpenSpool());
      return WriteAll(spool_, message_.data());
    };
    const auto result = run(call_);
    if (result) {
      StartRead(&message_);
      return;
    }
    Handler fail = [&result](const Call&) -> Result<void> { return result.error(); };
    End(fail);
  }

  Result<void> OpenSpool() {
    LN_TRY(MakeDirs(spool_dir_, 0700));
    const std::string path = JoinPath(spool_dir_, "import-" + RandomHex(8));
    spool_ = LN_TRY(Open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
    return RemoveFile(path);
  }

  void Import() {
    Handler run = [this](const Call& call) -> Result<void> {
      if (call.gone()) return Error(Code::kCancelled, "the client has gone");
      if (!spool_) return InvalidArgument("data: no bytes of an archive came");
      if (::lseek(spool_.get(), 0, SEEK_SET) < 0) return Error::FromErrno(errno, "rewind");
      oci::ImageStore::ImportOptions options;
      options.name = options_.name();
      options.config.cmd.assign(options_.cmd().begin(), options_.cmd().end());
      options.config.entrypoint.assign(options_.entrypoint().begin(), options_.entrypoint().end());
      options.config.env.assign(options_.env().begin(), options_.env().end());
      options.config.working_dir = options_.working_dir();
      options.config.user = options_.user();
      options.config.labels.insert(options_.labels().begin(), options_.labels().end());
      const auto image = LN_TRY(images_.Import(spool_, options));
      response_.set_image_id(image->id.str());
      for (const std::string& tag : image->repo_tags) response_.add_repo_tags(tag);
      return Ok();
    };
    End(run);
  }

  void End(Handler& handler) {
    About about = [this] { return Subject{"name", options_.name()}; };
    Finish(edge_.Run(call_, kMethod, about, handler));
  }

  Edge& edge_;
  oci::ImageStore& images_;
  const std::string spool_dir_;
  ext::ImportImageResponse& response_;
  const Call call_;
  ext::ImportImageRequest message_;
  ext::ImportOptions options_;
  UniqueFd spool_;
};

class LinnetService final : public ext::Linnet::CallbackService {
 public:
  LinnetService(Edge& edge, const Node& node, pods::PodManager& pods, network::Engine& network,
                oci::ImageStore& images)
      : edge_(edge), node_(node), pods_(pods), network_(network), images_(images) {}

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
    auto* call =
        new ImportCall(edge_, images_, node_.root, context, *response);  // OnDone deletes it
    call->Start();
    return call;
  }

 private:
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
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLinnetService(Edge& edge, const Node& node,
                                                 pods::PodManager& pods, network::Engine& network,
                                                 oci::ImageStore& images) {
  return std::make_unique<LinnetService>(edge, node, pods, network, images);
}

}  // namespace linnet::cri
