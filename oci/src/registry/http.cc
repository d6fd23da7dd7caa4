#include "registry/http.h"

#include <algorithm>
#include <array>

#include <curl/curl.h>

#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxIdleSessions = 8;
constexpr std::size_t kMaxHeaderBytes = 256U << 10;
constexpr std::size_t kMaxHeaderLines = 512;
constexpr std::uint64_t kMaxErrorBytes = 1U << 20;
// A peer that sends less than this in a whole no-progress period counts as stalled.
constexpr std::uint64_t kLeastProgressBytes = 1024;
constexpr milliseconds kHeaderTimeout{30'000};
constexpr milliseconds kLongestPoll{1'000};

// One exchange as the callbacks of libcurl see it.
struct Exchange {
  const HttpRequest& request;
  HttpResult result;
  std::uint64_t received = 0;
  std::uint64_t mark_bytes = 0;
  steady_clock::time_point mark_time = steady_clock::now();
  steady_clock::time_point start = steady_clock::now();
  std::size_t header_bytes = 0;

  void End(Outcome outcome, Error error) {
    result.outcome = outcome;
    result.error = std::move(error);
  }

  bool OnHeader(std::string_view line) {
    received += line.size();
    header_bytes += line.size();
    if (header_bytes > kMaxHeaderBytes || result.response.headers.size() > kMaxHeaderLines) {
      End(Outcome::kTooLarge, Error(Code::kResourceExhausted, "response header is too large"));
      return false;
    }
    line = Trim(line);
    if (line.starts_with("HTTP/")) {  // "HTTP/1.1 200 OK"; what came before it (1xx) does not count
      result.response.headers.clear();
      const std::size_t space = line.find(' ');
      const auto status =
          ParseNumber<int>(space == std::string_view::npos ? "" : line.substr(space + 1, 3));
      result.response.status = status && *status >= 200 ? *status : 0;
      return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    result.response.headers.emplace_back(ToLower(line.substr(0, colon)),
                                         Trim(line.substr(colon + 1)));
    return true;
  }

  bool OnBody(std::string_view bytes) {
    received += bytes.size();
    const int status = result.response.status;
    if (request.sink && (status == 200 || status == 206)) {
      const auto before = steady_clock::now();
      auto taken = request.sink(result.response, bytes);
      mark_time += steady_clock::now() - before;  // the sink's time is not the peer's
      if (!taken) {
        End(Outcome::kSinkFailed, std::move(taken).error());
        return false;
      }
      return true;
    }
    if (result.response.body.size() + bytes.size() > request.max_body_bytes) {
      // The text of an error is long enough as it is.
      if (status >= 300 && received < kMaxErrorBytes) return true;
      End(Outcome::kTooLarge,
          Error(Code::kResourceExhausted,
                "response is larger than " + FormatBytes(request.max_body_bytes)));
      return false;
    }
    result.response.body += bytes;
    return true;
  }

  // Ends the exchange where nothing has come for too long.
  bool Stalled(steady_clock::time_point now, milliseconds no_progress) {
    if (received - mark_bytes >= kLeastProgressBytes) {
      mark_bytes = received;
      mark_time = now;
    }
    const bool no_header = result.response.status == 0;
    const milliseconds allowed = no_header ? std::min(no_progress, kHeaderTimeout) : no_progress;
    if (now - (no_header ? start : mark_time) < allowed) return false;
    End(Outcome::kStalled,
        Unavailable("nothing came for " + std::to_string(allowed.count()) + " ms"));
    return true;
  }
};

std::size_t HeaderCallback(char* data, std::size_t size, std::size_t count, void* user) {
  return static_cast<Exchange*>(user)->OnHeader({data, size * count}) ? size * count : 0;
}

std::size_t BodyCallback(char* data, std::size_t size, std::size_t count, void* user) {
  return static_cast<Exchange*>(user)->OnBody({data, size * count}) ? size * count
                                                                    : CURL_WRITEFUNC_ERROR;
}

struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiDeleter {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListDeleter>;

HeaderList MakeHeaders(const std::vector<std::string>& lines) {
  HeaderList out;
  const auto append = [&out](const char* line) {
    curl_slist* longer = curl_slist_append(out.get(), line);
    LN_CHECK(longer != nullptr);
    (void)out.release();
    out.reset(longer);
  };
  for (const std::string& line : lines) append(line.c_str());
  append("Expect:");  // no 100-continue round trip
  return out;
}

Outcome OutcomeOf(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:  // only the connect timeout is set
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
      return Outcome::kNoConnection;
    default:
      return Outcome::kBroken;
  }
}

std::string Hint(CURLcode code) {
  if (code == CURLE_PEER_FAILED_VERIFICATION)
    return " (give its authority as \"ca\" in hosts.toml)";
  if (code == CURLE_SSL_CONNECT_ERROR) {
    return " (where it speaks plain http, say so: server = \"http://…\" in hosts.toml)";
  }
  return "";
}

void InitLibcurl() {
  static const CURLcode rc = curl_global_init(CURL_GLOBAL_DEFAULT);
  LN_CHECK(rc == CURLE_OK);
}

}  // namespace

std::string_view HttpResponse::Header(std::string_view name) const {
  const auto it =
      std::ranges::find(headers, name, [](const auto& h) { return std::string_view(h.first); });
  return it == headers.end() ? std::string_view() : std::string_view(it->second);
}

std::vector<std::string> HttpResponse::Headers(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : headers) {
    if (key == name) out.push_back(value);
  }
  return out;
}

// A connection pool of its own (in the multi handle), used by one call at a time.
struct HttpClient::Session {
  std::unique_ptr<CURLM, MultiDeleter> multi{curl_multi_init()};
  std::unique_ptr<CURL, EasyDeleter> easy{curl_easy_init()};
  std::string origin;  // of its latest exchange
  std::array<char, CURL_ERROR_SIZE> error_text{};

  void Configure(const HttpRequest& request, Exchange* exchange, curl_slist* headers);
  void Run(Exchange* exchange, const CallLimits& limits, milliseconds no_progress);
  // True where the transfer ended by itself; its result is stored.
  bool Finished(Exchange* exchange);
};

void HttpClient::Session::Configure(const HttpRequest& request, Exchange* exchange,
                                    curl_slist* headers) {
  CURL* const c = easy.get();
  curl_easy_reset(c);  // connections and caches stay
  error_text[0] = 0;
  curl_easy_setopt(c, CURLOPT_URL, request.url.str().c_str());
  curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error_text.data());
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(
      c, CURLOPT_HTTP_VERSION,
      static_cast<long>(CURL_HTTP_VERSION_1_1));  // NOLINT(google-runtime-int): curl's type
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(c, CURLOPT_HTTP09_ALLOWED, 0L);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "linnet");
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, request.connect_timeout.count());
  curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);  // a cancelled call does not wait for the resolver
  // The proxies of the environment (http_proxy, https_proxy, no_proxy) hold, but never for this
  // machine.
  if (request.url.IsLoopback()) curl_easy_setopt(c, CURLOPT_PROXY, "");
  if (request.post_form) {
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.post_form->size()));
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, request.post_form->c_str());
  }
  curl_easy_setopt(
      c, CURLOPT_SSLVERSION,
      static_cast<long>(CURL_SSLVERSION_TLSv1_2));  // NOLINT(google-runtime-int): curl's type
  const TlsOptions& tls = request.tls;
  if (!tls.ca_pem.empty()) {
    // Replaces the bundle file; the system's directory of certificates (CAPATH) stays in use.
    curl_blob blob{.data = const_cast<char*>(tls.ca_pem.data()),
                   .len = tls.ca_pem.size(),
                   .flags = CURL_BLOB_COPY};
    curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &blob);
    curl_easy_setopt(c, CURLOPT_CAPATH, "/etc/ssl/certs");
  }
  if (!tls.client_cert.empty()) curl_easy_setopt(c, CURLOPT_SSLCERT, tls.client_cert.c_str());
  if (!tls.client_key.empty()) curl_easy_setopt(c, CURLOPT_SSLKEY, tls.client_key.c_str());
  if (tls.skip_verify) {
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, HeaderCallback);
  curl_easy_setopt(c, CURLOPT_HEADERDATA, exchange);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, BodyCallback);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, exchange);
}

