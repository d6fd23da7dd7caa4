// Ways to give a pod its network, one interface for all: what linnet-bench-network measures.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

namespace linnet::bench {

struct HostPortSpec {
  std::uint16_t host_port = 0, pod_port = 0;  // tcp
};

struct PodSpec {
  std::string id;
  FdRef netns{-1};
  std::string netns_path;
  std::vector<HostPortSpec> ports;
};

// Thread-safe. Add, Check and Del block until the kernel has answered.
class Driver {
 public:
  virtual ~Driver() = default;
  // A namespace for a pod, pinned at `path`, as this driver has them ready.
  virtual Result<UniqueFd> MakeNamespace(const std::string& id, std::string& path);
  // The pod's IPv4 address.
  virtual Result<std::string> Add(const PodSpec& pod) = 0;
  virtual Result<void> Check(const PodSpec& pod) = 0;
  virtual Result<void> Del(const PodSpec& pod) = 0;
  // After the last DEL: what runs on in the background has ended.
  virtual void Settle() {}
};

struct DriverOptions {
  std::string work;        // an empty directory for address files, records, sockets
  std::string config;      // a conflist
  std::string plugins;     // directory of the executables (MakeExecDriver)
  std::string linnet_cni;  // MakeEngineDriver
};

// linnet's engine, in this process.
Result<std::unique_ptr<Driver>> MakeEngineDriver(const DriverOptions& options);
// The plugins of a directory, executed one after another as libcni does, without the cost of libcni
// itself.
Result<std::unique_ptr<Driver>> MakeExecDriver(const DriverOptions& options);
// The least that makes the same kernel objects: two batches of rtnetlink messages and one nftables
// transaction, no files, no questions. The floor that the kernel charges.
Result<std::unique_ptr<Driver>> MakeFloorDriver(const DriverOptions& options);

}  // namespace linnet::bench
