#include "cgroup/manager_v1.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/rollback.h"
#include "linnet/base/text.h"

#include "cgroup/device_rules.h"
#include "cgroup/tree.h"
#include "cgroup/usage.h"

namespace linnet::runtime {
namespace {

Error Missing(Controller c) {
  return Error(Code::kUnimplemented,
               "this machine has no \"" + std::string(ControllerName(c)) + "\" cgroup controller");
}

bool IsZero(const oci::Resources::HugepageLimit& limit) { return limit.limit == 0; }

// cpuset is the one controller whose new groups can hold no process: they start without CPUs and
// memory nodes.
Result<void> FillCpuset(FdRef root, const std::string& path) {
  const std::string cpus = LN_TRY(ReadFileAt(root, path + "/cpuset.cpus"));
  if (!Trim(cpus).empty()) return Ok();  // ours already, or inherited through cgroup.clone_children
  const std::size_t slash = path.rfind('/');
  std::string parent;
  if (slash != std::string::npos) {
    parent = path.substr(0, slash);
    LN_TRY(FillCpuset(root, parent));
    parent += '/';
  }
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    const std::string value = LN_TRY(ReadFileAt(root, parent + file));
    LN_TRY(WriteControlFileAt(root, path + "/" + file, Trim(value)));
  }
  // What is made below inherits by itself.
  return WriteControlFileAt(root, path + "/cgroup.clone_children", "1");
}

Result<void> WriteRule(const UniqueFd& file, const std::string& rule) {
  if (::write(file.get(), rule.data(), rule.size()) < 0)
    return Error::FromErrno(errno, "device rule \"" + rule + "\"");
  return Ok();
}

}  // namespace

ManagerV1::ManagerV1(Hierarchies hierarchies)
    : v1_(std::move(hierarchies.v1)), v2_(std::move(hierarchies.v2)) {
  if (!v2_) return;
  // The v2 tree kills better than a freezer does: one hierarchy less to make, enter and remove.
  std::erase_if(v1_, [](const Hierarchy& h) {
    ControllerSet freezer;
    freezer.Add(Controller::kFreezer);
    return h.controllers == freezer;
  });
}

const Hierarchy* ManagerV1::Find(Controller c) const {
  const auto it = std::find_if(v1_.begin(), v1_.end(),
                               [&](const Hierarchy& h) { return h.controllers.Has(c); });
  return it == v1_.end() ? nullptr : &*it;
}

FdRef ManagerV1::v2_root() const { return v2_ ? v2_->dir.ref() : FdRef(-1); }

std::vector<FdRef> ManagerV1::v1_roots() const {
  std::vector<FdRef> out;
  for (const Hierarchy& h : v1_) out.push_back(h.dir);
  return out;
}

Result<void> ManagerV1::Make(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  Rollback undo;
  const auto make = [&](FdRef root) -> Result<void> {
    if (LN_TRY(MakeCgroupDir(root, rel)) == Made::kExisted) return Ok();
    undo.Add("remove cgroup " + rel, [root, rel]() -> Result<void> {
      if (::unlinkat(root.get(), rel.c_str(), AT_REMOVEDIR) != 0)
        return Error::FromErrno(errno, "remove cgroup " + rel);
      return Ok();
    });
    return Ok();
  };
  for (const Hierarchy& h : v1_) {
    LN_TRY_CTX(make(h.dir), h.mount_point);
    if (h.controllers.Has(Controller::kCpuset)) LN_TRY_CTX(FillCpuset(h.dir, rel), h.mount_point);
  }
  if (v2_) LN_TRY_CTX(make(v2_->dir), v2_->mount_point);
  undo.Commit();
  return Ok();
}

Result<void> ManagerV1::Apply(const std::string& rel, const std::vector<ControlStep>& steps) {
  for (const ControlStep& step : steps) {
    const Hierarchy* hierarchy = Find(step.controller);
    if (hierarchy == nullptr) return Missing(step.controller);
    LN_TRY_CTX(ApplyStep(hierarchy->dir, rel, step), "cgroup " + rel);
  }
  return Ok();
}

