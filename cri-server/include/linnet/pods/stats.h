// What pods and containers use, as plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "linnet/network/counters.h"
#include "linnet/pods/types.h"
#include "linnet/runtime/usage.h"

namespace linnet::pods {

// Of a container's writable layer.
struct LayerUsage {
  std::int64_t taken_at_ns = 0;  // may be some seconds old
  std::string mountpoint;        // the same as ContainerFsUsage() says
  std::uint64_t used_bytes = 0, inodes_used = 0;
};

// Times are never 0. What is not running has no numbers in `usage`.
struct ContainerStats {
  std::string id, pod_id;
  ContainerMetadata metadata;
  StringMap labels, annotations;
  std::int64_t taken_at_ns = 0;
  runtime::CgroupUsage usage;
  std::optional<std::uint64_t> nano_cores;  // see CpuMeter
  std::optional<LayerUsage> layer;
};

struct PodStats {
  std::string id;
  PodMetadata metadata;
  StringMap labels, annotations;
  std::int64_t taken_at_ns = 0;
  runtime::CgroupUsage usage;
  std::optional<std::uint64_t> nano_cores;
  std::int64_t network_taken_at_ns = 0;                // 0: it uses the node's network
  std::vector<network::InterfaceCounters> interfaces;  // eth0 first, without lo
  std::vector<ContainerStats> containers;              // that run
};

}  // namespace linnet::pods
