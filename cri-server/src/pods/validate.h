// Checks of what a client asks for, before anything happens. Errors: kInvalidArgument with the
// field's path.
#pragma once

#include "linnet/base/result.h"
#include "linnet/pods/types.h"

namespace linnet::pods {

Result<void> ValidatePod(const PodConfig& config, const std::vector<std::string>& runtime_handlers);
// Against the pod it will run in as well.
Result<void> ValidateContainer(const ContainerConfig& config, const PodConfig& pod);
Result<void> ValidateResources(const Resources& resources);

}  // namespace linnet::pods
