#include "linnet/oci/image_store.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>

#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/oci/image_admin.h"

#include "registry/client.h"
#include "store/check.h"
#include "store/figures.h"
#include "store/image_mount.h"
#include "store/image_store_internal.h"
#include "store/image_table.h"
#include "store/import.h"
#include "store/layer_assembler.h"
#include "store/layer_pool.h"
#include "store/preload.h"
#include "store/pull.h"
#include "store/pull_flights.h"
#include "store/save.h"

namespace linnet::oci {
namespace {

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif

// Of the mount that `path` lies on, by mountinfo; "/" where that cannot be told.
std::string MountpointOf(const std::string& path) {
  struct statx st {};
  if (statx(AT_FDCWD, path.c_str(), 0, STATX_MNT_ID, &st) != 0 || (st.stx_mask & STATX_MNT_ID) == 0)
    return "/";
  const auto mounts = ReadFile("/proc/self/mountinfo", 16U << 20);
  if (!mounts) return "/";
  const std::string id = std::to_string(st.stx_mnt_id);
  for (const std::string& line : Split(*mounts, '\n')) {
    // "36 35 98:0 /mnt1 /mnt2 rw,noatime …" (proc_pid_mountinfo(5))
    const std::vector<std::string> fields = SplitFields(line);
    if (fields.size() > 4 && fields[0] == id) return fields[4];
  }
  return "/";
}

// Pulls with the same key may share one result.
std::string PullKey(const Reference& ref, const RegistryAuth& auth) {
  std::string key = ref.str();
  for (const std::string* part : {&auth.username, &auth.password, &auth.auth, &auth.identity_token,
                                  &auth.registry_token, &auth.server_address}) {
    key += '\0';
    key += *part;
  }
  return key;
}

class DiskImageStore final : public ImageStore, public ImageAdmin {
 public:
  DiskImageStore(const ImageStoreOptions& options, std::unique_ptr<RegistryClient> client,
                 std::shared_ptr<LayerPool> pool, std::shared_ptr<ImageTable> table)
      : options_(options),
        client_(std::move(client)),
        pool_(std::move(pool)),
        table_(std::move(table)),
        mountpoint_(MountpointOf(options.root)),
        mounts_(JoinPath(options.root, "mounts.json"), table_, pool_->empty_layer()),
        preloader_(
            options.preload_dir.empty() ? JoinPath(options.root, "preload") : options.preload_dir,
            JoinPath(options.root, "preload.json"),
            [this](FdRef archive, const std::stop_token& stop) {
              return LoadArchive(archive, stop);
            }),
        pulls_([this] {
          client_->CloseIdle();
          GiveMemoryBack();
        }) {}

  ~DiskImageStore() override {
    pulls_.Shutdown();
    // Before anything is let go of: what is on disk stays.
    pool_->Shutdown();
  }
  DiskImageStore(const DiskImageStore&) = delete;
  DiskImageStore& operator=(const DiskImageStore&) = delete;

  std::vector<std::shared_ptr<const Image>> List() const override { return table_->List(); }

  std::shared_ptr<const Image> Find(std::string_view ref_or_id) const override {
    return table_->Find(ref_or_id);
  }

  Result<std::shared_ptr<const Image>> Pull(const Reference& ref,
                                            const PullOptions& options) override {
    if (options.deadline && *options.deadline <= std::chrono::steady_clock::now()) {
      return Error(Code::kDeadlineExceeded, "the deadline passed before the image was pulled");
    }
    return pulls_.Join(
        PullKey(ref, options.auth),
        [this, ref, auth = options.auth](const std::stop_token& stop,
                                         const PullFlights::Progress& progress) {
          return PullImage(Parts(), *client_, PullJob{ref, auth, stop, progress});
        },
        options);
  }

  Result<std::shared_ptr<const Image>> Import(FdRef archive,
                                              const ImportOptions& options) override {
    auto images = ImportImages(Parts(), archive, options);
    GiveMemoryBack();
    if (!images) return std::move(images).error();
    return images->front();
  }

  Result<void> Remove(std::string_view ref_or_id) override {
    const std::shared_ptr<const Image> image = table_->Find(ref_or_id);
    if (!image) return Ok();
    return table_->Remove(image->id);
  }

  Result<std::shared_ptr<const void>> Hold(const Digest& image_id) override {
    return table_->Hold(image_id);
  }

  Result<FsUsage> Usage() const override {
    const ImageTable::Totals totals = table_->Count();
    return FsUsage{
        .mountpoint = mountpoint_, .used_bytes = totals.bytes, .inodes_used = totals.inodes};
  }

  ImageAdmin* admin() override { return this; }

  // ---- ImageAdmin ----

  Result<std::shared_ptr<const Image>> Tag(std::string_view ref_or_id,
                                           const Reference& name) override {
    if (name.digest) return InvalidArgument("an image cannot be given a digest as its name");
    const Digest id = LN_TRY(IdOf(ref_or_id));
    auto image = LN_TRY(table_->AddNames(id, {.tags = {name.str()}, .digests = {}}));
    if (!image) return NotHere(ref_or_id);
    return image;
  }

  Result<std::shared_ptr<const Image>> Pin(std::string_view ref_or_id, bool pinned) override {
    return table_->Pin(LN_TRY(IdOf(ref_or_id)), pinned);
  }

