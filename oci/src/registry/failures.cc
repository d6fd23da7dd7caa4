#include "registry/failures.h"

#include "registry/transport.h"

namespace linnet::oci {

Error FailureOf(const HttpResult& result, std::string_view what) {
  if (result.outcome != Outcome::kDone) return *result.error;
  const int status = result.response.status;
  const auto error = [&](Code code, std::string text) {
    return Error(
        code, Origin::kHttp, status,
        std::move(text) + " (" + std::to_string(status) + DescribeBody(result.response) + ")");
  };
  const std::string thing(what);
  switch (status) {
    case 401:
    case 403:
      return error(Code::kPermissionDenied,
                   "access to the " + thing +
                       " is denied, or it is not there: check the name and the pull secret");
    case 404:
      return error(Code::kNotFound, thing + " not found: check name, tag and digest");
    case 429:
      return error(Code::kUnavailable, "its rate limit is reached: wait, log in, or use a mirror");
    default:
      return error(Code::kUnavailable, "unexpected answer");
  }
}

void Failures::Add(const std::string& host, Error error, Answer answer) {
  entries_.push_back({host, std::move(error), answer});
}

Error Failures::Final() const {
  if (entries_.empty()) {
    return FailedPrecondition(
        subject_ + ": no host may be asked for it: see the capabilities in its hosts.toml");
  }
  const Entry* told = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.answer == Answer::kSome) told = &entry;
  }
  std::string others;
  for (const Entry& entry : entries_) {
    if (&entry == told) continue;
    others += (others.empty() ? "" : "; ") + entry.host + ": " + entry.error.message();
  }
  if (told == nullptr) {
    return Unavailable("RegistryUnavailable: " + subject_ + ": " + others +
                       "; check that the registry runs, and DNS, proxy and hosts.toml");
  }
  Error out = told->error.With(told->host).With(subject_);
  if (others.empty()) return out;
  return {out.code(), out.origin(), out.value(), out.message() + "; asked too: " + others};
}

}  // namespace linnet::oci
