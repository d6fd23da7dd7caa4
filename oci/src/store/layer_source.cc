#include "store/layer_source.h"

#include <fcntl.h>

#include "linnet/base/file.h"

#include "unpack/tar_recipe.h"

namespace linnet::oci {

Result<void> RebuildLayer(const LayerPool& pool, const Layer& layer, const ByteSink& sink) {
  const LayerInfo& info = layer.info();
  if (!info.exact) {
    return FailedPrecondition(
        "layer " + info.name +
        (info.tar_bytes == 0
             ? " was unpacked by an older linnet, which kept too little of it: pull the image "
               "again "
               "with `linnet image fsck --repair IMAGE`"
             : " came from an archive that cannot be written again byte by byte (a name comes "
               "twice "
               "in it, or much of it is no file): copy the image from where it was pulled"));
  }
  const UniqueFd directory = LN_TRY(pool.OpenDirectory(layer));
  const UniqueFd tree = LN_TRY(OpenAt(directory, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const Digest expected = LN_TRY(Digest::Parse(info.diff_id));
  Hasher hasher(expected.algorithm());
  LN_TRY_CTX(TarRebuilder::Run({.layer = directory, .tree = tree, .moved = &info.moved},
                               [&](std::string_view bytes) {
                                 hasher.Update(bytes);
                                 return sink(bytes);
                               }),
             "layer " + info.name);
  if (hasher.Finish() != expected) {
    return Error(Code::kDataLoss,
                 "layer " + info.name + " was changed on disk: `linnet image fsck` tells where");
  }
  return Ok();
}

std::shared_ptr<const Layer> FindExact(const ImageTable& table, std::string_view diff_id) {
  for (const ImageTable::Entry& entry : table.Entries()) {
    for (const auto& layer : entry.layers) {
      if (layer->info().exact && layer->info().diff_id == diff_id) return layer;
    }
  }
  return nullptr;
}

}  // namespace linnet::oci
