// What streams cost: exec and port-forward throughput, memory of sessions that do nothing.
#pragma once

#include "cri_client.h"
#include "scenarios.h"

namespace linnet::bench {

// Runs the rows of streams against `client`'s runtime.
Result<std::vector<Row>> RunStreams(const BenchOptions& options, CriClient& client);

}  // namespace linnet::bench
