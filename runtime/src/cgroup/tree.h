// Making, killing and removing cgroups: what both versions share.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "cgroup/control_writes.h"
#include "cgroup/hierarchy.h"

namespace linnet::runtime {

enum class Made : std::uint8_t { kNew, kExisted };

// mkdir -p below `root`.
Result<Made> MakeCgroupDir(FdRef root, const std::string& path);

// Enables controllers ("+cpu +memory") for the children of every cgroup above `path`. Controllers
// that one of them refuses are tried alone, so that one does not keep the others away; what is
// missing then is found when a limit is written.
Result<void> HandDownV2(FdRef v2_root, const std::string& path, const std::string& controllers);

// One step below the cgroup `path` (see ControlStep). Errors: kUnimplemented where a file is
// missing that may not be.
Result<void> ApplyStep(FdRef root, const std::string& path, const ControlStep& step);

// Writes 1 to cgroup.kill. kNotFound: no such cgroup, or a kernel before 5.14 (then the directory
// exists).
Result<void> KillByFile(FdRef v2_root, const std::string& path);
// v1: freeze, SIGKILL to all below, thaw; without a freezer the signals alone, repeated while new
// processes turn up.
Result<void> KillByFreezer(FdRef root, const std::string& path, bool has_freezer);

// Whether a process is in it or below.
Result<bool> PopulatedV2(FdRef v2_root, const std::string& path);
Result<bool> PopulatedV1(FdRef root, const std::string& path);

// The number after `key` in "key number" lines; 0 where the file or the key is absent.
Result<std::uint64_t> ReadCounter(FdRef root, const std::string& file, const std::string& key);

// Removes the cgroup and all below it in each of these hierarchies. `v2_root` (may be invalid)
// tells when the last process is gone without asking again and again. Errors: kFailedPrecondition:
// still populated after `patience`.
Result<void> RemoveTree(const std::vector<FdRef>& roots, FdRef v2_root, const std::string& path,
                        std::chrono::milliseconds patience = std::chrono::seconds(1));

}  // namespace linnet::runtime
