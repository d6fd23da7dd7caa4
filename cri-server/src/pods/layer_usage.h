// How much a directory tree holds, counted without trusting who fills it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::pods {

struct TreeUsage {
  std::uint64_t bytes = 0;   // of blocks in use; a file with several names counts once
  std::uint64_t inodes = 0;  // the root itself included
  bool whole = true;         // false: there was more than `max_inodes`
};

// Follows no link and leaves neither the tree nor its file system, whatever is renamed meanwhile;
// needs three descriptors at any depth but for one more per 2,000 characters of path. What vanishes
// on the way is passed over.
Result<TreeUsage> MeasureTree(FdRef root, std::size_t max_inodes);

}  // namespace linnet::pods
