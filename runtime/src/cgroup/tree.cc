#include "cgroup/tree.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr mode_t kMode = 0755;
constexpr int kKillRounds = 16;

void SleepFor(std::chrono::microseconds time) {
  timespec ts{};
  ts.tv_sec = time.count() / 1000000;
  ts.tv_nsec = time.count() % 1000000 * 1000;
  (void)::nanosleep(&ts, nullptr);  // woken early by a signal: the caller looks again anyhow
}

Result<std::vector<pid_t>> ProcsBelow(FdRef root, const std::string& path) {
  std::vector<pid_t> out;
  LN_TRY(ForEachBelow(root, path, [&](FdRef dir, const std::string&) -> Result<void> {
    const Result<std::string> text = ReadFileAt(dir, "cgroup.procs");
    if (!text) {
      if (text.error().Is(Code::kNotFound)) return Ok();  // removed meanwhile
      return text.error();
    }
    for (const std::string& line : SplitFields(*text)) {
      // 0: a process of a pid namespace that ours does not see. It cannot be signalled from here.
      const auto pid = ParseNumber<pid_t>(line);
      if (pid && *pid > 0) out.push_back(*pid);
    }
    return Ok();
  }));
  return out;
}

// Whether it says FROZEN in time. A task in uninterruptible sleep may keep it at FREEZING.
bool WaitFrozen(FdRef root, const std::string& path) {
  for (int i = 0; i < 50; ++i) {
    const Result<std::string> state = ReadFileAt(root, path + "/freezer.state");
    if (!state || Trim(*state) == "FROZEN") return static_cast<bool>(state);
    SleepFor(std::chrono::microseconds(200));
  }
  return false;
}

