#include "store/layer_assembler.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <system_error>
#include <thread>

#include "store/image_table.h"

namespace linnet::oci {
namespace {

constexpr std::chrono::milliseconds kProgressInterval{100};

Error Stopped() { return {Code::kCancelled, "stopped"}; }

}  // namespace

void Describe(const UnpackedLayer& unpacked, LayerInfo& info) {
  constexpr std::uint64_t kPage = 4096;
  const RecipeFacts& recipe = unpacked.recipe;
  info.disk_bytes = unpacked.facts.disk_bytes + (recipe.recipe_bytes + kPage - 1) / kPage * kPage;
  info.inodes = unpacked.facts.inodes;
  info.opaque_root = unpacked.facts.opaque_root;
  info.exact = recipe.exact;
  info.tar_bytes = recipe.tar_bytes;
  info.moved = unpacked.facts.moved;
}

std::string ShortDigest(const Digest& digest) { return std::string(digest.hex().substr(0, 12)); }

void LayerFlights::Flight::Complete(Result<std::shared_ptr<const Layer>> outcome) {
  MutexLock lock(mu_);
  if (outcome_) return;
  outcome_ = std::move(outcome);
  changed_.NotifyAll();
}

std::optional<Result<std::shared_ptr<const Layer>>> LayerFlights::Flight::Wait(
    const std::stop_token& stop) {
  const std::stop_callback wake(stop, [this] {
    MutexLock lock(mu_);
    changed_.NotifyAll();
  });
  MutexLock lock(mu_);
  while (!outcome_ && !stop.stop_requested()) changed_.Wait(mu_);
  return outcome_;
}

class LayerAssembler {
 public:
  LayerAssembler(LayerPool& pool, LayerFlights& flights, const AssembleRequest& request)
      : pool_(pool),
        flights_(flights),
        request_(request),
        chain_names_(ChainNames(request.diff_ids)) {}
  ~LayerAssembler() {
    for (Slot& slot : slots_) {
      if (slot.own) Land(slot, Stopped());
    }
  }
  LayerAssembler(const LayerAssembler&) = delete;
  LayerAssembler& operator=(const LayerAssembler&) = delete;

  Result<std::vector<std::shared_ptr<const Layer>>> Run() {
    TakeSlots();
    LN_TRY(UnpackOwn());
    // In order: a layer may depend on those below. What is waited for was begun before this image
    // was, so nobody waits in a circle.
    for (Slot& slot : slots_) LN_TRY(Settle(slot));
    std::vector<std::shared_ptr<const Layer>> out;
    for (const Slot& slot : slots_) out.push_back(slot.layer);
    return out;
  }

 private:
  struct Slot {
    std::size_t index = 0;
    std::string diff_name;
    std::shared_ptr<const Layer> layer;                 // where it is here already
    std::shared_ptr<LayerFlights::Flight> own, joined;  // shared with who joined, or with the owner
    std::unique_ptr<ReadyLayer> waiting;  // it needs the layers below before it is complete
  };

  bool Fits(const Slot& slot, const Layer& layer) const {
    const std::string& name = layer.info().name;
    return name == chain_names_[slot.index] || (name == slot.diff_name && !layer.info().chained);
  }

  std::shared_ptr<const Layer> FindHere(const Slot& slot) const {
    if (auto layer = pool_.Find(slot.diff_name); layer && Fits(slot, *layer)) return layer;
    return pool_.Find(chain_names_[slot.index]);
  }

  // All at once, so that of two images each joins the other's layers never.
  void TakeSlots() {
    std::set<std::string> own;
    MutexLock lock(flights_.mu_);
    for (std::size_t i = 0; i < request_.diff_ids.size(); ++i) {
      Slot slot;
      slot.index = i;
      slot.diff_name = LayerName(request_.diff_ids[i]);
      slot.layer = FindHere(slot);
      // The same layer twice in one image: settled when the first one is.
      if (!slot.layer && !own.contains(slot.diff_name)) {
        std::shared_ptr<LayerFlights::Flight>& flight = flights_.under_way_[slot.diff_name];
        if (flight) {
          slot.joined = flight;
        } else {
          flight = std::make_shared<LayerFlights::Flight>();
          slot.own = flight;
          own.insert(slot.diff_name);
        }
      }
      slots_.push_back(std::move(slot));
    }
  }

  void Land(Slot& slot, Result<std::shared_ptr<const Layer>> outcome) {
    {
      MutexLock lock(flights_.mu_);
      flights_.under_way_.erase(slot.diff_name);
    }
    slot.own->Complete(std::move(outcome));
    slot.own.reset();
  }

  Result<void> UnpackOwn() {
    std::vector<Slot*> todo;
    for (Slot& slot : slots_) {
      if (slot.own) todo.push_back(&slot);
    }
    if (todo.empty()) return Ok();

    // The first error stops the others.
    std::stop_source stop;
    const std::stop_callback pass_on(request_.stop, [&stop] { stop.request_stop(); });
    std::atomic<std::size_t> next{0};
    Mutex mu;
    std::optional<Error> first_error;
    const auto work = [&] {
      for (std::size_t i = next++; i < todo.size() && !stop.stop_requested(); i = next++) {
        auto done = UnpackSlot(*todo[i], stop.get_token());
        if (done) continue;
        MutexLock lock(mu);
        if (!first_error) first_error = std::move(done).error();
        stop.request_stop();
      }
    };
    const std::size_t wanted =
        std::min(todo.size(), static_cast<std::size_t>(std::max(1, request_.max_parallel)));
    std::vector<std::thread> threads;
    try {
      while (threads.size() + 1 < wanted) threads.emplace_back(work);
    } catch (const std::system_error&) {
      // Fewer at a time then.
    }
    work();
    for (std::thread& thread : threads) thread.join();
    if (first_error) return *first_error;
    if (request_.stop.stop_requested()) return Stopped();
    return Ok();
  }

