// Configs of images: no string that a container would get has a NUL in it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/oci/image_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = linnet::oci::ImageConfig::Parse({reinterpret_cast<const char*>(data), size});
  if (!config) return 0;
  const auto check = [](const std::vector<std::string>& texts) {
    const bool bad = std::any_of(texts.begin(), texts.end(), [](const std::string& text) {
      return text.find('\0') != std::string::npos;
    });
    if (bad) std::abort();
  };
  check(config->env);
  check(config->entrypoint);
  check(config->cmd);
  check(config->volumes);
  check({config->user, config->working_dir, config->stop_signal});
  return 0;
}
