// What daemon and keeper say to each other: one SOCK_SEQPACKET connection, one message per packet,
// at most kMaxMessage bytes, with descriptors by SCM_RIGHTS (at most kMaxFdsPerMessage). Plain
// structures; shared with the keeper.
//
// Starting a keeper. The daemon executes linnet-keeper from its sealed memfd with
//     argv  linnet-keeper <pod id>
//     fd 3  listening socket, bound to <state>/keepers/<pod>.sock by the daemon (directory 0700,
//     socket 0600) fd 4  a connected socket (one end of a socketpair): the first connection, so
//     that nobody has to wait for fd 3 fd 5  optional: a mount namespace made by `linnet-keeper
//     --root` (below); else the keeper makes its own
// in the cgroup for keepers, 0-2 /dev/null, in a new session. The keeper answers Hello at once; it
// needs no other sign of readiness. `linnet-keeper --root`: makes the small mount namespace keepers
// live in (an empty read-only tmpfs with /proc), writes one byte to fd 4 and waits for fd 4 to be
// closed; the daemon opens /proc/<pid>/ns/mnt meanwhile. Once per daemon start; without it every
// keeper copies and drops the host's mounts, whose number grows with the pods.
//
// Connection. One at a time: a new one (accepted from fd 3, peer of the keeper's own uid by
// SO_PEERCRED, else closed) displaces the old, which is closed. The first message must be Hello.
// When the connection is lost: exec trees started with kExecKillOnDisconnect are killed; terminals
// of other execs hang up as their masters close; everything else goes on. A connection that does
// not read (send buffer full) is closed: the list of the next Hello has everything.
//
// Commands (daemon → keeper) carry `command`, a number the daemon never uses twice for this pod
// (any daemon: it takes random bits into the upper half). Each gets exactly one answer with the
// same number, not necessarily in order. A command whose number is still under way gets its one
// answer later; one that was answered before gets the same answer again (the last kRemembered
// answers are kept; StartContainer is idempotent by container id all the same: a start of a
// container that is known answers Started with its pid, or with what is wrong). Descriptors of a
// repeated command are closed. Events (keeper → daemon) have command 0, except ExecExited, which
// has that of its Exec.
//
// Unknown type or a message that is too short: Failed{kProtocol, ENOSYS or EPROTO}. A message may
// be longer than the structure known here (a newer peer): the rest is ignored.
//
// Order of a pod's life
//   Hello → HelloAnswer{version, n}, then n × ContainerState
//   SetupPod → Done: first of all and once (a second one with another number: Failed EEXIST). The
//   keeper, in this order:
//     joins the network namespace, or makes user and network namespaces (userns: a child clones
//     CLONE_NEWUSER, keeper writes setgroups/gid_map/uid_map, then the child unshares
//     NEWNET/NEWIPC/NEWUTS, keeper joins those three); unshares IPC and UTS as asked; sets host and
//     domain name; writes sysctls through its own procfs; mounts the pod's /dev/shm; starts the
//     holder (cloned into its cgroup, CLONE_NEWPID, closes all descriptors, drops everything). The
//     keeper stays in the pod's net, ipc and uts namespaces: its children need not join them.
//   StartContainer → Started{pid, started_at} once execve succeeded, else Failed. Then the event
//   ContainerExited. Exec → Started, else Failed. Then the event ExecExited with the same command
//   number. RemoveContainer → Done: kills what runs, waits for its exit (no event is owed any
//   more), forgets it. ExitPod → Done: kills all containers' cgroups, the holder, reaps, answers,
//   exits. The daemon removes the socket file.
//
// What happens when a container's first process ends, in this order:
//   1. reaped; exit code or signal noted, wall clock noted; OOM counter compared with its value at
//   start
//   2. the rest of its cgroup is killed (v2, hybrid: cgroup.kill; v1: freezer: freeze, signal all,
//   thaw)
//   3. its logs are drained until both pipes end, at most kDrainMillis
//   4. the exit record is written (temporary file + rename in exit_dir)
//   5. its answer to a waiting RemoveContainer, or the event ContainerExited
//
// A start, seen from the child, is drawn in runtime/README.md.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet::runtime::keeper {

inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::size_t kMaxMessage = 4096;
inline constexpr std::uint32_t kMaxFdsPerMessage = 253;  // SCM_MAX_FD
inline constexpr std::uint32_t kMaxFds = 4096;           // of one command, with MoreFds
inline constexpr int kListenFd = 3, kConnectionFd = 4, kRootNamespaceFd = 5;
inline constexpr int kDrainMillis = 100;
inline constexpr int kRemembered = 16;
inline constexpr std::size_t kIdSize = 136;  // 128 characters and NUL

