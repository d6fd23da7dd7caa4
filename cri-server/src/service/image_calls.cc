#include "image_calls.h"

#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "linnet/base/unique_fd.h"

#include "convert/text.h"

namespace linnet::cri {
namespace {

using Context = grpc::CallbackServerContext;

oci::LayerCompression CompressionOf(ext::LayerCompression how) {
  switch (how) {
    case ext::LAYER_COMPRESSION_GZIP:
      return oci::LayerCompression::kGzip;
    case ext::LAYER_COMPRESSION_ZSTD:
      return oci::LayerCompression::kZstd;
    default:
      return oci::LayerCompression::kNone;
  }
}

void NameOf(const oci::Image& image, ext::ImageName* to) {
  to->set_id(image.id.str());
  for (const std::string& tag : image.repo_tags) to->add_repo_tags(tag);
}

// ---- import ----

// The bytes go through a socket to a thread of the call's own, which imports while they come. Each
// chunk is handed over by a worker, and only then is the next one read.
class ImportCall final : public grpc::ServerReadReactor<ext::ImportImageRequest> {
 public:
  ImportCall(Edge& edge, oci::ImageStore& images, Context* context,
             ext::ImportImageResponse& response)
      : edge_(edge),
        images_(images),
        response_(response),
        call_(edge.Begin(context, stop_.get_token())) {}

  void Start() { StartRead(&message_); }
  void OnCancel() override { stop_.request_stop(); }
  void OnReadDone(bool ok) override {
    const bool taken = edge_.workers().Submit(Work::kWait, [this, ok] {
      if (!ok || !Take()) End();
    });
    if (taken) return;
    stop_.request_stop();
    to_import_.Reset();
    if (importer_.joinable()) importer_.join();
    Finish(Edge::Busy());
  }
  void OnDone() override {
    WorkerPool& workers = edge_.workers();
    delete this;
    // The chunks were larger than all that an idle daemon has. Refused: it happens when it is idle.
    (void)workers.Submit(Work::kShort, [] { malloc_trim(0); });
  }

 private:
  static constexpr Method kMethod{"linnet.ImportImage", Where::kWait, true};

  // False: nothing more is wanted.
  bool Take() {
    auto taken = TakeMessage();
    if (!taken) {
      error_ = std::move(taken).error();
      return false;
    }
    if (*taken) StartRead(&message_);
    return *taken;
  }

