#include <cstdlib>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

// "oom_kill 3" among the lines of memory.events (v2) or memory.oom_control (v1).
std::uint64_t FindCounter(const char* text) {
  constexpr char kKey[] = "oom_kill ";
  for (const char* line = text; line != nullptr; line = strchr(line, '\n')) {
    if (*line == '\n') ++line;
    if (strncmp(line, kKey, sizeof kKey - 1) == 0) return strtoull(line + sizeof kKey - 1, nullptr, 10);
  }
  return 0;
}

// SIGKILL to every process of the frozen group and of those below it (execs have groups of their own).
void SignalAll(int dir) {
  const int procs = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
  if (procs < 0) return;
  char buffer[1024];
  pid_t pid = 0;
  for (ssize_t size = 0; (size = read(procs, buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < size; ++i) {
      if (buffer[i] >= '0' && buffer[i] <= '9') {
        pid = pid * 10 + (buffer[i] - '0');
      } else {
        if (pid > 1) (void)kill(pid, SIGKILL);  // gone meanwhile: what was wanted
        pid = 0;
      }
    }
  }
  close(procs);
}

}  // namespace

bool TakeCgroup(Cgroup& cgroup, PlanOf& plan, const plan::CgroupFds& fds) {
  cgroup.v2_dir = plan.Take(fds.v2_dir);
  cgroup.freezer_dir = plan.Take(fds.freezer_dir);
  cgroup.oom_counter = plan.Take(fds.oom_counter);
  if (fds.v1_tasks.count > 0) {
    cgroup.v1_tasks = static_cast<int*>(calloc(fds.v1_tasks.count, sizeof(int)));
    if (cgroup.v1_tasks == nullptr) return false;
    const auto* indexes = plan.reader().items<plan::FdIndex>(fds.v1_tasks);
    for (std::uint32_t i = 0; i < fds.v1_tasks.count; ++i) cgroup.v1_tasks[i] = plan.Take(indexes[i]);
    cgroup.v1_count = fds.v1_tasks.count;
  }
  cgroup.oom_kills_before = ReadOomKills(cgroup.oom_counter);
  return true;
}

void CloseCgroup(Cgroup& cgroup) {
  CloseFd(cgroup.v2_dir);
  CloseFd(cgroup.freezer_dir);
  CloseFd(cgroup.oom_counter);
  for (std::uint32_t i = 0; i < cgroup.v1_count; ++i) CloseFd(cgroup.v1_tasks[i]);
  free(cgroup.v1_tasks);
  cgroup.v1_tasks = nullptr;
  cgroup.v1_count = 0;
}

std::uint64_t ReadOomKills(int counter) {
  if (counter < 0) return 0;
  char text[512];
  const ssize_t size = pread(counter, text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = '\0';
  return FindCounter(text);
}

void KillCgroup(int v2_dir, int freezer_dir) {
  if (v2_dir >= 0 && WriteFileAt(v2_dir, "cgroup.kill", "1", 1) == 0) return;
  if (freezer_dir < 0) return;
  // Frozen, nothing can fork away from the list; signalled while frozen, all die at the moment of thawing.
  (void)WriteFileAt(freezer_dir, "freezer.state", "FROZEN", 6);
  SignalAll(freezer_dir);
  (void)WriteFileAt(freezer_dir, "freezer.state", "THAWED", 6);
}

}  // namespace linnet::runtime::keeper
