// The unpacked layers on disk: <root>/layers/<algorithm>-<hex>/{fs/,tar.zst,layer.json}.
//
// A layer lives as long as somebody holds its Layer: the images that use it, a root file system
// mounted on it, a pull under way. When the last one lets go, the directory is renamed to trash-…
// at once, and a thread of the pool's own removes it. What is being unpacked is tmp-….
//
// Layers of a pull that came to nothing are kept for a while (spares), for the next attempt, also
// by the next daemon of the same boot: after a power cut nobody knows what of them is on the disk.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/digest.h"

#include "store/layer_info.h"

namespace linnet::oci {

class LayerPoolCore;

class Layer {
 public:
  Layer(std::shared_ptr<LayerPoolCore> pool, LayerInfo info, std::string path,
        std::uint64_t generation);
  ~Layer();
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  const LayerInfo& info() const { return info_; }
  const std::string& path() const { return path_; }  // of fs/
  std::uint64_t generation() const { return generation_; }

 private:
  const std::shared_ptr<LayerPoolCore> pool_;  // shared by the pool and its layers
  const LayerInfo info_;
  const std::string path_;
  const std::uint64_t generation_;  // tells layers apart that had the same name one after the other
};

// A directory to unpack into; removed when it is destroyed without having been committed.
class TempLayer {
 public:
  TempLayer(TempLayer&& other) noexcept;
  TempLayer& operator=(TempLayer&&) = delete;
  ~TempLayer();
  FdRef root() const { return root_; }  // of fs/
  FdRef directory() const { return directory_; }

 private:
  friend class LayerPool;
  friend class LayerPoolCore;
  TempLayer(std::shared_ptr<LayerPoolCore> pool, std::string name);
  std::shared_ptr<LayerPoolCore> pool_;
  std::string name_;  // empty: committed or moved from
  UniqueFd directory_, root_;
};

// Thread-safe.
class LayerPool {
 public:
  // `directory` is made if absent. Spares are kept for `keep_spares`; zero: not at all.
  static Result<std::unique_ptr<LayerPool>> Open(
      const std::string& directory, std::chrono::seconds keep_spares = std::chrono::seconds(0));
  ~LayerPool();
  // Ends the thread. Layers that are held still stay on disk from now on, whoever lets go of them.
  void Shutdown();
  LayerPool(const LayerPool&) = delete;
  LayerPool& operator=(const LayerPool&) = delete;

  // At start: a layer that the index names. nullptr where its directory is missing.
  std::shared_ptr<const Layer> Adopt(const LayerInfo& info);
  // At start, after all Adopt: everything else in the directory goes to the trash, or becomes a
  // spare.
  Result<void> RemoveUnknown();

  // nullptr: not here.
  std::shared_ptr<const Layer> Find(const std::string& name);
  Result<TempLayer> NewTemp();
  // Gives it its name. Where a layer of that name came meanwhile, that one is returned and `temp`
  // goes.
  Result<std::shared_ptr<const Layer>> Commit(TempLayer temp, const LayerInfo& info);
  // Puts `temp` in the place of a layer that nothing has mounted; what was there goes. The old
  // Layer is nobody's any more: the table takes the new one.
  Result<std::shared_ptr<const Layer>> Replace(TempLayer temp, const LayerInfo& info);

  // No image has it yet: it is kept for a while.
  void KeepSpare(const std::shared_ptr<const Layer>& layer);
  // An image has them now.
  void ForgetSpares(const std::vector<std::shared_ptr<const Layer>>& layers);
  // All of them go. Returns what they took.
  struct Totals {
    std::uint64_t bytes = 0, inodes = 0, layers = 0;
  };
  Totals DropSpares();
  Totals CountSpares() const;

  // An empty directory that is always there: overlayfs wants something below.
  const std::string& empty_layer() const;
  // layers/<name>
  Result<UniqueFd> OpenDirectory(const Layer& layer) const;

  // Everything written so far is on the disk.
  Result<void> Sync() const;
  // Runs `job` in the pool's thread.
  void Post(std::function<void()> job);
  // Waits until the thread has nothing to do.
  void WaitIdle();

 private:
  explicit LayerPool(std::shared_ptr<LayerPoolCore> core);
  const std::shared_ptr<LayerPoolCore> core_;
  std::thread worker_;
};

}  // namespace linnet::oci
