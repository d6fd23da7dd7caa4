// The parts of the OCI image specification (and of Docker's schema 2) that a node uses.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/oci/digest.h"

namespace linnet::oci {

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
  // Of an index entry.
  std::string os, architecture, variant;
  std::map<std::string, std::string> annotations;
};

// Exactly one of manifest and index is meant; a document that is both (manifests and layers) is
// refused (CVE-2021-41190).
struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  static Result<Manifest> Parse(std::string_view json);
};
struct Index {
  std::vector<Descriptor> manifests;
  static Result<Index> Parse(std::string_view json);
  // The entry for this machine's os, architecture and (arm) variant. Errors: kNotFound listing what
  // there is.
  Result<Descriptor> Select(std::string_view os, std::string_view architecture) const;
};

// image config: what a container inherits.
struct ImageConfig {
  std::string architecture, os;
  std::string user;
  std::vector<std::string> env, entrypoint, cmd;
  std::string working_dir;
  std::vector<std::string> volumes;           // sorted
  std::map<std::string, std::string> labels;  // display only, never control
  std::string stop_signal;
  std::vector<std::string> exposed_ports;
  std::vector<Digest> diff_ids;
  std::string created;
  static Result<ImageConfig> Parse(std::string_view json);
};

}  // namespace linnet::oci