enum class Type : std::uint16_t {
  // daemon → keeper
  kHello = 1,
  kMoreFds = 2,  // descriptors of the command with this number that did not fit into one message;
                 // sent before it, no answer
  kSetupPod = 3,
  kStartContainer = 4,
  kExec = 5,
  kSignal = 6,
  kReopenLog = 7,
  kRemoveContainer = 8,
  kExitPod = 9,
  kGetPodNamespace = 10,
  kResize = 11,
  kListContainers = 12,  // answered as Hello is
  kKillExec = 13,        // kills the tree of the exec `target_command`; unknown: Done
  kAttach = 14,          // keepers of before answer ENOSYS
  // keeper → daemon: answers
  kHelloAnswer = 100,
  kContainerState = 101,
  kDone = 102,
  kFailed = 103,
  kStarted = 104,
  kNamespace = 105,
  kAttached = 106,
  // keeper → daemon: events
  kContainerExited = 200,
  kExecExited = 201,
};

struct MessageHeader {
  std::uint16_t version = kProtocolVersion;
  Type type = Type::kHello;
  std::uint32_t fd_count = 0;  // descriptors of this command in all, MoreFds included
  std::uint64_t command = 0;
};

// -------------------------------------------------------------------------------------------------------
// commands

struct Hello {
  MessageHeader header{.type = Type::kHello};
};

// A plan (plan/plan.h) follows the structure in the same message where `inline_size` is not 0
// (sizeof is a multiple of 8), else it is the command's first descriptor: a memfd sealed against
// writing and shrinking. The descriptors that the plan names come after.
struct SetupPod {
  MessageHeader header{.type = Type::kSetupPod};
  std::uint32_t inline_size = 0, unused = 0;
};
struct StartContainer {
  MessageHeader header{.type = Type::kStartContainer};
  std::uint32_t inline_size = 0, unused = 0;
  char id[kIdSize] = {};
};
enum ExecFlags : std::uint32_t {
  kExecKillOnDisconnect = 1,  // ExecSync
  kExecStdin = 2,             // which of the standard streams are passed; the rest is /dev/null
  kExecStdout = 4,
  kExecStderr = 8,
};
// Descriptors: plan (unless inline), then stdin, stdout, stderr (as flagged), then those that the
// plan names. A process with kProcessTerminal takes none of the streams: the pty's master comes
// with Started (fd_count 1).
struct Exec {
  MessageHeader header{.type = Type::kExec};
  std::uint32_t inline_size = 0;
  std::uint32_t flags = 0;
  std::uint64_t timeout_millis =
      0;  // 0: none. Then the whole tree is killed and ExecExited has timed_out
  char id[kIdSize] = {};
};
inline constexpr std::size_t kMaxInlinePlan = kMaxMessage - sizeof(Exec);

struct Signal {  // to the first process; SIGKILL: to the whole cgroup. Gone already: Done. Unknown
                 // container: ENOENT
  MessageHeader header{.type = Type::kSignal};
  std::int32_t signal = 0;
  std::uint32_t unused = 0;
  char id[kIdSize] = {};
};
struct ReopenLog {  // Done: the new file exists, the old one gets no byte any more. ENOENT unknown,
                    // ESRCH not running
  MessageHeader header{.type = Type::kReopenLog};
  char id[kIdSize] = {};
};
struct RemoveContainer {  // unknown: Done
  MessageHeader header{.type = Type::kRemoveContainer};
  char id[kIdSize] = {};
};
struct ExitPod {
  MessageHeader header{.type = Type::kExitPod};
};
enum class NamespaceKind : std::uint32_t { kNetwork = 0, kUser = 1, kIpc = 2, kUts = 3, kPid = 4 };
struct GetPodNamespace {  // → Namespace with one descriptor; ENOENT: the pod has none of its own
                          // (user, pid)
  MessageHeader header{.type = Type::kGetPodNamespace};
  NamespaceKind kind = NamespaceKind::kNetwork;
  std::uint32_t unused = 0;
};
struct Resize {  // of a container's terminal (an exec's terminal is the daemon's own). ENOTTY: it
                 // has none
  MessageHeader header{.type = Type::kResize};
  std::uint16_t rows = 0, columns = 0;
  std::uint32_t unused = 0;
  char id[kIdSize] = {};
};
enum AttachFlags : std::uint32_t {
  kAttachStdin = 1,
  kAttachStdout = 2,
  kAttachStderr = 4,  // none of a container with a terminal
};
// Descriptors: a stream socket, then write ends of pipes for stdout and stderr (as flagged). From
// now on what the container writes goes there too. The keeper never waits for a reader: who leaves
// his pipe full is told by one byte over the socket and dropped. The socket's end of sending at the
// daemon means the end of input (a container with stdin_once loses its stdin), its closing the end
// of it all. At the container's end the keeper closes everything. → Attached, with the write end of
// the container's stdin, or the master of its terminal: not to be read, for input and size.
struct Attach {
  MessageHeader header{.type = Type::kAttach};
  std::uint32_t flags = 0, unused = 0;
  char id[kIdSize] = {};
};
struct ListContainers {
  MessageHeader header{.type = Type::kListContainers};
};
struct KillExec {
  MessageHeader header{.type = Type::kKillExec};
  std::uint64_t target_command = 0;
};

