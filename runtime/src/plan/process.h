// The process part of a launch plan.
#pragma once

#include "linnet/base/result.h"
#include "linnet/oci/runtime_spec.h"

#include "plan/plan.h"
#include "plan/writer.h"

namespace linnet::runtime::plan {

// Everything but seccomp. Errors: kInvalidArgument naming the field ("process.rlimits[0].type: …").
Result<Process> BuildProcess(const oci::Process& process, Writer& writer);

}  // namespace linnet::runtime::plan
