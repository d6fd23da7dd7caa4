#include "host/cgroup_files.h"

#include <fcntl.h>

#include "linnet/base/file.h"

namespace linnet::runtime {
namespace {

std::string Names(ControllerSet set) {
  std::string out;
  for (int i = 0; i < kControllerCount; ++i) {
    const auto controller = static_cast<Controller>(i);
    if (!set.Has(controller)) continue;
    if (!out.empty()) out += ',';
    out += ControllerName(controller);
  }
  return out;
}

UniqueFd OpenBelow(FdRef dir, const std::string& path, int flags) {
  const auto rel = RelativePath(path);
  if (!rel) return {};
  auto fd = OpenAt(dir, *rel, flags);
  return fd ? *std::move(fd) : UniqueFd();
}

}  // namespace

Result<CgroupFiles> CgroupFiles::Open(CgroupLayout layout) {
  return CgroupFiles(layout, LN_TRY(OpenHierarchies()));
}

CgroupFiles::CgroupFiles(CgroupLayout layout, Hierarchies hierarchies)
    : layout_(layout), hierarchies_(std::move(hierarchies)) {
  if (layout_ == CgroupLayout::kV2) return;
  ControllerSet freezer;
  freezer.Add(Controller::kFreezer);
  for (const Hierarchy& h : hierarchies_.v1) {
    // With a v2 tree to kill with, containers have no group in the freezer's (see ManagerV1).
    if (layout_ == CgroupLayout::kHybrid && h.controllers == freezer) continue;
    text_ += Names(h.controllers) + ";";
  }
  if (hierarchies_.v2) text_ += "unified;";
  if (!text_.empty()) text_.pop_back();
}

const Hierarchy* CgroupFiles::Find(Controller c) const {
  for (const Hierarchy& h : hierarchies_.v1) {
    if (h.controllers.Has(c)) return &h;
  }
  return nullptr;
}

UniqueFd CgroupFiles::OpenOomCounter(const std::string& path) const {
  if (layout_ == CgroupLayout::kV2)
    return OpenBelow(hierarchies_.v2->dir, path + "/memory.events", O_RDONLY);
  const Hierarchy* memory = Find(Controller::kMemory);
  return memory == nullptr ? UniqueFd()
                           : OpenBelow(memory->dir, path + "/memory.oom_control", O_RDONLY);
}

UniqueFd CgroupFiles::OpenFreezer(const std::string& path) const {
  if (layout_ != CgroupLayout::kV1) return {};
  const Hierarchy* freezer = Find(Controller::kFreezer);
  return freezer == nullptr ? UniqueFd() : OpenBelow(freezer->dir, path, O_RDONLY | O_DIRECTORY);
}

}  // namespace linnet::runtime
