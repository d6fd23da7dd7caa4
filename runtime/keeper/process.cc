// The last steps: standard streams, limits, identity, capabilities, seccomp, execve.
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <climits>
#include <cstdlib>

#include "child.h"

namespace linnet::runtime::keeper {
namespace {

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The container's own /dev/null where that is what it should be, else the keeper's.
int OpenNull(const ChildContext& child) {
  const int fd = open("/dev/null", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct stat info = {};
  if (fd >= 0 && fstat(fd, &info) == 0 && S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3))
    return fd;
  if (fd >= 0) close(fd);
  return child.null_fd;
}

void ConnectStreams(ChildContext& child, const plan::Process& process) {
  const bool terminal = (process.flags & plan::kProcessTerminal) != 0;
  // First above the targets, so that no source is overwritten before its turn.
  int from[3];
  const bool needs_null = child.stdio[0] < 0 || child.stdio[1] < 0 || child.stdio[2] < 0;
  const int null_fd = needs_null ? OpenNull(child) : -1;
  for (int i = 0; i < 3; ++i) {
    from[i] = fcntl(child.stdio[i] >= 0 ? child.stdio[i] : null_fd, F_DUPFD_CLOEXEC, 10);
    if (from[i] < 0) Fail(child, Stage::kStdio, errno, "");
  }
  if (child.report < 10) {
    child.report = fcntl(child.report, F_DUPFD_CLOEXEC, 10);
    if (child.report < 0) _exit(127);
  }
  if (child.seccomp >= 0 && child.seccomp < 3)
    child.seccomp = fcntl(child.seccomp, F_DUPFD_CLOEXEC, 10);
  if (child.label_fd >= 0 && child.label_fd < 3)
    child.label_fd = fcntl(child.label_fd, F_DUPFD_CLOEXEC, 10);
  for (int i = 0; i < 3; ++i) {
    if (dup2(from[i], i) < 0) Fail(child, Stage::kStdio, errno, "");
  }
  if (terminal && ioctl(0, TIOCSCTTY, 0) != 0)
    Fail(child, Stage::kConsole, errno, "make it the controlling terminal");
}

void SetLimits(const ChildContext& child, const plan::Process& process) {
  (void)setrlimit(RLIMIT_NOFILE, child.files);  // lowers what the keeper raised
  const auto* limits = child.plan->items<plan::Rlimit>(process.rlimits);
  for (std::uint32_t i = 0; i < process.rlimits.count; ++i) {
    const rlimit limit = {limits[i].soft, limits[i].hard};
    if (setrlimit(static_cast<__rlimit_resource>(limits[i].resource), &limit) != 0) {
      Line<32> which;
      which.Add("number ").Add(limits[i].resource);
      Fail(child, Stage::kLimits, errno, which.text());
    }
  }
}

void WriteLabel(const ChildContext& child, const plan::Process& process) {
  if (child.label_fd < 0) return;
  Line<PATH_MAX> label;
  if (plan::Reader::present(process.apparmor))
    label.Add("exec ").Add(child.plan->text(process.apparmor));
  else
    label.Add(child.plan->text(process.selinux));
  if (write(child.label_fd, label.text(), label.size()) < 0)
    Fail(child, Stage::kSecurityLabel, errno, label.text());
}

struct CapabilitySets {
  std::uint64_t effective, permitted, inheritable;
};

bool GetCapabilities(CapabilitySets& sets) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  sets.effective = data[0].effective | std::uint64_t{data[1].effective} << 32;
  sets.permitted = data[0].permitted | std::uint64_t{data[1].permitted} << 32;
  sets.inheritable = data[0].inheritable | std::uint64_t{data[1].inheritable} << 32;
  return true;
}

bool PutCapabilities(const CapabilitySets& sets) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (int i = 0; i < 2; ++i) {
    data[i].effective = static_cast<std::uint32_t>(sets.effective >> (32 * i));
    data[i].permitted = static_cast<std::uint32_t>(sets.permitted >> (32 * i));
    data[i].inheritable = static_cast<std::uint32_t>(sets.inheritable >> (32 * i));
  }
  return syscall(SYS_capset, &header, data) == 0;
}

