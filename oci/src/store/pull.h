// One pull, from the name to the image in the table.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"

#include "registry/client.h"
#include "store/image_table.h"
#include "store/layer_assembler.h"

namespace linnet::oci {

// What pulls and imports work with; all of it outlives them.
struct StoreParts {
  LayerPool& pool;
  ImageTable& table;
  LayerFlights& flights;
  int max_parallel = 3;
  UnpackLimits limits;
};

struct PullJob {
  Reference ref;
  RegistryAuth auth;
  std::stop_token stop;
  std::function<void(const PullProgress&)> progress;
};

// "amd64", "arm64", …: of this machine, as images name it.
std::string HostArchitecture();

// Layers and config from `fetch` into the store. `names` are given to the image.
Result<std::shared_ptr<const Image>> StoreImage(const StoreParts& parts, const Manifest& manifest,
                                                std::string manifest_json, std::string config_json,
                                                const ImageNames& names, AssembleRequest request);

Result<std::shared_ptr<const Image>> PullImage(const StoreParts& parts, RegistryClient& client,
                                               const PullJob& job);

}  // namespace linnet::oci
