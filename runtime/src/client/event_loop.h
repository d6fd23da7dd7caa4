// One thread that waits for every keeper: their connections and their deaths.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::runtime {

// Thread-safe. Handlers run on the loop's thread, one at a time, and must not block.
class EventLoop {
 public:
  using Handler = std::function<void()>;
  using Token = std::uint64_t;

  static Result<std::unique_ptr<EventLoop>> Create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  // Ends the thread; a handler that runs is waited for.
  ~EventLoop();

  // Calls `handler` whenever `fd` is readable or hung up, until Remove(). The descriptor stays the
  // caller's.
  Result<Token> Add(FdRef fd, Handler handler) LN_EXCLUDES(mu_);
  // Call before closing the descriptor. A handler that runs right now on the loop's thread goes on.
  void Remove(FdRef fd, Token token) LN_EXCLUDES(mu_);

 private:
  EventLoop(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void Run();

  const UniqueFd epoll_;
  const UniqueFd wake_;
  Mutex mu_;
  Token last_ LN_GUARDED_BY(mu_) = 0;  // 0: the wake-up
  // Shared with the loop's thread while it calls one.
  std::unordered_map<Token, std::shared_ptr<const Handler>> handlers_ LN_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace linnet::runtime
