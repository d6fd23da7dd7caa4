// Users, capabilities, the default seccomp profile: what CRI's security context is translated with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/oci/runtime_spec.h"
#include "linnet/runtime/runtime.h"

namespace linnet::runtime {

// -------------------------------------------------------------------------------------------------------
// users

struct ResolvedUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t>
      groups;  // those that /etc/group names the user in (for the Merge policy); sorted
  std::string home = "/";
  std::string name;  // empty where /etc/passwd does not know the uid
};

// "1000", "1000:50", "www-data", "www-data:staff", "" (root), looked up in the root file system's
// /etc/passwd and /etc/group. Files are hostile: regular files only, in-root resolution, size and
// line limits. Text that is all digits is never looked up as a name; numbers beyond 2^31-1 are
// refused. Errors: kInvalidArgument, kNotFound (no such user).
Result<ResolvedUser> ResolveUser(const RootFs& rootfs, std::string_view user);

// ------------------------------------------------------------------------------------------------
// capabilities

// CRI add/drop lists on top of the default set: names with or without "CAP_", "ALL" in either list;
// drop ALL first, then add. Privileged: everything that the daemon's bounding set holds. Errors:
// kInvalidArgument for an unknown name.
Result<oci::Capabilities> ComputeCapabilities(const std::vector<std::string>& add,
                                              const std::vector<std::string>& drop,
                                              const std::vector<std::string>& add_ambient,
                                              bool privileged);

// -----------------------------------------------------------------------------------------------------
// seccomp

// The default profile for a container with these (effective) capabilities, as data in the
// runtime-spec shape.
oci::Seccomp DefaultSeccompProfile(const std::vector<std::string>& capabilities);
// A profile file in docker's or the runtime spec's JSON (archMap, includes/excludes are resolved
// for this machine).
Result<oci::Seccomp> ParseSeccompProfile(std::string_view json,
                                         const std::vector<std::string>& capabilities);

// ------------------------------------------------------------------------------------------------------
// others

// The default mounts, masked and read-only paths of a container.
std::vector<oci::Mount> DefaultMounts();
std::vector<std::string> DefaultMaskedPaths();
std::vector<std::string> DefaultReadonlyPaths();
// Devices every container has (/dev/null, zero, full, random, urandom, tty) with their cgroup
// rules.
void AddDefaultDevices(oci::Spec& spec);
// A host device or a directory of them as CRI names it. Errors: kNotFound, kInvalidArgument
// (permissions).
Result<void> AddHostDevice(oci::Spec& spec, const std::string& host_path,
                           const std::string& container_path, const std::string& permissions);
// Every device of the host (privileged).
Result<void> AddAllHostDevices(oci::Spec& spec);
// "SIGTERM", "TERM", "15", "RTMIN+3" → number. kInvalidArgument.
Result<int> ParseSignal(std::string_view name);

}  // namespace linnet::runtime
