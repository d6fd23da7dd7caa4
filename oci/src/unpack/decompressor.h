// From the bytes of a layer's blob to the bytes of its tar: gzip (several members too), zstd
// (several frames too) or plain, told by the first bytes, whatever the media type says.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "linnet/base/result.h"

namespace linnet::oci {

// Where decompressed bytes go.
class OutputBuffer {
 public:
  virtual ~OutputBuffer() = default;
  // At least one byte of room.
  virtual Result<std::span<char>> Room() = 0;
  // That many bytes of the room are filled now.
  virtual Result<void> Filled(std::size_t bytes) = 0;
};

enum class Compression { kPlain, kGzip, kZstd };

// The first bytes (at least kSniffBytes, fewer only where the stream is shorter) of a blob. Errors:
// kInvalidArgument for a compression that is known but not supported (xz, bzip2, lz4).
inline constexpr std::size_t kSniffBytes = 6;
Result<Compression> SniffCompression(std::string_view head);

// Thread-compatible.
class Decompressor {
 public:
  // `max_window_bytes`: of zstd; a power of two of at least 1 KiB, or rounded down to one.
  explicit Decompressor(OutputBuffer& out, std::uint64_t max_window_bytes = 128ULL << 20);
  ~Decompressor();
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  // Errors: kDataLoss (damaged), kInvalidArgument (unsupported), or the output's.
  Result<void> Write(std::string_view bytes);
  // The stream has ended. Errors: kDataLoss where it was cut short.
  Result<void> Finish();

  class Codec;

 private:
  Result<void> Start();
  OutputBuffer& out_;
  const std::uint64_t max_window_bytes_;
  std::string head_;  // until there is enough to sniff
  std::unique_ptr<Codec> codec_;
};

}  // namespace linnet::oci
