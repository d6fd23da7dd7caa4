// What a person or a script does with images beyond what pods need: names, archives, registries,
// figures, verification.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"

namespace linnet::oci {

enum class LayerCompression : std::uint8_t { kNone, kGzip, kZstd };

// Of one of an image's layers.
struct LayerDetails {
  std::string diff_id;
  std::string directory;  // absolute; holds fs/, tar.zst and layer.json
  std::string blob;       // digest as the manifest has it; "" where there is none
  std::uint64_t blob_bytes = 0;
  std::uint64_t disk_bytes = 0;
  std::uint64_t inodes = 0;
  bool exact = false;        // the same tar can be made again
  std::uint64_t images = 0;  // that have it
};

struct HistoryEntry {
  std::string created, created_by, comment;
  bool empty_layer = false;
  std::string diff_id;  // "" where it has no layer
  std::uint64_t disk_bytes = 0;
};

struct ImageDetails {
  std::shared_ptr<const Image> image;
  bool in_use = false;                     // a container or a mount has it
  std::string config_json, manifest_json;  // as they came; no manifest: ""
  std::vector<LayerDetails> layers;        // lowest first
  std::vector<HistoryEntry> history;       // oldest first
};

// Where an archive goes, member by member. Called from one thread.
class ArchiveSink {
 public:
  virtual ~ArchiveSink() = default;
  virtual Result<void> Begin(const std::string& name, std::uint64_t bytes) = 0;
  // As much as Begin said, in pieces of at most 1 MiB.
  virtual Result<void> Write(std::string_view bytes) = 0;
};

struct SaveOptions {
  LayerCompression compression = LayerCompression::kNone;
  std::stop_token stop;
  std::function<void(const PullProgress&)> progress;
};

struct DiskUse {
  struct PerImage {
    std::shared_ptr<const Image> image;
    bool in_use = false;
    std::uint64_t bytes = 0;         // of all its layers
    std::uint64_t unique_bytes = 0;  // that go with it
  };
  std::vector<PerImage> images;
  std::uint64_t layers = 0;
  std::uint64_t bytes = 0, inodes = 0;  // everything
  std::uint64_t reclaimable_bytes = 0;  // that Prune with `all` would free
  std::uint64_t unfinished_bytes = 0;   // of pulls that came to nothing
};

struct PruneOptions {
  bool all = false;  // also images that have a name
  bool dry_run = false;
};
struct PruneResult {
  std::vector<std::shared_ptr<const Image>> removed;
  std::uint64_t freed_bytes = 0;
};

struct CheckOptions {
  std::vector<std::string> images;  // none: all
  bool repair = false;              // damaged layers are fetched from where they were pulled
  RegistryAuth auth;
  std::stop_token stop;
  std::function<void(const PullProgress&)> progress;
};
enum class LayerState : std::uint8_t { kGood, kUnverifiable, kDamaged, kRepaired };
struct LayerFinding {
  std::string layer;  // diff id, or what else is known of it
  LayerState state = LayerState::kGood;
  std::vector<std::string> problems;  // the first few
  std::vector<std::string> images;    // names or ids
};

struct ImageMount {
  std::string target;
  std::string image_id;
  std::string name;  // as it was asked for
};

struct PreloadedFile {
  std::string file;                 // name in the directory
  std::vector<std::string> images;  // names or ids of what it had
  std::string error;                // "": loaded
  std::string state;                // "loaded", "loading", "failed"
};

// Thread-safe. What blocks for long takes a stop token.
class ImageAdmin {
 public:
  virtual ~ImageAdmin() = default;

  // Gives the image another name. Errors: kNotFound; kInvalidArgument a digest as name.
  virtual Result<std::shared_ptr<const Image>> Tag(std::string_view ref_or_id,
                                                   const Reference& name) = 0;
  virtual Result<std::shared_ptr<const Image>> Pin(std::string_view ref_or_id, bool pinned) = 0;
  virtual Result<ImageDetails> Inspect(std::string_view ref_or_id) const = 0;
  // One OCI layout that docker reads, too: oci-layout, index.json, manifest.json, blobs/…. Configs
  // are the bytes that they were, so image ids stay; manifests are made anew. Names that are asked
  // for are the names that are written. Errors: kNotFound; those of making tars again.
  virtual Result<void> Save(const std::vector<std::string>& images, const SaveOptions& options,
                            ArchiveSink& sink) = 0;
  virtual Result<DiskUse> Use() const = 0;
  // Images without a name (with `all`: every image) that nothing uses and nobody pinned, and what
  // pulls have left.
  virtual Result<PruneResult> Prune(const PruneOptions& options) = 0;
  // Every layer once: its tar is made again and must have its digest, and owner, mode, times, links
  // and attributes on disk must be those of the tar; what the tar has not must not be there.
  virtual Result<std::vector<LayerFinding>> Check(const CheckOptions& options) = 0;
  // Read-only, at a directory (made if absent), in the caller's mount namespace; it holds the image
  // until Unmount, also over restarts of the daemon.
  virtual Result<ImageMount> Mount(std::string_view ref_or_id, const std::string& target) = 0;
  // By target or by image. Errors: kNotFound.
  virtual Result<std::vector<ImageMount>> Unmount(const std::string& target_or_image) = 0;
  virtual std::vector<ImageMount> Mounts() const = 0;
  // Loads what is new or changed in the preload directory. One at a time. Files that fail do not
  // fail the call.
  virtual Result<std::vector<PreloadedFile>> Preload(const std::stop_token& stop) = 0;
  virtual std::vector<PreloadedFile> Preloaded() const = 0;
};

}  // namespace linnet::oci
