#include "cgroup/manager_v2.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "linnet/base/file.h"

#include "cgroup/control_writes.h"
#include "cgroup/device_rules.h"
#include "cgroup/tree.h"
#include "cgroup/usage.h"

namespace linnet::runtime {
namespace {

constexpr std::size_t kMaxPrograms = 32;

// What containers are given below the root, of what the root has.
constexpr Controller kWanted[] = {Controller::kCpuset, Controller::kCpu,     Controller::kBlkio,
                                  Controller::kMemory, Controller::kHugetlb, Controller::kPids};

std::string_view NameV2(Controller c) {
  return c == Controller::kBlkio ? std::string_view("io") : ControllerName(c);
}

// "+cpuset +cpu …"
std::string HandDownText(ControllerSet available) {
  std::string out;
  for (const Controller c : kWanted) {
    if (!available.Has(c)) continue;
    out += (out.empty() ? "+" : " +") + std::string(NameV2(c));
  }
  return out;
}

ControllerSet WantedOf(ControllerSet available) {
  ControllerSet out;
  for (const Controller c : kWanted) {
    if (available.Has(c)) out.Add(c);
  }
  return out;
}

Result<ControllerSet> ControllersOf(FdRef root, const std::string& rel) {
  return ParseControllers(LN_TRY(ReadFileAt(root, rel + "/cgroup.controllers")), ' ');
}

}  // namespace

ManagerV2::ManagerV2(Hierarchy hierarchy) : root_(std::move(hierarchy)) {}

Result<void> ManagerV2::Make(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  const Made made = LN_TRY(MakeCgroupDir(root_.dir, rel));
  const auto hand_down = [&]() -> Result<void> {
    if (LN_TRY(ControllersOf(root_.dir, rel)).Covers(WantedOf(root_.controllers))) return Ok();
    return HandDownV2(root_.dir, rel, HandDownText(root_.controllers));
  };
  Result<void> done = hand_down();
  // As it was before: only what this call made.
  if (!done && made == Made::kNew) (void)::unlinkat(root_.dir.get(), rel.c_str(), AT_REMOVEDIR);
  return done;
}

Result<void> ManagerV2::SetResources(const std::string& path, const oci::Resources& resources) {
  const std::string rel = LN_TRY(RelativePath(path));
  const ReadControl read = [&](const std::string& file) {
    return ReadFileAt(root_.dir, rel + "/" + file);
  };
  std::vector<ControlStep> steps = LN_TRY_CTX(PlanV2(resources, read), "cgroup " + rel);
  for (const ControlStep& step : steps) {
    if (!root_.controllers.Has(step.controller)) {
      if (step.controller == Controller::kHugetlb && step.writes[0].value == "0")
        continue;  // see ManagerV1::SetHugepages
      return Error(Code::kUnimplemented,
                   "this machine has no \"" + std::string(NameV2(step.controller)) +
                       "\" cgroup controller (for " + step.writes[0].file + ")");
    }
    LN_TRY_CTX(ApplyStep(root_.dir, rel, step), "cgroup " + rel);
  }
  return Ok();
}

Result<UniqueFd> ManagerV2::DeviceProgram(const std::vector<oci::DeviceRule>& rules) {
  const DeviceRules wanted = LN_TRY(NormaliseDeviceRules(rules));
  std::string key = wanted.fallback.value_or(false) ? "allow" : "deny";
  for (const DeviceRules::Rule& rule : wanted.rules)
    key += (rule.allow ? ";+" : ";-") + FormatDeviceRule(rule);
  const MutexLock lock(mu_);
  const auto it = programs_.find(key);
  if (it != programs_.end()) return Dup(it->second);
  UniqueFd program = LN_TRY(LoadDeviceProgram(BuildDeviceProgram(wanted)));
  if (programs_.size() >= kMaxPrograms) programs_.clear();
  UniqueFd copy = LN_TRY(Dup(program));
  programs_.emplace(std::move(key), std::move(program));
  return copy;
}

Result<void> ManagerV2::SetDevices(const std::string& path,
                                   const std::vector<oci::DeviceRule>& rules) {
  const std::string rel = LN_TRY(RelativePath(path));
  if (rules.empty()) return Ok();
  const UniqueFd dir = LN_TRY(OpenAt(root_.dir, rel, O_RDONLY | O_DIRECTORY));
  const UniqueFd program = LN_TRY_CTX(DeviceProgram(rules), "cgroup " + rel);
  LN_TRY_CTX(AttachDeviceProgram(dir, program), "cgroup " + rel);
  return Ok();
}

Result<CgroupEntry> ManagerV2::OpenEntry(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  CgroupEntry out;
  out.v2_dir = LN_TRY(OpenAt(root_.dir, rel, O_RDONLY | O_DIRECTORY));
  return out;
}

Result<void> ManagerV2::Kill(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  Result<void> killed = KillByFile(root_.dir, rel);
  if (killed || !killed.error().Is(Code::kNotFound)) return killed;
  return KillByFreezer(root_.dir, rel, false);  // a kernel before 5.14; absent: success
}

Result<bool> ManagerV2::Populated(const std::string& path) {
  return PopulatedV2(root_.dir, LN_TRY(RelativePath(path)));
}

Result<void> ManagerV2::Remove(const std::string& path) {
  return RemoveTree({}, root_.dir, LN_TRY(RelativePath(path)));
}

Result<std::uint64_t> ManagerV2::OomKills(const std::string& path) {
  return ReadCounter(root_.dir, LN_TRY(RelativePath(path)) + "/memory.events", "oom_kill");
}

Result<CgroupUsage> ManagerV2::ReadUsage(const std::string& path) {
  const std::string rel = LN_TRY(RelativePath(path));
  const UniqueFd dir = LN_TRY(OpenAt(root_.dir, rel, O_PATH | O_DIRECTORY));
  return LN_TRY_CTX(ReadUsageV2(dir), "cgroup " + rel);
}

Result<std::vector<std::string>> ManagerV2::Children(const std::string& path) {
  const Result<UniqueFd> dir =
      OpenAt(root_.dir, LN_TRY(RelativePath(path)), O_RDONLY | O_DIRECTORY);
  if (dir) return ChildDirs(*dir);
  if (dir.error().Is(Code::kNotFound)) return std::vector<std::string>();
  return dir.error();
}

}  // namespace linnet::runtime
