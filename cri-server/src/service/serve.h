// The edge: every unary call passes here.
//
// Serve gives the call an id, reads its deadline, runs the handler (here, or on a worker thread),
// catches what it throws, turns an Error into a status, and logs the outcome once.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

#include <grpcpp/grpcpp.h>

#include "linnet/base/result.h"

#include "call.h"
#include "worker_pool.h"

namespace linnet::cri {

enum class Where : std::uint8_t {
  kInline,  // answers from memory, on gRPC's thread
  kShort,   // on a worker
  kWait,    // on a worker, waiting for processes or registries
};

struct Method {
  const char* name;
  Where where = Where::kInline;
  bool changes = false;  // logged at level info when it succeeds
};

// What a call is about, for the log: key is "pod", "ctr" or "name".
struct Subject {
  const char* key = "name";
  std::string value;
};

template <class Request, class Response>
Subject SubjectOf(const Request& request, const Response& response) {
  // What was made, once it is.
  if constexpr (requires { response.container_id(); }) {
    if (!response.container_id().empty()) return {"ctr", response.container_id()};
  } else if constexpr (requires { response.pod_sandbox_id(); }) {
    if (!response.pod_sandbox_id().empty()) return {"pod", response.pod_sandbox_id()};
  }
  if constexpr (requires { request.container_id(); }) {
    return {"ctr", request.container_id()};
  } else if constexpr (requires { request.pod_sandbox_id(); }) {
    return {"pod", request.pod_sandbox_id()};
  } else if constexpr (requires { request.config().metadata(); }) {
    return {"name", request.config().metadata().name()};
  } else if constexpr (requires { request.image().image(); }) {
    return {"name", request.image().image()};
  } else {
    return {};
  }
}

using Handler = std::move_only_function<Result<void>(const Call&)>;
// Asked when the outcome is logged.
using About = std::move_only_function<Subject()>;

// Thread-safe.
class Edge {
 public:
  explicit Edge(WorkerPool& workers) : workers_(workers) {}

  grpc::ServerUnaryReactor* Serve(grpc::CallbackServerContext* context, const Method& method,
                                  About about, Handler handler);
  // For calls with reactors of their own: begins one, and runs a handler with Serve's care.
  Call Begin(grpc::CallbackServerContext* context, std::stop_token stop);
  grpc::Status Run(const Call& call, const Method& method, About& about, Handler& handler);
  WorkerPool& workers() { return workers_; }
  static grpc::Status Busy();

 private:
  WorkerPool& workers_;
  std::atomic<std::uint64_t> last_id_{0};
};

}  // namespace linnet::cri
