// fsck of the image store.
#pragma once

#include <vector>

#include "linnet/base/result.h"
#include "linnet/oci/image_admin.h"

#include "registry/client.h"
#include "store/pull.h"

namespace linnet::oci {

// See ImageAdmin::Check. Errors: kNotFound an image that was named; kCancelled. What is wrong with
// a layer, or why it could not be repaired, is a finding.
Result<std::vector<LayerFinding>> CheckImages(const StoreParts& parts, RegistryClient& client,
                                              const CheckOptions& options);

// How a layer's tree differs from what its tar says of it (contents are not looked at), at most
// `max` of the differences.
Result<std::vector<std::string>> CompareTree(const LayerPool& pool, const Layer& layer,
                                             std::size_t max);

}  // namespace linnet::oci
