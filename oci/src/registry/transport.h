// Around a single exchange: redirects, and the waiting that a registry asks for.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "registry/http.h"

namespace linnet::oci {

struct Followed {
  HttpResult result;
  Url last;  // who answered
};

// Follows at most five redirects. Where scheme, host or port changes, only the headers that say
// nothing about us (Accept, Range) go along, no client certificate, and from https never to http.
Followed FollowRedirects(HttpClient& http, HttpRequest request, const CallLimits& limits);

// Nobody else is to be asked after this.
constexpr bool EndsCall(Outcome outcome) {
  return outcome == Outcome::kCancelled || outcome == Outcome::kDeadline;
}

inline constexpr std::chrono::milliseconds kShortWait{1'000};  // another host can be asked instead
inline constexpr std::chrono::milliseconds kLongWait{30'000};

// How long to wait before the same is asked again, by what came (429 and 503 with Retry-After,
// other 5xx, a broken connection); nullopt: asking again is of no use. `attempt` counts from 0.
std::optional<std::chrono::milliseconds> RetryDelay(const HttpResult& result, int attempt);

// kCancelled, kDeadlineExceeded (at once where the deadline comes before the end of the wait).
Result<void> WaitFor(std::chrono::milliseconds time, const CallLimits& limits);

// Repeats while RetryDelay says so, at most three times in all and never waiting longer than
// `longest` at once.
HttpResult Retried(const std::function<HttpResult()>& ask, const CallLimits& limits,
                   std::chrono::milliseconds longest);

// ": NAME_UNKNOWN: repository name not known to registry", from the body of a registry's error;
// printable; or "".
std::string DescribeBody(const HttpResponse& response);

}  // namespace linnet::oci
