#include "host/cgroup_ledger.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "linnet/base/file.h"

namespace linnet::runtime {

Result<CgroupLedger> CgroupLedger::Open(const std::string& directory) {
  LN_TRY(MakeDirs(directory, 0700));
  return CgroupLedger(LN_TRY(OpenDir(directory)));
}

Result<void> CgroupLedger::Note(const PodId& pod, const std::string& name,
                                const std::string& cgroup) const {
  const std::string path = JoinPath(pod.str(), name);
  if (symlinkat(cgroup.c_str(), directory_.get(), path.c_str()) == 0 || errno == EEXIST)
    return Ok();
  if (errno != ENOENT) return Error::FromErrno(errno, "note cgroup " + cgroup);
  if (mkdirat(directory_.get(), pod.str().c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::FromErrno(errno, "note cgroup " + cgroup);
  }
  if (symlinkat(cgroup.c_str(), directory_.get(), path.c_str()) == 0 || errno == EEXIST)
    return Ok();
  return Error::FromErrno(errno, "note cgroup " + cgroup);
}

Result<void> CgroupLedger::Forget(const PodId& pod, const std::string& name) const {
  const std::string path = JoinPath(pod.str(), name);
  if (unlinkat(directory_.get(), path.c_str(), 0) == 0 || errno == ENOENT) return Ok();
  return Error::FromErrno(errno, "forget cgroup " + path);
}

Result<void> CgroupLedger::ForgetPod(const PodId& pod) const {
  if (unlinkat(directory_.get(), pod.str().c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT)
    return Ok();
  return RemoveAllAt(directory_, pod.str());
}

Result<std::vector<CgroupLedger::Entry>> CgroupLedger::List(const PodId& pod) const {
  const auto dir = OpenAt(directory_, pod.str(), O_RDONLY | O_DIRECTORY);
  if (!dir && dir.error().Is(Code::kNotFound)) return std::vector<Entry>();
  if (!dir) return dir.error();
  std::vector<Entry> out;
  for (std::string& name : LN_TRY(ListDirAt(*dir))) {
    auto cgroup = ReadLink(JoinPath(FdPath(*dir), name));
    if (cgroup) out.push_back({std::move(name), *std::move(cgroup)});
  }
  return out;
}

Result<std::vector<PodId>> CgroupLedger::Pods() const {
  std::vector<PodId> out;
  for (const std::string& name : LN_TRY(ListDirAt(directory_))) {
    auto pod = PodId::Parse(name);
    if (pod) out.push_back(*std::move(pod));
  }
  return out;
}

}  // namespace linnet::runtime
