#include "store/save.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"

#include "media_types.h"
#include "store/compressor.h"

namespace linnet::oci {
namespace {

constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";

std::string BlobName(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
}

Json DumpDescriptor(const Descriptor& d) {
  return {{"mediaType", d.media_type}, {"digest", d.digest.str()}, {"size", d.size}};
}

struct OutImage {
  std::string config_json, manifest_json;
  std::vector<std::string> tags;
  std::vector<std::string> layer_names;
  ImageConfig config;
};

class Saver {
 public:
  Saver(const StoreParts& parts, const std::string& spool, const SaveOptions& options,
        ArchiveSink& sink)
      : parts_(parts), spool_(spool), options_(options), sink_(sink) {}

  Result<void> Run(const std::vector<std::string>& names) {
    std::map<Digest, std::vector<std::string>> wanted;  // id → tags that are written
    std::vector<Digest> order;
    for (const std::string& name : names) LN_TRY(Want(name, wanted, order));
    for (const Digest& id : order) images_.push_back(LN_TRY(Prepare(id, wanted.at(id))));
    LN_TRY(WriteDocuments());
    for (const auto& [digest, layer] : layers_) LN_TRY(WriteLayer(layer));
    return Ok();
  }

 private:
  // By a name: that one; by id or digest: all that the image has.
  Result<void> Want(const std::string& name, std::map<Digest, std::vector<std::string>>& wanted,
                    std::vector<Digest>& order) {
    const auto image = parts_.table.Find(name);
    if (!image) return NotFound("image \"" + name + "\" is not here");
    auto& tags = wanted[image->id];
    if (std::find(order.begin(), order.end(), image->id) == order.end()) order.push_back(image->id);
    const auto ref = Reference::Parse(name);
    const bool named = ref && std::find(image->repo_tags.begin(), image->repo_tags.end(),
                                        ref->str()) != image->repo_tags.end();
    for (const std::string& tag : image->repo_tags) {
      if (named && tag != ref->str()) continue;
      if (std::find(tags.begin(), tags.end(), tag) == tags.end()) tags.push_back(tag);
    }
    return Ok();
  }

  Result<OutImage> Prepare(const Digest& id, const std::vector<std::string>& tags) {
    // Its layers stay while they are sent.
    holds_.push_back(LN_TRY(parts_.table.Hold(id)));
    const auto entry = parts_.table.FindEntry(id.str());
    if (!entry) return NotFound("image " + id.str() + " is not here");
    if (!entry->complete) {
      return FailedPrecondition("image " + id.str() +
                                ": not all of its layers were kept by an older linnet; pull it "
                                "again with `linnet image fsck --repair`");
    }
    OutImage out{.config_json = LN_TRY(parts_.table.ReadConfig(id)), .tags = tags};
    out.config = entry->image->config;
    std::vector<Descriptor> descriptors;
    for (const auto& layer : entry->layers) {
      auto known = by_diff_id_.find(layer->info().diff_id);
      if (known == by_diff_id_.end()) {
        OutLayer prepared =
            LN_TRY(PrepareLayer(parts_, spool_, layer, options_.compression, options_.stop));
        const Digest digest = prepared.descriptor.digest;
        known = by_diff_id_.emplace(layer->info().diff_id, prepared.descriptor).first;
        layers_.emplace(digest, std::move(prepared));
      }
      descriptors.push_back(known->second);
      out.layer_names.push_back(BlobName(known->second.digest));
    }
    out.manifest_json = MakeManifest(out.config_json, descriptors);
    return out;
  }

