// Everything on one v2 hierarchy.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "linnet/base/mutex.h"

#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"

namespace linnet::runtime {

class ManagerV2 final : public CgroupManager {
 public:
  explicit ManagerV2(Hierarchy hierarchy);

  CgroupLayout layout() const override { return CgroupLayout::kV2; }
  Result<void> Make(const std::string& path) override;
  Result<void> SetResources(const std::string& path, const oci::Resources& resources) override;
  Result<void> SetDevices(const std::string& path,
                          const std::vector<oci::DeviceRule>& rules) override;
  Result<CgroupEntry> OpenEntry(const std::string& path) override;
  Result<void> Kill(const std::string& path) override;
  Result<bool> Populated(const std::string& path) override;
  Result<void> Remove(const std::string& path) override;
  Result<std::uint64_t> OomKills(const std::string& path) override;
  Result<CgroupUsage> ReadUsage(const std::string& path) override;
  Result<std::vector<std::string>> Children(const std::string& path) override;

 private:
  // A loaded program for these rules, the same for all cgroups that have them.
  Result<UniqueFd> DeviceProgram(const std::vector<oci::DeviceRule>& rules);

  const Hierarchy root_;
  Mutex mu_;
  // By their text. Most containers have the same; when there are too many, all are forgotten (the
  // kernel keeps what is attached).
  std::map<std::string, UniqueFd> programs_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::runtime
