#include "store/import.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/mutex.h"

#include "media_types.h"
#include "store/image_archive.h"
#include "store/layer_source.h"
#include "unpack/layer_unpacker.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kMaxManifestBytes = 4U << 20;
constexpr std::size_t kMaxConfigBytes = 8U << 20;
constexpr int kMaxIndexDepth = 3;
constexpr const char* kTarType = "application/vnd.oci.image.layer.v1.tar";

// One image of an archive, ready to be stored.
struct Found {
  Manifest manifest;
  std::string manifest_json;  // empty for a docker archive
  std::string config_json;
  ImageNames names;
  std::vector<std::string> layer_members;  // as many as the manifest has layers
};

// The name that the user gave, or nothing.
Result<std::optional<Reference>> GivenName(const std::string& name) {
  if (name.empty()) return std::optional<Reference>();
  Reference ref = LN_TRY(Reference::Parse(name));
  if (ref.digest) return InvalidArgument("an image cannot be given a digest as its name");
  return std::optional<Reference>(std::move(ref));
}

// ---- root file system ----

std::string DumpConfig(const ImageConfig& config, const Digest& diff_id) {
  Json inner = Json::object();
  if (!config.user.empty()) inner["User"] = config.user;
  if (!config.env.empty()) inner["Env"] = config.env;
  if (!config.entrypoint.empty()) inner["Entrypoint"] = config.entrypoint;
  if (!config.cmd.empty()) inner["Cmd"] = config.cmd;
  if (!config.working_dir.empty()) inner["WorkingDir"] = config.working_dir;
  if (!config.labels.empty()) inner["Labels"] = config.labels;
  if (!config.stop_signal.empty()) inner["StopSignal"] = config.stop_signal;
  for (const std::string& volume : config.volumes) inner["Volumes"][volume] = Json::object();
  for (const std::string& port : config.exposed_ports) inner["ExposedPorts"][port] = Json::object();
  Json out = {
      {"architecture", config.architecture.empty() ? HostArchitecture() : config.architecture},
      {"os", config.os.empty() ? "linux" : config.os},
      {"config", std::move(inner)},
      {"rootfs", {{"type", "layers"}, {"diff_ids", {diff_id.str()}}}}};
  // No time of its own: the same tar is the same image.
  if (!config.created.empty()) out["created"] = config.created;
  return DumpJson(out);
}

Result<std::shared_ptr<const Layer>> UnpackRoot(const StoreParts& parts, ArchiveStream& archive,
                                                const ImageStore::ImportOptions& options,
                                                Digest& diff_id) {
  TempLayer temp = LN_TRY(parts.pool.NewTemp());
  const auto unpacker =
      LN_TRY(LayerUnpacker::Start(temp.root(), "sha256", parts.limits, temp.directory()));
  for (;;) {
    if (options.stop.stop_requested()) return Error(Code::kCancelled, "the import was cancelled");
    const std::string_view bytes = LN_TRY(archive.Next());
    if (bytes.empty()) break;
    LN_TRY(unpacker->Write(bytes));
  }
  UnpackedLayer unpacked = LN_TRY(unpacker->Finish());
  diff_id = unpacked.diff_id;
  LayerFacts& facts = unpacked.facts;
  if (facts.inodes == 0) return InvalidArgument("the archive is empty");
  if (facts.DependsOnLower()) LN_TRY(CompleteFromLower(temp.root(), facts, {}));
  LayerInfo info{
      .name = LayerName(diff_id), .diff_id = diff_id.str(), .chained = facts.DependsOnLower()};
  Describe(unpacked, info);
  return parts.pool.Commit(std::move(temp), info);
}

Result<std::shared_ptr<const Image>> ImportRoot(const StoreParts& parts, ArchiveStream& archive,
                                                const ImageStore::ImportOptions& options) {
  const std::optional<Reference> ref = LN_TRY(GivenName(options.name));
  if (!ref) return InvalidArgument("a root file system needs a name for the image");
  Digest diff_id = Digest::Sha256Of("");
  NewImage image;
  image.layers = {LN_TRY(UnpackRoot(parts, archive, options, diff_id))};
  LN_TRY(parts.pool.Sync());
  image.config_json = DumpConfig(options.config, diff_id);
  image.config = LN_TRY_CTX(ImageConfig::Parse(image.config_json), "image config");
  image.size_bytes = archive.bytes_read() + image.config_json.size();
  return parts.table.Add(std::move(image), ImageNames{.tags = {ref->str()}, .digests = {}});
}

// ---- OCI archive ----

std::string BlobName(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
}

Result<std::string> ReadBlob(const ImageArchive& archive, const Digest& digest,
                             std::size_t max_bytes) {
  std::string out = LN_TRY(archive.ReadSmall(BlobName(digest), max_bytes));
  Hasher hasher(digest.algorithm());
  hasher.Update(out);
  if (hasher.Finish() != digest)
    return Error(Code::kDataLoss, "blob " + digest.str() + " does not match its digest");
  return out;
}

