// Images out of a file: a root file system tar, an OCI archive, a docker archive.
#pragma once

#include <memory>
#include <string>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/image_store.h"

#include "store/pull.h"

namespace linnet::oci {

// `spool` is a directory for what has to be read more than once.
Result<std::shared_ptr<const Image>> ImportImage(const StoreParts& parts, const std::string& spool,
                                                 FdRef archive,
                                                 const ImageStore::ImportOptions& options);

}  // namespace linnet::oci
