#include "exec/plugin_cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::network {
namespace {

// The mount point of a hierarchy to use: v2, else the v1 one of the freezer, else none.
std::string FindHierarchy() {
  auto text = ReadFile("/proc/self/mountinfo");
  if (!text) return {};
  std::string v1;
  for (const std::string& line : Split(*text, '\n')) {
    const std::vector<std::string> fields = SplitFields(line);
    std::size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 3 >= fields.size()) continue;
    if (fields[dash + 1] == "cgroup2") return fields[4];
    if (fields[dash + 1] != "cgroup") continue;
    for (const std::string& option : Split(fields[dash + 3], ',')) {
      if (option == "freezer") v1 = fields[4];
    }
  }
  return v1;
}

bool IsGone(const Error& error) { return error.IsErrno(ENOENT) || error.IsErrno(ENODEV); }

}  // namespace

PluginCgroups::PluginCgroups(std::string_view root) {
  if (root.empty()) return;
  const std::string mount = FindHierarchy();
  if (!mount.empty()) directory_ = JoinPath(JoinPath(mount, root), "plugins");
}

std::string PluginCgroups::PathOf(std::string_view pod) const { return JoinPath(directory_, pod); }

Result<UniqueFd> PluginCgroups::Open(std::string_view pod) const {
  if (directory_.empty()) return UniqueFd();
  const std::string path = PathOf(pod);
  LN_TRY(MakeDirs(path, 0755));
  return linnet::Open(JoinPath(path, "cgroup.procs"), O_WRONLY);
}

void PluginCgroups::Leave(std::string_view pod) const {
  if (!directory_.empty())
    (void)rmdir(PathOf(pod).c_str());  // EBUSY: a plugin left something running on purpose
}

Result<void> PluginCgroups::Kill(std::string_view pod, Deadline deadline) const {
  if (directory_.empty()) return Ok();
  const std::string path = PathOf(pod);
  if (rmdir(path.c_str()) == 0 || errno == ENOENT) return Ok();
  // v2 tells when the group becomes empty; on v1 the poll below is a pause.
  auto events = linnet::Open(JoinPath(path, "cgroup.events"), O_RDONLY);
  for (;;) {
    auto procs = ReadFile(JoinPath(path, "cgroup.procs"));
    if (!procs && IsGone(procs.error())) return Ok();
    if (!procs) return std::move(procs).error();
    if (Trim(*procs).empty()) break;
    if (!WriteControlFile(JoinPath(path, "cgroup.kill"), "1")) {  // v1, or before 5.14
      for (const std::string& line : SplitFields(*procs)) {
        const auto pid = ParseNumber<pid_t>(line);
        if (pid && *pid > 1) (void)kill(*pid, SIGKILL);  // gone already is fine
      }
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return Error(Code::kDeadlineExceeded, "processes in " + path + " do not die");
    }
    pollfd wait{.fd = events ? events->get() : -1, .events = POLLPRI, .revents = 0};
    (void)poll(&wait, 1, 2);
    if (events) (void)ReadAll(*events);  // re-arms the notification
  }
  if (rmdir(path.c_str()) != 0 && errno != ENOENT) return Error::FromErrno(errno, "remove " + path);
  return Ok();
}

Result<void> PluginCgroups::KillOthers(const std::set<std::string>& pods, Deadline deadline) const {
  if (directory_.empty()) return Ok();
  auto names = ListDir(directory_);
  if (!names) return Ok();  // no plugin was ever run
  for (const std::string& name : *names) {
    struct stat st {};
    if (pods.contains(name) || stat(PathOf(name).c_str(), &st) != 0 || !S_ISDIR(st.st_mode))
      continue;
    LN_TRY(Kill(name, deadline));
  }
  return Ok();
}

}  // namespace linnet::network
