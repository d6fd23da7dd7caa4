#include "netlink/link_reaper.h"

#include <linux/if_link.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "linnet/base/log.h"
#include "linnet/base/mutex.h"

#include "netlink/link_messages.h"

namespace linnet::network {
namespace {

constexpr std::uint32_t kDoomedGroup = 0x6c6e6e74;  // "lnnt": nobody else's

constexpr std::size_t kGroup = 8;

bool IsAbsent(const Error& error) { return error.IsErrno(ENODEV); }

}  // namespace

Result<void> DeleteLinks(RouteSocket& socket, const std::vector<std::string>& names) {
  if (names.empty()) return Ok();
  if (names.size() == 1) {
    RouteBatch batch;
    DelLink(batch, names.front());
    auto done = socket.Run(batch);
    if (!done && !IsAbsent(done.error())) return done;
    return Ok();
  }
  for (const std::string& name : names) {
    RouteBatch batch;
    batch.Begin(RTM_NEWLINK, 0, "mark link " + name + " for deletion");
    batch.Extra<ifinfomsg>();
    batch.PutText(IFLA_IFNAME, name);
    batch.PutU32(IFLA_GROUP, kDoomedGroup);
    auto done = socket.Run(batch);
    if (!done && !IsAbsent(done.error())) return done;
  }
  RouteBatch batch;
  batch.Begin(RTM_DELLINK, 0, "delete links");
  batch.Extra<ifinfomsg>();
  batch.PutU32(IFLA_GROUP, kDoomedGroup);
  auto done = socket.Run(batch);
  if (!done && !IsAbsent(done.error())) return done;
  return Ok();
}

struct LinkReaper::State {
  struct Item {
    std::string name, owner;
    std::chrono::steady_clock::time_point due;
  };
  std::chrono::milliseconds grace{};
  Gone gone;
  Mutex mu;
  CondVar changed;
  std::vector<Item> waiting LN_GUARDED_BY(mu);
  bool busy LN_GUARDED_BY(mu) = false, hurry LN_GUARDED_BY(mu) = false,
            stop LN_GUARDED_BY(mu) = false;
  std::thread thread LN_GUARDED_BY(mu);

  void Loop();
  void Reap(const std::vector<Item>& items);
};

void LinkReaper::State::Reap(const std::vector<Item>& items) {
  std::vector<std::string> names;
  auto socket = RouteSocket::Open();
  if (socket) {
    for (const Item& item : items) {
      if (socket->IndexOf(item.name) != 0) names.push_back(item.name);
    }
    // The kernel lets nobody else change links meanwhile: a few at a time.
    for (std::size_t i = 0; i < names.size(); i += kGroup) {
      const auto first = names.begin() + static_cast<std::ptrdiff_t>(i);
      const std::vector<std::string> group(
          first, first + static_cast<std::ptrdiff_t>(std::min(kGroup, names.size() - i)));
      if (auto done = DeleteLinks(*socket, group); !done)
        log::Debug("delete links", {{"err", done.error()}});
    }
  } else {
    log::Debug("delete links", {{"err", socket.error()}});
  }
  for (const Item& item : items) gone(item.name, item.owner);
}

void LinkReaper::State::Loop() {
  (void)::pthread_setname_np(::pthread_self(), "link-reaper");
  mu.Lock();
  while (!stop) {
    if (waiting.empty()) {
      hurry = false;
      changed.NotifyAll();
      changed.Wait(mu);
      continue;
    }
    const auto now = std::chrono::steady_clock::now();
    const auto first =
        std::min_element(waiting.begin(), waiting.end(), [](const Item& a, const Item& b) {
          return a.due < b.due;
        })->due;
    if (!hurry && first > now) {
      changed.WaitUntil(mu, first);
      continue;
    }
    // Whatever is nearly due goes along: a group costs little more than one.
    std::vector<Item> due;
    std::erase_if(waiting, [&](const Item& item) {
      if (!hurry && item.due > now + grace / 2) return false;
      due.push_back(item);
      return true;
    });
    busy = true;
    mu.Unlock();
    Reap(due);
    mu.Lock();
    busy = false;
    changed.NotifyAll();
  }
  mu.Unlock();
}

LinkReaper::LinkReaper(std::chrono::milliseconds grace, Gone gone)
    : state_(std::make_unique<State>()) {
  state_->grace = grace;
  state_->gone = std::move(gone);
}

LinkReaper::~LinkReaper() {
  std::thread thread;
  {
    const MutexLock lock(state_->mu);
    state_->stop = true;
    thread = std::move(state_->thread);
  }
  state_->changed.NotifyAll();
  if (thread.joinable()) thread.join();
}

void LinkReaper::Add(std::string name, std::string owner) {
  const MutexLock lock(state_->mu);
  state_->waiting.push_back(
      {std::move(name), std::move(owner), std::chrono::steady_clock::now() + state_->grace});
  if (!state_->thread.joinable())
    state_->thread = std::thread([state = state_.get()] { state->Loop(); });
  state_->changed.NotifyAll();
}

void LinkReaper::Forget(const std::string& name) {
  const MutexLock lock(state_->mu);
  while (state_->busy) state_->changed.Wait(state_->mu);
  std::erase_if(state_->waiting, [&](const State::Item& item) { return item.name == name; });
}

void LinkReaper::Drain() {
  const MutexLock lock(state_->mu);
  while (state_->busy || !state_->waiting.empty()) {
    state_->hurry = true;
    state_->changed.NotifyAll();
    state_->changed.Wait(state_->mu);
  }
}

}  // namespace linnet::network
