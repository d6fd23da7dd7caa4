#include "child.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace linnet::runtime::keeper {

void Fail(const ChildContext& child, Stage stage, int error, const char* detail) {
  ReportMessage message;
  message.kind = ReportMessage::Kind::kFailed;
  message.stage = stage;
  message.error = error;
  strncpy(message.detail, detail, sizeof message.detail - 1);
  (void)send(child.report, &message, sizeof message,
             MSG_NOSIGNAL);  // the keeper gone: nobody to tell
  _exit(127);
}

void Fail(const ChildContext& child, Stage stage, int error, const char* action,
          const char* object) {
  Line<sizeof(Failed::detail)> detail;
  detail.Add(action).Add(" ").Add(object);
  Fail(child, stage, error, detail.text());
}

namespace {

// The child itself does it: from outside, after an idle pause, it takes the kernel 8-11 ms.
void EnterCgroups(const ChildContext& child) {
  const Cgroup& cgroup = *child.cgroup;
  for (std::uint32_t i = 0; i < cgroup.v1_count; ++i) {
    if (write(cgroup.v1_tasks[i], "0", 1) != 1) Fail(child, Stage::kCgroup, errno, "enter");
  }
  if (cgroup.v2_dir >= 0 && !child.in_cgroup) {
    if (const int err = WriteFileAt(cgroup.v2_dir, "cgroup.procs", "0", 1); err != 0)
      Fail(child, Stage::kCgroup, err, "enter");
  }
  if (child.exec_freezer >= 0) {
    if (const int err = WriteFileAt(child.exec_freezer, "tasks", "0", 1); err != 0)
      Fail(child, Stage::kCgroup, err, "enter");
  }
}

// Root of the user namespace, with all capabilities in it.
void EnterUserNamespace(const ChildContext& child) {
  if (child.user_namespace < 0) return;
  if (setns(child.user_namespace, CLONE_NEWUSER) != 0)
    Fail(child, Stage::kUserNamespace, errno, "join");
  if (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_setresgid, 0, 0, 0) != 0 ||
      syscall(SYS_setresuid, 0, 0, 0) != 0) {
    Fail(child, Stage::kUserNamespace, errno, "become root");
  }
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

// The new pid namespace belongs to the user namespace, so it is made from inside; only a child of
// this process is in it. The keeper adopts that child when this process ends.
void EnterOwnPidNamespace(const ChildContext& child) {
  if (unshare(CLONE_NEWPID) != 0) Fail(child, Stage::kNamespace, errno, "new pid namespace");
  const auto pid =
      static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (pid < 0) Fail(child, Stage::kClone, errno, "in the pid namespace");
  if (pid > 0) {
    ReportMessage message;
    message.kind = ReportMessage::Kind::kPid;
    message.error = pid;
    _exit(send(child.report, &message, offsetof(ReportMessage, detail), MSG_NOSIGNAL) < 0 ? 1 : 0);
  }
  setsid();
}

// After the cgroups: they are the roots of what the container sees.
void MakeCgroupNamespace(const ChildContext& child, const plan::ContainerPlan& container) {
  if ((container.flags & plan::kContainerCgroupNamespace) == 0) return;
  if (unshare(CLONE_NEWCGROUP) != 0) Fail(child, Stage::kNamespace, errno, "new cgroup namespace");
}

void Begin(const ChildContext& child) {
  umask(0);
  EnterCgroups(child);
  setsid();  // cannot fail: just cloned
}

}  // namespace

void RunContainerChild(ChildContext& child) {
  const plan::ContainerPlan& container = child.plan->container();
  Begin(child);
  (void)syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */,
                nullptr);  // where keys are quota'd away: the pod's
  if (child.user_namespace < 0) MakeCgroupNamespace(child, container);
  SetOomScore(child, container.process);
  PrepareLabel(child, container.process);
  MountRoot(child, container);
  if (child.user_namespace >= 0) {
    MapMounts(child, container);
    EnterUserNamespace(child);
    MakeCgroupNamespace(child,
                        container);  // the user namespace's: else its cgroups could not be mounted
    if (child.new_pid_in_user) EnterOwnPidNamespace(child);
    // A mount namespace that belongs to the user namespace. What is mounted so far is locked in it
    // as a whole: a bind of the root over itself can be pivoted to.
    if (unshare(CLONE_NEWNS) != 0) Fail(child, Stage::kUserNamespace, errno, "new mount namespace");
    close(child.root);
    if (mount(kRootPath, kRootPath, nullptr, MS_BIND | MS_REC, nullptr) != 0)
      Fail(child, Stage::kRootFs, errno, "bind root");
    child.root = open(kRootPath, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (child.root < 0) Fail(child, Stage::kRootFs, errno, "open root");
  }
  CarryOut(child, container);
  MakeWorkingDirectory(child, container.process);
  if ((container.process.flags & plan::kProcessTerminal) != 0) {
    const int slave = OpenConsole(child, child.root, container.process, true);
    for (int& fd : child.stdio) fd = slave;
  }
  if ((container.flags & plan::kContainerRootReadonly) != 0) MakeRootReadonly(child);
  EnterRoot(child, container.root_propagation);
  BecomeProcess(child, container.process);
}

void RunExecChild(ChildContext& child) {
  const plan::Process& process = child.plan->exec().process;
  Begin(child);
  SetOomScore(child, process);
  PrepareLabel(child, process);
  // The pid namespace is that of the clone; net, ipc and uts are the keeper's own.
  const int namespaces =
      CLONE_NEWNS | CLONE_NEWCGROUP | (child.user_namespace >= 0 ? CLONE_NEWUSER : 0);
  if (setns(child.target, namespaces) != 0)
    Fail(child, Stage::kNamespace, errno, "join the container");
  if (child.user_namespace >= 0 &&
      (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_setresgid, 0, 0, 0) != 0 ||
       syscall(SYS_setresuid, 0, 0, 0) != 0)) {
    Fail(child, Stage::kUserNamespace, errno, "become root");
  }
  if ((process.flags & plan::kProcessTerminal) != 0) {
    child.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int slave = OpenConsole(child, child.root, process, false);
    for (int& fd : child.stdio) fd = slave;
  }
  BecomeProcess(child, process);
}

}  // namespace linnet::runtime::keeper
