// CDI, the Container Device Interface: devices by name, described in files of the node.
// Source: the CDI specification, versions 0.3 to 1.0.
#pragma once

#include <string>
#include <vector>

#include "linnet/base/json_view.h"
#include "linnet/base/result.h"
#include "linnet/oci/runtime_spec.h"
#include "linnet/pods/types.h"

namespace linnet::pods {

// "vendor.com/class=name", from CDI_devices and from annotations "cdi.k8s.io/…" (lists with
// commas), each once, in this order. Errors: kInvalidArgument for what is no such name.
Result<std::vector<std::string>> CdiDevicesOf(const ContainerConfig& config);

// Adds what the files *.json and *.yaml in `directories` (of rising priority; those that are absent
// count as empty) say about `devices`: environment, device nodes, mounts, groups. The user of
// `spec`'s process is known already. Reads files each time. Errors: kNotFound no file describes the
// device; kFailedPrecondition two of one priority do, or a file that is needed is not sound, or
// says what this runtime does not do (hooks, Intel RDT, network devices).
Result<void> InjectCdiDevices(oci::Spec& spec, const std::vector<std::string>& devices,
                              const std::vector<std::string>& directories);

// A YAML document as JSON. Errors: kInvalidArgument, with line and column.
Result<Json> YamlToJson(const std::string& text);

}  // namespace linnet::pods
