// Pulls under way: a second pull of the same thing joins the first. The work runs in a thread of
// its own and is given up when nobody waits for it any more.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"

namespace linnet::oci {

// Thread-safe.
class PullFlights {
 public:
  using Outcome = Result<std::shared_ptr<const Image>>;
  using Progress = std::function<void(const PullProgress&)>;
  using Work = std::function<Outcome(const std::stop_token& stop, const Progress& progress)>;

  // `when_idle` is called when the last one is done.
  explicit PullFlights(std::function<void()> when_idle) : when_idle_(std::move(when_idle)) {}
  ~PullFlights() { Shutdown(); }
  PullFlights(const PullFlights&) = delete;
  PullFlights& operator=(const PullFlights&) = delete;

  // Blocks until it is done, options.deadline (kDeadlineExceeded) or options.stop (kCancelled).
  Outcome Join(const std::string& key, Work work, const PullOptions& options);
  // Gives up what is under way and waits for it.
  void Shutdown();

 private:
  struct Flight;
  std::shared_ptr<Flight> Board(const std::string& key, Work work, const PullOptions& options);
  void Run(const std::string& key, const std::shared_ptr<Flight>& flight, const Work& work);
  static void Tell(Flight& flight, const PullProgress& progress);
  void Leave(const std::string& key, Flight& flight, const PullOptions& options);
  std::vector<std::thread> TakeLanded() LN_REQUIRES(mu_);

  const std::function<void()> when_idle_;
  Mutex mu_;  // taken before a flight's
  std::map<std::string, std::shared_ptr<Flight>> flights_ LN_GUARDED_BY(mu_);  // that can be joined
  std::vector<std::shared_ptr<Flight>> all_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::oci