  Result<void> WriteDocuments() {
    Json index = Json::array();
    Json docker = Json::array();
    std::map<std::string, std::string> blobs;
    for (const OutImage& image : images_) {
      const Digest config = Digest::Sha256Of(image.config_json);
      const Digest manifest = Digest::Sha256Of(image.manifest_json);
      blobs[BlobName(config)] = image.config_json;
      blobs[BlobName(manifest)] = image.manifest_json;
      Json entry = {{"mediaType", media_type::kOciManifest},
                    {"digest", manifest.str()},
                    {"size", image.manifest_json.size()}};
      if (!image.config.architecture.empty() && !image.config.os.empty())
        entry["platform"] = {{"architecture", image.config.architecture}, {"os", image.config.os}};
      if (image.tags.empty()) index.push_back(entry);
      for (const std::string& tag : image.tags) {
        entry["annotations"] = {{"io.containerd.image.name", tag},
                                {"org.opencontainers.image.ref.name", TagOf(tag)}};
        index.push_back(entry);
      }
      docker.push_back(
          {{"Config", BlobName(config)}, {"RepoTags", image.tags}, {"Layers", image.layer_names}});
    }
    LN_TRY(Put("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
    LN_TRY(Put("index.json", DumpJson({{"schemaVersion", 2},
                                       {"mediaType", media_type::kOciIndex},
                                       {"manifests", std::move(index)}})));
    LN_TRY(Put("manifest.json", DumpJson(docker)));
    for (const auto& [name, text] : blobs) LN_TRY(Put(name, text));
    return Ok();
  }

  static std::string TagOf(const std::string& name) { return name.substr(name.rfind(':') + 1); }

  Result<void> Put(const std::string& name, const std::string& text) {
    LN_TRY(sink_.Begin(name, text.size()));
    for (std::size_t at = 0; at < text.size(); at += kPiece)
      LN_TRY(sink_.Write(std::string_view(text).substr(at, kPiece)));
    return Ok();
  }

  Result<void> WriteLayer(const OutLayer& layer) {
    const Descriptor& d = layer.descriptor;
    LN_TRY(sink_.Begin(BlobName(d.digest), d.size));
    std::uint64_t done = 0;
    const std::string shown = ShortDigest(d.digest);
    return SendLayer(parts_, layer, [&](std::string_view bytes) -> Result<void> {
      if (options_.stop.stop_requested()) return Error(Code::kCancelled, "saving was cancelled");
      done += bytes.size();
      if (options_.progress) options_.progress({shown, done, d.size});
      return sink_.Write(bytes);
    });
  }

  static constexpr std::size_t kPiece = 1U << 20;
  const StoreParts& parts_;
  const std::string& spool_;
  const SaveOptions& options_;
  ArchiveSink& sink_;
  std::vector<std::shared_ptr<const void>> holds_;
  std::vector<OutImage> images_;
  std::map<std::string, Descriptor> by_diff_id_;
  std::map<Digest, OutLayer> layers_;  // by the blob's digest: each is written once
};

}  // namespace

Result<OutLayer> PrepareLayer(const StoreParts& parts, const std::string& spool,
                              const std::shared_ptr<const Layer>& layer, LayerCompression how,
                              const std::stop_token& stop) {
  const LayerInfo& info = layer->info();
  if (!info.exact) {
    // It says what is the matter.
    LN_TRY(RebuildLayer(parts.pool, *layer, [](std::string_view) { return Ok(); }));
  }
  OutLayer out{.descriptor = {.media_type = std::string(LayerMediaType(how)),
                              .digest = LN_TRY(Digest::Parse(info.diff_id)),
                              .size = info.tar_bytes},
               .layer = layer};
  if (how == LayerCompression::kNone) return out;
  out.file = LN_TRY(Open(spool, O_TMPFILE | O_RDWR, 0600));
  Hasher hasher;
  std::uint64_t size = 0;
  Compressor compressor(how, [&](std::string_view bytes) {
    hasher.Update(bytes);
    size += bytes.size();
    return WriteAll(out.file, bytes);
  });
  LN_TRY(RebuildLayer(parts.pool, *layer, [&](std::string_view bytes) -> Result<void> {
    if (stop.stop_requested()) return Error(Code::kCancelled, "it was cancelled");
    return compressor.Write(bytes);
  }));
  LN_TRY(compressor.Finish());
  out.descriptor.digest = hasher.Finish();
  out.descriptor.size = size;
  return out;
}

Result<void> SendLayer(const StoreParts& parts, const OutLayer& layer, const ByteSink& sink) {
  if (!layer.file) return RebuildLayer(parts.pool, *layer.layer, sink);
  std::string buffer(256U << 10, '\0');
  for (std::uint64_t at = 0; at < layer.descriptor.size;) {
    const ssize_t n = pread(layer.file.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error::FromErrno(n < 0 ? errno : EIO, "read the compressed layer");
    LN_TRY(sink(std::string_view(buffer.data(), static_cast<std::size_t>(n))));
    at += static_cast<std::uint64_t>(n);
  }
  return Ok();
}

std::string MakeManifest(const std::string& config_json, const std::vector<Descriptor>& layers) {
  Json list = Json::array();
  for (const Descriptor& layer : layers) list.push_back(DumpDescriptor(layer));
  const Descriptor config{.media_type = kConfigType,
                          .digest = Digest::Sha256Of(config_json),
                          .size = config_json.size()};
  return DumpJson({{"schemaVersion", 2},
                   {"mediaType", media_type::kOciManifest},
                   {"config", DumpDescriptor(config)},
                   {"layers", std::move(list)}});
}

Result<void> SaveImages(const StoreParts& parts, const std::string& spool,
                        const std::vector<std::string>& images, const SaveOptions& options,
                        ArchiveSink& sink) {
  if (images.empty()) return InvalidArgument("no image was named");
  return Saver(parts, spool, options, sink).Run(images);
}

}  // namespace linnet::oci
