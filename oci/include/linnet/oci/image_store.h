// Images on this node: references, manifests, configs and unpacked layers.
//
//   <root>/images/…   index of references, manifests, configs (durable: fsynced before an image is
//   visible) <root>/layers/<diff id>/fs   unpacked layer, overlay whiteouts in place (decision 11
//   in contrib/docs)
//
// Thread-safe. Reading never blocks on a pull.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/image_spec.h"
#include "linnet/oci/reference.h"

namespace linnet::oci {

struct Image {
  Digest id;  // digest of the config: equal in PullImage, ImageStatus, ContainerStatus
  std::vector<std::string> repo_tags;     // sorted; "registry.k8s.io/pause:3.9"
  std::vector<std::string> repo_digests;  // sorted; "registry.k8s.io/pause@sha256:…"
  std::uint64_t size_bytes = 0;           // compressed layers + config, as registries count
  ImageConfig config;
  std::vector<std::string> layer_dirs;  // absolute paths of unpacked layers, lowest first
  bool pinned = false;
};

struct RegistryAuth {
  std::string username, password;
  std::string auth;            // base64 of "user:password"
  std::string identity_token;  // OAuth2 refresh token
  std::string registry_token;  // bearer token as it is
  std::string server_address;
};

struct PullProgress {
  std::string what;  // "resolving", a layer's short digest, "unpacking <digest>", "done"
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;  // 0: not known
};

struct PullOptions {
  RegistryAuth auth;
  std::optional<std::chrono::steady_clock::time_point> deadline;
  std::stop_token stop;
  // Called from the pulling threads, at most some ten times a second per layer.
  std::function<void(const PullProgress&)> progress;
};

struct ImageStoreOptions {
  std::string root;                  // made if absent, 0700
  std::string registry_config_path;  // containerd-style directory of HOST/hosts.toml; empty: none
  int max_concurrent_downloads = 3;
  std::chrono::seconds no_progress_timeout{60};
  // Where a hostile image ends. Of one layer: file data, entries; of a zstd frame: its window, for
  // which memory is taken.
  std::uint64_t max_layer_bytes = 100ULL << 30;
  std::uint64_t max_layer_entries = 2'000'000;
  std::uint64_t max_window_bytes = 128ULL << 20;
  // Layers of a pull that came to nothing are kept that long for the next attempt.
  std::chrono::seconds keep_unfinished{0};
  // Names of images that are never removed but by name; * stands for anything.
  std::vector<std::string> pinned;
  std::string preload_dir;  // archives that ImageAdmin::Preload loads; "": <root>/preload
  bool pin_preloaded = true;
};

struct FsUsage {
  std::string mountpoint;  // of the file system that holds the images
  std::uint64_t used_bytes = 0;
  std::uint64_t inodes_used = 0;
};

class ImageAdmin;  // image_admin.h

class ImageStore {
 public:
  // Opens or makes the store; removes what an interrupted pull left. Errors: kDataLoss only where
  // nothing can be read.
  static Result<std::unique_ptr<ImageStore>> Open(const ImageStoreOptions& options);
  virtual ~ImageStore() = default;

  // Stable order. Never fails because of one broken image (it is left out).
  virtual std::vector<std::shared_ptr<const Image>> List() const = 0;
  // By id (with or without "sha256:", whole or an unambiguous prefix of ≥ 7 digits), tag, digest
  // reference, or short name. nullptr: not here.
  virtual std::shared_ptr<const Image> Find(std::string_view ref_or_id) const = 0;

  // Pulls and unpacks; always resolves the tag anew; joins a pull of the same content that is under
  // way. Errors: kDeadlineExceeded, kCancelled, kNotFound, kPermissionDenied, kUnavailable (message
  // starts with "RegistryUnavailable" where no host answered), kDataLoss (digest mismatch),
  // kInvalidArgument (reference).
  virtual Result<std::shared_ptr<const Image>> Pull(const Reference& ref,
                                                    const PullOptions& options) = 0;

  // A root file system tar (gzip, zstd or plain), an OCI archive or a docker archive, from a file
  // descriptor (a pipe, too: it is read once, from where it stands). Returns the first image.
  // `name` is required for a root file system tar, else it replaces the archive's names
  // where it is given.
  struct ImportOptions {
    std::string name;
    ImageConfig config;  // for a root file system tar: cmd, entrypoint, env, … (architecture and
                         // diff ids are filled in)
    std::stop_token stop;
    std::function<void(const PullProgress&)> progress;
    // Told of each image of the archive, when it is stored.
    std::function<void(const Image&)> imported;
  };
  virtual Result<std::shared_ptr<const Image>> Import(FdRef archive,
                                                      const ImportOptions& options) = 0;

  // Removes the image with all its tags in all repositories, and the layers that no other image
  // uses and no root file system holds (those go when released). Absent: success.
  virtual Result<void> Remove(std::string_view ref_or_id) = 0;

  // A running container's hold on layers: while it lives, Remove leaves the layers on disk.
  // Recovery takes it again, before the first Pull, Import or Remove after a start: those drop what
  // was removed while held and is not held now.
  virtual Result<std::shared_ptr<const void>> Hold(const Digest& image_id) = 0;
  virtual Result<FsUsage> Usage() const = 0;

  // What more there is to do with images. nullptr: a store that has only what pods need.
  virtual ImageAdmin* admin() { return nullptr; }
};

}  // namespace linnet::oci