  Result<bool> TakeMessage() {
    if (message_.has_options()) {
      if (importer_.joinable()) return InvalidArgument("options: only in the first message");
      options_ = message_.options();
      return true;
    }
    if (!importer_.joinable()) LN_TRY(StartImport());
    std::string_view data = message_.data();
    while (!data.empty()) {
      const ssize_t n = ::send(to_import_.get(), data.data(), data.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) return false;  // it has ended
      if (n < 0) return Error::FromErrno(errno, "hand the archive over");
      data.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  Result<void> StartImport() {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      return Error::FromErrno(errno, "socketpair");
    to_import_ = UniqueFd(ends[0]);
    try {
      importer_ = std::thread([this, from = UniqueFd(ends[1])] { outcome_ = Import(from); });
    } catch (const std::system_error& e) {
      return Error(Code::kResourceExhausted, std::string("start a thread: ") + e.what());
    }
    return Ok();
  }

  // In the importer's thread; `response_` is its until it is joined.
  Result<void> Import(FdRef from) {
    oci::ImageStore::ImportOptions options;
    options.name = options_.name();
    options.config.cmd.assign(options_.cmd().begin(), options_.cmd().end());
    options.config.entrypoint.assign(options_.entrypoint().begin(), options_.entrypoint().end());
    options.config.env.assign(options_.env().begin(), options_.env().end());
    options.config.working_dir = options_.working_dir();
    options.config.user = options_.user();
    options.config.labels.insert(options_.labels().begin(), options_.labels().end());
    options.stop = stop_.get_token();
    options.imported = [this](const oci::Image& image) { NameOf(image, response_.add_images()); };
    const auto image = LN_TRY(images_.Import(from, options));
    response_.set_image_id(image->id.str());
    for (const std::string& tag : image->repo_tags) response_.add_repo_tags(tag);
    return Ok();
  }

  void End() {
    // Before the end of the bytes is seen: what is cut short must not become an image.
    if (call_.gone() || error_) stop_.request_stop();
    to_import_.Reset();
    const bool begun = importer_.joinable();
    if (begun) importer_.join();
    Handler run = [this, begun](const Call& call) -> Result<void> {
      if (call.gone()) return Error(Code::kCancelled, "the client has gone");
      if (error_) return *error_;
      if (!begun) return InvalidArgument("data: no bytes of an archive came");
      return outcome_;
    };
    About about = [this] { return Subject{"name", options_.name()}; };
    Finish(edge_.Run(call_, kMethod, about, run));
  }

  Edge& edge_;
  oci::ImageStore& images_;
  ext::ImportImageResponse& response_;
  std::stop_source stop_;
  const Call call_;
  ext::ImportImageRequest message_;
  ext::ImportOptions options_;
  UniqueFd to_import_;
  std::optional<Error> error_;
  Result<void> outcome_ = Internal("the import did not run");  // the thread's, until it is joined
  std::thread importer_;
};

// ---- streams of parts ----

// A call that answers with many messages, made by a worker that waits for the client to take them.
template <class Request, class Part>
class PartsCall : public grpc::ServerWriteReactor<Part> {
 public:
  PartsCall(Edge& edge, const Method& method, Context* context, const Request& request)
      : request_(request),
        edge_(edge),
        method_(method),
        call_(edge.Begin(context, stop_.get_token())) {}

  void Start() {
    if (!edge_.workers().Submit(Work::kWait, [this] { Do(); })) this->Finish(Edge::Busy());
  }
  void OnCancel() override { stop_.request_stop(); }
  void OnWriteDone(bool ok) override {
    // Notified under the lock: once it is released, this object may go.
    const std::lock_guard lock(mu_);
    writing_ = false;
    gone_ = gone_ || !ok;
    changed_.notify_all();
  }
  void OnDone() override { delete this; }

 protected:
  virtual Result<void> Run() = 0;
  virtual std::string Name() const = 0;
  std::stop_token stop() const { return stop_.get_token(); }

  Result<void> Send(Part part) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return !writing_; });
    if (gone_) return Error(Code::kCancelled, "the client has gone");
    message_ = std::move(part);
    writing_ = true;
    lock.unlock();
    this->StartWrite(&message_);
    return Ok();
  }

  const Request request_;

 private:
  void Do() {
    Handler run = [this](const Call&) { return Run(); };
    About about = [this] { return Subject{"name", Name()}; };
    const grpc::Status status = edge_.Run(call_, method_, about, run);
    {
      std::unique_lock lock(mu_);
      changed_.wait(lock, [this] { return !writing_; });
    }
    this->Finish(status);
  }

  Edge& edge_;
  const Method method_;
  std::stop_source stop_;
  const Call call_;
  std::mutex mu_;
  std::condition_variable changed_;
  bool writing_ = false, gone_ = false;
  Part message_;
};

class SaveCall final : public PartsCall<ext::SaveImagesRequest, ext::SaveImagesPart>,
                       private oci::ArchiveSink {
 public:
  SaveCall(Edge& edge, Result<oci::ImageAdmin*> admin, Context* context,
           const ext::SaveImagesRequest& request)
      : PartsCall(edge, {"linnet.SaveImages", Where::kWait}, context, request),
        admin_(std::move(admin)) {}

 private:
  static constexpr std::size_t kChunkBytes = 512U << 10;

  Result<void> Run() override {
    oci::ImageAdmin* const admin = LN_TRY(admin_);
    const std::vector<std::string> images(request_.images().begin(), request_.images().end());
    oci::SaveOptions options;
    options.compression = CompressionOf(request_.compression());
    options.stop = stop();
    LN_TRY(admin->Save(images, options, *this));
    return Flush();
  }
  std::string Name() const override { return request_.images().empty() ? "" : request_.images(0); }

  Result<void> Begin(const std::string& name, std::uint64_t bytes) override {
    LN_TRY(Flush());
    ext::SaveImagesPart part;
    part.mutable_member()->set_name(name);
    part.mutable_member()->set_size(bytes);
    return Send(std::move(part));
  }
  Result<void> Write(std::string_view bytes) override {
    chunk_.append(bytes);
    return chunk_.size() < kChunkBytes ? Ok() : Flush();
  }
  Result<void> Flush() {
    if (chunk_.empty()) return Ok();
    ext::SaveImagesPart part;
    part.mutable_data()->swap(chunk_);
    chunk_.clear();
    return Send(std::move(part));
  }

  Result<oci::ImageAdmin*> admin_;
  std::string chunk_;
};

const char* NameOf(oci::LayerState state) {
  switch (state) {
    case oci::LayerState::kGood:
      return "good";
    case oci::LayerState::kUnverifiable:
      return "unverifiable";
    case oci::LayerState::kDamaged:
      return "damaged";
    case oci::LayerState::kRepaired:
      return "repaired";
  }
  return "";
}

class CheckCall final : public PartsCall<ext::CheckImagesRequest, ext::CheckImagesPart> {
 public:
  CheckCall(Edge& edge, Result<oci::ImageAdmin*> admin, Context* context,
            const ext::CheckImagesRequest& request)
      : PartsCall(edge, {"linnet.CheckImages", Where::kWait, true}, context, request),
        admin_(std::move(admin)) {}

