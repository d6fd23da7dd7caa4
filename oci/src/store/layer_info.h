// What is known of an unpacked layer: in the index of images, and in layers/<name>/layer.json
// beside the tree, so that a layer whose image never became complete can be used by the next pull.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "linnet/base/json_view.h"
#include "linnet/base/result.h"
#include "linnet/oci/digest.h"

namespace linnet::oci {

struct LayerInfo {
  std::string name;              // of its directory: "sha256-<hex>"
  std::string diff_id;           // "sha256:<hex>"
  std::uint64_t disk_bytes = 0;  // of the tree and of what stands beside it
  std::uint64_t inodes = 0;
  bool opaque_root = false;  // nothing of the layers below is visible
  // Something in it was taken from the layers below (or, at the bottom of an image, from nowhere):
  // it is good for images with that same chain of layers only.
  bool chained = false;
  // The layer's tar can be made again; see unpack/tar_recipe.h.
  bool exact = false;
  std::uint64_t tar_bytes = 0;               // 0: not known
  std::map<std::string, std::string> moved;  // LayerFacts::moved
};

// "sha256-<hex>", safe as a file name.
std::string LayerName(const Digest& id);

Json DumpLayer(const LayerInfo& info);
// Errors: kInvalidArgument, also for a name that LayerName did not make.
Result<LayerInfo> ParseLayer(const JsonView& v);

}  // namespace linnet::oci
