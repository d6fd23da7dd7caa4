// Names of images, in the distribution grammar.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>

#include "linnet/base/result.h"
#include "linnet/oci/digest.h"

namespace linnet::oci {

// "busybox" → docker.io/library/busybox:latest; a reference with a digest has no default tag.
struct Reference {
  std::string domain;  // "docker.io", "127.0.0.1:5000"
  std::string path;    // "library/busybox"
  std::string tag;     // may be empty with a digest
  std::optional<Digest> digest;

  // Errors: kInvalidArgument naming the part that is wrong.
  static Result<Reference> Parse(std::string_view text);
  std::string repository() const { return domain + "/" + path; }
  // "docker.io/library/busybox:latest" or "…@sha256:…" (the tag is dropped where there is a digest,
  // as CRI shows it).
  std::string str() const;
  auto operator<=>(const Reference&) const = default;
};

}  // namespace linnet::oci
