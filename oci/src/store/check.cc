#include "store/check.h"

#include <algorithm>
#include <map>
#include <set>

#include "linnet/base/file.h"

#include "store/layer_source.h"
#include "unpack/layer_unpacker.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kMaxProblems = 10;

Error Cancelled() { return {Code::kCancelled, "the check was cancelled"}; }

// A layer, and one of the images that have it.
struct Subject {
  std::shared_ptr<const Layer> layer;
  std::vector<const ImageTable::Entry*> images;
  std::size_t index = 0;  // in the first of them
};

std::string NameOf(const Image& image) {
  return image.repo_tags.empty() ? image.id.str() : image.repo_tags.front();
}

class Checker {
 public:
  Checker(const StoreParts& parts, RegistryClient& client, const CheckOptions& options)
      : parts_(parts), client_(client), options_(options), entries_(parts.table.Entries()) {}

  Result<std::vector<LayerFinding>> Run() {
    std::vector<Subject> subjects = LN_TRY(Choose());
    std::vector<LayerFinding> out;
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    for (const Subject& subject : subjects) total += subject.layer->info().disk_bytes;
    for (Subject& subject : subjects) {
      const std::uint64_t bytes = subject.layer->info().disk_bytes;
      if (options_.progress) options_.progress({"checking", done, total});
      out.push_back(LN_TRY(CheckOne(subject)));
      done += bytes;
    }
    for (const ImageTable::Entry& entry : entries_) {
      if (entry.complete || !Wanted(entry)) continue;
      out.push_back(
          {.layer = "image " + entry.image->id.str(),
           .state = entry.damaged ? LayerState::kDamaged : LayerState::kUnverifiable,
           .problems = {entry.damaged ? "its config or a layer is missing; it is left out of the "
                                        "list: pull it again"
                                      : "an older linnet did not keep the layers that nobody sees: "
                                        "remove it and pull it again"},
           .images = {NameOf(*entry.image)}});
    }
    return out;
  }

 private:
  bool Wanted(const ImageTable::Entry& entry) const {
    return options_.images.empty() || chosen_.contains(entry.image->id);
  }

  Result<std::vector<Subject>> Choose() {
    for (const std::string& name : options_.images) {
      const auto image = parts_.table.Find(name);
      if (!image) return NotFound("image \"" + name + "\" is not here");
      chosen_.insert(image->id);
    }
    std::vector<Subject> out;
    std::map<const Layer*, std::size_t> at;
    for (const ImageTable::Entry& entry : entries_) {
      for (std::size_t i = 0; i < entry.layers.size(); ++i) {
        const auto [known, fresh] = at.emplace(entry.layers[i].get(), out.size());
        if (fresh) out.push_back(Subject{.layer = entry.layers[i], .images = {}, .index = i});
        out[known->second].images.push_back(&entry);
      }
    }
    std::erase_if(out, [this](const Subject& s) {
      return std::none_of(s.images.begin(), s.images.end(),
                          [this](const ImageTable::Entry* e) { return Wanted(*e); });
    });
    return out;
  }

  Result<LayerFinding> CheckOne(Subject& subject) {
    const LayerInfo& info = subject.layer->info();
    LayerFinding out{.layer = info.diff_id.empty() ? info.name : info.diff_id};
    std::set<std::string> names;
    for (const ImageTable::Entry* entry : subject.images) names.insert(NameOf(*entry->image));
    out.images.assign(names.begin(), names.end());
    auto problems = Verify(*subject.layer);
    if (!problems) {
      if (problems.error().Is(Code::kCancelled)) return std::move(problems).error();
      out.state = problems.error().Is(Code::kFailedPrecondition) ? LayerState::kUnverifiable
                                                                 : LayerState::kDamaged;
      out.problems = {problems.error().message()};
    } else if (!problems->empty()) {
      out.state = LayerState::kDamaged;
      out.problems = *std::move(problems);
    }
    if (!options_.repair || out.state == LayerState::kGood) return out;
    auto repaired = Repair(subject);
    if (repaired) {
      out.state = LayerState::kRepaired;
    } else if (repaired.error().Is(Code::kCancelled)) {
      return std::move(repaired).error();
    } else {
      out.problems.push_back("not repaired: " + repaired.error().message());
    }
    return out;
  }

  Result<std::vector<std::string>> Verify(const Layer& layer) {
    auto rebuilt = RebuildLayer(parts_.pool, layer, [this](std::string_view) -> Result<void> {
      if (options_.stop.stop_requested()) return Cancelled();
      return Ok();
    });
    if (!rebuilt && !rebuilt.error().Is(Code::kDataLoss)) return std::move(rebuilt).error();
    std::vector<std::string> out;
    if (!rebuilt) out.push_back(rebuilt.error().message());
    auto differences = CompareTree(parts_.pool, layer, kMaxProblems);
    if (!differences) {
      out.push_back(differences.error().message());
    } else {
      out.insert(out.end(), differences->begin(), differences->end());
    }
    return out;
  }

