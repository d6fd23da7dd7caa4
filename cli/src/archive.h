// Image archives on this side of the socket: a file, standard input or output, or the directory of
// an OCI layout. The daemon sees a tar stream, or members.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::cli {

// The 512 bytes before a member: a regular file, owned by root, of no time. `name` is at most 100
// bytes.
std::string TarHeader(std::string_view name, std::uint64_t size);
// What follows a member of that size.
std::string TarPadding(std::uint64_t size);
// The end of an archive.
std::string TarEnd();

// What is to be imported, as a stream of bytes. Thread-compatible.
class ArchiveReader {
 public:
  // "-": standard input. A directory: its layout, the index first.
  static Result<std::unique_ptr<ArchiveReader>> Open(const std::string& path);
  virtual ~ArchiveReader() = default;
  // The next bytes; empty at the end.
  virtual Result<std::string_view> Next() = 0;
  virtual std::uint64_t size() const { return 0; }  // 0: not known
};

// Where a saved archive goes. Nothing stands under the name that was given before Finish.
// Thread-compatible.
class ArchiveWriter {
 public:
  // "-": standard output (no terminal).
  static Result<std::unique_ptr<ArchiveWriter>> ToFile(const std::string& path);
  // A directory, made if absent; else it must be empty.
  static Result<std::unique_ptr<ArchiveWriter>> ToDirectory(const std::string& path);
  virtual ~ArchiveWriter() = default;
  virtual Result<void> Begin(const std::string& name, std::uint64_t size) = 0;
  virtual Result<void> Write(std::string_view bytes) = 0;
  virtual Result<void> Finish() = 0;
};

}  // namespace linnet::cli
