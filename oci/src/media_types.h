// Media types of manifests and indexes.
#pragma once

#include <string_view>

namespace linnet::oci {

namespace media_type {
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerSchema1 =
    "application/vnd.docker.distribution.manifest.v1+json";
inline constexpr std::string_view kDockerSchema1Signed =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";
}  // namespace media_type

constexpr bool IsManifestType(std::string_view type) {
  return type == media_type::kOciManifest || type == media_type::kDockerManifest;
}
constexpr bool IsIndexType(std::string_view type) {
  return type == media_type::kOciIndex || type == media_type::kDockerList;
}
constexpr bool IsSchema1Type(std::string_view type) {
  return type == media_type::kDockerSchema1 || type == media_type::kDockerSchema1Signed;
}

}  // namespace linnet::oci
