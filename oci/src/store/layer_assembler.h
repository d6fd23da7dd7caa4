// All layers of one image: those that are here, those that somebody else is unpacking, and the
// rest, fetched and unpacked side by side.
//
// A layer is known by its diff id, and shared by all images that have it. One whose content depends
// on what lies below (implied directories, links to lower files: see layer_writer.h) is known by
// its chain id instead.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/oci/image_spec.h"
#include "linnet/oci/image_store.h"

#include "store/layer_pool.h"
#include "unpack/layer_unpacker.h"

namespace linnet::oci {

// The unpackings under way, so that each is done once. Thread-safe.
class LayerFlights {
 public:
  class Flight {
   public:
    void Complete(Result<std::shared_ptr<const Layer>> outcome);
    // nullopt: stopped before.
    std::optional<Result<std::shared_ptr<const Layer>>> Wait(const std::stop_token& stop);

   private:
    Mutex mu_;
    CondVar changed_;
    std::optional<Result<std::shared_ptr<const Layer>>> outcome_ LN_GUARDED_BY(mu_);
  };

 private:
  friend class LayerAssembler;
  Mutex mu_;
  // By the name for the diff id; shared by the owner and who joined.
  std::map<std::string, std::shared_ptr<Flight>> under_way_ LN_GUARDED_BY(mu_);
};

// Unpacked, not yet among the layers: it may need those below before it is complete.
struct ReadyLayer {
  TempLayer temp;
  UnpackedLayer unpacked;
};

struct AssembleRequest {
  std::vector<Descriptor> blobs;
  std::vector<Digest> diff_ids;  // as many
  using Sink = std::function<Result<void>(std::string_view)>;
  // Gives the bytes of a blob to the sink. Called from several threads.
  std::function<Result<void>(const Descriptor& blob, const std::stop_token& stop, const Sink& sink)>
      fetch;
  std::function<void(const PullProgress&)> progress;
  std::stop_token stop;
  int max_parallel = 3;
  UnpackLimits limits;
  // Layers that came to be are kept as spares until an image has them.
  bool keep_spares = false;
  // Layers that were unpacked before anybody knew whose they are; asked first. nullopt: not there.
  std::function<std::optional<ReadyLayer>(const Digest& diff_id)> take;
};

// One layer for each diff id, lowest first. Errors: the fetch's, kDataLoss for a wrong diff id,
// those of unpacking.
Result<std::vector<std::shared_ptr<const Layer>>> AssembleLayers(LayerPool& pool,
                                                                 LayerFlights& flights,
                                                                 const AssembleRequest& request);

// What unpacking found out, into `info`.
void Describe(const UnpackedLayer& unpacked, LayerInfo& info);

// "12 digits", as tools show digests.
std::string ShortDigest(const Digest& digest);

}  // namespace linnet::oci
