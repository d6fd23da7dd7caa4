// OCI distribution / Docker registry v2, the pulling half.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "linnet/base/result.h"
#include "linnet/oci/digest.h"
#include "linnet/oci/image_spec.h"
#include "linnet/oci/image_store.h"
#include "linnet/oci/reference.h"

namespace linnet::oci {

// Thread-safe. Virtual: the store's tests use a fake.
//
// Which hosts are asked, and in which order: HOST/hosts.toml below `config_path` (read anew at each
// call), then the registry itself. A host that does not answer or does not have it makes room for
// the next one.
class RegistryClient {
 public:
  struct Options {
    std::string config_path;  // containerd-style; several directories with ':' between; empty: none
    std::chrono::seconds no_progress_timeout{60};
  };
  static Result<std::unique_ptr<RegistryClient>> Create(const Options& options);
  RegistryClient() = default;
  RegistryClient(const RegistryClient&) = delete;
  RegistryClient& operator=(const RegistryClient&) = delete;
  virtual ~RegistryClient() = default;

  struct Call {
    const RegistryAuth* auth = nullptr;  // may be null; outlives the call
    std::optional<std::chrono::steady_clock::time_point> deadline;
    std::stop_token stop;
  };
  struct Fetched {
    std::string media_type;  // what the document says it is, else what the registry says; never a
                             // schema 1 type
    Digest digest;           // of `body`
    std::string body;
  };

  // A manifest or an index, by digest where `ref` has one (verified), else by tag. At most 4 MiB.
  // Errors: kNotFound; kPermissionDenied; kUnavailable ("RegistryUnavailable…" where no host
  // answered); kDataLoss the digest does not match; kFailedPrecondition schema 1;
  // kDeadlineExceeded; kCancelled; kInvalidArgument hosts.toml.
  virtual Result<Fetched> FetchManifest(const Reference& ref, const Call& call) = 0;

  // Streams a blob of `repository` (tag and digest are ignored) into `sink`, each byte once and in
  // order, in pieces of at most some 16 KiB. Digest and size are verified while it streams: where
  // they do not match, the error (kDataLoss) comes after the bytes. A dropped connection is resumed
  // with Range, a bounded number of times. An error of the sink ends the call and is returned as it
  // is. The sink may block; that time is not held against the registry.
  virtual Result<void> FetchBlob(const Reference& repository, const Descriptor& blob,
                                 const Call& call,
                                 const std::function<Result<void>(std::string_view)>& sink) = 0;

  // Closes connections that no call uses. Call it when the last pull is done: an idle daemon keeps
  // nothing open.
  virtual void CloseIdle() {}
};

}  // namespace linnet::oci
