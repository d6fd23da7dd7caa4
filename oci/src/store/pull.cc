#include "store/pull.h"

#include <chrono>

#include "linnet/base/log.h"

#include "media_types.h"

namespace linnet::oci {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 8U << 20;
constexpr int kMaxIndexDepth = 3;

struct Resolved {
  Digest requested;  // of what the name leads to: a manifest or an index
  std::string manifest_json;
};

Result<Resolved> Resolve(RegistryClient& client, const Reference& ref,
                         const RegistryClient::Call& call) {
  RegistryClient::Fetched fetched = LN_TRY(client.FetchManifest(ref, call));
  const Digest requested = fetched.digest;
  for (int depth = 0; IsIndexType(fetched.media_type); ++depth) {
    if (depth == kMaxIndexDepth) return InvalidArgument("indexes are nested too deeply");
    const Index index = LN_TRY(Index::Parse(fetched.body));
    const Descriptor chosen = LN_TRY(index.Select("linux", HostArchitecture()));
    Reference next = ref;
    next.digest = chosen.digest;
    fetched = LN_TRY(client.FetchManifest(next, call));
  }
  return Resolved{requested, std::move(fetched.body)};
}

Result<std::string> FetchConfig(RegistryClient& client, const Reference& ref,
                                const Descriptor& config, const RegistryClient::Call& call) {
  if (config.size > kMaxConfigBytes)
    return InvalidArgument("the config of the image is larger than 8 MiB");
  std::string out;
  LN_TRY(client.FetchBlob(ref, config, call, [&out](std::string_view bytes) {
    out += bytes;
    return Ok();
  }));
  return out;
}

Result<void> CheckLayers(const Manifest& manifest, const ImageConfig& config) {
  if (config.diff_ids.size() != manifest.layers.size()) {
    return InvalidArgument("the manifest has " + std::to_string(manifest.layers.size()) +
                           " layers, the config " + std::to_string(config.diff_ids.size()));
  }
  if (!config.os.empty() && config.os != "linux") {
    return InvalidArgument("the image is made for " + config.os + ", not for linux");
  }
  for (const Descriptor& layer : manifest.layers) {
    // A chart, a policy, an encrypted layer: nothing that could be unpacked.
    if (layer.media_type.find("tar") == std::string::npos ||
        layer.media_type.find("encrypted") != std::string::npos) {
      return InvalidArgument("a layer has the media type " + layer.media_type +
                             ", which is not that of a file system");
    }
  }
  return Ok();
}

}  // namespace

std::string HostArchitecture() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#elif defined(__arm__)
  return "arm";
#elif defined(__riscv) && __riscv_xlen == 64
  return "riscv64";
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return "ppc64le";
#elif defined(__s390x__)
  return "s390x";
#elif defined(__i386__)
  return "386";
#else
#error "name this machine as GOARCH does"
#endif
}

Result<std::shared_ptr<const Image>> StoreImage(const StoreParts& parts, const Manifest& manifest,
                                                std::string manifest_json, std::string config_json,
                                                const ImageNames& names, AssembleRequest request) {
  ImageConfig config = LN_TRY_CTX(ImageConfig::Parse(config_json), "image config");
  LN_TRY(CheckLayers(manifest, config));
  NewImage image;
  image.size_bytes = manifest.config.size;
  for (const Descriptor& layer : manifest.layers) image.size_bytes += layer.size;
  request.blobs = manifest.layers;
  request.diff_ids = config.diff_ids;
  request.max_parallel = parts.max_parallel;
  request.limits = parts.limits;
  image.layers = LN_TRY(AssembleLayers(parts.pool, parts.flights, request));
  // The layers are on the disk before anything speaks of them.
  const auto begin = std::chrono::steady_clock::now();
  LN_TRY(parts.pool.Sync());
  const auto took = std::chrono::steady_clock::now() - begin;
  log::Debug("layers synced",  // contrib/bench/images reads it
             {{"us", std::chrono::duration_cast<std::chrono::microseconds>(took).count()}});
  image.config = std::move(config);
  image.config_json = std::move(config_json);
  image.manifest_json = std::move(manifest_json);
  return parts.table.Add(std::move(image), names);
}

Result<std::shared_ptr<const Image>> PullImage(const StoreParts& parts, RegistryClient& client,
                                               const PullJob& job) {
  const RegistryClient::Call call{.auth = &job.auth, .deadline = std::nullopt, .stop = job.stop};
  if (job.progress) job.progress({"resolving", 0, 0});
  Resolved resolved = LN_TRY(Resolve(client, job.ref, call));
  const Manifest manifest = LN_TRY_CTX(Manifest::Parse(resolved.manifest_json), "manifest");

  ImageNames names;
  if (!job.ref.digest) names.tags = {job.ref.str()};
  names.digests = {job.ref.repository() + "@" + resolved.requested.str()};
  auto image = LN_TRY(parts.table.AddNames(manifest.config.digest, names));
  if (!image) {
    std::string config = LN_TRY(FetchConfig(client, job.ref, manifest.config, call));
    AssembleRequest request;
    request.fetch = [&](const Descriptor& blob, const std::stop_token& stop,
                        const AssembleRequest::Sink& sink) {
      const RegistryClient::Call blob_call{
          .auth = &job.auth, .deadline = std::nullopt, .stop = stop};
      return client.FetchBlob(job.ref, blob, blob_call, sink);
    };
    request.progress = job.progress;
    request.stop = job.stop;
    request.keep_spares = true;
    image = LN_TRY(StoreImage(parts, manifest, std::move(resolved.manifest_json), std::move(config),
                              names, std::move(request)));
  }
  if (job.progress) job.progress({"done", image->size_bytes, image->size_bytes});
  return image;
}

}  // namespace linnet::oci