void DropBounding(const ChildContext& child, const plan::Process& process) {
  for (unsigned capability = 0; capability < 64; ++capability) {
    if ((process.bounding >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    if (errno == EINVAL) return;  // beyond the last one that this kernel knows
    Fail(child, Stage::kCapabilities, errno, "drop from the bounding set");
  }
}

void BecomeUser(const ChildContext& child, const plan::Process& process) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
    Fail(child, Stage::kUser, errno, "keep capabilities");
  const auto* groups = child.plan->items<std::uint32_t>(process.groups);
  if (syscall(SYS_setgroups, process.groups.count, process.groups.count > 0 ? groups : nullptr) !=
      0) {
    Fail(child, Stage::kUser, errno, "setgroups");
  }
  if (syscall(SYS_setresgid, process.gid, process.gid, process.gid) != 0)
    Fail(child, Stage::kUser, errno, "setresgid");
  if (syscall(SYS_setresuid, process.uid, process.uid, process.uid) != 0)
    Fail(child, Stage::kUser, errno, "setresuid");
  // Without this the kernel's choice for a changed user could show the process to its neighbours
  // before execve.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

void SetCapabilities(const ChildContext& child, const plan::Process& process) {
  CapabilitySets own = {};
  if (!GetCapabilities(own)) Fail(child, Stage::kCapabilities, errno, "get");
  // Never more than there are: what the keeper lacks, nobody gets.
  CapabilitySets wanted = {process.effective & own.permitted, process.permitted & own.permitted,
                           process.inheritable & (own.permitted | own.inheritable)};
  if ((process.flags & plan::kProcessCapabilities) == 0) wanted = own;
  wanted.effective &= wanted.permitted;
  if (!PutCapabilities(wanted)) Fail(child, Stage::kCapabilities, errno, "set");
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);  // empty anyway
  if ((process.flags & plan::kProcessCapabilities) == 0) return;
  for (unsigned capability = 0; capability < 64; ++capability) {
    if ((process.ambient >> capability & 1) == 0 ||
        (wanted.permitted & wanted.inheritable) >> capability % 64 == 0)
      continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
      Fail(child, Stage::kCapabilities, errno, "ambient");
  }
}

// With the capability that a filter needs without no_new_privs.
void KeepAdmin(const ChildContext& child) {
  CapabilitySets own = {};
  if (!GetCapabilities(own)) Fail(child, Stage::kCapabilities, errno, "get");
  own.effective = own.permitted;
  if (!PutCapabilities(own)) Fail(child, Stage::kCapabilities, errno, "keep");
}

void LoadSeccomp(const ChildContext& child, const plan::Process& process) {
  struct stat info = {};
  if (fstat(child.seccomp, &info) != 0) Fail(child, Stage::kSeccomp, errno, "stat");
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0 || size % sizeof(sock_filter) != 0 || size / sizeof(sock_filter) > BPF_MAXINSNS) {
    Fail(child, Stage::kSeccomp, EINVAL, "size of the program");
  }
  void* code = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, child.seccomp, 0);
  if (code == MAP_FAILED) Fail(child, Stage::kSeccomp, errno, "map");
  sock_fprog program = {static_cast<unsigned short>(size / sizeof(sock_filter)),
                        static_cast<sock_filter*>(code)};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, process.seccomp_flags, &program) != 0) {
    Fail(child, Stage::kSeccomp, errno, "load");
  }
}

// 0 or errno. Resolved as the container would, but through no /proc/<pid>/fd link, and where it
// ends is looked at (CVE-2024-21626).
int EnterWorkingDirectory(const char* path) {
  const int fd = OpenAt2(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_MAGICLINKS);
  if (fd < 0) return errno;
  const int err = fchdir(fd) != 0 ? errno : 0;
  close(fd);
  if (err != 0) return err;
  char where[PATH_MAX];
  if (syscall(SYS_getcwd, where, sizeof where) < 0) return errno;
  return where[0] == '/' ? 0 : EPERM;
}

char** Pointers(const ChildContext& child, plan::List list) {
  auto** pointers = static_cast<char**>(calloc(list.count + 1, sizeof(char*)));
  if (pointers == nullptr) Fail(child, Stage::kExec, ENOMEM, "no memory");
  const auto* texts = child.plan->items<plan::Text>(list);
  for (std::uint32_t i = 0; i < list.count; ++i) {
    pointers[i] = const_cast<char*>(child.plan->text(
        texts[i]));  // NOLINT(cppcoreguidelines-pro-type-const-cast): execve only reads
  }
  return pointers;
}

const char* SearchPath(char* const* env) {
  const char* path = nullptr;
  for (; *env != nullptr; ++env) {
    if (strncmp(*env, "PATH=", 5) == 0) path = *env + 5;
  }
  return path != nullptr ? path : kDefaultPath;
}

[[noreturn]] void FailExec(const ChildContext& child, const char* name, int error) {
  Line<sizeof(Failed::detail)> text;
  text.Add("exec: \"").Add(name).Add("\": ");
  const bool searched = strchr(name, '/') == nullptr;
  switch (error) {
    case ENOENT:
      if (searched)
        text.Add("executable file not found in $PATH");
      else
        text.Add("stat ").Add(name).Add(": no such file or directory");
      break;
    case EACCES:
      text.Add("permission denied");
      break;
    case EISDIR:
      text.Add("is a directory");
      break;
    case ENOTDIR:
      text.Add("not a directory");
      break;
    case ENOEXEC:
      text.Add("exec format error");
      break;
    case E2BIG:
      text.Add("argument list too long");
      break;
    case ELOOP:
      text.Add("too many levels of symbolic links");
      break;
    case EPERM:
      text.Add("operation not permitted");
      break;
    case ENOMEM:
      text.Add("cannot allocate memory");
      break;
    case ETXTBSY:
      text.Add("text file busy");
      break;
    default:
      text.Add("error ").Add(error);
  }
  Fail(child, Stage::kExec, error, text.text());
}

