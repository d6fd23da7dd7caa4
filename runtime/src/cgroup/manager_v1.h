// Controllers on v1 hierarchies, with or without a v2 tree beside them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cgroup/cgroup.h"
#include "cgroup/control_writes.h"
#include "cgroup/hierarchy.h"

namespace linnet::runtime {

class ManagerV1 final : public CgroupManager {
 public:
  explicit ManagerV1(Hierarchies hierarchies);

  CgroupLayout layout() const override { return v2_ ? CgroupLayout::kHybrid : CgroupLayout::kV1; }
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
  const Hierarchy* Find(Controller c) const;
  FdRef v2_root() const;
  std::vector<FdRef> v1_roots() const;
  Result<void> Apply(const std::string& rel, const std::vector<ControlStep>& steps);
  void PruneV2(const std::string& rel);
  Result<void> SetHugepages(const std::string& rel, const oci::Resources& resources);

  std::vector<Hierarchy> v1_;
  std::optional<Hierarchy> v2_;
};

}  // namespace linnet::runtime
