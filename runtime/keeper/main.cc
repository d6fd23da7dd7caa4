// linnet-keeper: parent of a pod's containers. See keeper/protocol.h for how it is started and
// spoken to.
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>

#include "keeper.h"

namespace linnet::runtime::keeper {

bool Source::Watch(Keeper& keeper, std::uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = this;
  return epoll_ctl(keeper.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

void Source::Unwatch(Keeper& keeper) { (void)epoll_ctl(keeper.epoll, EPOLL_CTL_DEL, fd, nullptr); }

void Source::Close(Keeper& keeper) {
  if (fd < 0) return;
  // By name: a copy in a child that has not executed yet would keep it in the set.
  Unwatch(keeper);
  CloseFd(fd);
}

namespace {

[[noreturn]] void Die(const char* what, int error) {
  Line<256> text;
  text.Add("linnet-keeper: ").Add(what).Add(": error ").Add(error).Add("\n");
  (void)!write(2, text.text(), text.size());
  _exit(1);
}

bool IsSocket(int fd) {
  struct stat info = {};
  return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

// Default dispositions, everything blocked: signals are read from a descriptor, or not at all.
void SetUpSignals(Keeper& keeper) {
  for (int number = 1; number < 32; ++number) {
    if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
  }
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  keeper.signals.fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (keeper.signals.fd < 0) Die("signalfd", errno);
}

void SetUpProcess(Keeper& keeper) {
  const bool has_root =
      fcntl(kRootNamespaceFd, F_GETFD) >= 0;  // before anything else gets that number
  prctl(PR_SET_NAME, "linnet-keeper", 0, 0, 0);
  // Nobody who shares a namespace with its children may look into them before execve.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  // Keys of the daemon's session are none of a container's.
  (void)syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, nullptr);
  (void)setsid();  // leads a session already where the daemon asked for one
  SetUpSignals(keeper);
  // Many mounts come as many descriptors.
  if (getrlimit(RLIMIT_NOFILE, &keeper.files) == 0) {
    const rlimit most = {keeper.files.rlim_max, keeper.files.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &most);
  }
  const int err = has_root ? JoinRootNamespace(kRootNamespaceFd) : MakeRootNamespace();
  if (err != 0) Die("mount namespace", err);
  keeper.proc_dir = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  keeper.null_fd = open(kNullPath, O_RDWR | O_CLOEXEC);
  keeper.own_pid_namespace = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  if (keeper.proc_dir < 0 || keeper.null_fd < 0 || keeper.own_pid_namespace < 0) Die("open", errno);
  for (int fd = 0; fd < 3; ++fd) (void)dup2(keeper.null_fd, fd);
  (void)syscall(SYS_close_range, static_cast<unsigned>(kConnectionFd) + 1, ~0U,
                4U /* CLOSE_RANGE_CLOEXEC */);
  if (has_root) close(kRootNamespaceFd);
  for (const int fd : {kListenFd, kConnectionFd}) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void SetUpLoop(Keeper& keeper) {
  keeper.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (keeper.epoll < 0) Die("epoll", errno);
  keeper.signals.ready = ReapChildren;
  keeper.listener.ready = AcceptConnection;
  keeper.listener.fd = kListenFd;
  keeper.connection.ready = ReadCommand;
  keeper.connection.fd = kConnectionFd;
  (void)fcntl(kListenFd, F_SETFL, O_NONBLOCK);
  if (!keeper.signals.Watch(keeper, EPOLLIN) || !keeper.listener.Watch(keeper, EPOLLIN) ||
      !keeper.connection.Watch(keeper, EPOLLIN)) {
    Die("epoll", errno);
  }
}

[[noreturn]] void Loop(Keeper& keeper) {
  std::int64_t now = MonotonicMillis();
  for (;;) {
    epoll_event event = {};
    // One at a time: a handler may close any other source.
    const int count = epoll_wait(keeper.epoll, &event, 1, NextTimeout(keeper, now));
    if (count < 0 && errno != EINTR) Die("epoll", errno);
    if (count > 0) {
      auto* source = static_cast<Source*>(event.data.ptr);
      source->ready(keeper, source, event.events);
    }
    now = MonotonicMillis();
    CheckContainers(keeper, now);
    CheckAttachments(keeper, now);
    CheckExecs(keeper, now);
  }
}

// --root: makes the mount namespace that all keepers are copies of, and stays until the daemon has
// opened it.
int RunRoot() {
  if (const int err = MakeRootNamespace(); err != 0) Die("mount namespace", err);
  char byte = 'r';
  if (write(kConnectionFd, &byte, 1) != 1) return 1;
  (void)!read(kConnectionFd, &byte, 1);
  return 0;
}

Keeper g_keeper;

}  // namespace
}  // namespace linnet::runtime::keeper

int main(int argc, char** argv) {
  using namespace linnet::runtime::keeper;  // NOLINT(google-build-using-namespace): main of this
                                            // program
  if (argc < 2) return 2;
  if (strcmp(argv[1], "--root") == 0) return RunRoot();
  // A container may execute /proc/<pid>/exe of its own start: nothing happens.
  if (!IsSocket(kListenFd) || !IsSocket(kConnectionFd)) return 2;
  Keeper& keeper = g_keeper;
  keeper.argv_area = argv[0];
  keeper.argv_size = static_cast<std::size_t>(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);
  for (int i = 2; i < argc; ++i) {  // what older kernels lack, for tests
    if (strcmp(argv[i], "--without-clone3") == 0) keeper.clone3_works = false;
    if (strcmp(argv[i], "--without-cgroup-clone") == 0) keeper.cgroup_clone_works = false;
  }
  (void)mallopt(M_TRIM_THRESHOLD, 16384);
  (void)mallopt(M_TOP_PAD, 4096);
  SetUpProcess(keeper);
  SetUpLoop(keeper);
  Loop(keeper);
}
