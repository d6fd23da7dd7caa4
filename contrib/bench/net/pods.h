// Namespaces to attach, and what is left when they are gone.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "driver.h"

namespace linnet::bench {

// A namespace with its pin in /run/netns; both go with the object.
class PodNamespace {
 public:
  static Result<PodNamespace> Make(const std::string& id);
  static Result<PodNamespace> Make(Driver& driver, const std::string& id);
  PodNamespace(PodNamespace&&) noexcept = default;
  PodNamespace& operator=(PodNamespace&& other) noexcept;
  ~PodNamespace() { Release(); }

  PodSpec Spec(std::vector<HostPortSpec> ports) const {
    return {.id = id_, .netns = fd_, .netns_path = path_, .ports = std::move(ports)};
  }
  const std::string& id() const { return id_; }
  FdRef fd() const { return fd_; }
  void Release();

 private:
  PodNamespace(std::string id, std::string path, UniqueFd fd)
      : id_(std::move(id)), path_(std::move(path)), fd_(std::move(fd)) {}
  std::string id_, path_;
  UniqueFd fd_;
};

// Veth ends on the host, address files under `work`, elements and rules of nftables that belong to
// pods, pins: one line each; empty: nothing is left.
std::string LeftOver(const std::string& work);
// Waits until nothing is left, at most two seconds; what is then.
std::string LeftOverSoon(const std::string& work);

}  // namespace linnet::bench
