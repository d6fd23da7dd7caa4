// What is measured.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/result.h"

#include "measure.h"

namespace linnet::bench {

struct BenchOptions {
  std::string endpoint;
  std::string image;
  std::string label;
  int daemon_pid = 0;                     // 0: no figures of the daemon
  std::vector<std::string> helper_names;  // processes that belong to pods
  std::vector<int> populations = {0, 100, 300};
  int samples = 30;  // of each latency row
  int burst = 100;   // pods of the throughput row
  int clients = 4;
  int idle_seconds = 10;
  bool streams = false;    // only the rows of streams
  int stream_samples = 3;  // of each
  int sessions = 1000;     // idle ones; 0: no such row
};

struct Row {
  std::string name;
  std::string unit;
  double value = 0;  // the median where there are samples
  double p95 = 0;
  std::size_t samples = 0;
  std::string note;
};

// Runs everything; rows come in the order they were measured. Pods it made are removed even on
// error.
Result<std::vector<Row>> RunAll(const BenchOptions& options);

}  // namespace linnet::bench
