// Images into an archive.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/image_admin.h"

#include "store/layer_source.h"
#include "store/pull.h"

namespace linnet::oci {

// See ImageAdmin::Save. `spool`: a directory for layers that are compressed, one file without a
// name each, since an archive tells their size before they come.
Result<void> SaveImages(const StoreParts& parts, const std::string& spool,
                        const std::vector<std::string>& images, const SaveOptions& options,
                        ArchiveSink& sink);

// A layer as it goes out.
struct OutLayer {
  Descriptor descriptor;
  std::shared_ptr<const Layer> layer;
  UniqueFd file;  // compressed; none: the tar as it is made again
};
// With compression the file is made now; without, nothing is read yet.
Result<OutLayer> PrepareLayer(const StoreParts& parts, const std::string& spool,
                              const std::shared_ptr<const Layer>& layer, LayerCompression how,
                              const std::stop_token& stop);
// The blob's bytes, from the beginning.
Result<void> SendLayer(const StoreParts& parts, const OutLayer& layer, const ByteSink& sink);

// An OCI manifest.
std::string MakeManifest(const std::string& config_json, const std::vector<Descriptor>& layers);

}  // namespace linnet::oci
