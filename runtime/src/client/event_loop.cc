#include "client/event_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace linnet::runtime {

Result<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::FromErrno(errno, "epoll_create");
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return Error::FromErrno(errno, "eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 0}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
    return Error::FromErrno(errno, "epoll_ctl");
  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(epoll), std::move(wake)));
  try {
    loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  } catch (const std::system_error& e) {
    return Error(Code::kResourceExhausted, std::string("start a thread: ") + e.what());
  }
  (void)pthread_setname_np(loop->thread_.native_handle(),
                           "linnet-keepers");  // a name too long is no name
  return loop;
}

EventLoop::~EventLoop() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  while (write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
}

Result<EventLoop::Token> EventLoop::Add(FdRef fd, Handler handler) {
  MutexLock lock(mu_);
  const Token token = ++last_;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = token}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0)
    return Error::FromErrno(errno, "epoll_ctl");
  handlers_.emplace(token, std::make_shared<const Handler>(std::move(handler)));
  return token;
}

void EventLoop::Remove(FdRef fd, Token token) {
  MutexLock lock(mu_);
  if (handlers_.erase(token) == 0) return;
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);  // closed already is fine
}

void EventLoop::Run() {
  std::array<epoll_event, 64>
      events;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by epoll_wait
  for (;;) {
    const int n = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      const Token token = events[static_cast<std::size_t>(i)].data.u64;
      if (token == 0) return;
      std::shared_ptr<const Handler> handler;
      {
        MutexLock lock(mu_);
        const auto it = handlers_.find(token);
        if (it != handlers_.end()) handler = it->second;
      }
      if (handler) (*handler)();
    }
  }
}

}  // namespace linnet::runtime
