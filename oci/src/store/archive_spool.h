// The members of an image archive as files of ours, so that they can be read in any order. Names of
// members are keys, never paths.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "unpack/decompressor.h"
#include "unpack/layer_writer.h"

namespace linnet::oci {

// Bytes of a descriptor, with a look at what comes. Thread-compatible.
class ArchiveStream {
 public:
  explicit ArchiveStream(FdRef fd) : fd_(fd) {}
  // Valid until the next call; empty at the end.
  Result<std::string_view> Next();
  // The first of what Next has not given yet, at least `bytes` of it where the stream is that long.
  Result<std::string_view> Peek(std::size_t bytes);
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  Result<std::size_t> ReadSome(std::string& to);
  FdRef fd_;
  std::string ahead_;
  std::string current_;
  std::uint64_t bytes_read_ = 0;
};

// Decompresses on demand. Thread-compatible.
class DecompressedStream final : private OutputBuffer {
 public:
  using Source = std::function<Result<std::string_view>()>;
  explicit DecompressedStream(Source source);
  // Valid until the next call; empty at the end.
  Result<std::string_view> Next();

 private:
  Result<std::span<char>> Room() override;
  Result<void> Filled(std::size_t bytes) override;
  Source source_;
  Decompressor decompressor_;
  std::string buffer_;
  std::size_t used_ = 0;
  bool ended_ = false;
};

// Thread-safe once it is filled.
class ArchiveSpool {
 public:
  // Reads the whole tar; files go into a new directory below `parent`.
  static Result<std::unique_ptr<ArchiveSpool>> Read(const std::string& parent,
                                                    ArchiveStream& archive,
                                                    const UnpackLimits& limits);
  ~ArchiveSpool();
  ArchiveSpool(const ArchiveSpool&) = delete;
  ArchiveSpool& operator=(const ArchiveSpool&) = delete;

  struct Member {
    std::string path;  // of the file here
    std::uint64_t size = 0;
  };
  // Follows links within the archive. nullptr: no such member.
  const Member* Find(std::string_view name) const;
  // Errors: kInvalidArgument where it is not there or larger.
  Result<std::string> ReadSmall(std::string_view name, std::size_t max_bytes) const;

 private:
  explicit ArchiveSpool(std::string directory) : directory_(std::move(directory)) {}
  const std::string directory_;
  std::map<std::string, Member, std::less<>> members_;
  std::map<std::string, std::string, std::less<>> links_;
};

// Does the archive begin as an OCI or docker archive does?
Result<bool> LooksLikeImageArchive(ArchiveStream& archive);

}  // namespace linnet::oci
