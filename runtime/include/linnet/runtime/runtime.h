// Running pods: one keeper process per pod, parent of the pod's containers.
//
//   Runtime ──SEQPACKET──▶ linnet-keeper (pod) ──clone3──▶ container, container, …
//
// All parsing and policy happens here, in the daemon: a container's OCI spec becomes a launch plan
// (flat, in a sealed memfd, with its seccomp program), which the keeper carries out. The keeper is
// the truth about its containers: it stores each exit before it announces it, and goes on without
// the daemon.
//
// Thread-safe. Calls block on the keeper's answer; every one has a deadline of its own besides the
// caller's.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/ids.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"
#include "linnet/oci/runtime_spec.h"
#include "linnet/runtime/usage.h"

namespace linnet::runtime {

struct RuntimeOptions {
  std::string instance;
  std::string state_dir = "/run/linnet";  // keepers/<pod>.sock
  std::string cache_dir;                  // compiled seccomp programs, by hash; empty: memory only
  std::string keeper_path;                // linnet-keeper; read once into a sealed memfd
  std::string cgroup_root;                // "/linnet[-<instance>]": keepers/ and pods/ below it
};

// ----------------------------------------------------------------------------------------------------
// pods

enum class NamespaceMode : std::uint8_t {
  kPod,        // shared by the pod's containers
  kContainer,  // its own (pid only)
  kNode,       // the host's
  kTarget,     // another container's (pid only)
};

struct PodSpec {
  PodId id;
  NamespaceMode network = NamespaceMode::kPod;
  NamespaceMode ipc = NamespaceMode::kPod;
  NamespaceMode pid = NamespaceMode::kPod;  // kPod: the keeper starts a holder as PID 1
  FdRef netns{-1};  // of a pod network without a user namespace: held by the keeper too
  std::vector<oci::IdMapping> uid_mappings,
      gid_mappings;      // not empty: the pod has a user namespace
  std::string hostname;  // set in the pod's UTS namespace (none with the node's network)
  std::vector<std::pair<std::string, std::string>>
      sysctls;                               // dots or slashes; checked for namespacing
  std::uint64_t shm_size_bytes = 64U << 20;  // /dev/shm, shared by the pod's containers
  std::string cgroup_parent;                 // from the CRI; empty: <cgroup_root>/pods/<pod>
};

// ---------------------------------------------------------------------------------------------
// containers

// An overlay of these directories, mounted in the container's mount namespace only; or one
// directory as it is.
struct RootFs {
  std::vector<std::string> lower_dirs;  // lowest first
  std::string upper_dir, work_dir;      // on one file system; made (0755 / 0700) if absent
  std::string plain_dir;                // not empty: used in place of an overlay
};

struct LogSpec {
  std::string directory;  // opened without following what a container may have put below it
  std::string path;       // relative to `directory`; empty: output is dropped
};

struct ContainerSpec {
  ContainerId id;
  oci::Spec
      spec;  // process, mounts (destination order as given), resources, seccomp, masked paths, …
  RootFs rootfs;
  LogSpec log;
  bool stdin_open = false, stdin_once = false;
  NamespaceMode pid = NamespaceMode::kPod;
  std::optional<ContainerId> pid_target;  // with kTarget
  bool privileged = false;  // all devices of the host, cgroup tree writable, capabilities up to the
                            // daemon's bounding set
  std::string directory;    // existing, this container's alone: exit record, plan
};

enum class ContainerState : std::uint8_t { kCreated, kRunning, kExited, kUnknown };

struct ContainerExit {
  ContainerId id;
  int exit_code = 0;  // 128 + signal where a signal ended it
  int signal = 0;
  bool oom_killed = false;
  std::int64_t started_at_ns = 0, finished_at_ns = 0;  // wall clock
};

struct ContainerInfo {
  ContainerId id;
  ContainerState state = ContainerState::kRunning;
  pid_t pid = -1;  // in the host's pid namespace; -1 where it does not run
  std::int64_t started_at_ns = 0;
  std::optional<ContainerExit> exit;
};

struct StartedContainer {
  pid_t pid = -1;
  std::int64_t started_at_ns = 0;
};

struct ExecSpec {
  oci::Process process;
  FdRef stdin_fd{-1}, stdout_fd{-1}, stderr_fd{-1};  // -1: /dev/null; none of them with a terminal
  // With process.terminal: takes the master of its pty, once it has started. Closing it hangs up.
  std::function<void(UniqueFd)> on_terminal;
  std::chrono::milliseconds timeout{
      0};  // 0: none; kept by the keeper, which kills the whole exec tree
};
struct ExecResult {
  int exit_code = 0;
  bool timed_out = false;
};
struct ExecOutput {
  int exit_code = 0;
  std::string out, err;  // at most 16 MiB each; what came after was read and dropped
};

// An exec that somebody speaks with. When this goes, the process runs on as it likes (its terminal
// hangs up, unless the master was taken and lives). Thread-compatible.
class ExecSession {
 public:
  virtual ~ExecSession() = default;
  // The master of its terminal, non-blocking; invalid where it has none. Once.
  virtual UniqueFd TakeTerminal() = 0;
  // Becomes readable when the process has ended, or was lost with its keeper.
  virtual FdRef ended() const = 0;
  // nullopt: it runs. kUnavailable: lost.
  virtual Result<std::optional<ExecResult>> Poll() = 0;
  // Its whole tree.
  virtual void Kill() = 0;
};

struct AttachSpec {
  bool stdin_open = false, stdout_open = false, stderr_open = false;
};
// Ends at the container's: `out` and `err` are at their end then. All non-blocking.
struct Attachment {
  bool terminal = false;
  // Writes to the container's stdin; with a terminal its master, for input and size, not to be
  // read. Invalid: it has none.
  UniqueFd input;
  UniqueFd out, err;
  // Shut down for sending: the end of input, for good where the container takes it once. Closed:
  // detached. One byte is readable before `out` and `err` end early, because they were not read in
  // time: a container waits for nobody.
  UniqueFd control;
};

// What the daemon hears without asking. Called on the runtime's own thread: must not block, must
// not call Runtime.
struct RuntimeEvents {
  std::function<void(const PodId&, const ContainerExit&)> on_exit;
  // The keeper died: the pod's processes were killed, its containers are lost.
  std::function<void(const PodId&)> on_keeper_lost;
};

class Runtime {
 public:
  static Result<std::unique_ptr<Runtime>> Create(const RuntimeOptions& options,
                                                 RuntimeEvents events);
  virtual ~Runtime() = default;

