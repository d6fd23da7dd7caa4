// Device access rules as the two versions of cgroups take them.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/runtime_spec.h"

namespace linnet::runtime {

// The rules in order of effect: what came before the last rule for everything is dropped, rules for
// "a" device are split into "c" and "b".
struct DeviceRules {
  std::optional<bool> fallback;  // what is said for everything; nullopt: nothing is
  struct Rule {
    bool allow = false;
    char type = 'c';  // 'c' or 'b'
    std::optional<std::uint32_t> major, minor;
    std::string access;  // of "rwm"
    bool operator==(const Rule&) const = default;
  };
  std::vector<Rule> rules;  // a later one overrides an earlier one
};
// Errors: kInvalidArgument for a type, access or number that is none.
Result<DeviceRules> NormaliseDeviceRules(const std::vector<oci::DeviceRule>& rules);

// "c 1:3 rwm", for v1's devices.allow and devices.deny.
std::string FormatDeviceRule(const DeviceRules::Rule& rule);

// A program of type BPF_PROG_TYPE_CGROUP_DEVICE: each of the wanted accesses is decided by the last
// rule that names it; what no rule names by the fallback (nullopt: refused).
std::vector<bpf_insn> BuildDeviceProgram(const DeviceRules& rules);

// Loads it into the kernel. Errors: kPermissionDenied; kUnimplemented where the kernel has no such
// programs.
Result<UniqueFd> LoadDeviceProgram(const std::vector<bpf_insn>& program);
// Attaches it to a v2 cgroup in place of those attached before (new one first, so that no moment is
// without).
Result<void> AttachDeviceProgram(FdRef cgroup, FdRef program);

}  // namespace linnet::runtime
