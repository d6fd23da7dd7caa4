#include "registry/transport.h"

#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <mutex>

#include <curl/curl.h>

#include "linnet/base/text.h"

#include "json_document.h"

namespace linnet::oci {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kMaxRedirects = 5;
constexpr int kMaxAttempts = 3;
constexpr std::size_t kMaxShownText = 200;

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// The headers that another host may see.
bool IsHarmless(std::string_view line) {
  const std::string name = ToLower(line.substr(0, line.find(':')));
  return name == "accept" || name == "range";
}

HttpResult Refused(Error error) {
  HttpResult out;
  out.outcome = Outcome::kRefused;
  out.error = std::move(error);
  return out;
}

// Seconds or an HTTP date.
std::optional<milliseconds> RetryAfter(const HttpResponse& response) {
  const std::string text(response.Header("retry-after"));
  if (text.empty()) return std::nullopt;
  if (const auto s = ParseNumber<std::uint32_t>(text)) return milliseconds(std::int64_t{*s} * 1000);
  const std::time_t when = curl_getdate(text.c_str(), nullptr);
  if (when < 0) return std::nullopt;
  return milliseconds(std::max<std::int64_t>(when - std::time(nullptr), 0) * 1000);
}

// 200 ms, 400 ms, …, at most 3 s; a quarter of it by chance, so that many nodes do not come back at
// once.
milliseconds Backoff(int attempt) {
  const std::int64_t full = std::min<std::int64_t>(200LL << std::min(attempt, 8), 3000);
  const std::int64_t chance = steady_clock::now().time_since_epoch().count() / 1000 % (full / 4);
  return milliseconds(full - chance);
}

std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kMaxShownText)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

}  // namespace

Followed FollowRedirects(HttpClient& http, HttpRequest request, const CallLimits& limits) {
  for (int hop = 0;; ++hop) {
    HttpResult result = http.Perform(request, limits);
    if (result.outcome != Outcome::kDone || !IsRedirect(result.response.status))
      return {std::move(result), request.url};
    if (hop == kMaxRedirects)
      return {Refused(Unavailable("it redirects more than five times")), request.url};
    auto target = request.url.Resolve(result.response.Header("location"));
    if (!target) return {Refused(Unavailable(target.error().message())), request.url};
    if (request.url.scheme == "https" && target->scheme != "https") {
      return {Refused(Unavailable("it redirects from https to http (" + target->authority() +
                                  "), which is refused")),
              request.url};
    }
    const bool same = target->SameOrigin(request.url);
    if (!same) {
      std::erase_if(request.headers, [](const std::string& line) { return !IsHarmless(line); });
      request.tls.client_cert.clear();
      request.tls.client_key.clear();
    }
    // A form holds a secret: only who was asked first may have it again.
    if (!same || (result.response.status != 307 && result.response.status != 308))
      request.post_form.reset();
    request.url = *std::move(target);
  }
}

std::optional<milliseconds> RetryDelay(const HttpResult& result, int attempt) {
  switch (result.outcome) {
    case Outcome::kBroken:
      return Backoff(attempt);
    case Outcome::kDone:
      break;
    default:
      return std::nullopt;
  }
  const int status = result.response.status;
  if (status == 429 || status == 503) return RetryAfter(result.response).value_or(Backoff(attempt));
  if (status == 408 || status == 500 || status == 502 || status == 504) return Backoff(attempt);
  return std::nullopt;
}

Result<void> WaitFor(milliseconds time, const CallLimits& limits) {
  const auto until = steady_clock::now() + time;
  if (limits.deadline && *limits.deadline <= until) {
    return Error(Code::kDeadlineExceeded, "the deadline of the call comes before the next attempt");
  }
  std::mutex mu;
  std::condition_variable_any cv;
  std::unique_lock lock(mu);
  cv.wait_until(lock, limits.stop, until, [] { return false; });
  if (limits.stop.stop_requested()) return Error(Code::kCancelled, "cancelled");
  return Ok();
}

HttpResult Retried(const std::function<HttpResult()>& ask, const CallLimits& limits,
                   milliseconds longest) {
  for (int attempt = 0;; ++attempt) {
    HttpResult result = ask();
    const auto delay = RetryDelay(result, attempt);
    if (!delay || attempt + 1 >= kMaxAttempts || *delay > longest) return result;
    auto waited = WaitFor(*delay, limits);
    if (waited) continue;
    if (waited.error().Is(Code::kDeadlineExceeded))
      return result;  // what the registry said tells more
    result.outcome = Outcome::kCancelled;
    result.error = std::move(waited).error();
    return result;
  }
}

std::string DescribeBody(const HttpResponse& response) {
  const auto document = ParseDocument(response.body, 64U << 10);
  if (!document) return "";
  const JsonView v(*document);
  // {"errors": [{"code": …, "message": …}]} of registries, {"error"|"details"|"message": …} of
  // token servers.
  if (const auto errors = v.Array("errors"); errors && !errors->empty()) {
    const auto code = errors->front().Optional<std::string>("code", "");
    const auto message = errors->front().Optional<std::string>("message", "");
    if (code && message) return ": " + Printable(*code + (message->empty() ? "" : ": " + *message));
  }
  for (const char* key : {"details", "message", "error_description", "error"}) {
    const auto text = v.Optional<std::string>(key, "");
    if (text && !text->empty()) return ": " + Printable(*text);
  }
  return "";
}

}  // namespace linnet::oci
