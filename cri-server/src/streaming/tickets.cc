#include "tickets.h"

#include <sys/random.h>

#include <array>
#include <cerrno>

#include <openssl/crypto.h>

#include "linnet/base/text.h"

namespace linnet::cri::streaming {
namespace {

Result<std::string> NewToken() {
  std::array<char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return Error::FromErrno(errno, "getrandom");
  return Hex({bytes.data(), bytes.size()});
}

}  // namespace

std::string_view PathOf(StreamRequest::Kind kind) {
  switch (kind) {
    case StreamRequest::Kind::kExec:
      return "exec";
    case StreamRequest::Kind::kAttach:
      return "attach";
    case StreamRequest::Kind::kPortForward:
      return "portforward";
  }
  return "";
}

void Tickets::DropExpired() {
  const auto now = now_();
  while (!order_.empty()) {
    const auto it = pending_.find(order_.front());
    if (it != pending_.end() && it->second.until > now) return;
    if (it != pending_.end()) pending_.erase(it);
    order_.pop_front();
  }
}

Result<std::string> Tickets::Issue(StreamRequest request) {
  const std::string path = "/" + std::string(PathOf(request.kind)) + "/" + LN_TRY(NewToken());
  MutexLock lock(mu_);
  DropExpired();
  if (pending_.size() >= kMaxPending) {
    return Error(Code::kResourceExhausted,
                 "maximum number of in-flight streaming requests exceeded: " +
                     std::to_string(kMaxPending) + " wait for their client");
  }
  pending_.emplace(path, Pending{std::move(request), now_() + kLifetime});
  order_.push_back(path);
  return base_url_ + path;
}

Result<StreamRequest> Tickets::Redeem(std::string_view path) {
  MutexLock lock(mu_);
  DropExpired();
  // All are compared, and whole: how long it takes says nothing about them.
  auto it = pending_.end();
  for (auto at = pending_.begin(); at != pending_.end(); ++at) {
    if (at->first.size() == path.size() &&
        CRYPTO_memcmp(at->first.data(), path.data(), path.size()) == 0)
      it = at;
  }
  if (it == pending_.end())
    return NotFound("no such stream: its URL was used, or is older than a minute");
  StreamRequest out = std::move(it->second.request);
  pending_.erase(it);
  return out;
}

}  // namespace linnet::cri::streaming
