#include "server.h"

#include <chrono>

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include "linnet/base/log.h"

#include "listener.h"

namespace linnet::cri {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;  // as clients have it
constexpr int kMaxMetadataBytes = 64 << 10;
constexpr int kMaxStreams = 1024;  // calls at once on one connection

}  // namespace

void RouteGrpcLog() {
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  gpr_set_log_function([](gpr_log_func_args* args) {
    log::Warn("grpc", {{"err", args->message}});
  });
}

Server::Server() = default;
Server::~Server() { StopAccepting(); }

Result<std::unique_ptr<Server>> Server::Start(FdRef socket,
                                              const std::vector<grpc::Service*>& services) {
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CENSUS, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<Server> out(new Server);
  out->server_ = builder.BuildAndStart();
  if (!out->server_) return Internal("gRPC's server does not start");
  grpc::Server* server = out->server_.get();
  out->acceptor_ = LN_TRY(Acceptor::Start(socket, [server](UniqueFd connection) {
    grpc::AddInsecureChannelFromFd(server, connection.Release());  // gRPC owns it now
  }));
  return out;
}

void Server::StopAccepting() { acceptor_.reset(); }

void Server::Shutdown() {
  StopAccepting();
  // Calls that block have ended; the others take microseconds. Idle connections are cut.
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(20));
  server_->Wait();
}

}  // namespace linnet::cri
