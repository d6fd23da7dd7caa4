// Reading files of a root file system before anything is mounted: the overlay of its directories as
// the kernel would show it, for a daemon that must not trust them.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/runtime/runtime.h"

namespace linnet::runtime {

// Thread-compatible.
class LayeredRoot {
 public:
  // An upper directory that does not exist yet is left out. Errors: a layer cannot be opened.
  static Result<LayeredRoot> Open(const RootFs& rootfs);

  // A regular file, for reading. Links are resolved within the root (at most 40), whiteouts and
  // opaque directories are honoured. Never blocks on what it opens. Errors: kNotFound;
  // kInvalidArgument where it is something else than a regular file, or a loop of links.
  Result<UniqueFd> OpenRegular(const std::string& path) const;

 private:
  explicit LayeredRoot(std::vector<UniqueFd> layers) : layers_(std::move(layers)) {}
  std::vector<UniqueFd> layers_;  // the uppermost first
};

}  // namespace linnet::runtime
