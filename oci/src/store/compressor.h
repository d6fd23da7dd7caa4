// Compresses a layer's tar for an archive or a registry.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "linnet/base/result.h"
#include "linnet/oci/image_admin.h"

namespace linnet::oci {

// Thread-compatible. The same bytes give the same output with the same build.
class Compressor {
 public:
  using Sink = std::function<Result<void>(std::string_view)>;
  Compressor(LayerCompression how, Sink sink);
  ~Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  // Errors: the sink's.
  Result<void> Write(std::string_view bytes);
  Result<void> Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// "application/vnd.oci.image.layer.v1.tar", "+gzip", "+zstd"
std::string_view LayerMediaType(LayerCompression how);

}  // namespace linnet::oci
