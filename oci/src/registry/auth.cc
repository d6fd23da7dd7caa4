#include "registry/auth.h"

#include <algorithm>

#include "linnet/base/text.h"
#include "linnet/oci/digest.h"

#include "json_document.h"
#include "registry/transport.h"

namespace linnet::oci {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxTokens = 256;
constexpr std::size_t kMaxTokenBytes = 64U << 10;
// RFC 6749 and the distribution specification: 60 s where the server does not say.
constexpr std::int64_t kDefaultLifetime = 60;
constexpr std::int64_t kLongestLifetime = 3600;

// "https://index.docker.io/v1/" → "docker.io"; "HOST:443" → "host".
std::string NormalHost(std::string_view address) {
  if (const std::size_t scheme = address.find("://"); scheme != std::string_view::npos) {
    address.remove_prefix(scheme + 3);
  }
  std::string host = ToLower(address.substr(0, address.find('/')));
  if (host.ends_with(":443")) host.resize(host.size() - 4);
  const bool hub =
      host == "index.docker.io" || host == "registry-1.docker.io" || host == "auth.docker.io";
  return hub ? "docker.io" : host;
}

bool MayHave(const Endpoint& endpoint, std::string_view domain, const std::string& server_address) {
  if (server_address.empty()) return endpoint.upstream || endpoint.base.scheme == "https";
  const std::string named = NormalHost(server_address);
  return named == NormalHost(endpoint.base.authority()) ||
         (endpoint.upstream && named == NormalHost(domain));
}

std::string CacheKey(const Authorizer::Subject& s) {
  const Credentials& c = s.credentials;
  std::string secret;
  for (const std::string* part : {&c.username, &c.password, &c.identity_token, &c.registry_token}) {
    secret += std::to_string(part->size()) + ":" + *part;
  }
  return s.endpoint.base.str() + "\n" + s.scope + "\n" + Digest::Sha256Of(secret).str();
}

const Challenge* FindScheme(const std::vector<Challenge>& challenges, std::string_view scheme) {
  const auto it = std::ranges::find(challenges, scheme,
                                    [](const Challenge& c) { return std::string_view(c.scheme); });
  return it == challenges.end() ? nullptr : &*it;
}

std::string BasicHeader(const Credentials& c) {
  return "Authorization: Basic " + Base64Encode(c.username + ":" + c.password);
}

std::string Param(const Challenge& challenge, const char* name) {
  const auto it = challenge.params.find(name);
  return it == challenge.params.end() ? "" : it->second;
}

// Where the token is to be had. A realm over plain http is accepted only from a registry over plain
// http: elsewhere it would carry the password in the clear.
Result<Url> RealmOf(const Challenge& challenge, const Endpoint& endpoint) {
  auto realm = Url::Parse(Param(challenge, "realm"));
  if (!realm) {
    return Error(Code::kPermissionDenied,
                 "its Bearer challenge names no valid token server: " + realm.error().message());
  }
  if (realm->scheme != "https" && endpoint.base.scheme == "https") {
    return Error(Code::kPermissionDenied,
                 "it wants a token from " + realm->authority() +
                     " over plain http, which is refused: credentials could be read on the way");
  }
  return realm;
}

HttpRequest TokenRequest(const Authorizer::Subject& subject, const Challenge& challenge,
                         Url realm) {
  HttpRequest request{.url = std::move(realm),
                      .connect_timeout = subject.endpoint.connect_timeout,
                      .max_body_bytes = 256U << 10};
  if (request.url.host == subject.endpoint.base.host) {
    request.tls = subject.endpoint.tls;
  } else {  // another machine: trusted by the same authorities, but it learns nothing else
    request.tls.ca_pem = subject.endpoint.tls.ca_pem;
  }
  const std::string service = Param(challenge, "service");
  const Credentials& c = subject.credentials;
  std::string query = "scope=" + UrlEncode(subject.scope);
  if (!service.empty()) query = "service=" + UrlEncode(service) + "&" + query;
  if (!c.identity_token.empty()) {
    request.post_form = "grant_type=refresh_token&client_id=linnet&" + query +
                        "&refresh_token=" + UrlEncode(c.identity_token);
    request.headers = {"Content-Type: application/x-www-form-urlencoded"};
    return request;
  }
  request.url.query += (request.url.query.empty() ? "" : "&") + query;
  if (c.HasPassword()) request.headers = {BasicHeader(c)};
  return request;
}

}  // namespace

