// Reading what a cgroup uses: each file is opened once and read once.
#pragma once

#include <string_view>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/runtime/usage.h"

namespace linnet::runtime {

// The group's directories, -1 where there is no such hierarchy. `pressure` is that of v2, where
// hybrid has one.
struct UsageDirsV1 {
  FdRef cpuacct{-1}, memory{-1}, pids{-1}, pressure{-1};
};
// Errors of both: kNotFound: the group went away meanwhile.
Result<CgroupUsage> ReadUsageV1(const UsageDirsV1& dirs);
Result<CgroupUsage> ReadUsageV2(FdRef dir);

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull …". Pure; lines and fields that it does not
// know are passed over.
Pressure ParsePressure(std::string_view text);

}  // namespace linnet::runtime
