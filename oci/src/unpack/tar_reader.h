// A tar stream as a sequence of entries: ustar, pax, GNU (long names, sparse files, base-256
// numbers). libarchive parses; it touches no file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::oci {

enum class EntryKind { kFile, kDirectory, kSymlink, kHardLink, kCharDevice, kBlockDevice, kFifo };

// As the archive has it: nothing is cleaned, nothing may be trusted.
struct TarEntry {
  EntryKind kind = EntryKind::kFile;
  std::string path;
  std::string link;        // target of a symbolic or hard link
  std::uint32_t mode = 0;  // permission bits with set-id and sticky
  std::int64_t uid = 0, gid = 0;
  std::int64_t mtime_seconds = 0;
  std::int64_t mtime_nanoseconds = 0;
  std::uint64_t size = 0;  // of a file: with its holes
  std::uint32_t device_major = 0, device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;
};

// Thread-compatible.
class TarReader {
 public:
  // The next bytes of the stream, valid until the next call; empty at the end.
  using Source = std::function<Result<std::string_view>()>;
  explicit TarReader(Source source);
  ~TarReader();
  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;

  // nullptr at the end of the archive; else valid until the next call. Skips what is left of the
  // entry before. Errors: kDataLoss for a damaged archive, or the source's.
  Result<const TarEntry*> Next();

  // The entry's next piece of data: where it belongs and what it is. nullopt at the end. Pieces
  // come in ascending order; what lies between them is a hole.
  struct Data {
    std::string_view bytes;
    std::uint64_t offset = 0;
  };
  Result<std::optional<Data>> Read();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::oci
