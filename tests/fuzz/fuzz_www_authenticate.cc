// WWW-Authenticate headers, one in each line.
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "linnet/base/text.h"

#include "registry/challenge.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const linnet::oci::Challenge& challenge :
       linnet::oci::ParseChallenges(linnet::Split(text, '\n'))) {
    if (challenge.scheme.empty()) std::abort();
    for (const char c : challenge.scheme) {
      if (c >= 'A' && c <= 'Z') std::abort();
    }
    for (const auto& [name, value] : challenge.params) {
      if (name.empty()) std::abort();
    }
  }
  return 0;
}
