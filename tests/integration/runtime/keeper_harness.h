// Drives a real linnet-keeper over its socket, with a busybox root and cgroups of its own.
#pragma once

#include <linux/filter.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/spawn.h"
#include "linnet/base/unique_fd.h"

#include "keeper/protocol.h"
#include "plan/writer.h"

namespace linnet::runtime::test {

struct Message {
  std::string data;
  std::vector<UniqueFd> fds;
  keeper::Type type() const { return header().type; }
  const keeper::MessageHeader& header() const {
    return *reinterpret_cast<const keeper::MessageHeader*>(data.data());
  }
  template <class T>
  const T& as() const {
    return *reinterpret_cast<const T*>(data.data());
  }
  // "Failed" as text: stage, errno, detail; "" for any other type.
  std::string failure() const;
};

// One group in every hierarchy that is mounted, removed at the end.
class TestCgroup {
 public:
  explicit TestCgroup(const std::string& name);
  ~TestCgroup();
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  enum class Use { kAll, kV1Only };
  plan::CgroupFds AddTo(plan::Writer& writer, Use use = Use::kAll) const;
  std::vector<int> Pids() const;
  std::string v2_path() const { return v2_; }
  void LimitMemory(std::uint64_t bytes) const;
  // "memory;cpu;…;unified" for OpKind::kCgroup; empty on pure v2.
  static std::string Hierarchies();
  static bool HasFreezer();
  static bool HasMemory();
  static bool IsV2();

 private:
  std::string v2_, memory_, freezer_;
  std::vector<std::string> v1_;
};

struct ContainerOptions {
  std::vector<std::string> args;
  std::vector<std::string> env = {"PATH=/bin", "HOME=/"};
  std::string cwd = "/";
  plan::PidMode pid = plan::PidMode::kContainer;
  std::string pid_target;
  std::string log_path = "0.log";
  TestCgroup::Use cgroup_use = TestCgroup::Use::kAll;
  bool read_only = false;
  // Changes the plan before it is sent.
  std::function<void(plan::Writer&, plan::ContainerPlan&, std::vector<plan::Op>&)> change;
};

class TestKeeper {
 public:
  // `lower` directories are made by it: one with busybox and links to its applets.
  explicit TestKeeper(const std::vector<std::string>& arguments = {}, bool shared_root = false);
  ~TestKeeper();
  TestKeeper(const TestKeeper&) = delete;
  TestKeeper& operator=(const TestKeeper&) = delete;

  const std::string& dir() const { return dir_; }
  std::string rootfs() const { return dir_ + "/rootfs"; }
  std::string logs() const { return dir_ + "/logs"; }
  pid_t pid() const { return process_.pid(); }
  Process& process() { return process_; }

  std::uint64_t NextCommand() { return ++command_; }
  void Send(const void* message, std::size_t size, const std::vector<FdRef>& fds = {});
  // The next message, of any kind; nullopt: nothing within the time, or the connection is closed.
  std::optional<Message> Receive(int timeout_millis = 30000);
  // The answer to a command; events that come before are kept for WaitEvent.
  Message Answer(std::uint64_t command, int timeout_millis = 30000);
  std::optional<Message> WaitEvent(keeper::Type type, std::uint64_t command = 0,
                                   int timeout_millis = 30000);
  UniqueFd TakeConnection() { return std::move(connection_); }
  void Disconnect() { connection_.Reset(); }
  void Reconnect();  // by the listening socket
  std::vector<keeper::ContainerState> Hello();

  Message SetupPod(const std::function<void(plan::Writer&, plan::PodPlan&)>& change = {});
  // Answer to StartContainer. The container's directory is dir()/<id>, its upper layer below.
  Message Start(const std::string& id, const ContainerOptions& options);
  // Started or it fails the test; returns the pid.
  pid_t MustStart(const std::string& id, const ContainerOptions& options);
  keeper::Exit WaitExit(const std::string& id, int timeout_millis = 30000);
  std::string Log(const std::string& path = "0.log") const;
  // Lines of the log without their stamps: "stdout F text\n".
  std::string LogLines(const std::string& path = "0.log") const;
  struct ExecOutcome {
    std::string failure;
    int code = -1;
    bool timed_out = false;
    std::string out, err;
    double millis = 0;
  };
  ExecOutcome Exec(const std::string& id, const std::vector<std::string>& args,
                   int timeout_millis = 0,
                   const std::function<void(plan::Writer&, plan::Process&)>& change = {});
  Message Remove(const std::string& id);
  Message SendSignal(const std::string& id, int signal);
  TestCgroup& cgroup(const std::string& id) { return *cgroups_.at(id); }
  // Builds and sends; the number of the command.
  std::uint64_t SendStart(const std::string& id, const ContainerOptions& options,
                          std::uint64_t command = 0);
  std::chrono::steady_clock::time_point sent_at() const {
    return sent_at_;
  }  // when the last message went

 private:
  std::string dir_;
  Process process_;
  UniqueFd connection_;
  std::uint64_t command_ = 1000;
  std::chrono::steady_clock::time_point sent_at_;
  std::vector<Message> kept_;
  std::map<std::string, std::unique_ptr<TestCgroup>> cgroups_;
};

UniqueFd OpenTreeClone(const std::string& path, bool recursive = false);
std::vector<plan::Op> UsualOps(plan::Writer& writer);

}  // namespace linnet::runtime::test
