// What an image archive (OCI or docker) has in it. Names of members are keys, never paths.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/image_store.h"

#include "store/layer_assembler.h"
#include "store/layer_pool.h"
#include "unpack/decompressor.h"
#include "unpack/tar_reader.h"

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

// One reading of an image archive, whatever the order of its members: documents are kept in memory,
// whatever is a layer is unpacked at once into a directory of its own, and who it belongs to is
// found out at the end. Nothing is kept twice. Thread-compatible.
class ImageArchive {
 public:
  struct Options {
    LayerPool& pool;
    UnpackLimits limits;
    std::stop_token stop;
    std::function<void(const PullProgress&)> progress;
  };
  static Result<std::unique_ptr<ImageArchive>> Read(ArchiveStream& archive, const Options& options);

  struct Member {
    Digest digest;  // by the algorithm that its name tells, else sha256
    std::uint64_t size = 0;
    std::string document;  // where it is a small one
    bool is_document = false;
    std::optional<Error> error;  // it looked like a layer
    std::optional<ReadyLayer> layer;
  };
  // Follows links within the archive. nullptr: no such member.
  const Member* Find(std::string_view name) const;
  // Errors: kInvalidArgument where it is not there, larger, or no document.
  Result<std::string> ReadSmall(std::string_view name, std::size_t max_bytes) const;
  // Each once. nullopt: none of the members is this layer.
  std::optional<ReadyLayer> TakeLayer(const Digest& diff_id);

 private:
  explicit ImageArchive(const Options& options) : options_(options) {}
  Result<void> ReadMember(TarReader& reader, const TarEntry& entry, const std::string& name);
  Result<void> Unpack(Member& member, const std::string& name, std::string head,
                      const std::function<Result<std::string_view>()>& next);
  bool IsHere(const std::string& name) const;

  const Options options_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t document_bytes_ = 0;
  std::map<std::string, Member, std::less<>> members_;
  std::map<std::string, std::string, std::less<>> links_;
};

// Does the archive begin as an OCI or docker archive does?
Result<bool> LooksLikeImageArchive(ArchiveStream& archive);

}  // namespace linnet::oci
