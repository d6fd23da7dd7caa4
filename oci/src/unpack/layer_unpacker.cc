#include "unpack/layer_unpacker.h"

#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#include <optional>
#include <system_error>
#include <thread>

#include "unpack/block_queue.h"
#include "unpack/decompressor.h"

namespace linnet::oci {
namespace {

// Hashes blocks and passes them on.
class HashingOutput final : public OutputBuffer {
 public:
  HashingOutput(BlockQueue& queue, std::string_view algorithm)
      : queue_(queue), hasher_(algorithm) {}

  Result<std::span<char>> Room() override {
    if (!block_.data) block_ = LN_TRY(queue_.Acquire());
    return std::span<char>(block_.data.get() + block_.used, BlockQueue::kBlockBytes - block_.used);
  }
  Result<void> Filled(std::size_t bytes) override {
    block_.used += bytes;
    if (block_.used == BlockQueue::kBlockBytes) Flush();
    return Ok();
  }
  void Flush() {
    if (!block_.data) return;
    hasher_.Update(std::string_view(block_.data.get(), block_.used));
    queue_.Push(std::move(block_));
    block_ = BlockQueue::Block();
  }
  Digest Finish() { return hasher_.Finish(); }

 private:
  BlockQueue& queue_;
  Hasher hasher_;
  BlockQueue::Block block_;
};

}  // namespace

class LayerUnpacker::Impl {
 public:
  Impl(FdRef root, std::string_view algorithm, const UnpackLimits& limits,
       std::optional<FdRef> recipe_dir)
      : root_(root),
        limits_(limits),
        recipe_dir_(recipe_dir),
        output_(queue_, algorithm),
        decompressor_(output_, limits.max_window_bytes) {}

  ~Impl() {
    queue_.Close(Error(Code::kCancelled, "unpacking was given up"));
    if (thread_.joinable()) thread_.join();
  }

  Result<void> StartThread() {
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (const std::system_error& e) {
      return Error(Code::kResourceExhausted, std::string("start a thread: ") + e.what());
    }
    return Ok();
  }

  Result<void> Write(std::string_view bytes) { return decompressor_.Write(bytes); }

  Result<UnpackedLayer> Finish() {
    auto finished = decompressor_.Finish();
    if (finished) output_.Flush();
    queue_.Close(finished ? std::optional<Error>() : finished.error());
    thread_.join();
    LN_TRY(std::move(finished));
    LayerFacts facts = LN_TRY(std::move(outcome_));
    return UnpackedLayer{output_.Finish(), std::move(facts), recipe_};
  }

 private:
  void Run() {
    (void)pthread_setname_np(pthread_self(), "linnet-unpack");  // for ps and gdb only
    outcome_ = Place();
    // The diff id is over everything, also over what follows the end of the archive.
    queue_.Stop(outcome_ ? std::optional<Error>() : outcome_.error());
  }

  Result<LayerFacts> Place() {
    LayerWriter writer(root_, limits_);
    // A umask of this thread's own: files get their mode as they are made.
    if (unshare(CLONE_FS) == 0) {
      umask(0);
      writer.AssumeNoUmask();
    }
    std::optional<TarRecorder> recorder;
    if (recipe_dir_) recorder.emplace(*recipe_dir_);
    TarReader reader([this, &recorder] {
      auto bytes = queue_.Next();
      if (bytes && recorder) recorder->Feed(*bytes);
      return bytes;
    });
    const LayerWriter::ReadData read = [&reader] { return reader.Read(); };
    for (;;) {
      const TarEntry* entry = LN_TRY(reader.Next());
      if (entry == nullptr) break;
      if (recorder) Record(*recorder, *entry);
      LN_TRY(writer.Place(*entry, read));
    }
    while (recorder) {
      const std::string_view rest = LN_TRY(queue_.Next());
      if (rest.empty()) break;
      recorder->Feed(rest);
    }
    if (recorder) recipe_ = recorder->Finish();
    return writer.Finish();
  }

  void Record(TarRecorder& recorder, const TarEntry& entry) const {
    // A name that is not clean fails when the entry is placed.
    const auto path = CleanEntryPath(entry.path, limits_);
    if (path) recorder.SawEntry(*path, entry.kind == EntryKind::kFile ? entry.size : 0);
  }

  const FdRef root_;
  const UnpackLimits limits_;
  const std::optional<FdRef> recipe_dir_;
  RecipeFacts recipe_;  // the thread's, until it is joined
  BlockQueue queue_;
  HashingOutput output_;
  Decompressor decompressor_;
  Result<LayerFacts> outcome_ = Internal("unpacking did not run");
  std::thread thread_;
};

LayerUnpacker::LayerUnpacker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LayerUnpacker::~LayerUnpacker() = default;

Result<std::unique_ptr<LayerUnpacker>> LayerUnpacker::Start(FdRef root, std::string_view algorithm,
                                                            const UnpackLimits& limits,
                                                            std::optional<FdRef> recipe_dir) {
  auto impl = std::make_unique<Impl>(root, algorithm, limits, recipe_dir);
  LN_TRY(impl->StartThread());
  return std::unique_ptr<LayerUnpacker>(new LayerUnpacker(std::move(impl)));
}

Result<void> LayerUnpacker::Write(std::string_view bytes) { return impl_->Write(bytes); }
Result<UnpackedLayer> LayerUnpacker::Finish() { return impl_->Finish(); }

}  // namespace linnet::oci
