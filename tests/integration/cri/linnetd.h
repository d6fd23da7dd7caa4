// A linnetd of the test's own: program, directories, client.
#pragma once

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/spawn.h"
#include "linnet/base/unique_fd.h"

#include "cri.grpc.pb.h"
#include "linnet.grpc.pb.h"

namespace linnet::testing {

// Where the build put the programs: $LINNET_BIN_DIR.
std::string BinDir();

class Linnetd {
 public:
  struct Options {
    std::string directory;  // root, state, socket and log go below it
    std::vector<std::string> arguments;
    std::vector<std::string> env;
    std::vector<SpawnSpec::FdMap> fds;
  };
  explicit Linnetd(Options options) : options_(std::move(options)) {}
  ~Linnetd();

  Result<void> Start();
  // Until it answers Version.
  Result<void> StartAndWait();
  Result<ExitStatus> Stop(int signal = SIGTERM,
                          std::chrono::seconds limit = std::chrono::seconds(10));
  void Kill9();

  pid_t pid() const { return process_.pid(); }
  std::string socket() const { return options_.directory + "/state/linnet.sock"; }
  std::string root() const { return options_.directory + "/root"; }
  std::string Log() const;
  Process& process() { return process_; }

  // A new connection each time: the old one may belong to a daemon that is dead.
  std::shared_ptr<grpc::Channel> Connect() const;

 private:
  Options options_;
  Process process_;
};

// Runs to the end. Errors: only where it could not be run.
Result<RunResult> RunProgram(const std::string& path, const std::vector<std::string>& arguments);

// "local/busybox:1", imported into this daemon from the host's busybox.
inline constexpr const char* kImage = "local/busybox:1";
Result<void> ImportBusybox(const Linnetd& daemon, const std::string& scratch);

// contrib/lib/census --settled.
Result<std::string> Census();

}  // namespace linnet::testing