[[noreturn]] void Execute(const ChildContext& child, char** argv, char** env) {
  const char* name = argv[0];
  if (*name == '\0') FailExec(child, name, ENOENT);
  if (strchr(name, '/') != nullptr) {
    execve(name, argv, env);
    struct stat info = {};
    if (errno == EACCES && stat(name, &info) == 0 && S_ISDIR(info.st_mode)) errno = EISDIR;
    FailExec(child, name, errno);
  }
  int failure = ENOENT;
  for (const char* at = SearchPath(env); at != nullptr;) {
    const char* colon = strchr(at, ':');
    const std::size_t size = colon != nullptr ? static_cast<std::size_t>(colon - at) : strlen(at);
    char path[PATH_MAX];
    // Relative directories (and empty ones, the working directory) are not searched.
    if (size > 0 && at[0] == '/' && size + strlen(name) + 2 <= sizeof path) {
      memcpy(path, at, size);
      path[size] = '/';
      strcpy(path + size + 1, name);
      execve(path, argv, env);
      struct stat info = {};
      if (errno == EACCES && stat(path, &info) == 0 && S_ISREG(info.st_mode))
        failure = EACCES;
      else if (errno != EACCES && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        FailExec(child, name, errno);
    }
    at = colon != nullptr ? colon + 1 : nullptr;
  }
  FailExec(child, name, failure);
}

void AnnounceExec(const ChildContext& child) {
  ReportMessage message;
  message.kind = ReportMessage::Kind::kExec;
  (void)send(child.report, &message, offsetof(ReportMessage, detail),
             MSG_NOSIGNAL);  // the keeper gone: go on
}

}  // namespace

void SetOomScore(const ChildContext& child, const plan::Process& process) {
  if ((process.flags & plan::kProcessOomScoreAdj) == 0) return;
  const int fd = openat(child.proc_dir, "self/oom_score_adj", O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  Line<16> text;
  text.Add(process.oom_score_adj);
  // Lowering it needs a privilege that may be missing: then it stays at what it is, the lowest
  // there is to have.
  (void)!pwrite(fd, text.text(), text.size(), 0);
  close(fd);
}

void PrepareLabel(ChildContext& child, const plan::Process& process) {
  if (plan::Reader::present(process.apparmor)) {
    child.label_fd = openat(child.proc_dir, "self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
    if (child.label_fd < 0)
      child.label_fd = openat(child.proc_dir, "self/attr/exec", O_WRONLY | O_CLOEXEC);
  } else if (plan::Reader::present(process.selinux)) {
    child.label_fd = openat(child.proc_dir, "self/attr/exec", O_WRONLY | O_CLOEXEC);
  } else {
    return;
  }
  if (child.label_fd < 0) Fail(child, Stage::kSecurityLabel, errno, "open");
}

void BecomeProcess(ChildContext& child, const plan::Process& process) {
  // Prepared while nothing is restricted yet.
  char** argv = Pointers(child, process.args);
  char** env = Pointers(child, process.env);
  const char* cwd = plan::Reader::present(process.cwd) ? child.plan->text(process.cwd) : "/";
  const bool no_new_privileges = (process.flags & plan::kProcessNoNewPrivileges) != 0;

  ConnectStreams(child, process);
  SetLimits(child, process);
  WriteLabel(child, process);
  umask((process.flags & plan::kProcessUmask) != 0 ? process.umask : 022);
  // Before the user changes, as root may see more; after it where only the user may (a directory
  // that squashes root).
  int cwd_error = EnterWorkingDirectory(cwd);
  if ((process.flags & plan::kProcessCapabilities) != 0) DropBounding(child, process);
  BecomeUser(child, process);
  if (cwd_error == EACCES) cwd_error = EnterWorkingDirectory(cwd);
  if (cwd_error != 0) Fail(child, Stage::kCwd, cwd_error, cwd);
  if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
    Fail(child, Stage::kStdio, errno, "close");

  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none,
              nullptr);  // the dispositions are the default ones: the keeper changes none

  if (no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    Fail(child, Stage::kCapabilities, errno, "no_new_privs");
  if (child.seccomp >= 0 && !no_new_privileges) {
    KeepAdmin(child);
    LoadSeccomp(child, process);
  }
  SetCapabilities(child, process);
  AnnounceExec(child);
  if (child.seccomp >= 0 && no_new_privileges) LoadSeccomp(child, process);
  Execute(child, argv, env);
}

}  // namespace linnet::runtime::keeper
