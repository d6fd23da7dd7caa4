#include <linux/sched.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <string_view>

#include "linnet/runtime/security.h"

#include "security/seccomp_names.h"

// The profile that Kubernetes' RuntimeDefault stands for: names, numbers and conditions as in the
// profile that moby and containerd share, so that a workload that runs there runs here.
// Differences: lsm_*_self_attr need no capability (they act on the caller alone), address families
// are refused by number (AF_ALG, AF_VSOCK) and not listed one by one.
//
// i386's socketcall takes its arguments by pointer, where no filter can see the family: 32-bit
// programs can still make an AF_ALG socket. Refusing it would take the network from every 32-bit
// glibc.

namespace linnet::runtime {
namespace {

// clang-format off
constexpr std::string_view kAlways[] = {
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget",
    "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64",
    "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "close", "close_range", "connect", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat",
    "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate",
    "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat",
    "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr",
    "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate",
    "ftruncate64", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv",
    "futex_wake", "futimesat", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32",
    "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getitimer",
    "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list",
    "getrusage", "getsid", "getsockname", "getsockopt", "get_thread_area", "gettid", "gettimeofday",
    "getuid", "getuid32", "getxattr", "getxattrat", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy", "io_getevents",
    "io_pgetevents", "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup", "io_submit",
    "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self",
    "lchown", "lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr",
    "listxattrat", "llistxattr", "_llseek", "lremovexattr", "lseek", "lsetxattr",
    "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "lstat", "lstat64", "madvise",
    "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat",
    "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr",
    "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd",
    "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat",
    "_newselect", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe",
    "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl",
    "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6", "pselect6_time64",
    "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
    "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr",
    "removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "riscv_hwprobe", "rmdir",
    "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
    "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg",
    "sendto", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
    "setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid",
    "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit",
    "set_robust_list", "setsid", "setsockopt", "set_thread_area", "set_tid_address", "setuid",
    "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
    "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair",
    "splice", "stat", "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat",
    "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
    "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname",
    "unlink", "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork",
    "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
};
// clang-format on

struct ByCapability {
  std::string_view capability;
  std::string_view calls[25];
};
constexpr ByCapability kByCapability[] = {
    {"CAP_DAC_READ_SEARCH", {"open_by_handle_at"}},
    {"CAP_SYS_ADMIN",
     {"bpf",           "clone",         "clone3",      "fanotify_init",   "fsconfig",
      "fsmount",       "fsopen",        "fspick",      "lookup_dcookie",  "mount",
      "mount_setattr", "move_mount",    "open_tree",   "perf_event_open", "quotactl",
      "quotactl_fd",   "setdomainname", "sethostname", "setns",           "syslog",
      "umount",        "umount2",       "unshare"}},
    {"CAP_SYS_BOOT", {"reboot"}},
    {"CAP_SYS_CHROOT", {"chroot"}},
    {"CAP_SYS_MODULE", {"delete_module", "init_module", "finit_module"}},
    {"CAP_SYS_PACCT", {"acct"}},
    {"CAP_SYS_PTRACE",
     {"kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"}},
    {"CAP_SYS_RAWIO", {"iopl", "ioperm"}},
    {"CAP_SYS_TIME", {"settimeofday", "stime", "clock_settime", "clock_settime64"}},
    {"CAP_SYS_TTY_CONFIG", {"vhangup"}},
    {"CAP_SYS_NICE", {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"}},
    {"CAP_SYSLOG", {"syslog"}},
    {"CAP_BPF", {"bpf"}},
    {"CAP_PERFMON", {"perf_event_open"}},
};

constexpr std::uint64_t kNamespaceFlags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                          CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                                          CLONE_NEWNET;
static_assert(kNamespaceFlags == 0x7e020000);

constexpr std::uint64_t kAfAlg = 38, kAfVsock = 40;  // linux/socket.h

oci::SeccompSyscall Allow(std::vector<std::string> names, std::vector<oci::SeccompArg> args = {}) {
  return {.names = std::move(names),
          .action = "SCMP_ACT_ALLOW",
          .errno_ret = {},
          .args = std::move(args)};
}

oci::SeccompArg Condition(std::uint32_t index, const char* op, std::uint64_t value,
                          std::uint64_t value_two = 0) {
  return {.index = index, .value = value, .value_two = value_two, .op = op};
}

// With their 32-bit personalities, which the same kernel runs.
std::vector<std::string> Architectures() {
  switch (seccomp_arch_native()) {
    case SCMP_ARCH_X86_64:
      return {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
    case SCMP_ARCH_AARCH64:
      return {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
    case SCMP_ARCH_S390X:
      return {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"};
    default:
      return {NativeSeccompArch()};
  }
}

void AddForArchitecture(std::vector<oci::SeccompSyscall>& out) {
  switch (seccomp_arch_native()) {
    case SCMP_ARCH_X86_64:
      out.push_back(Allow({"arch_prctl", "modify_ldt"}));
      break;
    case SCMP_ARCH_X86:
      out.push_back(Allow({"modify_ldt"}));
      break;
    case SCMP_ARCH_AARCH64:
    case SCMP_ARCH_ARM:
      out.push_back(Allow({"arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2",
                           "breakpoint", "cacheflush", "set_tls"}));
      break;
    case SCMP_ARCH_PPC64LE:
      out.push_back(Allow({"sync_file_range2", "swapcontext"}));
      break;
    case SCMP_ARCH_S390X:
    case SCMP_ARCH_S390:
      out.push_back(Allow({"s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"}));
      break;
    case SCMP_ARCH_RISCV64:
      out.push_back(Allow({"riscv_flush_icache"}));
      break;
    default:
      break;
  }
}

}  // namespace

oci::Seccomp DefaultSeccompProfile(const std::vector<std::string>& capabilities) {
  const auto holds = [&](std::string_view name) {
    return std::find(capabilities.begin(), capabilities.end(), name) != capabilities.end();
  };
  oci::Seccomp out;
  out.default_action = "SCMP_ACT_ERRNO";
  out.default_errno_ret = EPERM;
  out.architectures = Architectures();
  out.syscalls.push_back(Allow({std::begin(kAlways), std::end(kAlways)}));
  // Since Linux 4.8 a tracer cannot get round the filter (and ours is newer).
  out.syscalls.push_back(Allow({"ptrace", "process_vm_readv", "process_vm_writev"}));
  out.syscalls.push_back(Allow({"socket"}, {Condition(0, "SCMP_CMP_LT", kAfAlg)}));
  out.syscalls.push_back(Allow({"socket"}, {Condition(0, "SCMP_CMP_EQ", kAfAlg + 1)}));
  out.syscalls.push_back(Allow({"socket"}, {Condition(0, "SCMP_CMP_GT", kAfVsock)}));
  // PER_LINUX, PER_LINUX32, both with UNAME26, and asking for the present one.
  for (const std::uint64_t persona : {0x0U, 0x8U, 0x20000U, 0x20008U, 0xffffffffU}) {
    out.syscalls.push_back(Allow({"personality"}, {Condition(0, "SCMP_CMP_EQ", persona)}));
  }
  AddForArchitecture(out.syscalls);
  for (const ByCapability& entry : kByCapability) {
    if (!holds(entry.capability)) continue;
    std::vector<std::string> names;
    for (const std::string_view call : entry.calls) {
      if (!call.empty()) names.emplace_back(call);
    }
    out.syscalls.push_back(Allow(std::move(names)));
  }
  if (!holds("CAP_SYS_ADMIN")) {
    // s390 swaps the first two arguments of clone.
    const bool s390 =
        seccomp_arch_native() == SCMP_ARCH_S390X || seccomp_arch_native() == SCMP_ARCH_S390;
    out.syscalls.push_back(
        Allow({"clone"}, {Condition(s390 ? 1 : 0, "SCMP_CMP_MASKED_EQ", kNamespaceFlags, 0)}));
    // Its flags are behind a pointer: "not implemented" makes libc fall back to clone.
    out.syscalls.push_back(
        {.names = {"clone3"}, .action = "SCMP_ACT_ERRNO", .errno_ret = ENOSYS, .args = {}});
  }
  return out;
}

}  // namespace linnet::runtime
