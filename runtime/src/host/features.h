// What this kernel can do.
#pragma once

#include "linnet/runtime/runtime.h"

#include "cgroup/cgroup.h"

namespace linnet::runtime {

Runtime::Features ProbeFeatures(CgroupLayout layout);

}  // namespace linnet::runtime
