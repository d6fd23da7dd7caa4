#include "keeper/failure.h"

#include <cerrno>
#include <cstring>

namespace linnet::runtime::keeper {

std::string_view StageName(Stage stage) {
  switch (stage) {
    case Stage::kProtocol:
      return "keeper protocol";
    case Stage::kPlan:
      return "launch plan";
    case Stage::kUnknownContainer:
      return "container";
    case Stage::kState:
      return "container state";
    case Stage::kClone:
      return "clone";
    case Stage::kCgroup:
      return "cgroup";
    case Stage::kNamespace:
      return "namespace";
    case Stage::kUserNamespace:
      return "user namespace";
    case Stage::kSysctl:
      return "sysctl";
    case Stage::kHostname:
      return "host name";
    case Stage::kShm:
      return "/dev/shm";
    case Stage::kHolder:
      return "pid namespace holder";
    case Stage::kLog:
      return "log";
    case Stage::kRootFs:
      return "root file system";
    case Stage::kMount:
      return "mount";
    case Stage::kDevice:
      return "device";
    case Stage::kMask:
      return "mask";
    case Stage::kReadonly:
      return "make read-only";
    case Stage::kSymlink:
      return "link";
    case Stage::kMakeDir:
      return "mkdir";
    case Stage::kPivot:
      return "pivot_root";
    case Stage::kConsole:
      return "console";
    case Stage::kStdio:
      return "standard streams";
    case Stage::kLimits:
      return "rlimit";
    case Stage::kOomScore:
      return "oom_score_adj";
    case Stage::kSecurityLabel:
      return "security label";
    case Stage::kUser:
      return "user";
    case Stage::kCapabilities:
      return "capabilities";
    case Stage::kSeccomp:
      return "seccomp";
    case Stage::kCwd:
      return "working directory";
    case Stage::kExec:
      return "exec";
    case Stage::kChildDied:
      return "child died before exec";
  }
  return "unknown stage";
}

Error ToError(const Failed& failed) {
  const std::string detail(failed.detail, strnlen(failed.detail, sizeof failed.detail));
  if (failed.stage == Stage::kExec && !detail.empty()) {
    const Code code = failed.error == ENOENT ? Code::kNotFound : CodeFromErrno(failed.error);
    return {code, Origin::kErrno, failed.error, detail};
  }
  std::string what(StageName(failed.stage));
  if (!detail.empty()) what += ": " + detail;
  return Error::FromErrno(failed.error, what);
}

}  // namespace linnet::runtime::keeper