// --------------------------------------------------------------------------------------------------------
// answers

struct HelloAnswer {
  MessageHeader header{.type = Type::kHelloAnswer};
  std::uint32_t container_count =
      0;  // that many ContainerState messages (same command number) follow
  std::uint32_t pod_is_set_up = 0;
  std::int32_t keeper_pid = 0, holder_pid = 0;  // host's pid namespace; holder 0: none
};
enum class State : std::uint32_t { kStarting = 0, kRunning = 1, kExited = 2 };
struct Exit {
  std::int32_t code = 0;  // 128 + signal where a signal ended it
  std::int32_t signal = 0;
  std::uint32_t oom_killed = 0, unused = 0;
  std::int64_t started_at = 0, finished_at = 0;  // wall clock, nanoseconds since 1970
};
struct ContainerState {
  MessageHeader header{.type = Type::kContainerState};
  State state = State::kRunning;
  std::int32_t pid = 0;
  Exit exit;  // started_at is always set; the rest with kExited
  char id[kIdSize] = {};
};
struct Done {
  MessageHeader header{.type = Type::kDone};
};
struct Started {
  MessageHeader header{.type = Type::kStarted};
  std::int32_t pid = 0;
  std::uint32_t unused = 0;
  std::int64_t started_at = 0;
};
struct Namespace {
  MessageHeader header{.type = Type::kNamespace};
};
struct Attached {  // with at most one descriptor: a container may have no stdin (any more)
  MessageHeader header{.type = Type::kAttached};
  std::uint32_t terminal = 0, unused = 0;
};

// Where a command failed. Texts: StageName() in failure.h.
enum class Stage : std::uint32_t {
  kProtocol = 1,
  kPlan,
  kUnknownContainer,
  kState,  // refused by the keeper before anything happened
  kClone,
  kCgroup,
  kNamespace,
  kUserNamespace,
  kSysctl,
  kHostname,
  kShm,
  kHolder,
  kLog,
  kRootFs,
  kMount,
  kDevice,
  kMask,
  kReadonly,
  kSymlink,
  kMakeDir,
  kPivot,
  kConsole,
  kStdio,
  kLimits,
  kOomScore,
  kSecurityLabel,
  kUser,
  kCapabilities,
  kSeccomp,
  kCwd,
  kExec,
  kChildDied,
};
struct Failed {
  MessageHeader header{.type = Type::kFailed};
  Stage stage = Stage::kProtocol;
  std::int32_t error = 0;  // errno
  // What was acted on: "mount proc on /proc", "/data". With Stage::kExec the whole text, as people
  // know it: `exec: "foo": executable file not found in $PATH`.
  char detail[496] = {};
};

// ---------------------------------------------------------------------------------------------------------
// events

struct ContainerExited {
  MessageHeader header{.type = Type::kContainerExited};
  Exit exit;
  char id[kIdSize] = {};
};
struct ExecExited {
  MessageHeader header{.type = Type::kExecExited};
  std::int32_t code = 0;  // 128 + signal where a signal ended it
  std::uint32_t timed_out = 0;
};

// ----------------------------------------------------------------------------------------------------
// exit record

// The file `exit` in a container's directory: text, one key=value per line, in this order, each
// exactly once, closed by a line "end". A file without that last line is torn: as if it were
// absent.
//   version=1
//   id=<container id>
//   code=137
//   signal=9
//   oom_killed=0
//   started_at=1767323045123456789
//   finished_at=1767323046123456789
//   end
inline constexpr char kExitRecordName[] = "exit";
inline constexpr int kExitRecordVersion = 1;

}  // namespace linnet::runtime::keeper