Result<void> ManagerV1::SetHugepages(const std::string& rel, const oci::Resources& resources) {
  if (resources.hugepage_limits.empty()) return Ok();
  if (Find(Controller::kHugetlb) != nullptr) return Apply(rel, PlanHugetlbV1(resources));
  const bool on_v2 = v2_ && v2_->controllers.Has(Controller::kHugetlb);
  if (!on_v2) {
    // kubelet names every page size with 0 for a pod that wants none: no controller, no loss.
    const auto& limits = resources.hugepage_limits;
    return std::all_of(limits.begin(), limits.end(), IsZero)
               ? Ok()
               : Result<void>(Missing(Controller::kHugetlb));
  }
  LN_TRY(HandDownV2(v2_->dir, rel, "+hugetlb"));
  for (const ControlStep& step : PlanHugetlbV2(resources))
    LN_TRY_CTX(ApplyStep(v2_->dir, rel, step), "cgroup " + rel);
  return Ok();
}

Result<void> ManagerV1::SetResources(const std::string& path, const oci::Resources& resources) {
  const std::string rel = LN_TRY(RelativePath(path));
  const std::vector<ControlStep> steps = LN_TRY_CTX(PlanV1(resources), "cgroup " + rel);
  LN_TRY(Apply(rel, steps));
  return SetHugepages(rel, resources);
}

Result<void> ManagerV1::SetDevices(const std::string& path,
                                   const std::vector<oci::DeviceRule>& rules) {
  const std::string rel = LN_TRY(RelativePath(path));
  const DeviceRules wanted = LN_TRY(NormaliseDeviceRules(rules));
  if (!wanted.fallback && wanted.rules.empty()) return Ok();
  const Hierarchy* hierarchy = Find(Controller::kDevices);
  if (hierarchy == nullptr) return Missing(Controller::kDevices);
  const auto open_file = [&](const char* file) {
    return OpenAt(hierarchy->dir, rel + "/" + file, O_WRONLY);
  };
  UniqueFd allow;
  UniqueFd deny;
  if (wanted.fallback == true) {
    // A new group has its parent's list, which is everything unless somebody narrowed it: then
    // widening is refused.
    const std::string list = LN_TRY(ReadFileAt(hierarchy->dir, rel + "/devices.list"));
    if (Trim(list) != "a *:* rwm") {
      allow = LN_TRY(open_file("devices.allow"));
      LN_TRY_CTX(WriteRule(allow, "a"), "cgroup " + rel);
    }
  } else if (wanted.fallback == false) {
    deny = LN_TRY(open_file("devices.deny"));
    LN_TRY_CTX(WriteRule(deny, "a"), "cgroup " + rel);
  }
  for (const DeviceRules::Rule& rule : wanted.rules) {
    // One rule a write: the kernel reads no further.
    UniqueFd& file = rule.allow ? allow : deny;
    if (!file) file = LN_TRY(open_file(rule.allow ? "devices.allow" : "devices.deny"));
    LN_TRY_CTX(WriteRule(file, FormatDeviceRule(rule)), "cgroup " + rel);
  }
  return Ok();
}

Result<CgroupEntry> ManagerV1::OpenEntry(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  CgroupEntry out;
  for (const Hierarchy& h : v1_)
    out.v1_tasks.push_back(LN_TRY_CTX(OpenAt(h.dir, rel + "/tasks", O_WRONLY), h.mount_point));
  if (v2_) out.v2_dir = LN_TRY_CTX(OpenAt(v2_->dir, rel, O_RDONLY | O_DIRECTORY), v2_->mount_point);
  return out;
}

