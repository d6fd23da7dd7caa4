// What there is, and what of it can go.
#pragma once

#include "linnet/base/result.h"
#include "linnet/oci/image_admin.h"

#include "store/pull.h"

namespace linnet::oci {

Result<ImageDetails> InspectImage(const StoreParts& parts, std::string_view ref_or_id);
// From what was counted when layers were unpacked: nothing is walked.
DiskUse UseOf(const StoreParts& parts);
Result<PruneResult> PruneImages(const StoreParts& parts, const PruneOptions& options);

}  // namespace linnet::oci
