// CRI's messages → pods' plain data. What the interface cannot express (an enum number it does not
// know) is an error that names the field; whether values make sense together is checked in pods.
#pragma once

#include "linnet/oci/image_store.h"
#include "linnet/pods/types.h"

#include "cri.pb.h"

namespace linnet::cri {

Result<pods::PodConfig> PodConfigFrom(const ::runtime::v1::PodSandboxConfig& config,
                                      const std::string& runtime_handler);
Result<pods::ContainerConfig> ContainerConfigFrom(const ::runtime::v1::ContainerConfig& config);
pods::Resources ResourcesFrom(const ::runtime::v1::LinuxContainerResources& resources);
Result<pods::PodFilter> PodFilterFrom(const ::runtime::v1::PodSandboxFilter& filter);
Result<pods::ContainerFilter> ContainerFilterFrom(const ::runtime::v1::ContainerFilter& filter);
oci::RegistryAuth AuthFrom(const ::runtime::v1::AuthConfig& auth);

}  // namespace linnet::cri
