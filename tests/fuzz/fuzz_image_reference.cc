// Names of images: what is accepted must be printed in a form that is accepted again, unchanged.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "linnet/oci/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using linnet::oci::Reference;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = Reference::Parse(text);
  if (!parsed) return 0;
  const auto again = Reference::Parse(parsed->str());
  if (!again || again->str() != parsed->str()) std::abort();
  return 0;
}
