// Pods' plain data → CRI's messages.
#pragma once

#include "linnet/oci/image_store.h"
#include "linnet/pods/types.h"

#include "cri.pb.h"

namespace linnet::cri {

void ToCri(const pods::PodStatus& from, ::runtime::v1::PodSandbox* to);
void ToCri(const pods::PodStatus& from, ::runtime::v1::PodSandboxStatus* to);
void ToCri(const pods::ContainerStatus& from, ::runtime::v1::Container* to);
void ToCri(const pods::ContainerStatus& from, ::runtime::v1::ContainerStatus* to);
// The same message wherever an image is shown: clients compare them.
void ToCri(const oci::Image& from, ::runtime::v1::Image* to);
void ToCri(const oci::FsUsage& from, std::int64_t now_ns, ::runtime::v1::FilesystemUsage* to);

}  // namespace linnet::cri
