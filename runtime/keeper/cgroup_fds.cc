#include <dirent.h>

#include <cstdlib>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

constexpr int kMaxDepth = 16;

// "oom_kill 3" among the lines of memory.events (v2) or memory.oom_control (v1).
std::uint64_t FindCounter(const char* text) {
  constexpr char kKey[] = "oom_kill ";
  for (const char* line = text; line != nullptr; line = strchr(line, '\n')) {
    if (*line == '\n') ++line;
    if (strncmp(line, kKey, sizeof kKey - 1) == 0)
      return strtoull(line + sizeof kKey - 1, nullptr, 10);
  }
  return 0;
}

void SignalProcesses(int dir) {
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

// SIGKILL to every process of the frozen group and of those below it (execs have groups of their
// own).
void SignalAll(int dir, int depth) {
  SignalProcesses(dir);
  const int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* list = copy >= 0 && depth < kMaxDepth ? fdopendir(copy) : nullptr;
  if (list == nullptr) {
    if (copy >= 0) close(copy);
    return;
  }
  while (const dirent* entry = readdir(list)) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    const int below = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (below < 0) continue;
    SignalAll(below, depth + 1);
    close(below);
  }
  closedir(list);
}

// Until then something may still fork away from the list.
void WaitFrozen(int dir) {
  for (int attempt = 0; attempt < 20; ++attempt) {
    char state[16] = {};
    const int fd = openat(dir, "freezer.state", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!read(fd, state, sizeof state - 1);
    close(fd);
    if (strncmp(state, "FROZEN", 6) == 0) return;
    const timespec pause = {0, 500000};
    nanosleep(&pause, nullptr);
  }
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
    for (std::uint32_t i = 0; i < fds.v1_tasks.count; ++i)
      cgroup.v1_tasks[i] = plan.Take(indexes[i]);
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
  // Signalled while frozen, all die at the moment of thawing.
  (void)WriteFileAt(freezer_dir, "freezer.state", "FROZEN", 6);
  WaitFrozen(freezer_dir);
  SignalAll(freezer_dir, 0);
  (void)WriteFileAt(freezer_dir, "freezer.state", "THAWED", 6);
}

}  // namespace linnet::runtime::keeper
