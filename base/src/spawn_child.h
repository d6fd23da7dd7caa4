// What runs between clone and execve in a child of the threaded daemon: raw system calls only, no
// allocation, no locks, no C++ objects. The parent prepares everything in a ChildPlan.
#pragma once

#include <cstdint>

namespace linnet {

enum class Stage : std::int32_t {
  kNone,
  kSession,
  kProcessGroup,
  kSignals,
  kCgroup,
  kDescriptors,
  kChdir,
  kExec
};

struct ChildFailure {
  Stage stage;
  std::int32_t err;
};

// Trivially copyable; every pointer outlives the clone.
struct ChildPlan {
  struct FdMap {
    int from, to;
  };
  const char* exe_path;  // absolute, or nullptr: exe_fd
  int exe_fd;
  int error_fd;      // close-on-exec pipe; above every target
  const FdMap* fds;  // sources above every target
  int fd_count;
  int cgroup_dir;  // v2 directory to be cloned into, or -1
  const int* cgroup_fds;
  int cgroup_count;
  const char* cwd;
  char* const* argv;
  char* const* envp;
  const char* oom_score_adj;           // text, or nullptr
  unsigned long oom_score_adj_length;  // NOLINT(google-runtime-int): as write(2); counting here
                                       // would call strlen
  bool new_session, new_process_group;
};

// clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD) on the stack; returns the pid or -1 with
// errno. Under a thread sanitizer the child gets a copy of the memory instead.
int CloneChild(const ChildPlan* plan, void* stack, unsigned long stack_size,
               int* pidfd);  // NOLINT(google-runtime-int)
// The same with clone3 and CLONE_INTO_CGROUP of plan->cgroup_dir.
int CloneChildIntoCgroup(const ChildPlan* plan, void* stack, unsigned long stack_size,
                         int* pidfd);  // NOLINT(google-runtime-int)

}  // namespace linnet