// The name that an entry of index.json carries, or "": a bare tag names nothing.
std::string NameOf(const Descriptor& entry) {
  for (const char* key : {"io.containerd.image.name", "org.opencontainers.image.ref.name"}) {
    const auto at = entry.annotations.find(key);
    if (at != entry.annotations.end() && at->second.find_first_of("/:") != std::string::npos)
      return at->second;
  }
  return "";
}

Result<Found> ReadOciImage(const ImageArchive& archive, const Descriptor& top,
                           const std::string& name) {
  Descriptor at = top;
  std::string body;
  for (int depth = 0;; ++depth) {
    body = LN_TRY(ReadBlob(archive, at.digest, kMaxManifestBytes));
    if (!IsIndexType(at.media_type)) break;
    if (depth == kMaxIndexDepth) return InvalidArgument("indexes are nested too deeply");
    const Index index = LN_TRY_CTX(Index::Parse(body), "index");
    at = LN_TRY(index.Select("linux", HostArchitecture()));
  }
  Found out{.manifest = LN_TRY_CTX(Manifest::Parse(body), "manifest"), .manifest_json = body};
  out.config_json = LN_TRY(ReadBlob(archive, out.manifest.config.digest, kMaxConfigBytes));
  for (const Descriptor& layer : out.manifest.layers)
    out.layer_members.push_back(BlobName(layer.digest));
  if (!name.empty()) {
    const Reference ref = LN_TRY_CTX(Reference::Parse(name), "name in the archive");
    if (!ref.digest) out.names.tags.push_back(ref.str());
    out.names.digests.push_back(ref.repository() + "@" + top.digest.str());
  }
  return out;
}

Result<std::vector<Found>> ReadOciArchive(const ImageArchive& archive,
                                          const std::optional<Reference>& given) {
  const std::string text = LN_TRY(archive.ReadSmall("index.json", kMaxManifestBytes));
  const Index index = LN_TRY_CTX(Index::Parse(text), "index.json");
  // Entries of the same name are the same image for several machines.
  std::map<std::string, Index> by_name;
  for (const Descriptor& entry : index.manifests) by_name[NameOf(entry)].manifests.push_back(entry);
  if (by_name.empty()) return InvalidArgument("the archive has no image");
  if (given && by_name.size() > 1) {
    return InvalidArgument("the archive has " + std::to_string(by_name.size()) +
                           " images: they cannot have one name");
  }
  std::vector<Found> out;
  for (const auto& [name, entries] : by_name) {
    const Descriptor top = entries.manifests.size() == 1
                               ? entries.manifests.front()
                               : LN_TRY(entries.Select("linux", HostArchitecture()));
    Found found = LN_TRY(ReadOciImage(archive, top, given ? given->str() : name));
    // An image with several names has an entry for each.
    const auto same = std::find_if(out.begin(), out.end(), [&found](const Found& other) {
      return other.manifest_json == found.manifest_json;
    });
    if (same == out.end()) {
      out.push_back(std::move(found));
      continue;
    }
    std::ranges::move(found.names.tags, std::back_inserter(same->names.tags));
    std::ranges::move(found.names.digests, std::back_inserter(same->names.digests));
  }
  return out;
}

// ---- docker archive ----

Result<Found> ReadDockerImage(const ImageArchive& archive, const JsonView& entry,
                              const std::optional<Reference>& given) {
  const auto config_name = LN_TRY(entry.Required<std::string>("Config"));
  std::string config_json = LN_TRY(archive.ReadSmall(config_name, kMaxConfigBytes));
  const ImageConfig config = LN_TRY_CTX(ImageConfig::Parse(config_json), config_name);
  std::vector<std::string> layers = LN_TRY(entry.Strings("Layers"));
  if (layers.size() != config.diff_ids.size())
    return entry.Fail("Layers and the config's diff_ids differ in number");

  Found out{.manifest = {.media_type = std::string(media_type::kDockerManifest),
                         .config = {.media_type = "application/vnd.docker.container.image.v1+json",
                                    .digest = Digest::Sha256Of(config_json),
                                    .size = config_json.size()}}};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const ImageArchive::Member* member = archive.Find(layers[i]);
    if (member == nullptr) return entry.Fail("the archive has no " + layers[i].substr(0, 256));
    // The blobs have no digests here; that of the content is checked.
    out.manifest.layers.push_back(
        {.media_type = kTarType, .digest = config.diff_ids[i], .size = member->size});
  }
  out.config_json = std::move(config_json);
  out.layer_members = std::move(layers);
  if (given) {
    out.names.tags = {given->str()};
    return out;
  }
  for (const std::string& tag : LN_TRY(entry.Strings("RepoTags"))) {
    out.names.tags.push_back(LN_TRY_CTX(Reference::Parse(tag), "name in the archive").str());
  }
  return out;
}

