#include "store/layer_pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <map>
#include <system_error>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"
#include "linnet/base/log.h"
#include "linnet/base/mutex.h"

namespace linnet::oci {
namespace {

constexpr std::string_view kTempPrefix = "tmp-";
constexpr std::string_view kTrashPrefix = "trash-";
constexpr const char* kFs = "fs";

}  // namespace

// The mutex is held across renames within the directory (never across the removal of a tree), so
// that a name means the same on disk and in memory. Nothing but pulls, imports and removals waits
// for it.
class LayerPoolCore : public std::enable_shared_from_this<LayerPoolCore> {
 public:
  LayerPoolCore(std::string directory, UniqueFd fd)
      : directory_(std::move(directory)), fd_(std::move(fd)) {}

  FdRef fd() const { return fd_; }

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
      MutexLock lock(mu_);
      if (known_.contains(name)) continue;
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
    TempLayer temp(shared_from_this(), name, UniqueFd());
    const std::string fs = JoinPath(name, kFs);
    if (mkdirat(fd_.get(), fs.c_str(), 0755) != 0) {
      return Error::FromErrno(errno, "make directory " + JoinPath(directory_, fs));
    }
    temp.root_ = LN_TRY(OpenAt(fd_, fs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (fchmod(temp.root_.get(), 0755) != 0) return Error::FromErrno(errno, "chmod " + fs);
    return temp;
  }

  Result<std::shared_ptr<const Layer>> Commit(TempLayer temp, const LayerInfo& info) {
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
    MutexLock lock(mu_);
    closing_ = true;
    dropped.swap(jobs_);
    changed_.NotifyAll();
  }

  void RunJobs() {
    (void)pthread_setname_np(pthread_self(), "linnet-layers");  // for ps and gdb only
    for (;;) {
      std::function<void()> job;
      {
        MutexLock lock(mu_);
        busy_ = false;
        changed_.NotifyAll();
        while (jobs_.empty() && !closing_) changed_.Wait(mu_);
        if (closing_) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
        busy_ = true;
      }
      job();
    }
  }

 private:
  struct Known {
    std::weak_ptr<const Layer> layer;
    std::uint64_t generation = 0;
  };

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
  const UniqueFd fd_;
  const std::string unique_ = RandomHex(4);
  Mutex mu_;
  CondVar changed_;
  std::map<std::string, Known> known_ LN_GUARDED_BY(mu_);
  std::deque<std::function<void()>> jobs_ LN_GUARDED_BY(mu_);
  bool busy_ LN_GUARDED_BY(mu_) = false;
  bool closing_ LN_GUARDED_BY(mu_) = false;
  std::uint64_t counter_ LN_GUARDED_BY(mu_) = 0;
};

std::string LayerName(const Digest& id) {
  return std::string(id.algorithm()) + "-" + std::string(id.hex());
}

Layer::Layer(std::shared_ptr<LayerPoolCore> pool, LayerInfo info, std::string path,
             std::uint64_t generation)
    : pool_(std::move(pool)),
      info_(std::move(info)),
      path_(std::move(path)),
      generation_(generation) {}
Layer::~Layer() { pool_->Release(*this); }

TempLayer::TempLayer(std::shared_ptr<LayerPoolCore> pool, std::string name, UniqueFd root)
    : pool_(std::move(pool)), name_(std::move(name)), root_(std::move(root)) {}
TempLayer::TempLayer(TempLayer&& other) noexcept
    : pool_(std::move(other.pool_)),
      name_(std::exchange(other.name_, {})),
      root_(std::move(other.root_)) {}
TempLayer::~TempLayer() {
  if (!name_.empty()) pool_->RemoveTemp(name_);
}

LayerPool::LayerPool(std::shared_ptr<LayerPoolCore> core) : core_(std::move(core)) {}

Result<std::unique_ptr<LayerPool>> LayerPool::Open(const std::string& directory) {
  LN_TRY(MakeDirs(directory, 0700));
  UniqueFd fd = LN_TRY(OpenDir(directory));
  std::unique_ptr<LayerPool> pool(
      new LayerPool(std::make_shared<LayerPoolCore>(directory, std::move(fd))));
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
Result<void> LayerPool::Sync() const { return core_->Sync(); }
void LayerPool::Post(std::function<void()> job) { core_->Post(std::move(job)); }
void LayerPool::WaitIdle() { core_->WaitIdle(); }

}  // namespace linnet::oci
