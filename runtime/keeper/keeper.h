// The keeper's state. One thread, one event loop; nothing here is shared.
#pragma once

#include <sys/resource.h>

#include <cstddef>
#include <cstdint>

#include "keeper/protocol.h"
#include "log_file.h"
#include "log_format.h"
#include "plan/plan.h"
#include "sys.h"

namespace linnet::runtime::keeper {

struct Keeper;

// What the event loop waits for.
struct Source {
  void (*ready)(Keeper& keeper, Source* source, std::uint32_t events) = nullptr;
  int fd = -1;
  bool Watch(Keeper& keeper, std::uint32_t events);
  void Unwatch(Keeper& keeper);
  void Close(Keeper& keeper);  // out of the loop, and closed
};

// How processes get into a container's cgroups, and how all of them are killed.
struct Cgroup {
  int v2_dir = -1;
  int freezer_dir = -1;
  int oom_counter = -1;
  int* v1_tasks = nullptr;
  std::uint32_t v1_count = 0;
  std::uint64_t oom_kills_before = 0;
};

struct Container;

struct OutputStream : Source {
  OutputStream(Container& c, LogStream::Name name) : container(c), lines(name) {}
  Container& container;
  LogStream lines;
  int held = 0;  // attached pipes that are full: it is not read meanwhile
};

// A child between clone and execve reports here.
struct Report : Source {
  void* owner = nullptr;  // Container or ExecRun
  bool reached_exec = false, failed = false;
  Stage stage = Stage::kChildDied;
  int error = 0;
  int console = -1;   // master of its pty
  pid_t new_pid = 0;  // another process goes on in its place
};

struct Attachment;

// The write end of a pipe to somebody who is attached; watched only while it holds up its stream.
struct AttachedPipe : Source {
  Attachment* owner = nullptr;
  char* rest = nullptr;  // what the full pipe did not take: the stream is held
  std::uint32_t rest_size = 0, rest_sent = 0;
};

// Somebody who sees what a container writes; the source is the control socket.
struct Attachment : Source {
  Attachment* next = nullptr;
  Container* container = nullptr;
  AttachedPipe out, err;
  bool takes_input = false;
  // How long it may hold up the container: time costs credit, bytes that it takes bring some.
  std::int64_t credit = 0;      // bytes
  std::int64_t held_since = 0;  // MonotonicMillis; 0: it holds up nothing
};

struct Container {
  Container() : out(*this, LogStream::Name::kStdout), err(*this, LogStream::Name::kStderr) {}
  Container* next = nullptr;
  char id[kIdSize] = {};
  State state = State::kStarting;
  pid_t pid = 0;
  int pidfd = -1;
  Cgroup cgroup;
  int seccomp = -1;  // program, for execs
  int exit_dir = -1;
  int stdin_pipe = -1;     // the keeper's end
  int terminal_peer = -1;  // the pty's other end: without it, a container that closes its terminal
                           // would end the log
  bool stdin_once = false;
  bool terminal = false;
  bool reaped = false;              // first process; draining until `drain_deadline`
  std::int64_t drain_deadline = 0;  // MonotonicMillis
  Exit exit;
  std::uint64_t start_command = 0, remove_command = 0;
  Report report;
  LogFile log;
  OutputStream out, err;
  Attachment* attachments = nullptr;
};

struct ExecRun {
  ExecRun* next = nullptr;
  Container* container = nullptr;
  std::uint64_t command = 0;
  pid_t pid = 0;
  bool started = false, reaped = false, timed_out = false, kill_on_disconnect = false,
       terminal = false;
  int status = 0;
  std::int64_t deadline = 0;          // MonotonicMillis; 0: none
  int v2_dir = -1, freezer_dir = -1;  // a cgroup of its own below the container's
  char group[24] = {};                // its name; it goes when the last of its processes has
  int group_parent = -1;              // the container's directory
  int group_attempts = 0;
  Report report;
};

struct Pod {
  bool set_up = false;
  std::uint32_t flags = 0;
  bool has_shm = false;
  pid_t holder = 0;
  int holder_pidfd = -1;
  int user_fd = -1;  // user namespace
  plan::IdMap* uid_map = nullptr;
  plan::IdMap* gid_map = nullptr;
  std::uint32_t uid_count = 0, gid_count = 0;
};

struct Answer {  // remembered
  std::uint64_t command = 0;
  void* message = nullptr;
  std::uint32_t size = 0;
};

struct PendingFds {  // of MoreFds
  std::uint64_t command = 0;
  int* fds = nullptr;
  std::uint32_t count = 0;
};

struct Keeper {
  int epoll = -1;
  int null_fd = -1;
  int proc_dir = -1;  // procfs of the keeper's own, nothing mounted over it
  int own_pid_namespace = -1;
  int self_pidfd = -1;
  Source signals, listener, connection;
  bool greeted = false;  // the connection has said Hello
  rlimit files = {};     // as the keeper was started with, for its children
  bool clone3_works = true, cgroup_clone_works = true;
  std::uint64_t exit_command = 0;
  bool exiting = false;
  char* argv_area = nullptr;
  std::size_t argv_size = 0;
  Pod pod;
  Container* containers = nullptr;
  ExecRun* execs = nullptr;
  PendingFds pending;
  Answer answers[kRemembered];
  std::uint32_t next_answer = 0;
  std::uint32_t exec_serial = 0;
};

// A command with its descriptors; they are closed when it goes, except those that were taken.
struct Command {
  const MessageHeader* header = nullptr;
  std::size_t size = 0;
  int* fds = nullptr;
  std::uint32_t fd_count = 0;
  int Take(std::uint32_t index) {
    if (index >= fd_count) return -1;
    const int fd = fds[index];
    fds[index] = -1;
    return fd;
  }
};

// connection.cc
void AcceptConnection(Keeper& keeper, Source* source, std::uint32_t events);
void ReadCommand(Keeper& keeper, Source* source, std::uint32_t events);
void DropConnection(Keeper& keeper);
// Sends it, with `fd` where that is not -1. Answers (command not 0) are remembered.
void SendAnswer(Keeper& keeper, const void* message, std::size_t size, int fd = -1);
void SendEvent(Keeper& keeper, const void* message, std::size_t size);
void AnswerDone(Keeper& keeper, std::uint64_t command);
void AnswerFailed(Keeper& keeper, std::uint64_t command, Stage stage, int error,
                  const char* detail = "");
bool IsUnderWay(const Keeper& keeper, std::uint64_t command);

// commands.cc
void Dispatch(Keeper& keeper, Command& command);
Container* FindContainer(Keeper& keeper, const char* id);
// nullptr: there is none, or it does not run; the command has its answer.
Container* FindRunning(Keeper& keeper, std::uint64_t command, const char* id);

// plan_source.cc: the plan of a command, inline or from its memfd.
class PlanOf {
 public:
  PlanOf() = default;
  ~PlanOf();
  PlanOf(const PlanOf&) = delete;
  PlanOf& operator=(const PlanOf&) = delete;
  // nullptr, or what is wrong. `struct_size`: of the command's structure. `extra_fds` stand between
  // the plan and its own.
  const char* Open(Command& command, std::size_t struct_size, std::uint32_t inline_size,
                   plan::Kind kind, std::uint32_t extra_fds);
  const plan::Reader& reader() const { return reader_; }
  const int* fds() const { return fds_; }  // those that the plan names
  const int* extra() const { return extra_; }
  std::uint32_t fd_count() const { return fd_count_; }
  // The descriptor at `index` leaves the command: -1 for kNoFd.
  int Take(plan::FdIndex index);

