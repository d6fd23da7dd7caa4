#include "client.h"

#include "linnet/base/file.h"

namespace linnet::cli {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;

Code FromGrpc(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::OUT_OF_RANGE:
      return Code::kInvalidArgument;
    case grpc::StatusCode::NOT_FOUND:
      return Code::kNotFound;
    case grpc::StatusCode::ALREADY_EXISTS:
      return Code::kAlreadyExists;
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::ABORTED:
      return Code::kFailedPrecondition;
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      return Code::kPermissionDenied;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Code::kResourceExhausted;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Code::kDeadlineExceeded;
    case grpc::StatusCode::CANCELLED:
      return Code::kCancelled;
    case grpc::StatusCode::UNAVAILABLE:
      return Code::kUnavailable;
    case grpc::StatusCode::UNIMPLEMENTED:
      return Code::kUnimplemented;
    case grpc::StatusCode::DATA_LOSS:
      return Code::kDataLoss;
    default:
      return Code::kInternal;
  }
}

}  // namespace

Result<std::string> SocketPath(const std::string& address) {
  std::string path = address;
  if (path.starts_with("unix://")) {
    path = path.substr(7);
  } else if (path.starts_with("unix:")) {
    path = path.substr(5);
  } else if (path.find("://") != std::string::npos) {
    return InvalidArgument("address \"" + address +
                           "\": only unix sockets are possible (unix:///path or /path)");
  }
  if (path.empty()) return InvalidArgument("address \"" + address + "\": no path");
  if (path.front() != '/') return RealPath(path);
  return path;
}

Error FromStatus(const grpc::Status& status) {
  return {FromGrpc(status.error_code()), status.error_message()};
}

Client::Client(std::string socket) : socket_(std::move(socket)) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ =
      grpc::CreateCustomChannel("unix://" + socket_, grpc::InsecureChannelCredentials(), args);
  runtime_ = cri::RuntimeService::NewStub(channel_);
  images_ = cri::ImageService::NewStub(channel_);
  linnet_ = ext::Linnet::NewStub(channel_);
}

void Client::Prepare(grpc::ClientContext& context, std::chrono::seconds timeout) {
  context.set_authority("localhost");
  if (timeout.count() > 0) context.set_deadline(std::chrono::system_clock::now() + timeout);
}

Error Client::Translate(const grpc::Status& status) const {
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && !Exists(socket_)) {
    return Unavailable("no daemon at " + socket_ + " (start one: linnetd --socket " + socket_ +
                       ")");
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return Unavailable("the daemon at " + socket_ + " does not answer: " + status.error_message());
  }
  return FromStatus(status);
}

}  // namespace linnet::cli
