// Images out of a file: a root file system tar, an OCI archive, a docker archive.
#pragma once

#include <memory>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/image_store.h"

#include "store/pull.h"

namespace linnet::oci {

// Reads `archive` once, from where it stands; it may be a pipe. All images in it; where one fails,
// those before it are stored.
Result<std::vector<std::shared_ptr<const Image>>> ImportImages(
    const StoreParts& parts, FdRef archive, const ImageStore::ImportOptions& options);

}  // namespace linnet::oci