Result<Credentials> CredentialsFor(const Endpoint& endpoint, std::string_view domain,
                                   const RegistryAuth* auth) {
  Credentials out;
  if (auth == nullptr || !MayHave(endpoint, domain, auth->server_address)) return out;
  out.username = auth->username;
  out.password = auth->password;
  out.identity_token = auth->identity_token;
  out.registry_token = auth->registry_token;
  if (!out.HasPassword() && !auth->auth.empty()) {
    auto decoded = Base64Decode(auth->auth);
    const std::size_t colon = decoded ? decoded->find(':') : std::string::npos;
    if (colon == std::string::npos) {
      return InvalidArgument("credentials: auth is not the base64 text of \"user:password\"");
    }
    out.username = decoded->substr(0, colon);
    out.password = decoded->substr(colon + 1);
    while (out.password.ends_with('\0')) out.password.pop_back();
  }
  return out;
}

std::string Authorizer::Cached(const Subject& subject) {
  const std::string key = CacheKey(subject);
  const MutexLock lock(mu_);
  const auto it = tokens_.find(key);
  if (it == tokens_.end()) return "";
  if (it->second.expires > steady_clock::now()) return it->second.header;
  tokens_.erase(it);
  return "";
}

void Authorizer::Forget(const Subject& subject) {
  const std::string key = CacheKey(subject);
  const MutexLock lock(mu_);
  tokens_.erase(key);
}

void Authorizer::Store(const std::string& key, Token token) {
  const MutexLock lock(mu_);
  if (tokens_.size() >= kMaxTokens) {
    const auto now = steady_clock::now();
    std::erase_if(tokens_, [&](const auto& entry) { return entry.second.expires <= now; });
    if (tokens_.size() >= kMaxTokens) tokens_.clear();
  }
  tokens_.insert_or_assign(key, std::move(token));
}

Result<std::string> Authorizer::Answer(const Subject& subject,
                                       const std::vector<Challenge>& challenges,
                                       const CallLimits& limits) {
  const Credentials& c = subject.credentials;
  const auto in_an_hour = steady_clock::now() + seconds(kLongestLifetime);
  Token token;
  if (const Challenge* bearer = FindScheme(challenges, "bearer"); bearer != nullptr) {
    if (!c.registry_token.empty()) {
      token = {"Authorization: Bearer " + c.registry_token, in_an_hour};
    } else {
      token = LN_TRY(FetchToken(subject, *bearer, limits));
    }
  } else if (FindScheme(challenges, "basic") != nullptr) {
    if (!c.HasPassword())
      return Error(Code::kPermissionDenied, "it wants a user name and a password");
    token = {BasicHeader(c), in_an_hour};
  } else {
    return Error(Code::kPermissionDenied,
                 "it refuses access (401) and offers neither Bearer nor Basic authentication");
  }
  if (token.header.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
    return Error(Code::kPermissionDenied, "the token has characters that no header may have");
  }
  std::string header = token.header;
  Store(CacheKey(subject), std::move(token));
  return header;
}

Result<Authorizer::Token> Authorizer::FetchToken(const Subject& subject, const Challenge& challenge,
                                                 const CallLimits& limits) {
  Url realm = LN_TRY(RealmOf(challenge, subject.endpoint));
  const std::string where = "token server " + realm.authority();
  const HttpRequest request = TokenRequest(subject, challenge, std::move(realm));
  const HttpResult result =
      Retried([&] { return FollowRedirects(http_, request, limits).result; }, limits, kShortWait);
  if (result.outcome != Outcome::kDone) return result.error->With(where);
  const HttpResponse& response = result.response;
  if (response.status == 400 || response.status == 401 || response.status == 403) {
    return Error(Code::kPermissionDenied, Origin::kHttp, response.status,
                 where + " refuses " +
                     (subject.credentials.empty() ? "an anonymous token" : "these credentials") +
                     DescribeBody(response));
  }
  if (response.status != 200) {
    return Error(Code::kUnavailable, Origin::kHttp, response.status,
                 where + " answers " + std::to_string(response.status) + DescribeBody(response));
  }
  auto document = ParseDocument(response.body, request.max_body_bytes);
  if (!document) return Unavailable(where + ": " + document.error().message());
  const JsonView v(*document);
  std::string text = LN_TRY_CTX(v.Optional<std::string>("token", ""), where);
  if (text.empty()) text = LN_TRY_CTX(v.Optional<std::string>("access_token", ""), where);
  if (text.empty() || text.size() > kMaxTokenBytes)
    return Unavailable(where + " sends no usable token");
  // Servers write it as a number, some as a fraction: whatever else it is, the default holds.
  const auto lifetime = v.Optional<std::int64_t>("expires_in", kDefaultLifetime);
  const std::int64_t s =
      lifetime ? std::clamp<std::int64_t>(*lifetime, kDefaultLifetime, kLongestLifetime)
               : kDefaultLifetime;
  // A tenth less: it must still be good when the request arrives.
  return Token{"Authorization: Bearer " + text, steady_clock::now() + seconds(s - s / 10)};
}

}  // namespace linnet::oci
