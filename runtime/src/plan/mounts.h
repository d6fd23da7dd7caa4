// Mounts of an OCI spec, understood: what each option means for the kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/oci/runtime_spec.h"

#include "plan/plan.h"

namespace linnet::runtime::plan {

struct ParsedMount {
  OpKind kind = OpKind::kMount;  // kMount, kBind, kShm, kCgroup
  bool recursive = false;        // kBind: with what is mounted below the source
  bool idmap = false;            // kBind: by the pod's user namespace
  std::string target, type, source, data;
  std::uint32_t attr_set = 0, rattr_set = 0, attr_clear = 0, rattr_clear = 0;  // MOUNT_ATTR_*
  Propagation propagation = Propagation::kUnset;
};

// `field` starts the errors: "mounts[3]". Errors: kInvalidArgument (an option that a bind does not
// know, recursive read-only with a propagation that it contradicts), kUnimplemented (tmpcopyup).
//
// "rw", "suid", "exec", "dev" of a bind take nothing away: what the host mounted read-only stays
// so.
Result<ParsedMount> ParseMount(const oci::Mount& mount, const std::string& field);

// Of the root file system: "", "private", "rslave", …
Result<Propagation> ParsePropagation(const std::string& text, const std::string& field);

}  // namespace linnet::runtime::plan
