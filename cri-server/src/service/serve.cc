#include "serve.h"

#include <exception>

#include "linnet/base/log.h"

#include "status.h"

namespace linnet::cri {
namespace {

Deadline DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto wall = context.deadline();
  if (wall == std::chrono::system_clock::time_point::max()) return Deadline::max();
  return std::chrono::steady_clock::now() + (wall - std::chrono::system_clock::now());
}

// Errors of clients are theirs; the others are ours.
bool IsOurs(Code code) {
  return code == Code::kInternal || code == Code::kDataLoss || code == Code::kUnavailable ||
         code == Code::kResourceExhausted;
}

void LogOutcome(const Call& call, const Method& method, About& about, const Result<void>& result,
                double ms) {
  if (result) {
    if (!method.changes && !log::Enabled(log::Level::kDebug)) return;
    const Subject subject = about();
    log::Write(method.changes ? log::Level::kInfo : log::Level::kDebug, "call",
               {{"rpc", method.name}, {"req", call.id}, {subject.key, subject.value}, {"ms", ms}});
    return;
  }
  const Subject subject = about();
  log::Write(IsOurs(result.error().code()) ? log::Level::kError : log::Level::kWarn, "call failed",
             {{"rpc", method.name},
              {"req", call.id},
              {subject.key, subject.value},
              {"ms", ms},
              {"code", CodeName(result.error().code())},
              {"err", result.error()}});
}

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  void OnCancel() override { stop_.request_stop(); }
  void OnDone() override { delete this; }
  std::stop_token stop() const { return stop_.get_token(); }

 private:
  std::stop_source stop_;
};

}  // namespace

grpc::Status Edge::Busy() {
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls at once"};
}

Call Edge::Begin(grpc::CallbackServerContext* context, std::stop_token stop) {
  return {.id = ++last_id_,
          .deadline = DeadlineOf(*context),
          .gone = [context] { return context->IsCancelled(); },
          .stop = std::move(stop)};
}

grpc::Status Edge::Run(const Call& call, const Method& method, About& about, Handler& handler) {
  const auto start = std::chrono::steady_clock::now();
  Result<void> result;
  try {
    result = handler(call);
  } catch (const std::exception& e) {
    result = Internal(std::string("unexpected: ") + e.what());
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  LogOutcome(call, method, about, result, took.count());
  return result ? grpc::Status::OK : StatusOf(result.error());
}

grpc::ServerUnaryReactor* Edge::Serve(grpc::CallbackServerContext* context, const Method& method,
                                      About about, Handler handler) {
  auto* reactor = new UnaryCall;  // OnDone deletes it
  Call call = Begin(context, reactor->stop());
  if (method.where == Where::kInline) {
    reactor->Finish(Run(call, method, about, handler));
    return reactor;
  }
  const bool taken =
      workers_.Submit(method.where == Where::kWait ? Work::kWait : Work::kShort,
                      [this, reactor, method, call = std::move(call), about = std::move(about),
                       handler = std::move(handler)]() mutable {
                        reactor->Finish(Run(call, method, about, handler));
                      });
  if (!taken) reactor->Finish(Busy());
  return reactor;
}

}  // namespace linnet::cri
