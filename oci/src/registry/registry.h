// The client over HTTP.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "linnet/base/mutex.h"

#include "registry/auth.h"
#include "registry/client.h"
#include "registry/failures.h"
#include "registry/hosts.h"
#include "registry/http.h"

namespace linnet::oci {

class HttpRegistryClient final : public RegistryClient {
 public:
  explicit HttpRegistryClient(const Options& options)
      : config_path_(options.config_path), http_(options.no_progress_timeout), authorizer_(http_) {}
  Result<Fetched> FetchManifest(const Reference& ref, const Call& call) override;
  Result<void> FetchBlob(const Reference& repository, const Descriptor& blob, const Call& call,
                         const std::function<Result<void>(std::string_view)>& sink) override;
  void CloseIdle() override { http_.CloseIdle(); }

 private:
  struct Question {    // to one endpoint
    std::string path;  // below the repository: "manifests/latest"
    std::vector<std::string> headers;
    std::size_t max_body_bytes = 64U << 10;
    std::function<Result<void>(const HttpResponse& head, std::string_view bytes)> sink;
  };
  // One answer, through redirects and authentication.
  HttpResult Ask(const Endpoint& endpoint, const Reference& repository, const Question& question,
                 const Call& call);

  // The endpoints that `suitable` lets pass, those that could not be reached a moment ago at the
  // end.
  Result<std::vector<Endpoint>> Endpoints(const Reference& ref,
                                          const std::function<bool(const Endpoint&)>& suitable);
  void NoteReachable(const Endpoint& endpoint, const HttpResult& result);

  struct BlobCall {
    const Reference& repository;
    const Digest& digest;
    const Call& call;
    class BlobStream* stream;
  };
  enum class BlobStep : std::uint8_t { kComplete, kNextHost };
  enum class LastHost : std::uint8_t { kNo, kYes };
  // kComplete: all bytes came, not yet verified. kNextHost: why is in `failures`. An error ends the
  // call.
  Result<BlobStep> FetchBlobFrom(const Endpoint& endpoint, LastHost last, const BlobCall& blob,
                                 Failures* failures);

  const std::string config_path_;
  HttpClient http_;
  Authorizer authorizer_;
  Mutex mu_;
  std::map<std::string, Deadline> unreachable_until_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::oci
