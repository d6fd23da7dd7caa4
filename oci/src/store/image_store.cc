#include "linnet/oci/image_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "registry/client.h"
#include "store/image_store_internal.h"
#include "store/image_table.h"
#include "store/import.h"
#include "store/layer_assembler.h"
#include "store/layer_pool.h"
#include "store/pull.h"
#include "store/pull_flights.h"

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

class DiskImageStore final : public ImageStore {
 public:
  DiskImageStore(const ImageStoreOptions& options, std::unique_ptr<RegistryClient> client,
                 std::shared_ptr<LayerPool> pool, std::shared_ptr<ImageTable> table)
      : options_(options),
        client_(std::move(client)),
        pool_(std::move(pool)),
        table_(std::move(table)),
        mountpoint_(MountpointOf(options.root)),
        pulls_([this] { client_->CloseIdle(); }) {}

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
    return ImportImage(Parts(), SpoolPath(options_), archive, options);
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

  LayerPool& pool() { return *pool_; }

  static std::string SpoolPath(const ImageStoreOptions& options) {
    return JoinPath(options.root, "tmp");
  }

 private:
  StoreParts Parts() {
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
  LayerFlights layer_flights_;
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
  std::shared_ptr<LayerPool> pool = LN_TRY(LayerPool::Open(JoinPath(options.root, "layers")));
  auto table = ImageTable::Open(JoinPath(options.root, "images"), pool);
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
