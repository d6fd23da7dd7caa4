// Starting a program from the threaded daemon, and waiting for it.
//
// Everything is prepared before the clone; between clone and execve only raw system calls run (see
// src/spawn_child.cc and the lint that checks its symbols).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet {

struct ExitStatus {
  int code = 0;    // exit code, or 128 + signal
  int signal = 0;  // 0: exited by itself
};

// A child process; owns its pidfd. Destroying a Process that still runs kills and reaps it.
class Process {
 public:
  Process() = default;
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();
  pid_t pid() const { return pid_; }
  FdRef pidfd() const { return pidfd_; }
  Result<void> Signal(int signal) const;
  // kDeadlineExceeded: still running. After success the object is empty.
  Result<ExitStatus> Wait(Deadline deadline);
  // Forgets the child without killing it (a keeper outlives the daemon). The pidfd is returned.
  [[nodiscard]] UniqueFd Detach();

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

struct SpawnSpec {
  FdRef exe{-1};  // open executable; else `path`
  std::string path;
  std::vector<std::string> argv;  // argv[0] included
  std::vector<std::string> env;   // "K=V"; complete, nothing is inherited
  struct FdMap {
    FdRef from;
    int to;
  };
  std::vector<FdMap> fds;  // what is not mapped is closed; 0, 1, 2 default to /dev/null
  std::string cwd = "/";
  bool new_session = false;        // setsid
  bool new_process_group = false;  // setpgid(0, 0)
  // cgroup v2 directory: the child is cloned into it (where the kernel refuses, it moves itself,
  // which may take 10 ms).
  FdRef cgroup_dir{-1};
  // cgroup v1 `tasks` / v2 `cgroup.procs` files, open for writing: the child writes "0" into each
  // before execve.
  std::vector<FdRef> cgroup_procs;
  std::optional<int> oom_score_adj;  // written by the child; a refusal is ignored
};

// Blocks until execve succeeded or failed. Errors name the stage: "start bridge: execve: Permission
// denied".
Result<Process> Spawn(const SpawnSpec& spec);

struct RunResult {
  ExitStatus status;
  std::string out;
  std::string err;
};
struct RunLimits {
  std::size_t max_output_bytes = 1U << 20;  // per stream; what comes after is read and dropped
  std::chrono::milliseconds drain{100};  // how long to wait for pipes that grandchildren keep open
};
// Runs to the end with `input` on stdin. At the deadline the process group is killed:
// kDeadlineExceeded. (new_process_group is forced.)
Result<RunResult> Run(SpawnSpec spec, std::string_view input, Deadline deadline,
                      const RunLimits& limits = {});

}  // namespace linnet
