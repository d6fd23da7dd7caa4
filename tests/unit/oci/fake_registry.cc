#include "fake_registry.h"

#include "linnet/base/json_view.h"

#include "media_types.h"
#include "store/pull.h"
#include "tar_builder.h"

namespace linnet::oci::testing {
namespace {

Json DescriptorOf(std::string_view type, const std::string& bytes) {
  return {{"mediaType", type}, {"digest", Digest::Sha256Of(bytes).str()}, {"size", bytes.size()}};
}

}  // namespace

MadeImage MakeImage(const std::vector<std::string>& tars, const std::string& cmd,
                    const std::vector<std::string>& diff_ids) {
  MadeImage out;
  Json ids = Json::array();
  Json layers = Json::array();
  for (const std::string& tar : tars) {
    ids.push_back(Digest::Sha256Of(tar).str());
    out.layers.push_back(Gzip(tar));
    layers.push_back(
        DescriptorOf("application/vnd.oci.image.layer.v1.tar+gzip", out.layers.back()));
    out.size += out.layers.back().size();
  }
  if (!diff_ids.empty()) ids = diff_ids;
  out.config = DumpJson({{"architecture", HostArchitecture()},
                         {"os", "linux"},
                         {"config", {{"Cmd", {cmd}}, {"User", "1000"}}},
                         {"rootfs", {{"type", "layers"}, {"diff_ids", ids}}}});
  out.manifest =
      DumpJson({{"schemaVersion", 2},
                {"mediaType", media_type::kOciManifest},
                {"config", DescriptorOf("application/vnd.oci.image.config.v1+json", out.config)},
                {"layers", layers}});
  out.config_digest = Digest::Sha256Of(out.config);
  out.manifest_digest = Digest::Sha256Of(out.manifest);
  out.size += out.config.size();
  return out;
}

std::string MakeIndex(
    const std::vector<std::pair<std::string, const MadeImage*>>& by_architecture) {
  Json manifests = Json::array();
  for (const auto& [architecture, image] : by_architecture) {
    Json entry = DescriptorOf(media_type::kOciManifest, image->manifest);
    entry["platform"] = {{"os", "linux"}, {"architecture", architecture}};
    manifests.push_back(std::move(entry));
  }
  return DumpJson(
      {{"schemaVersion", 2}, {"mediaType", media_type::kOciIndex}, {"manifests", manifests}});
}

class FakeClient final : public RegistryClient {
 public:
  explicit FakeClient(FakeRegistry& registry) : registry_(registry) {}

  Result<Fetched> FetchManifest(const Reference& ref, const Call&) override {
    ++registry_.manifest_fetches_;
    const std::scoped_lock lock(registry_.mu_);
    if (registry_.failure_) return *registry_.failure_;
    const auto at = registry_.manifests_.find(ref.digest ? ref.digest->str() : ref.str());
    if (at == registry_.manifests_.end()) return NotFound(ref.str() + " is not there");
    const Json document = Json::parse(at->second);
    return Fetched{.media_type = document.value("mediaType", ""),
                   .digest = Digest::Sha256Of(at->second),
                   .body = at->second};
  }

  Result<void> FetchBlob(const Reference&, const Descriptor& blob, const Call& call,
                         const std::function<Result<void>(std::string_view)>& sink) override {
    ++registry_.blob_fetches_;
    std::string bytes;
    {
      const std::scoped_lock lock(registry_.mu_);
      const auto at = registry_.blobs_.find(blob.digest.str());
      if (at == registry_.blobs_.end())
        return NotFound("blob " + blob.digest.str() + " is not there");
      bytes = at->second;
    }
    LN_TRY(registry_.PassGate(call.stop));
    for (std::size_t i = 0; i < bytes.size(); i += 16384)
      LN_TRY(sink(std::string_view(bytes).substr(i, 16384)));
    if (Digest::Sha256Of(bytes) != blob.digest) return Error(Code::kDataLoss, "digest mismatch");
    return Ok();
  }

 private:
  FakeRegistry& registry_;
};

void FakeRegistry::Put(const std::string& name, const MadeImage& image) {
  const std::scoped_lock lock(mu_);
  manifests_[name] = image.manifest;
  manifests_[image.manifest_digest.str()] = image.manifest;
  blobs_[image.config_digest.str()] = image.config;
  for (const std::string& layer : image.layers) blobs_[Digest::Sha256Of(layer).str()] = layer;
}

void FakeRegistry::PutIndex(const std::string& name, const std::string& index) {
  const std::scoped_lock lock(mu_);
  manifests_[name] = index;
  manifests_[Digest::Sha256Of(index).str()] = index;
}

void FakeRegistry::RemoveBlob(const Digest& digest) {
  const std::scoped_lock lock(mu_);
  blobs_.erase(digest.str());
}

std::unique_ptr<RegistryClient> FakeRegistry::Client() {
  return std::make_unique<FakeClient>(*this);
}

void FakeRegistry::CloseGate() {
  const std::scoped_lock lock(mu_);
  gate_open_ = false;
}

void FakeRegistry::OpenGate() {
  const std::scoped_lock lock(mu_);
  gate_open_ = true;
  changed_.notify_all();
}

void FakeRegistry::WaitForFetches(int count) {
  std::unique_lock lock(mu_);
  changed_.wait(lock, [&] { return waiting_ >= count; });
}

void FakeRegistry::WaitForStops(int count) {
  std::unique_lock lock(mu_);
  changed_.wait(lock, [&] { return stopped_ >= count; });
}

void FakeRegistry::FailWith(std::optional<Error> error) {
  const std::scoped_lock lock(mu_);
  failure_ = std::move(error);
}

Result<void> FakeRegistry::PassGate(const std::stop_token& stop) {
  std::unique_lock lock(mu_);
  ++waiting_;
  changed_.notify_all();
  const bool open = changed_.wait(lock, stop, [&] { return gate_open_; });
  --waiting_;
  if (open) return Ok();
  ++stopped_;
  changed_.notify_all();
  return Error(Code::kCancelled, "stopped");
}

}  // namespace linnet::oci::testing