Result<void> ManagerV1::Kill(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  if (v2_) {
    Result<void> killed = KillByFile(v2_->dir, rel);
    if (killed || !killed.error().Is(Code::kNotFound)) return killed;
    // No such file: a kernel before 5.14, or (nothing to do then) no such cgroup.
  }
  const Hierarchy* freezer = Find(Controller::kFreezer);
  return KillByFreezer(freezer != nullptr ? freezer->dir : v1_.front().dir, rel,
                       freezer != nullptr);
}

Result<bool> ManagerV1::Populated(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  if (v2_) return PopulatedV2(v2_->dir, rel);
  return PopulatedV1(v1_.front().dir, rel);
}

Result<void> ManagerV1::Remove(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  LN_TRY(RemoveTree(v1_roots(), v2_root(), rel));
  if (v2_) PruneV2(rel);
  return Ok();
}

// Whoever made the parents (kubelet, for its pods) may know of v1 alone and take them away there:
// what was made for them in the v2 tree on the way to one of ours goes when nothing stands on v1
// any more.
void ManagerV1::PruneV2(const std::string& rel) {
  for (std::size_t slash = rel.rfind('/'); slash != std::string::npos;
       slash = rel.rfind('/', slash - 1)) {
    const std::string parent = rel.substr(0, slash);
    if (::faccessat(v1_.front().dir.get(), parent.c_str(), F_OK, 0) == 0) return;
    if (::unlinkat(v2_->dir.get(), parent.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      return;  // in use
    if (slash == 0) return;
  }
}

Result<std::uint64_t> ManagerV1::OomKills(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  const Hierarchy* memory = Find(Controller::kMemory);
  if (memory == nullptr) return std::uint64_t{0};
  return ReadCounter(memory->dir, rel + "/memory.oom_control", "oom_kill");
}

Result<CgroupUsage> ManagerV1::ReadUsage(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  // Several controllers may share one hierarchy: each is opened once.
  std::vector<std::pair<const Hierarchy*, UniqueFd>> opened;
  opened.reserve(3);
  const auto open_dir = [&](Controller c) -> Result<FdRef> {
    const Hierarchy* hierarchy = Find(c);
    if (hierarchy == nullptr) return FdRef(-1);
    for (const auto& [known, fd] : opened) {
      if (known == hierarchy) return fd.ref();
    }
    UniqueFd fd =
        LN_TRY_CTX(OpenAt(hierarchy->dir, rel, O_PATH | O_DIRECTORY), hierarchy->mount_point);
    return opened.emplace_back(hierarchy, std::move(fd)).second.ref();
  };
  UsageDirsV1 dirs;
  dirs.cpuacct = LN_TRY(open_dir(Controller::kCpuacct));
  dirs.memory = LN_TRY(open_dir(Controller::kMemory));
  dirs.pids = LN_TRY(open_dir(Controller::kPids));
  UniqueFd v2;
  if (v2_) {
    // A parent that kubelet made on v1 alone is not here.
    Result<UniqueFd> dir = OpenAt(v2_->dir, rel, O_PATH | O_DIRECTORY);
    if (!dir && !dir.error().Is(Code::kNotFound)) return std::move(dir).error();
    if (dir) v2 = *std::move(dir);
    dirs.pressure = v2.ref();
  }
  return LN_TRY_CTX(ReadUsageV1(dirs), "cgroup " + rel);
}

Result<std::vector<std::string>> ManagerV1::Children(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  std::vector<FdRef> roots = v1_roots();
  if (v2_) roots.push_back(v2_->dir);
  std::set<std::string> names;
  for (const FdRef root : roots) {
    const Result<UniqueFd> dir = OpenAt(root, rel, O_RDONLY | O_DIRECTORY);
    if (!dir && dir.error().Is(Code::kNotFound)) continue;
    if (!dir) return dir.error();
    for (std::string& name : LN_TRY(ChildDirs(*dir))) names.insert(std::move(name));
  }
  return std::vector<std::string>(names.begin(), names.end());
}

}  // namespace linnet::runtime