Result<std::vector<Found>> ReadDockerArchive(const ImageArchive& archive,
                                             const std::optional<Reference>& given) {
  const std::string text = LN_TRY(archive.ReadSmall("manifest.json", kMaxManifestBytes));
  const Json document = LN_TRY_CTX(ParseJson(text), "manifest.json");
  const std::vector<JsonView> entries = LN_TRY_CTX(JsonView(document).Elements(), "manifest.json");
  if (entries.empty()) return InvalidArgument("the archive has no image");
  if (given && entries.size() > 1) {
    return InvalidArgument("the archive has " + std::to_string(entries.size()) +
                           " images: they cannot have one name");
  }
  std::vector<Found> out;
  for (const JsonView& entry : entries) {
    out.push_back(LN_TRY_CTX(ReadDockerImage(archive, entry, given), "manifest.json"));
  }
  return out;
}

// ---- both ----

// A member that is there must be what the manifest promises.
Result<void> CheckMember(const ImageArchive& archive, const std::string& name,
                         const Descriptor& blob, bool has_digest) {
  const ImageArchive::Member* member = archive.Find(name);
  if (member == nullptr) return Ok();  // the layer may be here already
  if (member->size != blob.size)
    return Error(Code::kDataLoss, "blob " + blob.digest.str() + " has another size than promised");
  if (has_digest && member->digest != blob.digest)
    return Error(Code::kDataLoss, "blob " + blob.digest.str() + " does not match its digest");
  return Ok();
}

Result<std::shared_ptr<const Image>> StoreFound(const StoreParts& parts, ImageArchive& archive,
                                                Found found, const std::stop_token& stop) {
  const ImageConfig config = LN_TRY_CTX(ImageConfig::Parse(found.config_json), "image config");
  if (config.diff_ids.size() != found.manifest.layers.size())
    return InvalidArgument("the manifest and the config differ in the number of layers");
  std::map<Digest, std::string> members;
  std::map<Digest, std::string> diff_ids;
  for (std::size_t i = 0; i < found.manifest.layers.size(); ++i) {
    const Descriptor& blob = found.manifest.layers[i];
    LN_TRY(CheckMember(archive, found.layer_members[i], blob, !found.manifest_json.empty()));
    members[blob.digest] = found.layer_members[i];
    diff_ids[blob.digest] = config.diff_ids[i].str();
  }
  Mutex mu;
  AssembleRequest request;
  request.stop = stop;
  request.take = [&](const Digest& diff_id) {
    MutexLock lock(mu);
    return archive.TakeLayer(diff_id);
  };
  // Not among what was unpacked: it was no layer, or another image of the archive has taken it and
  // it is here for that one only.
  request.fetch = [&](const Descriptor& blob, const std::stop_token&,
                      const AssembleRequest::Sink& sink) -> Result<void> {
    const std::string& name = members.at(blob.digest);
    const ImageArchive::Member* member = archive.Find(name);
    if (member == nullptr) return InvalidArgument("the archive has no " + name.substr(0, 256));
    if (member->error) return *member->error;
    if (member->is_document) return sink(member->document);  // a very small one
    if (const auto same = FindExact(parts.table, diff_ids.at(blob.digest)))
      return RebuildLayer(parts.pool, *same, sink);
    return Error(Code::kDataLoss, "its content is not what the image's config promises");
  };
  return StoreImage(parts, found.manifest, std::move(found.manifest_json),
                    std::move(found.config_json), found.names, std::move(request));
}

}  // namespace

Result<std::vector<std::shared_ptr<const Image>>> ImportImages(
    const StoreParts& parts, FdRef fd, const ImageStore::ImportOptions& options) {
  ArchiveStream stream(fd);
  std::vector<std::shared_ptr<const Image>> out;
  if (!LN_TRY(LooksLikeImageArchive(stream))) {
    out.push_back(LN_TRY(ImportRoot(parts, stream, options)));
    if (options.imported) options.imported(*out.back());
    return out;
  }
  const std::optional<Reference> given = LN_TRY(GivenName(options.name));
  const auto archive = LN_TRY(ImageArchive::Read(stream, {.pool = parts.pool,
                                                          .limits = parts.limits,
                                                          .stop = options.stop,
                                                          .progress = options.progress}));
  std::vector<Found> images;
  if (archive->Find("index.json") != nullptr) {
    images = LN_TRY(ReadOciArchive(*archive, given));
  } else if (archive->Find("manifest.json") != nullptr) {
    images = LN_TRY(ReadDockerArchive(*archive, given));
  } else {
    return InvalidArgument(
        "the archive has neither an index.json (OCI) nor a manifest.json (docker)");
  }
  for (Found& found : images) {
    out.push_back(LN_TRY(StoreFound(parts, *archive, std::move(found), options.stop)));
    if (options.imported) options.imported(*out.back());
  }
  return out;
}

}  // namespace linnet::oci
