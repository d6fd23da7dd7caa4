#include "linnet/oci/image_spec.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "linnet/base/text.h"

#include "json_document.h"
#include "media_types.h"
#include "platform.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kMaxManifestBytes = 4U << 20;
constexpr std::size_t kMaxConfigBytes = 8U << 20;
// overlayfs takes 500 lower directories.
constexpr std::size_t kMaxLayers = 500;
constexpr std::size_t kMaxIndexEntries = 1000;
constexpr std::size_t kMaxMediaType = 255;

Result<Descriptor> ParseDescriptor(const JsonView& v) {
  const auto digest_text = LN_TRY(v.Required<std::string>("digest"));
  auto digest = Digest::Parse(digest_text);
  if (!digest) return v.Fail(digest.error().message());
  Descriptor out{.media_type = LN_TRY(v.Required<std::string>("mediaType")),
                 .digest = *std::move(digest)};
  if (out.media_type.empty() || out.media_type.size() > kMaxMediaType)
    return v.Fail("mediaType is empty or too long");
  out.size = static_cast<std::uint64_t>(LN_TRY(v.Required<std::int64_t>("size")));
  if (out.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return v.Fail("size is negative");
  }
  out.annotations = LN_TRY(v.StringMap("annotations"));
  if (const auto platform = LN_TRY(v.Find("platform"))) {
    out.os = LN_TRY(platform->Optional<std::string>("os", ""));
    out.architecture = LN_TRY(platform->Optional<std::string>("architecture", ""));
    out.variant = LN_TRY(platform->Optional<std::string>("variant", ""));
  }
  return out;
}

// What both kinds of document have in common: the version, no double meaning. Returns the media
// type, "" where none.
Result<std::string> ParseHead(const JsonView& v) {
  LN_TRY(RejectCaseVariants(
      v, {"schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers"}));
  const auto version = LN_TRY(v.Required<std::int64_t>("schemaVersion"));
  if (version == 1) {
    return FailedPrecondition(
        "the image has a manifest of Docker's schema 1, which nothing supports any more: push it "
        "again with a current tool");
  }
  if (version != 2) return v.Fail("schemaVersion " + std::to_string(version) + " is not 2");
  const bool manifest = v.raw().contains("layers") || v.raw().contains("config");
  if (manifest && v.raw().contains("manifests"))
    return v.Fail("it is a manifest and an index at once, which is refused");
  if (v.raw().contains("fsLayers")) return v.Fail("fsLayers belongs to schema 1, which is refused");
  return v.Optional<std::string>("mediaType", "");
}

}  // namespace

Result<Manifest> Manifest::Parse(std::string_view json) {
  const Json document = LN_TRY(ParseDocument(json, kMaxManifestBytes));
  const JsonView v(document);
  std::string media_type = LN_TRY(ParseHead(v));
  if (media_type.empty()) media_type = media_type::kOciManifest;
  if (!IsManifestType(media_type))
    return v.Fail("mediaType \"" + media_type + "\" is not that of an image manifest");
  const JsonView config = LN_TRY(v.At("config"));
  Manifest out{.media_type = std::move(media_type), .config = LN_TRY(ParseDescriptor(config))};
  if (!v.raw().contains("layers")) return v.Fail("required key \"layers\" is missing");
  const auto layers = LN_TRY(v.Array("layers"));
  if (layers.size() > kMaxLayers) {
    return v.Fail(std::to_string(layers.size()) + " layers are more than the " +
                  std::to_string(kMaxLayers) + " that can be stacked");
  }
  for (const JsonView& layer : layers) out.layers.push_back(LN_TRY(ParseDescriptor(layer)));
  return out;
}

Result<Index> Index::Parse(std::string_view json) {
  const Json document = LN_TRY(ParseDocument(json, kMaxManifestBytes));
  const JsonView v(document);
  const std::string media_type = LN_TRY(ParseHead(v));
  if (!media_type.empty() && !IsIndexType(media_type)) {
    return v.Fail("mediaType \"" + media_type + "\" is not that of an image index");
  }
  if (!v.raw().contains("manifests")) return v.Fail("required key \"manifests\" is missing");
  const auto entries = LN_TRY(v.Array("manifests"));
  if (entries.size() > kMaxIndexEntries) {
    return v.Fail(std::to_string(entries.size()) + " entries are more than " +
                  std::to_string(kMaxIndexEntries));
  }
  Index out;
  for (const JsonView& entry : entries) out.manifests.push_back(LN_TRY(ParseDescriptor(entry)));
  return out;
}

Result<Descriptor> Index::Select(std::string_view os, std::string_view architecture) const {
  const Descriptor* best = nullptr;
  int best_rank = 0;
  std::vector<std::string> offered;
  for (const Descriptor& entry : manifests) {
    if (IsAttestation(entry)) continue;
    const int rank = PlatformRank(entry, os, architecture, MachineVariantOf(architecture));
    if (rank > best_rank) {
      best = &entry;
      best_rank = rank;
    }
    const std::string name = PlatformName(entry);
    if (std::ranges::find(offered, name) == offered.end()) offered.push_back(name);
  }
  if (best != nullptr) return *best;
  if (offered.size() > 20) offered.resize(20);
  return NotFound("the image is not made for " + std::string(os) + "/" + std::string(architecture) +
                  "; there is: " + (offered.empty() ? "nothing" : Join(offered, ", ")));
}

Result<ImageConfig> ImageConfig::Parse(std::string_view json) {
  const Json document = LN_TRY(ParseDocument(json, kMaxConfigBytes));
  const JsonView v(document);
  ImageConfig out;
  out.architecture = LN_TRY(v.Optional<std::string>("architecture", ""));
  out.os = LN_TRY(v.Optional<std::string>("os", ""));
  out.created = LN_TRY(v.Optional<std::string>("created", ""));
  const JsonView rootfs = LN_TRY(v.At("rootfs"));
  for (const JsonView& id : LN_TRY(rootfs.Array("diff_ids"))) {
    const auto text = LN_TRY(id.As<std::string>());
    auto digest = Digest::Parse(text);
    if (!digest) return id.Fail(digest.error().message());
    out.diff_ids.push_back(*std::move(digest));
  }
  if (out.diff_ids.size() > kMaxLayers)
    return rootfs.Fail("more than " + std::to_string(kMaxLayers) + " diff_ids");
  const auto config = LN_TRY(v.Find("config"));
  if (!config) return out;
  out.user = LN_TRY(config->Optional<std::string>("User", ""));
  out.env = LN_TRY(config->Strings("Env"));
  out.entrypoint = LN_TRY(config->Strings("Entrypoint"));
  out.cmd = LN_TRY(config->Strings("Cmd"));
  out.working_dir = LN_TRY(config->Optional<std::string>("WorkingDir", ""));
  out.stop_signal = LN_TRY(config->Optional<std::string>("StopSignal", ""));
  out.labels = LN_TRY(config->StringMap("Labels"));
  // Sets, spelled as objects with empty members; nlohmann keeps keys sorted.
  for (const auto& [key, names] :
       {std::pair{"Volumes", &out.volumes}, {"ExposedPorts", &out.exposed_ports}}) {
    const auto set = LN_TRY(config->Find(key));
    if (!set) continue;
    if (!set->is_object()) return set->Fail("an object is expected");
    for (const auto& member : set->raw().items()) names->push_back(member.key());
  }
  return out;
}

}  // namespace linnet::oci
