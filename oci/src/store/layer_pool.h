// The unpacked layers on disk: <root>/layers/<algorithm>-<hex>/fs.
//
// A layer lives as long as somebody holds its Layer: the images that use it, a root file system
// mounted on it, a pull under way. When the last one lets go, the directory is renamed to trash-…
// at once, and a thread of the pool's own removes it. What is being unpacked is tmp-….
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/digest.h"

namespace linnet::oci {

struct LayerInfo {
  std::string name;  // of its directory: "sha256-<hex>"
  std::uint64_t disk_bytes = 0;
  std::uint64_t inodes = 0;
  bool opaque_root = false;  // nothing of the layers below is visible
  // Something in it was taken from the layers below (or, at the bottom of an image, from nowhere):
  // it is good for images with that same chain of layers only.
  bool chained = false;
};

// "sha256-<hex>", safe as a file name.
std::string LayerName(const Digest& id);

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

 private:
  friend class LayerPool;
  friend class LayerPoolCore;
  TempLayer(std::shared_ptr<LayerPoolCore> pool, std::string name, UniqueFd root);
  std::shared_ptr<LayerPoolCore> pool_;
  std::string name_;  // empty: committed or moved from
  UniqueFd root_;
};

// Thread-safe.
class LayerPool {
 public:
  // `directory` is made if absent.
  static Result<std::unique_ptr<LayerPool>> Open(const std::string& directory);
  ~LayerPool();
  // Ends the thread. Layers that are held still stay on disk from now on, whoever lets go of them.
  void Shutdown();
  LayerPool(const LayerPool&) = delete;
  LayerPool& operator=(const LayerPool&) = delete;

  // At start: a layer that the index names. nullptr where its directory is missing.
  std::shared_ptr<const Layer> Adopt(const LayerInfo& info);
  // At start, after all Adopt: everything else in the directory goes to the trash.
  Result<void> RemoveUnknown();

  // nullptr: not here.
  std::shared_ptr<const Layer> Find(const std::string& name);
  Result<TempLayer> NewTemp();
  // Gives it its name. Where a layer of that name came meanwhile, that one is returned and `temp`
  // goes.
  Result<std::shared_ptr<const Layer>> Commit(TempLayer temp, const LayerInfo& info);

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
