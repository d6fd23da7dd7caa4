// What runs between clone3 and execve. One thread of a process of its own: it may allocate, and
// never returns.
#pragma once

#include "keeper.h"

namespace linnet::runtime::keeper {

struct ChildContext {
  const plan::Reader* plan = nullptr;
  const int* fds = nullptr;  // of the plan
  int proc_dir = -1;
  const rlimit* files = nullptr;
  int report = -1;
  int null_fd = -1;
  int stdio[3] = {-1, -1, -1};  // -1: /dev/null
  const Cgroup* cgroup = nullptr;
  bool in_cgroup = false;  // cloned into the v2 directory already
  int exec_freezer = -1;   // v1: the exec's own group
  int user_namespace = -1;
  std::uint32_t pod_flags = 0;
  bool has_shm = false;
  int seccomp = -1;
  bool new_pid_in_user = false;  // the container's own pid namespace belongs to the user namespace
  int target = -1;               // exec: pidfd of the container's first process
  // Filled in by the steps:
  int root = -1;
  int label_fd = -1;  // attr/exec of this process, opened while the keeper's procfs is at hand
};

// Tells the keeper, and ends.
[[noreturn]] void Fail(const ChildContext& child, Stage stage, int error, const char* detail);
[[noreturn]] void Fail(const ChildContext& child, Stage stage, int error, const char* action,
                       const char* object);

[[noreturn]] void RunContainerChild(ChildContext& child);
[[noreturn]] void RunExecChild(ChildContext& child);

// rootfs.cc
void MountRoot(ChildContext& child, const plan::ContainerPlan& container);
void CarryOut(ChildContext& child,
              const plan::ContainerPlan& container);  // the operations, in order
void MapMounts(const ChildContext& child,
               const plan::ContainerPlan& container);  // kOpIdmap, outside of the user namespace
void MakeWorkingDirectory(ChildContext& child, const plan::Process& process);
void MakeRootReadonly(ChildContext& child);
void EnterRoot(ChildContext& child, plan::Propagation propagation);
// A path beneath `root`, made where it is missing; O_PATH descriptor, or -1 and errno.
enum class Missing { kFail, kMakeDirectory, kMakeFile };
int ResolveInRoot(int root, const char* path, Missing missing);
// The directory that `path` stands in, made where it is missing; `name`: the last component. -1 and
// errno.
int ResolveParent(int root, const char* path, const char** name);

// console.cc: a pty of the container's devpts as its standard streams and, for its first process,
// /dev/console.
int OpenConsole(ChildContext& child, int root, const plan::Process& process, bool bind_console);

// process.cc: from a process of the keeper's to the one asked for.
void PrepareLabel(ChildContext& child, const plan::Process& process);
void SetOomScore(const ChildContext& child, const plan::Process& process);
[[noreturn]] void BecomeProcess(ChildContext& child, const plan::Process& process);

// Messages on the report socket: kind, then the rest.
struct ReportMessage {
  enum class Kind : std::uint32_t {
    kConsole,  // with the pty's master
    kPid,      // `error` is the pid of the process that goes on in this one's place
    kExec,     // execve is next
    kFailed,
  } kind = Kind::kExec;
  Stage stage = Stage::kChildDied;
  std::int32_t error = 0;
  char detail[sizeof(Failed::detail)] = {};
};

}  // namespace linnet::runtime::keeper
