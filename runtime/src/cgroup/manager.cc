#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"
#include "cgroup/manager_v1.h"
#include "cgroup/manager_v2.h"

namespace linnet::runtime {

Result<std::unique_ptr<CgroupManager>> CgroupManager::Create() {
  Hierarchies found = LN_TRY(OpenHierarchies());
  if (found.v1.empty())
    return std::unique_ptr<CgroupManager>(std::make_unique<ManagerV2>(*std::move(found.v2)));
  return std::unique_ptr<CgroupManager>(std::make_unique<ManagerV1>(std::move(found)));
}

}  // namespace linnet::runtime