 private:
  plan::Reader reader_{nullptr, 0};
  void* map_ = nullptr;
  std::size_t map_size_ = 0;
  int* fds_ = nullptr;
  int* extra_ = nullptr;
  std::uint32_t fd_count_ = 0;
};

// cgroup_fds.cc
bool TakeCgroup(Cgroup& cgroup, PlanOf& plan, const plan::CgroupFds& fds);
void CloseCgroup(Cgroup& cgroup);
std::uint64_t ReadOomKills(int counter);
void KillCgroup(int v2_dir, int freezer_dir);

// pod.cc
struct PodFailure {
  Stage stage = Stage::kProtocol;
  int error = 0;
  const char* what = "";
};
bool SetUpPod(Keeper& keeper, PlanOf& plan, PodFailure& failure);
std::uint32_t HostId(const plan::IdMap* map, std::uint32_t count, std::uint32_t id);

// launch.cc: from a command to a running first process, seen from the keeper.
void StartContainerCommand(Keeper& keeper, Command& command);
// Clones into namespaces and cgroup; returns as fork does. `error_stage` says what failed with -1.
struct CloneRequest {
  std::uint64_t new_namespaces = 0;
  int pid_namespace_of =
      -1;  // pidfd or namespace descriptor to take the pid namespace of; -1: the keeper's
  int cgroup_dir = -1;
  int pidfd = -1;          // out
  bool in_cgroup = false;  // out: cloned into cgroup_dir
};
pid_t CloneChild(Keeper& keeper, CloneRequest& request, Stage* error_stage);
bool MakeReport(Keeper& keeper, Report& report, int* child_end);
// True: that was all (the child's end is closed).
bool ReadReport(Report& report, Line<sizeof(Failed::detail)>& detail);

// exec.cc
void ExecCommand(Keeper& keeper, Command& command);
void KillExecTree(Keeper& keeper, ExecRun& exec);
void OnExecReaped(Keeper& keeper, ExecRun& exec, int status);
void CheckExecs(Keeper& keeper, std::int64_t now);

// attach.cc
void AttachCommand(Keeper& keeper, Command& command);
// What was read from `stream`, for everybody attached to it; without data: that it has ended. A
// pipe that is full holds up the stream for as long as its reader's credit lasts; of a container
// that has ended everything is put into the pipes, which grow.
void CopyToAttached(Keeper& keeper, OutputStream& stream, const char* data, std::size_t size);
// The container has ended: nobody holds up its streams any more.
void EndHolds(Keeper& keeper, Container& container);
// Drops who has no credit left.
void CheckAttachments(Keeper& keeper, std::int64_t now);
// When that is due next; 0: never.
std::int64_t NextDrop(const Container& container);
void DetachAll(Keeper& keeper, Container& container);

// lifecycle.cc: what happens when processes end.
void ReapChildren(Keeper& keeper, Source* source, std::uint32_t events);
void ReadOutput(Keeper& keeper, Source* source, std::uint32_t events);
void OnStartReported(Keeper& keeper, Source* source, std::uint32_t events);
void CheckContainers(Keeper& keeper, std::int64_t now);
void KillContainer(Container& container);
void RemoveContainerNow(Keeper& keeper, Container* container);
bool WriteExitRecord(const Container& container);
void ContinueExit(Keeper& keeper);
// Milliseconds until something is due; -1: nothing.
int NextTimeout(const Keeper& keeper, std::int64_t now);

// root_namespace.cc
inline constexpr char kRootPath[] = "/root";    // where a new root is mounted
inline constexpr char kLayerPath[] = "/layer";  // where trees with layers are attached
inline constexpr char kShmPath[] = "/shm";
inline constexpr char kEmptyPath[] = "/empty";
inline constexpr char kSysPath[] = "/sys";  // with a user namespace only
inline constexpr char kNullPath[] = "/null";
// A mount namespace with nothing of the host's. errno, or 0.
int MakeRootNamespace();
int JoinRootNamespace(int fd);

}  // namespace linnet::runtime::keeper
