// Seams of the image store for its tests.
#pragma once

#include <memory>

#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"

#include "registry/client.h"

namespace linnet::oci {

// ImageStore::Open with a registry of one's own.
Result<std::unique_ptr<ImageStore>> OpenImageStore(const ImageStoreOptions& options,
                                                   std::unique_ptr<RegistryClient> client);

// Waits until what was let go of is gone from the disk. `store` comes from one of the Open
// functions.
void WaitForRemovals(ImageStore& store);

}  // namespace linnet::oci
