// What this kernel can do.
#pragma once

#include "cgroup/cgroup.h"
#include "linnet/runtime/runtime.h"

namespace linnet::runtime {

Runtime::Features ProbeFeatures(CgroupLayout layout);

}  // namespace linnet::runtime
