// The bandwidth that a pod's annotations ask for, as kubelet's documentation has them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "linnet/base/result.h"
#include "linnet/pods/types.h"

namespace linnet::pods {

struct PodBandwidth {
  std::optional<std::uint64_t> ingress, egress;  // bits a second
};

// kubernetes.io/ingress-bandwidth and …/egress-bandwidth: quantities ("10M", "1.5Gi", "1e6").
// Errors: kInvalidArgument it is no quantity, or not between 1k and 1P (as in kubelet and
// containerd).
Result<PodBandwidth> BandwidthOf(const StringMap& annotations);

// A Kubernetes quantity as a whole number, rounded up.
Result<std::uint64_t> ParseQuantity(const std::string& text);

}  // namespace linnet::pods
