// Checked by lint.spawn_child_symbols: this file may use no symbol but a handful of plain system call wrappers.
#include "spawn_child.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace linnet {
namespace {

[[noreturn]] void Fail(const ChildPlan* plan, Stage stage, int err) {
  const ChildFailure failure = {stage, err};
  if (write(plan->error_fd, &failure, sizeof failure) < 0) _exit(127);
  _exit(127);
}

// The kernel's structure, not glibc's: the wrappers of sigaction take locks.
struct KernelSigaction {
  void (*handler)(int);
  unsigned long flags;  // NOLINT(google-runtime-int): kernel ABI
  void (*restorer)();
  std::uint64_t mask;
};

void ResetSignals(const ChildPlan* plan) {
  const KernelSigaction normal = {nullptr, 0, nullptr, 0};
  for (int sig = 1; sig <= 64; ++sig) {
    if (sig == SIGKILL || sig == SIGSTOP) continue;
    (void)syscall(SYS_rt_sigaction, sig, &normal, nullptr, sizeof(std::uint64_t));  // 32 and 33 may refuse: no handler there
  }
  const std::uint64_t none = 0;
  if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none) != 0) Fail(plan, Stage::kSignals, errno);
}

void WriteOomScore(const char* text) {
  const auto fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (fd < 0) return;
  int length = 0;
  while (text[length] != '\0') ++length;
  if (write(fd, text, static_cast<unsigned>(length)) < 0) return;  // lowering it needs a privilege that may be missing
}

int Child(void* argument) {
  const auto* plan = static_cast<const ChildPlan*>(argument);
  ResetSignals(plan);
  if (plan->new_session && syscall(SYS_setsid) < 0) Fail(plan, Stage::kSession, errno);
  if (plan->new_process_group && syscall(SYS_setpgid, 0, 0) < 0) Fail(plan, Stage::kProcessGroup, errno);
  for (int i = 0; i < plan->cgroup_count; ++i) {
    if (write(plan->cgroup_fds[i], "0", 1) < 0) Fail(plan, Stage::kCgroup, errno);
  }
  if (plan->oom_score_adj != nullptr) WriteOomScore(plan->oom_score_adj);
  for (int i = 0; i < plan->fd_count; ++i) {
    if (syscall(SYS_dup3, plan->fds[i].from, plan->fds[i].to, 0) < 0) Fail(plan, Stage::kDescriptors, errno);
  }
  (void)syscall(SYS_close_range, plan->keep_below, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);  // a belt: all are born so
  if (chdir(plan->cwd) != 0) Fail(plan, Stage::kChdir, errno);
  syscall(SYS_execveat, plan->exe_fd, "", plan->argv, plan->envp, AT_EMPTY_PATH);
  Fail(plan, Stage::kExec, errno);
}

}  // namespace

int CloneChild(const ChildPlan* plan, void* stack_top, int* pidfd) {
#if defined(__SANITIZE_THREAD__)
  const int flags = CLONE_PIDFD | SIGCHLD;
#else
  const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
#endif
  return clone(Child, stack_top, flags, const_cast<ChildPlan*>(plan), pidfd);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

}  // namespace linnet
