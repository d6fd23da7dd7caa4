// From a seccomp profile (data) to a BPF program (bytes), and keeping the programs: compiling costs
// 15 ms, loading 0.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/oci/runtime_spec.h"

namespace linnet::runtime {

// An array of struct sock_filter for seccomp(SECCOMP_SET_MODE_FILTER); its size is a multiple of 8.
//
// Meaning as in runc, so that a profile does the same here:
//   - system calls that this machine does not know are skipped (logged at debug), as are rules that
//   repeat the default;
//   - conditions on different arguments of one rule must all hold; where one argument is named
//   twice, any of them is enough;
//   - a call with a higher number than all that the profile names gets ENOSYS, not the default
//   errno, so that libc's
//     fall-backs for calls that the profile's author could not know still work.
// Calls newer than libseccomp's tables are known by number (see seccomp_prologue.h).
// Errors: kInvalidArgument naming the unknown action, architecture, operator; kUnimplemented for
// SCMP_ACT_NOTIFY.
Result<std::string> CompileSeccomp(const oci::Seccomp& profile);

// SECCOMP_FILTER_FLAG_… for the profile's flags. Errors: kInvalidArgument for an unknown name or
// one that makes no sense without a listener.
Result<std::uint32_t> SeccompFilterFlags(const oci::Seccomp& profile);

// Compiled programs by profile, in memory and (when `directory` is not empty) on disk. A file that
// is torn, of another libseccomp or architecture, or altered is ignored and replaced. Thread-safe;
// two callers with the same profile compile once.
class SeccompCache {
 public:
  explicit SeccompCache(std::string directory = "");
  // Failing to write the directory is not an error (logged at debug).
  Result<std::string> Get(const oci::Seccomp& profile);

  // For tests: how many programs were compiled by this object.
  std::size_t compiled() const;

 private:
  struct Entry {
    bool ready = false;  // else a caller is at work on it
    std::uint64_t last_use = 0;
    std::string program;
  };
  Result<std::string> LoadOrCompile(const oci::Seccomp& profile, const std::string& key);
  void DropOldest() LN_REQUIRES(mu_);

  const std::string directory_;
  mutable Mutex mu_;
  CondVar changed_;
  std::map<std::string, Entry> entries_ LN_GUARDED_BY(mu_);  // by hash; at most kMaxEntries
  std::uint64_t uses_ LN_GUARDED_BY(mu_) = 0;
  std::size_t compiled_ LN_GUARDED_BY(mu_) = 0;
};

}  // namespace linnet::runtime
