// From what people type to pods and containers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linnet/base/result.h"

#include "client.h"

namespace linnet::cli {

// Pods that this command line made carry this label; their log directory is the value of the
// annotation.
inline constexpr const char* kManagedLabel = "linnet/managed-by";
inline constexpr const char* kManagedValue = "linnet-cli";
inline constexpr const char* kLogsAnnotation = "linnet/log-directory";
inline constexpr const char* kPortsAnnotation =
    "linnet/ports";  // "8080:80/tcp 53:53/udp", for people
inline constexpr const char* kNamespace = "default";

// By name, or by an id or its beginning. Errors: kNotFound; kFailedPrecondition naming all where it
// is ambiguous.
Result<cri::PodSandbox> FindPod(Client& client, const std::string& name);
Result<std::vector<cri::Container>> ContainersOf(Client& client, const std::string& pod_id);

// "POD", "POD/CONTAINER", or the id of a container or its beginning. A pod with several containers
// needs one named, the newest attempt of it is taken.
Result<cri::Container> FindContainer(Client& client, const std::string& name);

Result<cri::ContainerStatus> StatusOf(Client& client, const std::string& container_id);
Result<cri::PodSandboxStatus> PodStatusOf(Client& client, const std::string& pod_id);

}  // namespace linnet::cli