  // Makes cgroup, keeper and the pod's namespaces. On error nothing is left.
  virtual Result<void> StartPod(const PodSpec& spec, Deadline deadline) = 0;
  // The network namespace that the keeper made inside the pod's user namespace.
  virtual Result<UniqueFd> PodNetns(const PodId& pod) = 0;
  // Connects to a keeper that outlived the daemon. kNotFound: there is none (whatever was left of
  // it is killed).
  virtual Result<std::vector<ContainerInfo>> AdoptPod(const PodId& pod, Deadline deadline) = 0;
  // Kills every container and the holder, ends the keeper, removes the cgroups it made. Absent:
  // success.
  virtual Result<void> RemovePod(const PodId& pod, const std::string& cgroup_parent) = 0;
  // Recovery: ends keepers and removes cgroups of this instance that belong to none of `known`.
  virtual Result<void> Sweep(const std::vector<PodId>& known) = 0;

  // Refuses what cannot work before anything happens (unknown capability, namespace that the kernel
  // lacks, RRO with propagation, …). Errors: kInvalidArgument with the field; kUnimplemented naming
  // the kernel feature.
  virtual Result<void> CheckContainer(const PodId& pod, const ContainerSpec& spec) = 0;
  // Returns after execve succeeded. Errors say the stage: "mount /data: No such file or directory".
  // Idempotent by id.
  virtual Result<StartedContainer> StartContainer(const PodId& pod, const ContainerSpec& spec,
                                                  Deadline deadline) = 0;
  // Sends the signal to the container's first process; SIGKILL ends its whole cgroup. Gone already:
  // success.
  virtual Result<void> Signal(const PodId& pod, const ContainerId& id, int signal) = 0;
  // Waits until the container's exit has been stored. kDeadlineExceeded.
  virtual Result<ContainerExit> WaitExit(const PodId& pod, const ContainerId& id,
                                         Deadline deadline) = 0;
  // Kills what is left and removes its cgroup. Absent: success. `directory` is the caller's to
  // remove.
  virtual Result<void> RemoveContainer(const PodId& pod, const ContainerId& id) = 0;
  // The new log file exists when this returns and the old one gets no byte any more.
  // kFailedPrecondition: not running.
  virtual Result<void> ReopenLog(const PodId& pod, const ContainerId& id) = 0;

  // Runs a process with the container's namespaces, cgroup, seccomp program and root. Returns when
  // it ended.
  virtual Result<ExecResult> Exec(const PodId& pod, const ContainerId& id,
                                  const ExecSpec& spec) = 0;
  // The same, collecting output. Errors: kDeadlineExceeded after the tree was killed;
  // kFailedPrecondition not running.
  virtual Result<ExecOutput> ExecSync(const PodId& pod, const ContainerId& id,
                                      const oci::Process& process,
                                      std::chrono::milliseconds timeout) = 0;
  // The same process, returning once it runs; its descriptors are the caller's to speak through.
  // `on_terminal` is not used.
  virtual Result<std::unique_ptr<ExecSession>> StartExec(const PodId& pod, const ContainerId& id,
                                                         const ExecSpec& spec) = 0;
  // What the container writes from now on. Errors: kNotFound, kFailedPrecondition not running,
  // kUnimplemented an old keeper.
  virtual Result<Attachment> Attach(const PodId& pod, const ContainerId& id,
                                    const AttachSpec& spec) = 0;
  virtual Result<void> UpdateResources(const PodId& pod, const ContainerId& id,
                                       const oci::Resources& resources) = 0;
  virtual Result<std::vector<ContainerInfo>> ListContainers(const PodId& pod) = 0;
  // What the container's cgroup uses now. kNotFound: it has none (any more).
  virtual Result<CgroupUsage> ContainerUsage(const PodId& pod, const ContainerId& id) = 0;
  // The pod's whole: its containers, its holder and what else is in `cgroup_parent`, that of its
  // PodSpec.
  virtual Result<CgroupUsage> PodUsage(const PodId& pod, const std::string& cgroup_parent) = 0;

  // "cgroupfs" hierarchy: "v1", "hybrid", "v2"; features for Status.
  struct Features {
    std::string cgroup_layout;
    bool recursive_read_only = false, user_namespaces = false, seccomp = false, apparmor = false,
         selinux = false;
  };
  virtual Features features() const = 0;
};

// The exit record that the keeper left in a container's directory. kNotFound: none, or torn.
Result<ContainerExit> ReadExitRecord(const ContainerId& id, const std::string& directory);

}  // namespace linnet::runtime
