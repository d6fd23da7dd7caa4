// Results of plugins: what is read is written in every version, and read again from it; through
// the newest version nothing changes any more.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cni/args.h"
#include "cni/result.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace linnet::network::cni;  // NOLINT(google-build-using-namespace): a program
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ParseArgs(text);
  for (const char* version : {"1.1.0", "0.2.0"}) {
    const auto result = ParseResult(text, version);
    if (!result) continue;
    for (const char* to : {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
      const auto written = DumpResult(*result, to);
      if (!written) continue;  // 0.2.0 needs an address
      const auto read = ParseResult(*written, to);
      if (!read) std::abort();
      const auto again = DumpResult(*read, to);
      if (!again || *again != *written) std::abort();
    }
  }
  return 0;
}