 private:
  Result<void> Run() override {
    oci::ImageAdmin* const admin = LN_TRY(admin_);
    oci::CheckOptions options;
    options.images.assign(request_.images().begin(), request_.images().end());
    options.repair = request_.repair();
    options.auth.username = request_.auth().username();
    options.auth.password = request_.auth().password();
    options.stop = stop();
    options.progress = [this](const oci::PullProgress& progress) {
      ext::CheckImagesPart part;
      part.mutable_progress()->set_what(Utf8(progress.what));
      part.mutable_progress()->set_done_bytes(progress.done_bytes);
      part.mutable_progress()->set_total_bytes(progress.total_bytes);
      (void)Send(std::move(part));  // the client has gone: the stop token says so, too
    };
    ext::CheckImagesPart last;
    last.set_last(true);
    for (const oci::LayerFinding& finding : LN_TRY(admin->Check(options))) {
      auto* to = last.add_findings();
      to->set_layer(finding.layer);
      to->set_state(NameOf(finding.state));
      for (const std::string& problem : finding.problems) to->add_problems(Utf8(problem));
      for (const std::string& image : finding.images) to->add_images(image);
    }
    return Send(std::move(last));
  }
  std::string Name() const override { return request_.images().empty() ? "" : request_.images(0); }

  Result<oci::ImageAdmin*> admin_;
};

void MountTo(const oci::ImageMount& from, ext::ImageMount* to) {
  to->set_target(Utf8(from.target));
  to->set_image_id(from.image_id);
  to->set_name(Utf8(from.name));
}

}  // namespace

Result<oci::ImageAdmin*> ImageCalls::Admin() const {
  oci::ImageAdmin* const admin = images_.admin();
  if (admin == nullptr) return Error(Code::kUnimplemented, "this image store is read only");
  return admin;
}

grpc::ServerReadReactor<ext::ImportImageRequest>* ImageCalls::Import(
    Context* context, ext::ImportImageResponse& response) {
  auto* call = new ImportCall(edge_, images_, context, response);  // OnDone deletes it
  call->Start();
  return call;
}

grpc::ServerWriteReactor<ext::SaveImagesPart>* ImageCalls::Save(
    Context* context, const ext::SaveImagesRequest& request) {
  auto* call = new SaveCall(edge_, Admin(), context, request);  // OnDone deletes it
  call->Start();
  return call;
}

grpc::ServerWriteReactor<ext::CheckImagesPart>* ImageCalls::Check(
    Context* context, const ext::CheckImagesRequest& request) {
  auto* call = new CheckCall(edge_, Admin(), context, request);  // OnDone deletes it
  call->Start();
  return call;
}

Result<void> ImageCalls::Tag(const ext::TagImageRequest& request, ext::TagImageResponse& response) {
  const oci::Reference name = LN_TRY_CTX(oci::Reference::Parse(request.name()), "name");
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  NameOf(*LN_TRY(admin->Tag(request.image(), name)), response.mutable_image());
  return Ok();
}

Result<void> ImageCalls::Pin(const ext::PinImageRequest& request, ext::PinImageResponse& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  const auto image = LN_TRY(admin->Pin(request.image(), request.pinned()));
  NameOf(*image, response.mutable_image());
  response.set_pinned(image->pinned);
  return Ok();
}

