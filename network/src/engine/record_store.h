// The files of attachment records: <cache_dir>/results.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"

#include "cni/cache.h"

namespace linnet::network {

// Thread-safe: holds nothing but the path.
class RecordStore {
 public:
  explicit RecordStore(std::string directory) : directory_(std::move(directory)) {}

  struct File {
    std::string name;
    std::optional<cni::Record> record;  // absent: torn, or not a record of version 1
  };
  // Replaces what is there; makes the directory (0700).
  Result<void> Write(const cni::Record& record) const;
  Result<void> Remove(const std::string& name) const;  // absent: success
  // By the name, so that torn files are found too. No directory: none.
  Result<std::vector<File>> Of(std::string_view container_id) const;
  Result<std::vector<File>> All() const;

 private:
  template <class Keep>
  Result<std::vector<File>> Read(Keep keep) const;
  const std::string directory_;
};

}  // namespace linnet::network
