// Images mounted on the host, by request.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/oci/image_admin.h"

#include "store/image_table.h"

namespace linnet::oci {

// Thread-safe. Each mount holds its image. They are listed in a file, so that the next daemon holds
// them again, those that are still mounted.
class ImageMounts {
 public:
  // `file` may be absent. What cannot be read there is forgotten: the mounts stay, without a hold.
  ImageMounts(std::string file, std::shared_ptr<ImageTable> table, std::string empty_layer);

  // Errors: kInvalidArgument the target; kAlreadyExists; kFailedPrecondition what the kernel
  // cannot.
  Result<ImageMount> Mount(const Image& image, const std::string& name, const std::string& target);
  Result<std::vector<ImageMount>> Unmount(const std::string& target, const Image* image);
  std::vector<ImageMount> List() const;

 private:
  struct Entry {
    ImageMount mount;
    std::shared_ptr<const void> hold;  // shared with the table
  };
  void Load() LN_REQUIRES(mu_);
  Result<void> Save() const LN_REQUIRES(mu_);

  const std::string file_;
  const std::shared_ptr<ImageTable> table_;  // shared with the store
  const std::string empty_layer_;
  mutable Mutex mu_;                                         // held across mount and umount
  std::map<std::string, Entry> entries_ LN_GUARDED_BY(mu_);  // by target
};

}  // namespace linnet::oci
