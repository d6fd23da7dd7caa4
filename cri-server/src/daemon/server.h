// gRPC's server over a listening socket.
#pragma once

#include <memory>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace linnet::cri {

class Acceptor;

class Server {
 public:
  // Takes calls from now on. `services` must outlive the server.
  static Result<std::unique_ptr<Server>> Start(FdRef socket,
                                               const std::vector<grpc::Service*>& services);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // No new connections; those that exist are told to go, calls under way may end.
  void StopAccepting();
  // Waits for all calls to end: call it when none is blocked.
  void Shutdown();

 private:
  Server();
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
};

// gRPC's own log goes to ours. Call before anything of gRPC.
void RouteGrpcLog();

}  // namespace linnet::cri
