#include "registry/registry.h"

#include <algorithm>

#include "json_document.h"
#include "media_types.h"
#include "registry/transport.h"

namespace linnet::oci {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxManifestBytes = 4U << 20;
// How long a host that could not be reached is asked last. Without it, each layer would wait for a
// dead mirror again.
constexpr seconds kUnreachablePause{15};

// Where a mirror has the repository under a path of its own ("https://host/v2/proxy" with
// override_path), that is part of the name which its tokens are for.
std::string ScopeOf(const Endpoint& endpoint, const Reference& repository) {
  std::string prefix;
  if (endpoint.base.path.starts_with("/v2/")) prefix = endpoint.base.path.substr(4) + "/";
  return "repository:" + prefix + repository.path + ":pull";
}

CallLimits LimitsOf(const RegistryClient::Call& call) {
  return {.deadline = call.deadline, .stop = call.stop};
}

HttpResult Refusal(Error error) {
  HttpResult out;
  switch (error.code()) {
    case Code::kCancelled:
      out.outcome = Outcome::kCancelled;
      break;
    case Code::kDeadlineExceeded:
      out.outcome = Outcome::kDeadline;
      break;
    default:
      out.outcome = Outcome::kRefused;
  }
  out.error = std::move(error);
  return out;
}

// "application/json; charset=utf-8" → "application/json"
std::string BareType(std::string_view header) {
  return std::string(header.substr(0, header.find(';')));
}

Error Schema1(std::string_view type) {
  return FailedPrecondition(
      "the image has a manifest of Docker's schema 1 (" + std::string(type) +
      "), which nothing supports any more: push it again with a current tool");
}

// The document's own word counts, then the header's, then what it looks like; contradictions are
// refused, since other readers would see another document (CVE-2021-41190).
Result<std::string> MediaTypeOf(const HttpResponse& response) {
  const std::string said = BareType(response.Header("content-type"));
  if (IsSchema1Type(said)) return Schema1(said);
  const auto document = ParseDocument(response.body, kMaxManifestBytes);
  if (!document)
    return Error(Code::kDataLoss,
                 "it sends something that is no manifest: " + document.error().message());
  const JsonView v(*document);
  const auto version = v.Optional<std::int64_t>("schemaVersion", 0);
  if (version && *version == 1) return Schema1("schemaVersion 1");
  const auto own = v.Optional<std::string>("mediaType", "");
  if (!own) return Error(Code::kDataLoss, own.error().message());
  const auto known = [](const std::string& type) {
    return IsManifestType(type) || IsIndexType(type);
  };
  if (known(*own)) {
    if (known(said) && said != *own) {
      return Error(Code::kDataLoss,
                   "it sends a document of type " + *own + " as " + said + ", which is refused");
    }
    return *own;
  }
  if (!own->empty())
    return Error(Code::kDataLoss,
                 "it sends a document of type \"" + own->substr(0, 100) + "\", which is no image");
  if (known(said)) return said;
  if (v.raw().contains("manifests")) return std::string(media_type::kOciIndex);
  if (v.raw().contains("layers")) return std::string(media_type::kOciManifest);
  return Error(Code::kDataLoss,
               "it sends something that is no manifest (type \"" + said.substr(0, 100) + "\")");
}

Result<RegistryClient::Fetched> CheckManifest(const Reference& ref, HttpResponse response) {
  Digest digest = Digest::Sha256Of(response.body);
  if (ref.digest) {
    Hasher hasher(ref.digest->algorithm());
    hasher.Update(response.body);
    digest = hasher.Finish();
    if (digest != *ref.digest) {
      return Error(Code::kDataLoss,
                   "the manifest it sends does not match its digest (it is " + digest.str() + ")");
    }
  }
  std::string type = LN_TRY(MediaTypeOf(response));
  return RegistryClient::Fetched{std::move(type), std::move(digest), std::move(response.body)};
}

}  // namespace

Result<std::unique_ptr<RegistryClient>> RegistryClient::Create(const Options& options) {
  if (options.no_progress_timeout <= seconds(0))
    return InvalidArgument("no_progress_timeout must be positive");
  return std::unique_ptr<RegistryClient>(std::make_unique<HttpRegistryClient>(options));
}

