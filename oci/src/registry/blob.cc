#include <algorithm>

#include "linnet/base/text.h"

#include "registry/registry.h"
#include "registry/transport.h"

namespace linnet::oci {
namespace {

using std::chrono::milliseconds;

// In a row without a byte between them; and in all, for a host that drops every connection after a
// few bytes.
constexpr int kMaxFruitless = 4;
constexpr int kMaxAttempts = 40;
constexpr int kMaxStalls = 2;

}  // namespace

// The blob so far, over all its connections: each byte goes to the sink once, and is hashed.
class BlobStream {
 public:
  BlobStream(const Descriptor& blob, const std::function<Result<void>(std::string_view)>& sink)
      : blob_(blob), sink_(sink), hasher_(blob.digest.algorithm()) {}

  std::uint64_t offset() const { return offset_; }
  bool complete() const { return offset_ == blob_.size; }
  // The sink itself refused: nobody else need be asked.
  bool sink_failed() const { return sink_failed_; }

  std::vector<std::string> BeginAttempt() {
    at_head_ = true;
    skip_ = 0;
    if (offset_ == 0 || range_refused_) return {};
    return {"Range: bytes=" + std::to_string(offset_) + "-"};
  }
  // A host that cannot send from the middle sends all of it, and what is known is skipped.
  void RefuseRange() { range_refused_ = true; }
  bool range_refused() const { return range_refused_; }

  Result<void> Take(const HttpResponse& head, std::string_view bytes) {
    if (at_head_) LN_TRY(TakeHead(head));
    at_head_ = false;
    const std::size_t known =
        static_cast<std::size_t>(std::min<std::uint64_t>(skip_, bytes.size()));
    skip_ -= known;
    bytes.remove_prefix(known);
    if (bytes.size() > blob_.size - offset_) {
      return Error(Code::kDataLoss,
                   "it sends more than the " + std::to_string(blob_.size) + " bytes of the blob");
    }
    hasher_.Update(bytes);
    offset_ += bytes.size();
    auto taken = sink_(bytes);
    sink_failed_ = !taken;
    return taken;
  }

  Result<void> Verify() {
    const Digest actual = hasher_.Finish();
    if (actual == blob_.digest) return Ok();
    return Error(Code::kDataLoss,
                 "its content does not match its digest (it is " + actual.str() + ")");
  }

 private:
  Result<void> TakeHead(const HttpResponse& head) {
    if (head.status == 206) return TakeRange(head.Header("content-range"));
    skip_ = offset_;
    const std::string length(head.Header("content-length"));
    if (length.empty() || length == std::to_string(blob_.size)) return Ok();
    return Error(Code::kDataLoss, "it announces " + Printable(length) + " bytes for a blob of " +
                                      std::to_string(blob_.size));
  }

  // "bytes 100-199/200"
  Result<void> TakeRange(std::string_view text) {
    const std::string wanted =
        "bytes " + std::to_string(offset_) + "-" + std::to_string(blob_.size - 1) + "/";
    const std::string_view total = text.substr(std::min(text.size(), wanted.size()));
    if (text.starts_with(wanted) && (total == "*" || total == std::to_string(blob_.size)))
      return Ok();
    return Error(Code::kDataLoss,
                 "it sends another range (" + Printable(text) + ") than was asked for");
  }

  static std::string Printable(std::string_view text) {
    std::string out(text.substr(0, 80));
    std::ranges::replace_if(
        out, [](char c) { return c < ' ' || c > '~'; }, '?');
    return out;
  }

  const Descriptor& blob_;
  const std::function<Result<void>(std::string_view)>& sink_;
  Hasher hasher_;
  std::uint64_t offset_ = 0;
  std::uint64_t skip_ = 0;
  bool at_head_ = true;
  bool range_refused_ = false;
  bool sink_failed_ = false;
};

Result<HttpRegistryClient::BlobStep> HttpRegistryClient::FetchBlobFrom(const Endpoint& endpoint,
                                                                       LastHost last,
                                                                       const BlobCall& blob,
                                                                       Failures* failures) {
  BlobStream& stream = *blob.stream;
  const std::string host = endpoint.base.authority();
  const CallLimits limits{.deadline = blob.call.deadline, .stop = blob.call.stop};
  const milliseconds longest = last == LastHost::kYes ? kLongWait : kShortWait;
  Question question{.path = "blobs/" + blob.digest.str()};
  question.sink = [&stream](const HttpResponse& head, std::string_view bytes) {
    return stream.Take(head, bytes);
  };
  int fruitless = 0;
  int stalls = 0;
  for (int attempt = 1;; ++attempt) {
    const std::uint64_t before = stream.offset();
    question.headers = stream.BeginAttempt();
    HttpResult result = Ask(endpoint, blob.repository, question, blob.call);
    if (stream.sink_failed()) return *std::move(result.error);
    if (EndsCall(result.outcome)) return result.error->With(host);
    if (stream.complete() && result.outcome != Outcome::kSinkFailed) return BlobStep::kComplete;
    if (result.outcome == Outcome::kDone && result.response.status == 416 &&
        !stream.range_refused()) {
      stream.RefuseRange();
      continue;
    }
    const bool is_body = result.response.status == 200 || result.response.status == 206;
    if (result.outcome == Outcome::kDone &&
        is_body) {  // no length was announced, so nobody noticed
      result.outcome = Outcome::kBroken;
      result.error =
          Unavailable("the connection ended after " + std::to_string(stream.offset()) + " bytes");
    }
    fruitless = stream.offset() > before ? 0 : fruitless + 1;
    stalls += result.outcome == Outcome::kStalled ? 1 : 0;
    auto delay = RetryDelay(result, fruitless);
    if (result.outcome == Outcome::kStalled && stalls < kMaxStalls) delay = milliseconds(0);
    if (!delay || *delay > longest || fruitless >= kMaxFruitless || attempt >= kMaxAttempts) {
      const bool answered = result.response.status != 0 || result.outcome == Outcome::kRefused;
      failures->Add(host, FailureOf(result, "blob"),
                    answered ? Failures::Answer::kSome : Failures::Answer::kNone);
      return BlobStep::kNextHost;
    }
    LN_TRY_CTX(WaitFor(*delay, limits), host + ": " + FailureOf(result, "blob").message());
  }
}

Result<void> HttpRegistryClient::FetchBlob(
    const Reference& repository, const Descriptor& blob, const Call& call,
    const std::function<Result<void>(std::string_view)>& sink) {
  const std::string subject = repository.repository() + "@" + blob.digest.str();
  const auto endpoints = LN_TRY(Endpoints(repository, [](const Endpoint& e) { return e.pull; }));
  BlobStream stream(blob, sink);
  const BlobCall blob_call{
      .repository = repository, .digest = blob.digest, .call = call, .stream = &stream};
  Failures failures(subject);
  // An empty blob is known without asking.
  for (std::size_t i = 0; i < endpoints.size() && !stream.complete(); ++i) {
    const LastHost last = i + 1 == endpoints.size() ? LastHost::kYes : LastHost::kNo;
    auto step = FetchBlobFrom(endpoints[i], last, blob_call, &failures);
    if (stream.sink_failed()) return std::move(step).error();
    if (!step) return std::move(step).error().With(subject);
    if (*step == BlobStep::kComplete) {
      LN_TRY_CTX(stream.Verify(), subject + ": " + endpoints[i].base.authority());
      return Ok();
    }
  }
  if (!stream.complete()) return failures.Final();
  LN_TRY_CTX(stream.Verify(), subject);
  return Ok();
}

}  // namespace linnet::oci
