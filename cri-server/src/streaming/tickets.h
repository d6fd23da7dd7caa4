// What Exec, Attach and PortForward promised: a URL that works once, within a minute.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

namespace linnet::cri::streaming {

struct StreamRequest {
  enum class Kind : std::uint8_t { kExec, kAttach, kPortForward };
  Kind kind = Kind::kExec;
  std::string id;                    // of the container; of the pod for kPortForward
  std::vector<std::string> command;  // kExec
  bool tty = false, stdin_open = false, stdout_open = false, stderr_open = false;
};

// "exec", "attach", "portforward": the first part of the path.
std::string_view PathOf(StreamRequest::Kind kind);

// Thread-safe.
class Tickets {
 public:
  static constexpr std::size_t kMaxPending = 1000;
  static constexpr auto kLifetime = std::chrono::seconds(60);
  using Now = std::chrono::steady_clock::time_point (*)();

  // `base_url`: "http://127.0.0.1:41234".
  explicit Tickets(std::string base_url, Now now = &std::chrono::steady_clock::now)
      : base_url_(std::move(base_url)), now_(now) {}

  // A URL. kResourceExhausted: too many that nobody has used yet.
  Result<std::string> Issue(StreamRequest request) LN_EXCLUDES(mu_);
  // Of the path of a request: valid once. kNotFound.
  Result<StreamRequest> Redeem(std::string_view path) LN_EXCLUDES(mu_);

 private:
  struct Pending {
    StreamRequest request;
    std::chrono::steady_clock::time_point until;
  };
  void DropExpired() LN_REQUIRES(mu_);

  const std::string base_url_;
  const Now now_;
  Mutex mu_;
  std::unordered_map<std::string, Pending> pending_ LN_GUARDED_BY(mu_);  // by path
  std::deque<std::string> order_ LN_GUARDED_BY(mu_);  // paths as issued; some are used already
};

}  // namespace linnet::cri::streaming
