// hosts.toml files: what is accepted names hosts with a scheme that can be spoken.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "registry/hosts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto endpoints = linnet::oci::ParseHostsToml(text, "/nowhere", "registry.example");
  if (!endpoints) return 0;
  if (endpoints->empty()) std::abort();
  for (const linnet::oci::Endpoint& endpoint : *endpoints) {
    if (endpoint.base.scheme != "http" && endpoint.base.scheme != "https") std::abort();
    if (endpoint.base.host.empty()) std::abort();
    for (const std::string& header : endpoint.headers) {
      if (header.find('\n') != std::string::npos || header.find('\r') != std::string::npos)
        std::abort();
    }
  }
  return 0;
}