  // Fetches the blob from a repository that an image with this layer came from.
  Result<void> Repair(Subject& subject) {
    for (const ImageTable::Entry* entry : subject.images) {
      if (entry->held) {
        return FailedPrecondition("image " + NameOf(*entry->image) +
                                  " is in use: stop its containers and mounts first");
      }
    }
    std::optional<Error> last;
    for (const ImageTable::Entry* entry : subject.images) {
      auto done = RepairFrom(subject, *entry);
      if (done || done.error().Is(Code::kCancelled)) return done;
      last = std::move(done).error();
    }
    return *last;
  }

  Result<void> RepairFrom(Subject& subject, const ImageTable::Entry& entry) {
    const Image& image = *entry.image;
    const auto at = std::find(entry.layers.begin(), entry.layers.end(), subject.layer);
    const auto index = static_cast<std::size_t>(at - entry.layers.begin());
    const std::string manifest_json =
        LN_TRY_CTX(parts_.table.ReadManifest(image.id), NameOf(image));
    if (manifest_json.empty()) {
      return FailedPrecondition(NameOf(image) +
                                " has no manifest, since it was imported: remove it and import it "
                                "again");
    }
    const Manifest manifest = LN_TRY_CTX(Manifest::Parse(manifest_json), NameOf(image));
    if (!entry.complete || manifest.layers.size() != entry.layers.size())
      return FailedPrecondition("image " + NameOf(image) + " is not complete: pull it again");
    std::vector<std::string> from = image.repo_digests;
    from.insert(from.end(), image.repo_tags.begin(), image.repo_tags.end());
    std::optional<Error> last;
    for (const std::string& name : from) {
      const Reference ref = LN_TRY(Reference::Parse(name));
      auto done = Refetch(subject, entry, index, manifest.layers[index], ref);
      if (done || done.error().Is(Code::kCancelled)) return done;
      last = std::move(done).error();
    }
    if (last) return *last;
    return FailedPrecondition("image " + NameOf(image) + " has no name to fetch it by");
  }

  Result<void> Refetch(Subject& subject, const ImageTable::Entry& entry, std::size_t index,
                       const Descriptor& blob, const Reference& ref) {
    const Digest& diff_id = entry.image->config.diff_ids.at(index);
    TempLayer temp = LN_TRY(parts_.pool.NewTemp());
    const auto unpacker = LN_TRY(
        LayerUnpacker::Start(temp.root(), diff_id.algorithm(), parts_.limits, temp.directory()));
    const RegistryClient::Call call{.auth = &options_.auth, .stop = options_.stop};
    LN_TRY(client_.FetchBlob(ref, blob, call,
                             [&](std::string_view bytes) { return unpacker->Write(bytes); }));
    UnpackedLayer unpacked = LN_TRY(unpacker->Finish());
    if (unpacked.diff_id != diff_id)
      return Error(Code::kDataLoss, ref.repository() + " has other content for it");
    LayerInfo info{.name = subject.layer->info().name,
                   .diff_id = diff_id.str(),
                   .chained = subject.layer->info().chained};
    if (unpacked.facts.DependsOnLower()) {
      std::vector<std::string> lower;  // highest first
      for (std::size_t i = index; i > 0;) {
        const Layer& below = *entry.layers[--i];
        lower.push_back(below.path());
        if (below.info().opaque_root) break;
      }
      LN_TRY(CompleteFromLower(temp.root(), unpacked.facts, lower));
    }
    Describe(unpacked, info);
    const auto fresh = LN_TRY(parts_.pool.Replace(std::move(temp), info));
    LN_TRY(parts_.pool.Sync());
    LN_TRY(parts_.table.SwapLayer(*subject.layer, fresh));
    // Layers above, and other images, are checked with the new one.
    for (ImageTable::Entry& other : entries_) {
      std::replace(other.layers.begin(), other.layers.end(), subject.layer, fresh);
    }
    subject.layer = fresh;
    return Ok();
  }

  const StoreParts& parts_;
  RegistryClient& client_;
  const CheckOptions& options_;
  std::vector<ImageTable::Entry> entries_;
  std::set<Digest> chosen_;
};

}  // namespace

Result<std::vector<LayerFinding>> CheckImages(const StoreParts& parts, RegistryClient& client,
                                              const CheckOptions& options) {
  return Checker(parts, client, options).Run();
}

}  // namespace linnet::oci
