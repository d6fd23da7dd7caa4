#include "store/pull_flights.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>

namespace linnet::oci {

// Shared by its thread, the map, and who waits for it.
struct PullFlights::Flight {
  std::thread thread;  // the map's mutex guards it
  std::stop_source stop;

  Mutex mu;
  CondVar changed;
  std::optional<Outcome> outcome LN_GUARDED_BY(mu);
  std::vector<const PullOptions*> waiting LN_GUARDED_BY(mu);
  bool landed LN_GUARDED_BY(mu) = false;

  // Held while the callbacks run: one that left is not called any more. Taken before mu.
  Mutex telling;
};

PullFlights::Outcome PullFlights::Join(const std::string& key, Work work,
                                       const PullOptions& options) {
  const std::shared_ptr<Flight> flight = Board(key, std::move(work), options);
  if (!flight) return Error(Code::kResourceExhausted, "start a thread");
  std::optional<Outcome> outcome;
  bool late = false;
  {
    const std::stop_callback wake(options.stop, [&flight] {
      MutexLock lock(flight->mu);
      flight->changed.NotifyAll();
    });
    MutexLock lock(flight->mu);
    while (!flight->outcome && !options.stop.stop_requested() && !late) {
      if (options.deadline) {
        late = flight->changed.WaitUntil(flight->mu, *options.deadline) == std::cv_status::timeout;
      } else {
        flight->changed.Wait(flight->mu);
      }
    }
    outcome = flight->outcome;
  }
  Leave(key, *flight, options);
  if (outcome) return *std::move(outcome);
  if (late)
    return Error(Code::kDeadlineExceeded, "the deadline passed before the image was pulled");
  return Error(Code::kCancelled, "the pull was cancelled");
}

std::shared_ptr<PullFlights::Flight> PullFlights::Board(const std::string& key, Work work,
                                                        const PullOptions& options) {
  std::vector<std::thread> landed;
  std::shared_ptr<Flight> flight;
  {
    MutexLock lock(mu_);
    landed = TakeLanded();
    std::shared_ptr<Flight>& known = flights_[key];
    const bool is_new = !known;
    if (is_new) known = std::make_shared<Flight>();
    flight = known;
    {
      // Before the thread starts: nobody misses what it tells.
      MutexLock flight_lock(flight->mu);
      flight->waiting.push_back(&options);
    }
    if (is_new) {
      try {
        flight->thread =
            std::thread([this, key, flight, work = std::move(work)] { Run(key, flight, work); });
        all_.push_back(flight);
      } catch (const std::system_error&) {
        flights_.erase(key);
        flight.reset();
      }
    }
  }
  for (std::thread& thread : landed) thread.join();
  return flight;
}

void PullFlights::Run(const std::string& key, const std::shared_ptr<Flight>& flight,
                      const Work& work) {
  (void)pthread_setname_np(pthread_self(), "linnet-pull");  // for ps and gdb only
  Outcome outcome = work(flight->stop.get_token(),
                         [&flight](const PullProgress& progress) { Tell(*flight, progress); });
  bool idle = false;
  {
    // Nobody can board any more before the outcome is there.
    MutexLock lock(mu_);
    if (const auto at = flights_.find(key); at != flights_.end() && at->second == flight)
      flights_.erase(at);
    idle = flights_.empty();
  }
  if (idle) when_idle_();
  MutexLock lock(flight->mu);
  flight->outcome = std::move(outcome);
  flight->landed = true;
  flight->changed.NotifyAll();
}

void PullFlights::Tell(Flight& flight, const PullProgress& progress) {
  MutexLock telling(flight.telling);
  std::vector<const PullOptions*> waiting;
  {
    MutexLock lock(flight.mu);
    waiting = flight.waiting;
  }
  for (const PullOptions* options : waiting) {
    if (options->progress) options->progress(progress);
  }
}

void PullFlights::Leave(const std::string& key, Flight& flight, const PullOptions& options) {
  {
    MutexLock telling(flight.telling);
    MutexLock lock(flight.mu);
    std::erase(flight.waiting, &options);
  }
  bool last = false;
  {
    MutexLock lock(mu_);
    MutexLock flight_lock(flight.mu);
    last = flight.waiting.empty() && !flight.outcome;
    // Given up: whoever comes now starts anew.
    if (const auto at = flights_.find(key);
        last && at != flights_.end() && at->second.get() == &flight) {
      flights_.erase(at);
    }
  }
  if (last) flight.stop.request_stop();
}

std::vector<std::thread> PullFlights::TakeLanded() {
  std::vector<std::thread> out;
  std::erase_if(all_, [&out](const std::shared_ptr<Flight>& flight) {
    MutexLock lock(flight->mu);
    if (!flight->landed) return false;
    out.push_back(std::move(flight->thread));
    return true;
  });
  return out;
}

void PullFlights::Shutdown() {
  std::vector<std::shared_ptr<Flight>> all;
  {
    MutexLock lock(mu_);
    all.swap(all_);
    flights_.clear();
  }
  for (const auto& flight : all) flight->stop.request_stop();
  for (const auto& flight : all) flight->thread.join();
}

}  // namespace linnet::oci
