#include "store/layer_pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <map>
#include <optional>
#include <system_error>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"
#include "linnet/base/log.h"
#include "linnet/base/mutex.h"
#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

constexpr std::string_view kTempPrefix = "tmp-";
constexpr std::string_view kTrashPrefix = "trash-";
constexpr const char* kFs = "fs";
constexpr const char* kInfoName = "layer.json";
constexpr const char* kEmptyName = "empty-layer";  // beside the directory of layers
// Of the directory itself, tar.zst and layer.json.
constexpr std::uint64_t kBesideInodes = 3;
constexpr std::uint64_t kBesideBytes = 2 * 4096;

std::string BootId() {
  return std::string(Trim(ReadFile("/proc/sys/kernel/random/boot_id", 64).value_or("")));
}

}  // namespace

// The mutex is held across renames within the directory (never across the removal of a tree), so
// that a name means the same on disk and in memory. Nothing but pulls, imports and removals waits
// for it.
class LayerPoolCore : public std::enable_shared_from_this<LayerPoolCore> {
 public:
  LayerPoolCore(std::string directory, UniqueFd fd, std::chrono::seconds keep_spares)
      : directory_(std::move(directory)),
        empty_layer_(JoinPath(Dirname(directory_), kEmptyName)),
        fd_(std::move(fd)),
        keep_spares_(keep_spares) {}

  FdRef fd() const { return fd_; }
  const std::string& directory() const { return directory_; }
  const std::string& empty_layer() const { return empty_layer_; }