HttpResult HttpRegistryClient::Ask(const Endpoint& endpoint, const Reference& repository,
                                   const Question& question, const Call& call) {
  auto credentials = CredentialsFor(endpoint, repository.domain, call.auth);
  if (!credentials) return Refusal(std::move(credentials).error());
  const Authorizer::Subject subject{endpoint, ScopeOf(endpoint, repository),
                                    *std::move(credentials)};
  const CallLimits limits = LimitsOf(call);
  HttpRequest request{.url = endpoint.base,
                      .tls = endpoint.tls,
                      .connect_timeout = endpoint.connect_timeout,
                      .max_body_bytes = question.max_body_bytes,
                      .sink = question.sink};
  request.url.path += "/" + repository.path + "/" + question.path;
  // A mirror of several registries learns from it which one is meant (containerd's convention).
  if (!endpoint.upstream) request.url.query = "ns=" + UrlEncode(repository.domain);
  std::string authorization = authorizer_.Cached(subject);
  for (int attempt = 0;; ++attempt) {
    request.headers = question.headers;
    request.headers.insert(request.headers.end(), endpoint.headers.begin(), endpoint.headers.end());
    if (!authorization.empty()) request.headers.push_back(authorization);
    Followed followed = FollowRedirects(http_, request, limits);
    NoteReachable(endpoint, followed.result);
    const bool asks_who = followed.result.outcome == Outcome::kDone &&
                          followed.result.response.status == 401 &&
                          followed.last.SameOrigin(endpoint.base);
    // A stale token gets one more try; credentials that were refused do not.
    if (!asks_who || attempt == 1) return std::move(followed.result);
    authorizer_.Forget(subject);
    auto answer = authorizer_.Answer(
        subject, ParseChallenges(followed.result.response.Headers("www-authenticate")), limits);
    if (!answer) return Refusal(std::move(answer).error());
    authorization = *std::move(answer);
  }
}

Result<std::vector<Endpoint>> HttpRegistryClient::Endpoints(
    const Reference& ref, const std::function<bool(const Endpoint&)>& suitable) {
  std::vector<Endpoint> out = LN_TRY(EndpointsOf(ref.domain, config_path_));
  std::erase_if(out, [&](const Endpoint& e) { return !suitable(e); });
  if (out.size() < 2) return out;
  const auto now = steady_clock::now();
  const MutexLock lock(mu_);
  std::ranges::stable_partition(out, [&](const Endpoint& e) LN_REQUIRES(mu_) {
    const auto it = unreachable_until_.find(e.base.str());
    return it == unreachable_until_.end() || it->second <= now;
  });
  return out;
}

void HttpRegistryClient::NoteReachable(const Endpoint& endpoint, const HttpResult& result) {
  const MutexLock lock(mu_);
  if (result.outcome == Outcome::kNoConnection) {
    unreachable_until_[endpoint.base.str()] = steady_clock::now() + kUnreachablePause;
  } else if (result.outcome == Outcome::kDone) {
    unreachable_until_.erase(endpoint.base.str());
  }
}

Result<RegistryClient::Fetched> HttpRegistryClient::FetchManifest(const Reference& ref,
                                                                  const Call& call) {
  const bool by_digest = ref.digest.has_value();
  const auto endpoints =
      LN_TRY(Endpoints(ref, [&](const Endpoint& e) { return by_digest ? e.pull : e.resolve; }));
  Question question{.path = "manifests/" + (by_digest ? ref.digest->str() : ref.tag),
                    .max_body_bytes = kMaxManifestBytes};
  std::string accept = "Accept: ";
  for (const std::string_view type : {media_type::kOciIndex, media_type::kOciManifest,
                                      media_type::kDockerList, media_type::kDockerManifest}) {
    accept.append(type).append(", ");
  }
  question.headers = {accept + "*/*;q=0.1"};
  Failures failures(ref.str());
  for (const Endpoint& endpoint : endpoints) {
    const bool last = &endpoint == &endpoints.back();
    HttpResult result = Retried([&] { return Ask(endpoint, ref, question, call); }, LimitsOf(call),
                                last ? kLongWait : kShortWait);
    const std::string host = endpoint.base.authority();
    if (EndsCall(result.outcome)) return result.error->With(host).With(ref.str());
    const bool answered = result.response.status != 0 || result.outcome == Outcome::kRefused;
    if (result.outcome != Outcome::kDone || result.response.status != 200) {
      failures.Add(host, FailureOf(result, "manifest"),
                   answered ? Failures::Answer::kSome : Failures::Answer::kNone);
      continue;
    }
    auto fetched = CheckManifest(ref, std::move(result.response));
    if (fetched) return fetched;
    failures.Add(host, std::move(fetched).error(), Failures::Answer::kSome);
  }
  return failures.Final();
}

}  // namespace linnet::oci
