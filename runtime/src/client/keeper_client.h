// The daemon's end of one keeper: its connection, what it said of its containers, and its death.
//
// Calls send in the caller's thread and wait on a condition variable; the event loop's thread
// receives. A connection that breaks while the keeper lives is made again at once: what was under
// way fails with kUnavailable, and what happened meanwhile is in the list that the keeper greets
// with.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "linnet/base/ids.h"
#include "linnet/base/mutex.h"
#include "linnet/runtime/runtime.h"

#include "client/event_loop.h"
#include "client/message.h"

namespace linnet::runtime {

// Thread-safe, except Watch().
class KeeperClient : public std::enable_shared_from_this<KeeperClient> {
 public:
  struct Callbacks {
    std::function<void(const ContainerExit&)> on_exit;
    std::function<void()> on_lost;  // it died, and nobody had asked for that
  };
  struct Answer {
    std::string bytes;
    UniqueFd fd;
    template <class Message>
    Result<Message> As() const {
      if (bytes.size() < sizeof(Message)) return Internal("keeper's answer is too short");
      Message out;
      std::memcpy(static_cast<void*>(&out), bytes.data(), sizeof out);
      return out;
    }
  };
  struct ExecExit {
    int code = 0;
    bool timed_out = false;
  };
  using Number = std::uint64_t;

  // `connect` makes a new connection to the same keeper.
  KeeperClient(UniqueFd socket, EventLoop& loop, Callbacks callbacks,
               std::function<Result<UniqueFd>()> connect);
  KeeperClient(const KeeperClient&) = delete;
  KeeperClient& operator=(const KeeperClient&) = delete;
  ~KeeperClient();

  // Starts receiving. With the pidfd of a keeper that this process started; else it is learned in
  // Greet().
  Result<void> Watch(UniqueFd pidfd);
  // Hello. Returns when the list of containers is known. kFailedPrecondition: an incompatible
  // keeper.
  Result<void> Greet(Deadline deadline);
  bool pod_is_set_up() const LN_EXCLUDES(mu_);

  // Sends without waiting, so that commands can follow each other closely; each needs its Wait().
  Result<Number> Send(Command command, Deadline deadline, std::optional<ContainerId> container = {})
      LN_EXCLUDES(mu_);
  // The answer. Errors: what the keeper reports; kDeadlineExceeded; kUnavailable it is gone.
  Result<Answer> Wait(Number number, Deadline deadline) LN_EXCLUDES(mu_);
  Result<Answer> Call(Command command, Deadline deadline,
                      std::optional<ContainerId> container = {}) {
    const Number number = LN_TRY(Send(std::move(command), deadline, std::move(container)));
    return Wait(number, deadline);
  }

  // An exec: Started comes as its answer, the exit here. `wake` (an eventfd or -1) becomes readable
  // with the exit.
  Result<Number> SendExec(Command command, FdRef wake, Deadline deadline) LN_EXCLUDES(mu_);
  // nullopt: it runs still. kUnavailable: the keeper or the connection went, and with it the
  // process.
  Result<std::optional<ExecExit>> TakeExecExit(Number number) LN_EXCLUDES(mu_);
  Result<ExecExit> WaitExecExit(Number number, Deadline deadline) LN_EXCLUDES(mu_);
  // Must be called for each SendExec: its `wake` is not touched any more when this returns.
  void ForgetExec(Number number) LN_EXCLUDES(mu_);

  std::vector<ContainerInfo> Containers() const LN_EXCLUDES(mu_);
  std::optional<ContainerInfo> Find(const ContainerId& id) const LN_EXCLUDES(mu_);
  void Forget(const ContainerId& id) LN_EXCLUDES(mu_);
  // kNotFound: unknown, or lost with the keeper. kDeadlineExceeded.
  Result<ContainerExit> WaitExit(const ContainerId& id, Deadline deadline) LN_EXCLUDES(mu_);

  // From now on its death is expected: no on_lost.
  void ExpectEnd() LN_EXCLUDES(mu_);
  // Reports deaths again; false: it is dead already.
  bool Publish() LN_EXCLUDES(mu_);
  bool lost() const LN_EXCLUDES(mu_);
  void Kill() LN_EXCLUDES(mu_);
  Result<void> WaitEnd(Deadline deadline) LN_EXCLUDES(mu_);

 private:
  struct Pending {
    keeper::Type type = keeper::Type::kHello;
    std::optional<ContainerId> container;
    bool answered = false, broken = false;
    std::uint32_t states_left = 0;
    Answer answer;
  };
  struct ExecState {
    std::optional<ExecExit> exit;
    bool broken = false;
    int wake = -1;
  };
  struct Watched {
    UniqueFd fd;
    EventLoop::Token token = 0;
  };

  void OnSocket() LN_EXCLUDES(mu_);
  void OnDeath() LN_EXCLUDES(mu_);
  // Everything that is there; false: the connection is closed. Exits are collected for the
  // callback.
  bool ReceiveAll(std::vector<ContainerExit>& exits) LN_REQUIRES(mu_);
  void Handle(Received& message, std::vector<ContainerExit>& exits) LN_REQUIRES(mu_);
  void HandleAnswer(Received& message, Pending& pending) LN_REQUIRES(mu_);
  void HandleState(const keeper::ContainerState& state, Pending& pending,
                   std::vector<ContainerExit>& exits) LN_REQUIRES(mu_);
  void Greeted() LN_REQUIRES(mu_);
  void BreakPending() LN_REQUIRES(mu_);
  Result<void> WatchSocket(UniqueFd socket) LN_REQUIRES(mu_);
  Result<void> WatchPidfd(UniqueFd pidfd) LN_REQUIRES(mu_);
  void Unwatch(Watched& watched) LN_REQUIRES(mu_);
  // On the loop's thread.
  void Reconnect() LN_EXCLUDES(mu_);
  void Report(const std::vector<ContainerExit>& exits) const;
  Number NextNumber() LN_REQUIRES(mu_);

  EventLoop& loop_;
  const Callbacks callbacks_;
  const std::function<Result<UniqueFd>()> connect_;

  mutable Mutex mu_;
  CondVar changed_;
  // Shared with callers that send: closing it waits for the last of them.
  std::shared_ptr<UniqueFd> socket_ LN_GUARDED_BY(mu_);
  EventLoop::Token socket_token_ LN_GUARDED_BY(mu_) = 0;
  Watched pidfd_ LN_GUARDED_BY(mu_);
  Number last_number_ LN_GUARDED_BY(mu_);
  std::unordered_map<Number, Pending> pending_ LN_GUARDED_BY(mu_);
  std::unordered_map<Number, ExecState> execs_ LN_GUARDED_BY(mu_);
  std::map<ContainerId, ContainerInfo> containers_ LN_GUARDED_BY(mu_);
  std::set<ContainerId> listed_ LN_GUARDED_BY(mu_);  // while a list arrives
  std::optional<Number> regreeting_ LN_GUARDED_BY(mu_);
  int keeper_pid_ LN_GUARDED_BY(mu_) = 0;
  int reconnects_ LN_GUARDED_BY(mu_) = 0;  // within kReconnectSpan of the last
  std::chrono::steady_clock::time_point last_reconnect_ LN_GUARDED_BY(mu_);
  bool set_up_ LN_GUARDED_BY(mu_) = false;
  bool silent_ LN_GUARDED_BY(mu_) = true;  // nobody is told of its death
  bool lost_ LN_GUARDED_BY(mu_) = false;
};

}  // namespace linnet::runtime
