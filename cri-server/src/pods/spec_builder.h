// From what CRI asks for, the image and the pod, to what the runtime runs.
#pragma once

#include <memory>
#include <string>

#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"
#include "linnet/pods/pod_manager.h"
#include "linnet/pods/types.h"
#include "linnet/runtime/runtime.h"

namespace linnet::pods {

struct SpecInput {
  const ContainerConfig& config;
  const PodConfig& pod;
  const oci::Image& image;
  ContainerId id;
  std::string pod_dir;        // resolv.conf, hosts, hostname
  std::string container_dir;  // upper, work
  std::string cgroup_root;
  std::string pod_id;
  std::string netns_path;
  std::optional<ContainerId> pid_target;  // checked: in this pod and running
  DeviceOptions devices = {};
};

struct BuiltSpec {
  runtime::ContainerSpec spec;
  ContainerUser user;
  int stop_signal = 15;
};

// Reads the image's /etc/passwd, profile files and host devices; makes missing directories of host
// mounts. Errors: kInvalidArgument with the field, kNotFound (user, profile, device).
Result<BuiltSpec> BuildContainerSpec(const SpecInput& input);

runtime::NamespaceMode ToRuntime(NsMode mode);

// Pure parts, tested alone.
Result<std::vector<std::string>> BuildArgs(const ContainerConfig& config,
                                           const oci::ImageConfig& image);
std::vector<std::string> BuildEnv(const ContainerConfig& config, const oci::ImageConfig& image,
                                  const std::string& hostname, const std::string& home);
oci::Resources BuildResources(const Resources& resources);
// `before` with what `update` names.
Resources MergeResources(Resources before, const Resources& update);

}  // namespace linnet::pods