  Result<ImageDetails> Inspect(std::string_view ref_or_id) const override {
    return InspectImage(Parts(), ref_or_id);
  }

  Result<void> Save(const std::vector<std::string>& images, const SaveOptions& options,
                    ArchiveSink& sink) override {
    auto saved = SaveImages(Parts(), SpoolPath(options_), images, options, sink);
    GiveMemoryBack();
    return saved;
  }

  Result<DiskUse> Use() const override { return UseOf(Parts()); }

  Result<PruneResult> Prune(const PruneOptions& options) override {
    return PruneImages(Parts(), options);
  }

  Result<std::vector<LayerFinding>> Check(const CheckOptions& options) override {
    auto findings = CheckImages(Parts(), *client_, options);
    client_->CloseIdle();
    GiveMemoryBack();
    return findings;
  }

  Result<ImageMount> Mount(std::string_view ref_or_id, const std::string& target) override {
    const auto image = table_->Find(ref_or_id);
    if (!image) return NotHere(ref_or_id);
    return mounts_.Mount(*image, std::string(ref_or_id), target);
  }

  Result<std::vector<ImageMount>> Unmount(const std::string& target_or_image) override {
    return mounts_.Unmount(target_or_image, table_->Find(target_or_image).get());
  }

  std::vector<ImageMount> Mounts() const override { return mounts_.List(); }

  Result<std::vector<PreloadedFile>> Preload(const std::stop_token& stop) override {
    return preloader_.Run(stop);
  }

  std::vector<PreloadedFile> Preloaded() const override { return preloader_.List(); }

  LayerPool& pool() { return *pool_; }

  static std::string SpoolPath(const ImageStoreOptions& options) {
    return JoinPath(options.root, "tmp");
  }

 private:
  // What unpacking took: the queues of a few layers are more than all else the daemon has. In the
  // pool's thread, since it may take milliseconds.
  void GiveMemoryBack() {
    pool_->Post([] { malloc_trim(0); });
  }

  static Error NotHere(std::string_view ref_or_id) {
    return NotFound("image \"" + std::string(ref_or_id) + "\" is not here");
  }

  Result<Digest> IdOf(std::string_view ref_or_id) const {
    const auto image = table_->Find(ref_or_id);
    if (!image) return NotHere(ref_or_id);
    return image->id;
  }

  Result<std::vector<std::string>> LoadArchive(FdRef archive, const std::stop_token& stop) {
    std::vector<std::string> out;
    ImportOptions options;
    options.stop = stop;
    std::vector<Digest> ids;
    options.imported = [&](const Image& image) {
      ids.push_back(image.id);
      out.push_back(image.repo_tags.empty() ? image.id.str() : image.repo_tags.front());
    };
    LN_TRY(Import(archive, options));
    for (const Digest& id : ids) {
      if (options_.pin_preloaded) LN_TRY(table_->Pin(id, true));
    }
    return out;
  }

  StoreParts Parts() const {
    return StoreParts{.pool = *pool_,
                      .table = *table_,
                      .flights = layer_flights_,
                      .max_parallel = options_.max_concurrent_downloads,
                      .limits = {.max_bytes = options_.max_layer_bytes,
                                 .max_entries = options_.max_layer_entries,
                                 .max_window_bytes = options_.max_window_bytes}};
  }

  const ImageStoreOptions options_;
  const std::unique_ptr<RegistryClient> client_;
  const std::shared_ptr<LayerPool> pool_;    // shared with the table
  const std::shared_ptr<ImageTable> table_;  // shared with holds
  const std::string mountpoint_;
  ImageMounts mounts_;
  Preloader preloader_;
  mutable LayerFlights layer_flights_;  // thread-safe
  PullFlights pulls_;
};

}  // namespace

Result<std::unique_ptr<ImageStore>> OpenImageStore(const ImageStoreOptions& given,
                                                   std::unique_ptr<RegistryClient> client) {
  if (given.root.empty()) return InvalidArgument("the image store needs a directory");
  LN_TRY(MakeDirs(given.root, 0700));
  ImageStoreOptions options = given;
  options.root = LN_TRY(RealPath(given.root));
  LN_TRY(RemoveAll(DiskImageStore::SpoolPath(options)));
  LN_TRY(MakeDirs(DiskImageStore::SpoolPath(options), 0700));
  std::shared_ptr<LayerPool> pool =
      LN_TRY(LayerPool::Open(JoinPath(options.root, "layers"), options.keep_unfinished));
  auto table = ImageTable::Open(JoinPath(options.root, "images"), pool, options.pinned);
  if (!table) {
    pool->Shutdown();  // nothing is removed because of an index that could not be read
    return std::move(table).error();
  }
  return std::unique_ptr<ImageStore>(std::make_unique<DiskImageStore>(
      options, std::move(client), std::move(pool), *std::move(table)));
}

void WaitForRemovals(ImageStore& store) { static_cast<DiskImageStore&>(store).pool().WaitIdle(); }

Result<std::unique_ptr<ImageStore>> ImageStore::Open(const ImageStoreOptions& options) {
  auto client =
      LN_TRY(RegistryClient::Create({.config_path = options.registry_config_path,
                                     .no_progress_timeout = options.no_progress_timeout}));
  return OpenImageStore(options, std::move(client));
}

}  // namespace linnet::oci
