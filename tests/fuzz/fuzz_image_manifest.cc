// Manifests and indexes: what is accepted stays within its limits, and is one of the two only.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "linnet/oci/image_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using linnet::oci::Index;
  using linnet::oci::Manifest;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = Manifest::Parse(text);
  const auto index = Index::Parse(text);
  if (manifest && index) std::abort();
  if (manifest && manifest->layers.size() > 500) std::abort();
  if (index) {
    if (index->manifests.size() > 1000) std::abort();
    const auto chosen = index->Select("linux", "arm64");
    if (chosen && chosen->digest.hex().empty()) std::abort();
  }
  return 0;
}
