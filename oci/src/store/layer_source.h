// The bytes of a layer's tar, made again out of its unpacked tree.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "linnet/base/result.h"

#include "store/image_table.h"
#include "store/layer_pool.h"

namespace linnet::oci {

using ByteSink = std::function<Result<void>(std::string_view)>;

// The exact bytes: their digest is compared with the diff id after the last of them. Errors:
// kFailedPrecondition they cannot be made again; kDataLoss the layer was changed on disk; the
// sink's.
Result<void> RebuildLayer(const LayerPool& pool, const Layer& layer, const ByteSink& sink);

// A layer with this diff id whose tar can be made again, or nullptr.
std::shared_ptr<const Layer> FindExact(const ImageTable& table, std::string_view diff_id);

}  // namespace linnet::oci
