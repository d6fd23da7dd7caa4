// One layer: the bytes of its blob go in, its files come out below a directory.
//
// Write decompresses and hashes in the caller's thread (the one that downloads); a thread of the
// unpacker's own parses the tar and places the files. Between them is a queue of 8 blocks of 256
// KiB.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/digest.h"

#include "unpack/layer_writer.h"
#include "unpack/tar_recipe.h"

namespace linnet::oci {

struct UnpackedLayer {
  Digest diff_id;
  LayerFacts facts;
  RecipeFacts recipe;  // where one was asked for
};

// Thread-compatible.
class LayerUnpacker {
 public:
  // `root` is an empty directory and stays open as long as the unpacker lives. `algorithm` of the
  // diff id. `recipe_dir` is where the recipe of the tar goes; it stays open, too.
  static Result<std::unique_ptr<LayerUnpacker>> Start(
      FdRef root, std::string_view algorithm, const UnpackLimits& limits,
      std::optional<FdRef> recipe_dir = std::nullopt);
  // Ends the thread; what was placed stays where it is: the caller removes the directory.
  ~LayerUnpacker();
  LayerUnpacker(const LayerUnpacker&) = delete;
  LayerUnpacker& operator=(const LayerUnpacker&) = delete;

  // Blocks while the queue is full. Errors: also those of placing.
  Result<void> Write(std::string_view bytes);
  // All bytes were written. Waits until all files are placed.
  Result<UnpackedLayer> Finish();

 private:
  class Impl;
  explicit LayerUnpacker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::oci
