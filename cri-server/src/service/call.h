// One call, as handlers see it: no gRPC.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>

#include "linnet/pods/pod_manager.h"

namespace linnet::cri {

struct Call {
  std::uint64_t id = 0;  // "req" in the log
  Deadline deadline = Deadline::max();
  std::function<bool()> gone = [] { return false; };  // the client has gone
  std::stop_token stop;                               // set when it goes

  pods::Caller caller() const { return {.deadline = deadline, .gone = gone}; }
};

}  // namespace linnet::cri
