// One HTTP exchange: no redirects, no authentication, no retries.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

#include "registry/url.h"

namespace linnet::oci {

struct TlsOptions {
  std::string ca_pem;                   // trusted beside the system's authorities
  std::string client_cert, client_key;  // paths
  bool skip_verify = false;
};

struct HttpResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // what no sink took
  // The first of that (lower-case) name, or "".
  std::string_view Header(std::string_view name) const;
  std::vector<std::string> Headers(std::string_view name) const;
};

struct HttpRequest {
  Url url;
  std::vector<std::string> headers;      // "Name: value"
  std::optional<std::string> post_form;  // absent: GET
  TlsOptions tls;
  std::chrono::milliseconds connect_timeout{10'000};
  std::size_t max_body_bytes = 64U << 10;
  // Gets the body of a 200 or 206 instead of `body`, in pieces of at most 16 KiB. May block.
  std::function<Result<void>(const HttpResponse& head, std::string_view bytes)> sink;
};

// What may end an exchange from our side.
struct CallLimits {
  std::optional<Deadline> deadline;
  std::stop_token stop;
};

enum class Outcome : std::uint8_t {
  kDone,          // `response` is whole, whatever its status
  kNoConnection,  // name not resolved, refused, unreachable, connect timeout, TLS
  kBroken,        // ended before the response was whole
  kStalled,       // nothing came for too long
  kTooLarge,
  kRefused,  // it wants something that we do not do
  kSinkFailed,
  kDeadline,
  kCancelled,
};

struct HttpResult {
  Outcome outcome = Outcome::kDone;
  HttpResponse response;       // status 0: no header came
  std::optional<Error> error;  // of every outcome but kDone; does not name the host
};

// Keeps connections for the next call. Thread-safe; calls run side by side, each on a connection of
// its own.
class HttpClient {
 public:
  explicit HttpClient(std::chrono::milliseconds no_progress_timeout);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();
  HttpResult Perform(const HttpRequest& request, const CallLimits& limits);
  void CloseIdle();

 private:
  struct Session;
  std::unique_ptr<Session> Take(const std::string& origin);
  void GiveBack(std::unique_ptr<Session> session);

  const std::chrono::milliseconds no_progress_timeout_;
  Mutex mu_;
  std::vector<std::unique_ptr<Session>> idle_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::oci