Result<void> ImageCalls::Inspect(const ext::InspectImageRequest& request,
                                 ext::InspectImageResponse& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  const oci::ImageDetails d = LN_TRY(admin->Inspect(request.image()));
  response.set_id(d.image->id.str());
  for (const std::string& tag : d.image->repo_tags) response.add_repo_tags(tag);
  for (const std::string& digest : d.image->repo_digests) response.add_repo_digests(digest);
  response.set_size_bytes(d.image->size_bytes);
  response.set_pinned(d.image->pinned);
  response.set_in_use(d.in_use);
  response.set_config_json(d.config_json);
  response.set_manifest_json(d.manifest_json);
  for (const oci::LayerDetails& from : d.layers) {
    auto* to = response.add_layers();
    to->set_diff_id(from.diff_id);
    to->set_directory(Utf8(from.directory));
    to->set_blob(from.blob);
    to->set_blob_bytes(from.blob_bytes);
    to->set_disk_bytes(from.disk_bytes);
    to->set_inodes(from.inodes);
    to->set_exact(from.exact);
    to->set_images(from.images);
  }
  for (const oci::HistoryEntry& from : d.history) {
    auto* to = response.add_history();
    to->set_created(Utf8(from.created));
    to->set_created_by(Utf8(from.created_by));
    to->set_comment(Utf8(from.comment));
    to->set_empty_layer(from.empty_layer);
    to->set_diff_id(from.diff_id);
    to->set_disk_bytes(from.disk_bytes);
  }
  return Ok();
}

Result<void> ImageCalls::Use(ext::DiskUseResponse& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  const oci::DiskUse use = LN_TRY(admin->Use());
  for (const oci::DiskUse::PerImage& from : use.images) {
    auto* to = response.add_images();
    to->set_id(from.image->id.str());
    for (const std::string& tag : from.image->repo_tags) to->add_repo_tags(tag);
    to->set_bytes(from.bytes);
    to->set_unique_bytes(from.unique_bytes);
    to->set_in_use(from.in_use);
    to->set_pinned(from.image->pinned);
  }
  response.set_layers(use.layers);
  response.set_bytes(use.bytes);
  response.set_inodes(use.inodes);
  response.set_reclaimable_bytes(use.reclaimable_bytes);
  response.set_unfinished_bytes(use.unfinished_bytes);
  return Ok();
}

Result<void> ImageCalls::Prune(const ext::PruneImagesRequest& request,
                               ext::PruneImagesResponse& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  const oci::PruneResult pruned =
      LN_TRY(admin->Prune({.all = request.all(), .dry_run = request.dry_run()}));
  for (const auto& image : pruned.removed) NameOf(*image, response.add_removed());
  response.set_freed_bytes(pruned.freed_bytes);
  return Ok();
}

Result<void> ImageCalls::Mount(const ext::MountImageRequest& request, ext::ImageMount& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  MountTo(LN_TRY(admin->Mount(request.image(), request.target())), &response);
  return Ok();
}

Result<void> ImageCalls::Unmount(const ext::UnmountImageRequest& request,
                                 ext::ImageMounts& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  for (const oci::ImageMount& mount : LN_TRY(admin->Unmount(request.target_or_image())))
    MountTo(mount, response.add_mounts());
  return Ok();
}

Result<void> ImageCalls::Mounts(ext::ImageMounts& response) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  for (const oci::ImageMount& mount : admin->Mounts()) MountTo(mount, response.add_mounts());
  return Ok();
}

Result<void> ImageCalls::Preload(const ext::PreloadRequest& request, ext::PreloadResponse& response,
                                 const Call& call) {
  oci::ImageAdmin* const admin = LN_TRY(Admin());
  const auto files = request.scan() ? LN_TRY(admin->Preload(call.stop)) : admin->Preloaded();
  response.set_directory(preload_dir_);
  for (const oci::PreloadedFile& from : files) {
    auto* to = response.add_files();
    to->set_file(Utf8(from.file));
    to->set_state(from.state);
    to->set_error(Utf8(from.error));
    for (const std::string& image : from.images) to->add_images(image);
  }
  return Ok();
}

}  // namespace linnet::cri
