// Which hosts are asked for an image: containerd's hosts.toml (docs/hosts.md of containerd), then
// the registry itself.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"

#include "registry/http.h"
#include "registry/url.h"

namespace linnet::oci {

struct Endpoint {
  Url base;               // "https://registry-1.docker.io/v2"; its path has no slash at the end
  bool pull = true;       // may serve by digest
  bool resolve = true;    // may serve by tag
  bool upstream = false;  // the registry itself, not a mirror
  TlsOptions tls;
  std::vector<std::string> headers;  // "Name: value", for this host only
  std::chrono::milliseconds connect_timeout{10'000};
};

// In the order in which they are to be asked; never empty. `config_path` may be empty, or several
// directories with ':' between; the first that has a directory for `domain` (or "_default") counts.
// Errors: kInvalidArgument a hosts.toml that is not valid, with file and line.
Result<std::vector<Endpoint>> EndpointsOf(std::string_view domain, std::string_view config_path);

// The registry's own address where nothing is configured: https, plain http for this machine.
Result<Endpoint> DefaultEndpoint(std::string_view domain);

// The text of a hosts.toml; `directory` is where it stands (relative file names start there).
Result<std::vector<Endpoint>> ParseHostsToml(std::string_view text, const std::string& directory,
                                             std::string_view domain);

}  // namespace linnet::oci
