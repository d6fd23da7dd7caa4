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
  // kReplaced: a reader sees the old or the new record. kInPlace: half the system calls; what a
  // crash tears counts as never written (an intent, before anything is done).
  enum class Writing : std::uint8_t { kReplaced, kInPlace };
  explicit RecordStore(std::string directory, Writing writing = Writing::kReplaced)
      : directory_(std::move(directory)), writing_(writing) {}

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
  Result<void> WriteFile(const std::string& path, const std::string& text) const;
  const std::string directory_;
  const Writing writing_;
};

}  // namespace linnet::network