  // Called from several threads, each with a slot of its own.
  Result<void> UnpackSlot(Slot& slot, const std::stop_token& stop) {
    const Descriptor& blob = request_.blobs[slot.index];
    auto unpacked = Unpack(slot, stop);
    // kUnavailable keeps its message: kubelet looks at how it begins.
    if (!unpacked && unpacked.error().Is(Code::kUnavailable)) return std::move(unpacked).error();
    ReadyLayer waiting = LN_TRY_CTX(std::move(unpacked), "layer " + ShortDigest(blob.digest));
    if (slot.index > 0 && waiting.unpacked.facts.DependsOnLower()) {
      slot.waiting = std::make_unique<ReadyLayer>(std::move(waiting));
      return Ok();
    }
    slot.layer =
        LN_TRY_CTX(Complete(slot, std::move(waiting)), "layer " + ShortDigest(blob.digest));
    if (slot.own) Land(slot, slot.layer);
    return Ok();
  }

  Result<ReadyLayer> Unpack(const Slot& slot, const std::stop_token& stop) {
    const Descriptor& blob = request_.blobs[slot.index];
    const Digest& diff_id = request_.diff_ids[slot.index];
    if (request_.take) {
      if (auto ready = request_.take(diff_id)) return *std::move(ready);
    }
    TempLayer temp = LN_TRY(pool_.NewTemp());
    const auto unpacker = LN_TRY(
        LayerUnpacker::Start(temp.root(), diff_id.algorithm(), request_.limits, temp.directory()));
    const std::string name = ShortDigest(blob.digest);
    std::uint64_t done_bytes = 0;
    std::chrono::steady_clock::time_point reported{};
    const AssembleRequest::Sink sink = [&](std::string_view bytes) -> Result<void> {
      if (stop.stop_requested()) return Stopped();
      LN_TRY(unpacker->Write(bytes));
      done_bytes += bytes.size();
      const auto now = std::chrono::steady_clock::now();
      if (request_.progress && now - reported >= kProgressInterval) {
        reported = now;
        request_.progress({name, done_bytes, blob.size});
      }
      return Ok();
    };
    LN_TRY(request_.fetch(blob, stop, sink));
    if (request_.progress) request_.progress({"unpacking " + name, done_bytes, blob.size});
    UnpackedLayer unpacked = LN_TRY(unpacker->Finish());
    if (unpacked.diff_id != diff_id) {
      return Error(Code::kDataLoss, "its content is " + unpacked.diff_id.str() +
                                        " where the image's config promises " + diff_id.str());
    }
    return ReadyLayer{std::move(temp), std::move(unpacked)};
  }

  Result<std::shared_ptr<const Layer>> Complete(const Slot& slot, ReadyLayer waiting) {
    LayerInfo info{.name = slot.diff_name, .diff_id = request_.diff_ids[slot.index].str()};
    if (waiting.unpacked.facts.DependsOnLower()) {
      LN_TRY(CompleteFromLower(waiting.temp.root(), waiting.unpacked.facts, Lower(slot.index)));
      info.name = chain_names_[slot.index];
      info.chained = true;
    }
    Describe(waiting.unpacked, info);
    auto layer = LN_TRY(pool_.Commit(std::move(waiting.temp), info));
    if (request_.keep_spares) pool_.KeepSpare(layer);
    return layer;
  }

  // What lies below, highest first.
  std::vector<std::string> Lower(std::size_t index) const {
    std::vector<std::string> out;
    while (index > 0) {
      const Layer& layer = *slots_[--index].layer;
      out.push_back(layer.path());
      if (layer.info().opaque_root) break;
    }
    return out;
  }

  Result<void> Settle(Slot& slot) {
    if (slot.waiting) {
      ReadyLayer waiting = std::move(*std::exchange(slot.waiting, nullptr));
      slot.layer = LN_TRY_CTX(Complete(slot, std::move(waiting)),
                              "layer " + ShortDigest(request_.blobs[slot.index].digest));
      Land(slot, slot.layer);
    }
    if (!slot.layer && slot.joined) {
      const auto outcome = slot.joined->Wait(request_.stop);
      if (!outcome) return Stopped();
      // It may have failed for a reason that is not ours (given up, another repository), or fit
      // another image only.
      if (*outcome && Fits(slot, ***outcome)) slot.layer = **outcome;
    }
    if (!slot.layer) slot.layer = FindHere(slot);
    if (!slot.layer) {
      LN_TRY(UnpackSlot(slot, request_.stop));
      if (slot.waiting) {
        ReadyLayer waiting = std::move(*std::exchange(slot.waiting, nullptr));
        slot.layer = LN_TRY(Complete(slot, std::move(waiting)));
      }
    }
    return Ok();
  }

  LayerPool& pool_;
  LayerFlights& flights_;
  const AssembleRequest& request_;
  const std::vector<std::string> chain_names_;
  std::vector<Slot> slots_;
};

Result<std::vector<std::shared_ptr<const Layer>>> AssembleLayers(LayerPool& pool,
                                                                 LayerFlights& flights,
                                                                 const AssembleRequest& request) {
  LN_CHECK(request.blobs.size() == request.diff_ids.size());
  return LayerAssembler(pool, flights, request).Run();
}

}  // namespace linnet::oci