  std::shared_ptr<const Layer> Adopt(const LayerInfo& info) {
    MutexLock lock(mu_);
    if (auto known = FindLocked(info.name)) return known;
    if (faccessat(fd_.get(), JoinPath(info.name, kFs).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
      return nullptr;
    }
    return MakeLayer(info);
  }

  Result<void> RemoveUnknown() {
    for (const std::string& name : LN_TRY(ListDirAt(fd_))) {
      const std::optional<LayerInfo> spare = ReadSpare(name);
      MutexLock lock(mu_);
      if (known_.contains(name)) continue;
      if (spare) {
        AddSpareLocked(MakeLayer(*spare));
        continue;
      }
      if (name.starts_with(kTrashPrefix)) {
        PostRemoval(name);
      } else {
        Discard(name);
      }
    }
    return Ok();
  }

  std::shared_ptr<const Layer> Find(const std::string& name) {
    MutexLock lock(mu_);
    return FindLocked(name);
  }

  Result<TempLayer> NewTemp() {
    const std::string name = NewName(kTempPrefix);
    if (mkdirat(fd_.get(), name.c_str(), 0700) != 0) {
      return Error::FromErrno(errno, "make directory " + JoinPath(directory_, name));
    }
    TempLayer temp(shared_from_this(), name);
    temp.directory_ = LN_TRY(OpenAt(fd_, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const std::string fs = JoinPath(name, kFs);
    if (mkdirat(fd_.get(), fs.c_str(), 0755) != 0) {
      return Error::FromErrno(errno, "make directory " + JoinPath(directory_, fs));
    }
    temp.root_ = LN_TRY(OpenAt(fd_, fs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (fchmod(temp.root_.get(), 0755) != 0) return Error::FromErrno(errno, "chmod " + fs);
    return temp;
  }

  Result<std::shared_ptr<const Layer>> Commit(TempLayer temp, const LayerInfo& given) {
    const LayerInfo info = WithWhatIsBeside(given);
    LN_TRY(WriteInfo(temp, info));
    MutexLock lock(mu_);
    if (auto known = FindLocked(info.name)) return known;
    for (int attempt = 0;; ++attempt) {
      if (renameat(fd_.get(), temp.name_.c_str(), fd_.get(), info.name.c_str()) == 0) break;
      // One that was let go of just now and is not renamed away yet.
      if ((errno != ENOTEMPTY && errno != EEXIST) || attempt > 0) {
        return Error::FromErrno(errno, "rename layer to " + info.name);
      }
      Discard(info.name);
    }
    temp.name_.clear();
    return MakeLayer(info);
  }

  Result<std::shared_ptr<const Layer>> Replace(TempLayer temp, const LayerInfo& given) {
    const LayerInfo info = WithWhatIsBeside(given);
    LN_TRY(WriteInfo(temp, info));
    MutexLock lock(mu_);
    if (renameat2(fd_.get(), temp.name_.c_str(), fd_.get(), info.name.c_str(), RENAME_EXCHANGE) !=
        0) {
      return Error::FromErrno(errno, "put layer " + info.name + " in its place");
    }
    return MakeLayer(info);  // temp removes what was there
  }

  // ---- spares ----

  void KeepSpare(const std::shared_ptr<const Layer>& layer) {
    MutexLock lock(mu_);
    AddSpareLocked(layer);
  }

  void ForgetSpares(const std::vector<std::shared_ptr<const Layer>>& layers) {
    std::vector<std::shared_ptr<const Layer>> gone;  // let go of outside the lock
    MutexLock lock(mu_);
    for (const auto& layer : layers) {
      const auto at = spares_.find(layer->info().name);
      if (at == spares_.end()) continue;
      gone.push_back(std::move(at->second.layer));
      spares_.erase(at);
    }
  }

  LayerPool::Totals CountSpares() {
    MutexLock lock(mu_);
    return CountSparesLocked();
  }

  LayerPool::Totals DropSpares() {
    std::map<std::string, Spare> gone;
    LayerPool::Totals out;
    {
      MutexLock lock(mu_);
      out = CountSparesLocked();
      gone.swap(spares_);
    }
    return out;
  }

  void RemoveTemp(const std::string& name) {
    auto removed = RemoveAllAt(fd_, name);
    if (!removed)
      log::Debug("layer not removed, ignoring", {{"name", name}, {"err", removed.error()}});
  }

  void Release(const Layer& layer) {
    MutexLock lock(mu_);
    if (closing_) return;
    const auto known = known_.find(layer.info().name);
    if (known == known_.end() || known->second.generation != layer.generation()) return;
    known_.erase(known);
    Discard(layer.info().name);
  }

  Result<void> Sync() const {
    if (syncfs(fd_.get()) != 0)
      return Error::FromErrno(errno, "sync the file system of " + directory_);
    return Ok();
  }

  void Post(std::function<void()> job) {
    MutexLock lock(mu_);
    PostLocked(std::move(job));
  }

  void WaitIdle() {
    MutexLock lock(mu_);
    while (busy_ || !jobs_.empty()) changed_.Wait(mu_);
  }

  void Close() {
    std::deque<std::function<void()>>
        dropped;  // outside the lock: what was to go is found again at the next start
    std::map<std::string, Spare> spares;  // what they hold holds this, in a circle
    MutexLock lock(mu_);
    closing_ = true;
    spares.swap(spares_);
    dropped.swap(jobs_);
    changed_.NotifyAll();
  }

  void RunJobs() {
    (void)pthread_setname_np(pthread_self(), "linnet-layers");  // for ps and gdb only
    for (;;) {
      std::function<void()> job;
      std::vector<std::shared_ptr<const Layer>> expired;  // let go of outside the lock
      {
        MutexLock lock(mu_);
        busy_ = false;
        changed_.NotifyAll();
        while (jobs_.empty() && !closing_ && expired.empty()) {
          if (spares_.empty()) {
            changed_.Wait(mu_);
          } else {
            changed_.WaitUntil(mu_, NextExpiry());
            expired = TakeExpired();
          }
        }
        if (closing_) return;
        if (jobs_.empty()) {
          mu_.Unlock();
          expired.clear();  // each takes the lock
          mu_.Lock();
          continue;
        }
        job = std::move(jobs_.front());
        jobs_.pop_front();
        busy_ = true;
      }
      job();
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Known {
    std::weak_ptr<const Layer> layer;
    std::uint64_t generation = 0;
  };
  struct Spare {
    std::shared_ptr<const Layer> layer;
    Clock::time_point until;
  };

  static LayerInfo WithWhatIsBeside(LayerInfo info) {
    info.disk_bytes += kBesideBytes;
    info.inodes += kBesideInodes;
    return info;
  }

  Result<void> WriteInfo(const TempLayer& temp, const LayerInfo& info) const {
    Json json = DumpLayer(info);
    json["version"] = 1;
    json["boot"] = boot_id_;
    const UniqueFd file =
        LN_TRY(OpenAt(temp.directory_, kInfoName, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    return WriteAll(file, DumpJson(json) + "\n");
  }

  // A layer that was complete when an earlier daemon of this boot ended.
  std::optional<LayerInfo> ReadSpare(const std::string& name) const {
    if (keep_spares_.count() == 0 || boot_id_.empty()) return std::nullopt;
    const auto text = ReadFileAt(fd_, JoinPath(name, kInfoName), 4U << 20);
    if (!text) return std::nullopt;
    const auto json = ParseJson(*text);
    if (!json) return std::nullopt;
    const JsonView v(*json);
    if (v.Optional<std::string>("boot", "").value_or("") != boot_id_) return std::nullopt;
    auto info = ParseLayer(v);
    if (!info || info->name != name) return std::nullopt;
    return *std::move(info);
  }

  void AddSpareLocked(const std::shared_ptr<const Layer>& layer) LN_REQUIRES(mu_) {
    if (keep_spares_.count() == 0 || closing_) return;
    spares_[layer->info().name] = Spare{layer, Clock::now() + keep_spares_};
    changed_.NotifyAll();
  }

  LayerPool::Totals CountSparesLocked() const LN_REQUIRES(mu_) {
    LayerPool::Totals out;
    for (const auto& [name, spare] : spares_) {
      out.bytes += spare.layer->info().disk_bytes;
      out.inodes += spare.layer->info().inodes;
      ++out.layers;
    }
    return out;
  }

  Clock::time_point NextExpiry() const LN_REQUIRES(mu_) {
    Clock::time_point out = Clock::time_point::max();
    for (const auto& [name, spare] : spares_) out = std::min(out, spare.until);
    return out;
  }

  std::vector<std::shared_ptr<const Layer>> TakeExpired() LN_REQUIRES(mu_) {
    std::vector<std::shared_ptr<const Layer>> out;
    const auto now = Clock::now();
    for (auto at = spares_.begin(); at != spares_.end();) {
      if (at->second.until > now) {
        ++at;
        continue;
      }
      out.push_back(std::move(at->second.layer));
      at = spares_.erase(at);
    }
    return out;
  }

  std::string NewName(std::string_view prefix) {
    MutexLock lock(mu_);
    return NewNameLocked(prefix);
  }
  // Random: what an earlier daemon left must not be in the way.
  std::string NewNameLocked(std::string_view prefix) LN_REQUIRES(mu_) {
    return std::string(prefix) + unique_ + "-" + std::to_string(++counter_);
  }

  std::shared_ptr<const Layer> FindLocked(const std::string& name) LN_REQUIRES(mu_) {
    const auto known = known_.find(name);
    return known == known_.end() ? nullptr : known->second.layer.lock();
  }

  std::shared_ptr<const Layer> MakeLayer(const LayerInfo& info) LN_REQUIRES(mu_) {
    auto layer = std::make_shared<const Layer>(
        shared_from_this(), info, JoinPath(JoinPath(directory_, info.name), kFs), ++counter_);
    known_[info.name] = Known{layer, layer->generation()};
    return layer;
  }

  // Out of the way at once, removed in the background.
  void Discard(const std::string& name) LN_REQUIRES(mu_) {
    const std::string trash = NewNameLocked(kTrashPrefix);
    if (renameat(fd_.get(), name.c_str(), fd_.get(), trash.c_str()) != 0) {
      if (errno != ENOENT) {
        log::Debug("layer not moved to the trash, ignoring",
                   {{"name", name}, {"err", Error::FromErrno(errno, "rename")}});
      }
      return;
    }
    PostRemoval(trash);
  }

  void PostRemoval(const std::string& name) LN_REQUIRES(mu_) {
    // The raw pointer is good: the pool joins its thread before it lets go of the core.
    PostLocked([this, name] { RemoveTemp(name); });
  }

  void PostLocked(std::function<void()> job) LN_REQUIRES(mu_) {
    if (closing_) return;
    jobs_.push_back(std::move(job));
    changed_.NotifyAll();
  }

  const std::string directory_;
  const std::string empty_layer_;
  const UniqueFd fd_;
  const std::chrono::seconds keep_spares_;
  const std::string boot_id_ = BootId();
  const std::string unique_ = RandomHex(4);
  Mutex mu_;
  CondVar changed_;
  std::map<std::string, Known> known_ LN_GUARDED_BY(mu_);
  std::map<std::string, Spare> spares_ LN_GUARDED_BY(mu_);
  std::deque<std::function<void()>> jobs_ LN_GUARDED_BY(mu_);
  bool busy_ LN_GUARDED_BY(mu_) = false;
  bool closing_ LN_GUARDED_BY(mu_) = false;
  std::uint64_t counter_ LN_GUARDED_BY(mu_) = 0;
};

Layer::Layer(std::shared_ptr<LayerPoolCore> pool, LayerInfo info, std::string path,
             std::uint64_t generation)
    : pool_(std::move(pool)),
      info_(std::move(info)),
      path_(std::move(path)),
      generation_(generation) {}
Layer::~Layer() { pool_->Release(*this); }

TempLayer::TempLayer(std::shared_ptr<LayerPoolCore> pool, std::string name)
    : pool_(std::move(pool)), name_(std::move(name)) {}
TempLayer::TempLayer(TempLayer&& other) noexcept
    : pool_(std::move(other.pool_)),
      name_(std::exchange(other.name_, {})),
      directory_(std::move(other.directory_)),
      root_(std::move(other.root_)) {}
TempLayer::~TempLayer() {
  if (!name_.empty()) pool_->RemoveTemp(name_);
}

LayerPool::LayerPool(std::shared_ptr<LayerPoolCore> core) : core_(std::move(core)) {}

Result<std::unique_ptr<LayerPool>> LayerPool::Open(const std::string& directory,
                                                   std::chrono::seconds keep_spares) {
  LN_TRY(MakeDirs(directory, 0700));
  LN_TRY(MakeDirs(JoinPath(Dirname(directory), kEmptyName), 0755));
  UniqueFd fd = LN_TRY(OpenDir(directory));
  std::unique_ptr<LayerPool> pool(
      new LayerPool(std::make_shared<LayerPoolCore>(directory, std::move(fd), keep_spares)));
  try {
    pool->worker_ = std::thread([core = pool->core_.get()] { core->RunJobs(); });
  } catch (const std::system_error& e) {
    return Error(Code::kResourceExhausted, std::string("start a thread: ") + e.what());
  }
  return pool;
}

LayerPool::~LayerPool() { Shutdown(); }
void LayerPool::Shutdown() {
  core_->Close();
  if (worker_.joinable()) worker_.join();
}

std::shared_ptr<const Layer> LayerPool::Adopt(const LayerInfo& info) { return core_->Adopt(info); }
Result<void> LayerPool::RemoveUnknown() { return core_->RemoveUnknown(); }
std::shared_ptr<const Layer> LayerPool::Find(const std::string& name) { return core_->Find(name); }
Result<TempLayer> LayerPool::NewTemp() { return core_->NewTemp(); }
Result<std::shared_ptr<const Layer>> LayerPool::Commit(TempLayer temp, const LayerInfo& info) {
  return core_->Commit(std::move(temp), info);
}
Result<std::shared_ptr<const Layer>> LayerPool::Replace(TempLayer temp, const LayerInfo& info) {
  return core_->Replace(std::move(temp), info);
}
void LayerPool::KeepSpare(const std::shared_ptr<const Layer>& layer) { core_->KeepSpare(layer); }
void LayerPool::ForgetSpares(const std::vector<std::shared_ptr<const Layer>>& layers) {
  core_->ForgetSpares(layers);
}
LayerPool::Totals LayerPool::DropSpares() { return core_->DropSpares(); }
LayerPool::Totals LayerPool::CountSpares() const { return core_->CountSpares(); }
const std::string& LayerPool::empty_layer() const { return core_->empty_layer(); }
Result<UniqueFd> LayerPool::OpenDirectory(const Layer& layer) const {
  return OpenAt(core_->fd(), layer.info().name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}
Result<void> LayerPool::Sync() const { return core_->Sync(); }
void LayerPool::Post(std::function<void()> job) { core_->Post(std::move(job)); }
void LayerPool::WaitIdle() { core_->WaitIdle(); }

}  // namespace linnet::oci
