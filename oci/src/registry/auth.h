// Who gets which credentials, and the tokens that registries hand out for them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"

#include "registry/challenge.h"
#include "registry/hosts.h"
#include "registry/http.h"

namespace linnet::oci {

struct Credentials {
  std::string username, password;
  std::string identity_token;  // OAuth2 refresh token
  std::string registry_token;  // bearer token, used as it is
  bool HasPassword() const { return !username.empty() || !password.empty(); }
  bool empty() const { return !HasPassword() && identity_token.empty() && registry_token.empty(); }
};

// What `auth` (may be null) allows this endpoint to see. With a server_address: the host of that
// name, or the registry itself where it names the registry. Without: every configured host, but no
// mirror over plain http. Errors: kInvalidArgument `auth` is not base64 of "user:password".
Result<Credentials> CredentialsFor(const Endpoint& endpoint, std::string_view domain,
                                   const RegistryAuth* auth);

// Thread-safe.
class Authorizer {
 public:
  explicit Authorizer(HttpClient& http) : http_(http) {}

  struct Subject {
    const Endpoint& endpoint;
    std::string scope;  // "repository:library/busybox:pull", made here: what the server asks for is
                        // not echoed
    Credentials credentials;
  };
  // The Authorization header to send at once ("" where none is known), from an earlier Answer.
  std::string Cached(const Subject& subject);
  // The Authorization header that satisfies the challenges of a 401. Asks the token server where
  // there is one. Errors: kPermissionDenied refused, or nothing to show; kUnavailable;
  // kDeadlineExceeded; kCancelled.
  Result<std::string> Answer(const Subject& subject, const std::vector<Challenge>& challenges,
                             const CallLimits& limits);
  void Forget(const Subject& subject);

 private:
  struct Token {
    std::string header;
    Deadline expires;
  };
  Result<Token> FetchToken(const Subject& subject, const Challenge& challenge,
                           const CallLimits& limits);
  void Store(const std::string& key, Token token);

  HttpClient& http_;
  Mutex mu_;
  std::map<std::string, Token> tokens_ LN_GUARDED_BY(mu_);
};

}  // namespace linnet::oci
