// Archives in a directory, loaded without being asked for: for nodes that reach no registry.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/image_admin.h"

namespace linnet::oci {

// Thread-safe. A file is loaded once: what was loaded is kept in `record` by name, size and time of
// change. One that failed is tried again each time.
class Preloader {
 public:
  // Imports one archive; the ids and names of what it had.
  using Load =
      std::function<Result<std::vector<std::string>>(FdRef archive, const std::stop_token& stop)>;
  Preloader(std::string directory, std::string record, Load load);

  // One at a time: a second call waits. Errors: the directory or the record cannot be read or
  // written; kCancelled. No directory: nothing to do.
  Result<std::vector<PreloadedFile>> Run(const std::stop_token& stop);
  std::vector<PreloadedFile> List() const;

 private:
  struct Entry {
    PreloadedFile file;
    std::uint64_t bytes = 0;
    std::int64_t changed_nanos = 0;
    std::uint64_t inode = 0;
  };
  void ReadRecord() LN_REQUIRES(mu_);
  Result<void> WriteRecord() const;
  Result<void> LoadOne(const std::string& name, const std::stop_token& stop);

  const std::string directory_, record_;
  const Load load_;
  Mutex running_;  // taken before mu_
  mutable Mutex mu_;
  std::map<std::string, Entry> entries_ LN_GUARDED_BY(mu_);  // by name of the file
};

}  // namespace linnet::oci
