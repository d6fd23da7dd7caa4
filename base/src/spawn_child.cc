// Checked by lint.spawn_child_symbols: this file may use no symbol but a handful of plain system
// call wrappers.
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
    (void)syscall(SYS_rt_sigaction, sig, &normal, nullptr,
                  sizeof(std::uint64_t));  // 32 and 33 may refuse: no handler there
  }
  const std::uint64_t none = 0;
  if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none) != 0)
    Fail(plan, Stage::kSignals, errno);
}

void WriteOomScore(const ChildPlan* plan) {
  const auto fd = static_cast<int>(
      syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (fd < 0) return;
  if (write(fd, plan->oom_score_adj, plan->oom_score_adj_length) < 0)
    return;  // lowering it needs a privilege that may be missing
}

int Child(void* argument) {
  const auto* plan = static_cast<const ChildPlan*>(argument);
  ResetSignals(plan);
  if (plan->new_session && syscall(SYS_setsid) < 0) Fail(plan, Stage::kSession, errno);
  // The leader of a session leads a group already, and may not leave it.
  if (plan->new_process_group && !plan->new_session && syscall(SYS_setpgid, 0, 0) < 0)
    Fail(plan, Stage::kProcessGroup, errno);
  for (int i = 0; i < plan->cgroup_count; ++i) {
    if (write(plan->cgroup_fds[i], "0", 1) < 0) Fail(plan, Stage::kCgroup, errno);
  }
  if (plan->oom_score_adj != nullptr) WriteOomScore(plan);
  // A belt: ours are born close-on-exec, but the daemon may have been given others. What is mapped
  // below is opened anew.
  (void)syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  for (int i = 0; i < plan->fd_count; ++i) {
    if (syscall(SYS_dup3, plan->fds[i].from, plan->fds[i].to, 0) < 0)
      Fail(plan, Stage::kDescriptors, errno);
  }
  if (chdir(plan->cwd) != 0) Fail(plan, Stage::kChdir, errno);
  if (plan->exe_path != nullptr) {
    syscall(SYS_execveat, AT_FDCWD, plan->exe_path, plan->argv, plan->envp, 0);
    Fail(plan, Stage::kExec, errno);
  }
  syscall(SYS_execveat, plan->exe_fd, "", plan->argv, plan->envp, AT_EMPTY_PATH);
  // ENOENT: a script, whose interpreter opens it as /dev/fd/N, which close-on-exec has taken away
  // (execveat(2)).
  if (errno == ENOENT && syscall(SYS_fcntl, plan->exe_fd, F_SETFD, 0) == 0) {
    syscall(SYS_execveat, plan->exe_fd, "", plan->argv, plan->envp, AT_EMPTY_PATH);
  }
  Fail(plan, Stage::kExec, errno);
}

}  // namespace

int CloneChild(const ChildPlan* plan, void* stack, unsigned long stack_size,
               int* pidfd) {    // NOLINT(google-runtime-int)
#if defined(LINNET_TSAN_BUILD)  // by the build: this file itself is compiled without sanitizers
  const int flags = CLONE_PIDFD | SIGCHLD;
#else
  const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
#endif
  return clone(Child, static_cast<char*>(stack) + stack_size, flags, const_cast<ChildPlan*>(plan),
               pidfd);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

namespace {

// The kernel's struct clone_args, up to `cgroup` (CLONE_ARGS_SIZE_VER2).
struct CloneArguments {
  std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};
constexpr std::uint64_t kCloneIntoCgroup = 0x200000000;

// glibc has no wrapper of clone3, and one that returns cannot be: the child stands on another
// stack.
#if defined(__x86_64__) && !defined(LINNET_TSAN_BUILD)
long Clone3(CloneArguments* arguments, const ChildPlan* plan) {  // NOLINT(google-runtime-int)
  long result = 0;                                               // NOLINT(google-runtime-int)
  arguments->flags |= CLONE_VM | CLONE_VFORK;
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %[plan], %%rdi\n\t"
      "call *%[child]\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      // In registers by name: "r" could choose rbp, which is cleared before they are used.
      : "0"(SYS_clone3), "D"(arguments),
        "S"(sizeof *arguments), [child] "b"(Child), [plan] "d"(plan)
      : "rcx", "r11", "memory", "cc");
  return result;
}
#elif defined(__aarch64__) && !defined(LINNET_TSAN_BUILD)
long Clone3(CloneArguments* arguments, const ChildPlan* plan) {  // NOLINT(google-runtime-int)
  arguments->flags |= CLONE_VM | CLONE_VFORK;
  register long x8 __asm__("x8") = SYS_clone3;  // NOLINT(google-runtime-int)
  register const void* x0 __asm__("x0") = arguments;
  register long x1 __asm__("x1") = sizeof *arguments;  // NOLINT(google-runtime-int)
  __asm__ volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, %[plan]\n\t"
      "blr %[child]\n\t"
      "brk #1\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), [child] "r"(Child), [plan] "r"(plan)
      : "memory", "cc");
  return reinterpret_cast<long>(x0);  // NOLINT(google-runtime-int)
}
#else
// The child gets a copy of the memory and goes on here.
long Clone3(CloneArguments* arguments, const ChildPlan* plan) {  // NOLINT(google-runtime-int)
  arguments->stack = 0;
  arguments->stack_size = 0;
  const long result =
      syscall(SYS_clone3, arguments, sizeof *arguments);  // NOLINT(google-runtime-int)
  if (result == 0)
    Child(const_cast<ChildPlan*>(plan));  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  return result < 0 ? -errno : result;
}
#endif

}  // namespace

int CloneChildIntoCgroup(const ChildPlan* plan, void* stack, unsigned long stack_size,
                         int* pidfd) {  // NOLINT(google-runtime-int)
  CloneArguments arguments{};
  arguments.flags = kCloneIntoCgroup | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(pidfd);
  arguments.exit_signal = SIGCHLD;
  arguments.stack = reinterpret_cast<std::uint64_t>(stack);
  arguments.stack_size = stack_size;
  arguments.cgroup = static_cast<std::uint64_t>(plan->cgroup_dir);
  const long result = Clone3(&arguments, plan);  // NOLINT(google-runtime-int)
  if (result >= 0) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

}  // namespace linnet
