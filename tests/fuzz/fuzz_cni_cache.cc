// Attachment records, ours and those of other runtimes: what is accepted is written as a record
// that says the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cni/cache.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace linnet::network::cni;  // NOLINT(google-build-using-namespace): a program
  const auto record = ParseRecord({reinterpret_cast<const char*>(data), size});
  if (!record) return 0;
  const auto again = ParseRecord(DumpRecord(*record));
  if (!again || again->container_id != record->container_id || again->ifname != record->ifname ||
      again->network != record->network || again->config != record->config ||
      again->args != record->args || again->mark.has_value() != record->mark.has_value())
    std::abort();
  return 0;
}
