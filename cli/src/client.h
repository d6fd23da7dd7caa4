// A connection to the daemon. Errors of calls become Errors with the daemon's words.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "linnet/base/result.h"

#include "cri.grpc.pb.h"
#include "linnet.grpc.pb.h"

namespace linnet::cli {

namespace cri = ::runtime::v1;
namespace ext = ::linnet::v1;

inline constexpr const char* kDefaultSocket = "/run/linnet/linnet.sock";

// "unix:///x", "unix:x" or a bare path → path. Errors: kInvalidArgument for another scheme.
Result<std::string> SocketPath(const std::string& address);

Error FromStatus(const grpc::Status& status);

class Client {
 public:
  // Does not wait for the daemon: the first call does.
  explicit Client(std::string socket);

  cri::RuntimeService::Stub& runtime() { return *runtime_; }
  cri::ImageService::Stub& images() { return *images_; }
  ext::Linnet::Stub& linnet() { return *linnet_; }
  const std::string& socket() const { return socket_; }

  // One unary call: client.Call(client.runtime(), &Stub::Version, request).
  template <class Stub, class Request, class Response>
  Result<Response> Call(
      Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
      const Request& request, std::chrono::seconds timeout = std::chrono::minutes(2)) {
    grpc::ClientContext context;
    Prepare(context, timeout);
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return Translate(status);
    return response;
  }
  // Zero: no deadline.
  static void Prepare(grpc::ClientContext& context, std::chrono::seconds timeout);
  // kUnavailable says how to start a daemon.
  Error Translate(const grpc::Status& status) const;

 private:
  std::string socket_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<cri::RuntimeService::Stub> runtime_;
  std::unique_ptr<cri::ImageService::Stub> images_;
  std::unique_ptr<ext::Linnet::Stub> linnet_;
};

}  // namespace linnet::cli
