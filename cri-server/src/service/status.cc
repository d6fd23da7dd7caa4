#include "status.h"

#include "convert/text.h"

namespace linnet::cri {
namespace {

// Clients take 8 or 16 KiB of headers; percent-encoding may make three bytes of one.
constexpr std::size_t kMaxMessageBytes = 2048;

}  // namespace

grpc::StatusCode StatusCodeOf(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case Code::kNotFound:
      return grpc::StatusCode::NOT_FOUND;
    case Code::kAlreadyExists:
      return grpc::StatusCode::ALREADY_EXISTS;
    case Code::kFailedPrecondition:
      return grpc::StatusCode::FAILED_PRECONDITION;
    case Code::kPermissionDenied:
      return grpc::StatusCode::PERMISSION_DENIED;
    case Code::kResourceExhausted:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Code::kDeadlineExceeded:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    case Code::kCancelled:
      return grpc::StatusCode::CANCELLED;
    case Code::kUnavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case Code::kUnimplemented:
      return grpc::StatusCode::UNIMPLEMENTED;
    case Code::kDataLoss:
      return grpc::StatusCode::DATA_LOSS;
    case Code::kInternal:
      return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::INTERNAL;
}

grpc::Status StatusOf(const Error& error) {
  const std::string text = Utf8(error.message());
  // Kubelet recognises these by the beginning of the text, which its client only leaves alone under
  // code Unknown.
  for (const std::string_view prefix : {"RegistryUnavailable", "SignatureValidationFailed"}) {
    if (text.starts_with(prefix))
      return {grpc::StatusCode::UNKNOWN, std::string(Utf8Prefix(text, kMaxMessageBytes))};
  }
  return {StatusCodeOf(error.code()), std::string(Utf8Prefix(text, kMaxMessageBytes))};
}

}  // namespace linnet::cri