bool HttpClient::Session::Finished(Exchange* exchange) {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    if (code != CURLE_OK && exchange->result.outcome == Outcome::kDone) {
      const std::string text = error_text[0] != 0 ? error_text.data() : curl_easy_strerror(code);
      exchange->End(OutcomeOf(code), Unavailable(text + Hint(code)));
    }
    return true;
  }
  return false;
}

void HttpClient::Session::Run(Exchange* exchange, const CallLimits& limits,
                              milliseconds no_progress) {
  const std::stop_callback wake(limits.stop, [this] { curl_multi_wakeup(multi.get()); });
  for (;;) {
    int running = 0;
    const CURLMcode rc = curl_multi_perform(multi.get(), &running);
    if (rc != CURLM_OK)
      return exchange->End(Outcome::kBroken, Unavailable(curl_multi_strerror(rc)));
    if (Finished(exchange)) return;
    const auto now = steady_clock::now();
    if (limits.stop.stop_requested())
      return exchange->End(Outcome::kCancelled, Error(Code::kCancelled, "cancelled"));
    if (limits.deadline && now >= *limits.deadline) {
      return exchange->End(Outcome::kDeadline,
                           Error(Code::kDeadlineExceeded, "the deadline of the call is over"));
    }
    if (exchange->Stalled(now, no_progress)) return;
    milliseconds wait = std::min(kLongestPoll, no_progress / 2 + milliseconds(1));
    if (limits.deadline)
      wait = std::min(wait, std::chrono::ceil<milliseconds>(*limits.deadline - now));
    curl_multi_poll(multi.get(), nullptr, 0, static_cast<int>(wait.count()), nullptr);
  }
}

