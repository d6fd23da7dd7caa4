// Statistics → CRI's messages. What the machine cannot tell stays unset; timestamps are always set.
#pragma once

#include "linnet/pods/stats.h"

#include "cri.pb.h"

namespace linnet::cri {

void ToCri(const pods::ContainerStats& from, ::runtime::v1::ContainerStats* to);
void ToCri(const pods::PodStats& from, ::runtime::v1::PodSandboxStats* to);

}  // namespace linnet::cri