// rmdir of it and all below, once. true: nothing is left.
Result<bool> RemoveOnce(FdRef root, const std::string& path) {
  if (::unlinkat(root.get(), path.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
  if (errno != EBUSY && errno != ENOTEMPTY) return Error::FromErrno(errno, "remove cgroup " + path);
  // Children, or processes.
  bool busy = false;
  LN_TRY(ForEachBelow(root, path, [&](FdRef, const std::string& below) -> Result<void> {
    if (::unlinkat(root.get(), below.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return Ok();
    if (errno != EBUSY && errno != ENOTEMPTY)
      return Error::FromErrno(errno, "remove cgroup " + below);
    busy = true;
    return Ok();
  }));
  return !busy;
}

bool SaysPopulated(const std::string& events) {
  return events.find("populated 1") != std::string::npos;
}

// Waits until the v2 cgroup has no process any more, or the time is over, or it is gone.
void WaitUnpopulated(FdRef v2_root, const std::string& path, steady_clock::time_point until) {
  const Result<UniqueFd> events = OpenAt(v2_root, path + "/cgroup.events", O_RDONLY);
  if (!events) return;
  for (;;) {
    if (::lseek(events->get(), 0, SEEK_SET) < 0) return;
    const Result<std::string> text = ReadAll(*events);
    if (!text || !SaysPopulated(*text)) return;
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0) return;
    // The kernel reports a change of cgroup.events as POLLPRI (cgroup-v2.rst, "cgroup.events").
    pollfd p{.fd = events->get(), .events = POLLPRI, .revents = 0};
    (void)::poll(&p, 1,
                 static_cast<int>(left.count()));  // failed or timed out: the loop looks again
  }
}

}  // namespace

Result<Made> MakeCgroupDir(FdRef root, const std::string& path) {
  // Again where a parent vanishes in between: removal prunes empty ones.
  for (int attempt = 0;; ++attempt) {
    if (::mkdirat(root.get(), path.c_str(), kMode) == 0) return Made::kNew;
    if (errno == EEXIST) return Made::kExisted;
    const std::size_t slash = path.rfind('/');
    if (errno != ENOENT || slash == std::string::npos || attempt == 8)
      return Error::FromErrno(errno, "make cgroup " + path);
    LN_TRY(MakeCgroupDir(root, path.substr(0, slash)));
  }
}

Result<void> HandDownV2(FdRef v2_root, const std::string& path, const std::string& controllers) {
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  const std::string file =
      parent.empty() ? "cgroup.subtree_control" : parent + "/cgroup.subtree_control";
  Result<void> written = WriteControlFileAt(v2_root, file, controllers);
  if (written) return Ok();
  // ENOENT: the parent has not been given them itself.
  if (!parent.empty()) {
    LN_TRY(HandDownV2(v2_root, parent, controllers));
    written = WriteControlFileAt(v2_root, file, controllers);
    if (written) return Ok();
  }
  for (const std::string& one : SplitFields(controllers))
    (void)WriteControlFileAt(v2_root, file, one);
  return Ok();
}

namespace {

Result<void> Write(FdRef root, const std::string& path, const ControlWrite& write) {
  Result<void> done = WriteControlFileAt(root, path + "/" + write.file, write.value);
  if (done || !done.error().IsErrno(ENOENT)) return done;
  if (write.may_be_missing) return Ok();
  struct stat st {};
  if (::fstatat(root.get(), path.c_str(), &st, 0) != 0) return done;  // the whole cgroup is gone
  return Error(Code::kUnimplemented, "this kernel has no " + write.file);
}

}  // namespace

Result<void> ApplyStep(FdRef root, const std::string& path, const ControlStep& step) {
  Result<void> first = Write(root, path, step.writes[0]);
  if (step.writes.size() == 1) return first;
  if (!first && !first.error().IsErrno(EINVAL)) return first;
  LN_TRY(Write(root, path, step.writes[1]));
  if (first) return Ok();
  return Write(root, path, step.writes[0]);
}

Result<void> KillByFile(FdRef v2_root, const std::string& path) {
  return WriteControlFileAt(v2_root, path + "/cgroup.kill", "1");
}

Result<void> KillByFreezer(FdRef root, const std::string& path, bool has_freezer) {
  bool frozen = false;
  if (has_freezer) {
    const Result<void> froze = WriteControlFileAt(root, path + "/freezer.state", "FROZEN");
    if (!froze && froze.error().Is(Code::kNotFound)) return Ok();
    frozen = froze && WaitFrozen(root, path);
  }
  Result<void> out;
  // Frozen, nothing can fork: one round is enough. Else until no new process turns up.
  std::vector<pid_t> killed;
  for (int round = 0; round < kKillRounds; ++round) {
    Result<std::vector<pid_t>> pids = ProcsBelow(root, path);
    if (!pids) {
      out = std::move(pids).error();
      break;
    }
    bool fresh = false;
    for (const pid_t pid : *pids) {
      // Ended meanwhile is fine; the number cannot be another's while its process is in the list of
      // a frozen cgroup.
      (void)::kill(pid, SIGKILL);
      if (std::find(killed.begin(), killed.end(), pid) == killed.end()) {
        fresh = true;
        killed.push_back(pid);
      }
    }
    if (frozen || !fresh) break;
  }
  if (has_freezer) {
    const Result<void> thawed = WriteControlFileAt(root, path + "/freezer.state", "THAWED");
    if (!thawed && !thawed.error().Is(Code::kNotFound) && out) out = thawed.error();
  }
  return out;
}

Result<bool> PopulatedV2(FdRef v2_root, const std::string& path) {
  const Result<std::string> events = ReadFileAt(v2_root, path + "/cgroup.events");
  if (events) return SaysPopulated(*events);
  if (events.error().Is(Code::kNotFound)) return false;
  return events.error();
}

Result<bool> PopulatedV1(FdRef root, const std::string& path) {
  bool out = false;
  LN_TRY(ForEachBelow(root, path, [&](FdRef dir, const std::string&) -> Result<void> {
    const Result<std::string> text = ReadFileAt(dir, "cgroup.procs");
    if (text) out = out || !text->empty();
    if (text || text.error().Is(Code::kNotFound)) return Ok();
    return text.error();
  }));
  return out;
}

Result<std::uint64_t> ReadCounter(FdRef root, const std::string& file, const std::string& key) {
  const Result<std::string> text = ReadFileAt(root, file);
  if (!text) {
    if (text.error().Is(Code::kNotFound)) return std::uint64_t{0};
    return text.error();
  }
  for (const std::string& line : Split(*text, '\n')) {
    if (line.starts_with(key + " ")) {
      return LN_TRY_CTX(ParseNumber<std::uint64_t>(Trim(std::string_view(line).substr(key.size()))),
                        file);
    }
  }
  return std::uint64_t{0};
}

Result<void> RemoveTree(const std::vector<FdRef>& roots, FdRef v2_root, const std::string& path,
                        milliseconds patience) {
  std::vector<FdRef> left;
  // v2 first: while it is busy, so are the others, and it can be waited for.
  if (v2_root.valid()) left.push_back(v2_root);
  left.insert(left.end(), roots.begin(), roots.end());
  const auto until = steady_clock::now() + patience;
  for (int round = 0;; ++round) {
    std::vector<FdRef> busy;
    for (const FdRef root : left) {
      // One busy hierarchy means a process, and then all are.
      if (!busy.empty() && round == 0) {
        busy.push_back(root);
      } else if (!LN_TRY(RemoveOnce(root, path))) {
        busy.push_back(root);
      }
    }
    if (busy.empty()) return Ok();
    left = std::move(busy);
    if (steady_clock::now() >= until)
      return FailedPrecondition("cgroup " + path + " still has processes");
    if (v2_root.valid() && left.front().get() == v2_root.get()) {
      WaitUnpopulated(v2_root, path, until);
      // Unpopulated, and yet busy: an instant at most.
      if (round > 0) SleepFor(std::chrono::microseconds(200));
    } else {
      SleepFor(std::chrono::microseconds(round < 4 ? 250 : 1000));
    }
  }
}

}  // namespace linnet::runtime