HttpClient::HttpClient(milliseconds no_progress_timeout)
    : no_progress_timeout_(no_progress_timeout) {
  InitLibcurl();
}
HttpClient::~HttpClient() = default;

HttpResult HttpClient::Perform(const HttpRequest& request, const CallLimits& limits) {
  const std::string origin = request.url.scheme + "://" + request.url.authority();
  std::unique_ptr<Session> session = Take(origin);
  Exchange exchange{.request = request};
  const HeaderList headers = MakeHeaders(request.headers);
  session->Configure(request, &exchange, headers.get());
  CURL* const easy = session->easy.get();
  LN_CHECK(curl_multi_add_handle(session->multi.get(), easy) == CURLM_OK);
  session->Run(&exchange, limits, no_progress_timeout_);
  curl_multi_remove_handle(session->multi.get(), easy);
  session->origin = origin;
  GiveBack(std::move(session));
  return std::move(exchange.result);
}

std::unique_ptr<HttpClient::Session> HttpClient::Take(const std::string& origin) {
  {
    const MutexLock lock(mu_);
    const auto it = std::ranges::find(idle_, origin, [](const auto& s) { return s->origin; });
    if (it != idle_.end()) {
      std::unique_ptr<Session> out = std::move(*it);
      idle_.erase(it);
      return out;
    }
  }
  return std::make_unique<Session>();
}

void HttpClient::GiveBack(std::unique_ptr<Session> session) {
  std::unique_ptr<Session> oldest;  // closed after the lock is gone
  const MutexLock lock(mu_);
  if (idle_.size() >= kMaxIdleSessions) {
    oldest = std::move(idle_.front());
    idle_.erase(idle_.begin());
  }
  idle_.push_back(std::move(session));
}

void HttpClient::CloseIdle() {
  std::vector<std::unique_ptr<Session>> closed;
  const MutexLock lock(mu_);
  closed.swap(idle_);
}

}  // namespace linnet::oci
