// Getting images here, with progress on standard error.
#pragma once

#include <string>

#include "linnet/base/result.h"

#include "client.h"

namespace linnet::cli {

// `policy`: "missing", "always", "never". Errors: kNotFound with "never" and no image.
Result<void> EnsureImage(Client& client, const std::string& image, const std::string& policy);

struct PullCredentials {
  std::string username, password;
};
// Returns the image's id.
Result<std::string> Pull(Client& client, const std::string& image,
                         const PullCredentials& credentials, bool quiet);

}  // namespace linnet::cli
