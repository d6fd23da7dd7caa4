#include "store/figures.h"

#include <map>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"

namespace linnet::oci {
namespace {

using Entry = ImageTable::Entry;

// How many images have a layer.
std::map<const Layer*, std::uint64_t> CountUses(const std::vector<Entry>& entries) {
  std::map<const Layer*, std::uint64_t> out;
  for (const Entry& entry : entries) {
    std::set<const Layer*> seen;
    for (const auto& layer : entry.layers) {
      if (seen.insert(layer.get()).second) ++out[layer.get()];
    }
  }
  return out;
}

bool CanGo(const Entry& entry, bool all) {
  if (entry.held || entry.image->pinned || entry.damaged) return false;
  return all || entry.image->repo_tags.empty();
}

// What the disk gets back when all of `going` are removed.
std::uint64_t BytesFreed(const std::vector<Entry>& entries, const std::set<Digest>& going) {
  std::set<const Layer*> kept;
  for (const Entry& entry : entries) {
    if (going.contains(entry.image->id)) continue;
    for (const auto& layer : entry.layers) kept.insert(layer.get());
  }
  std::uint64_t out = 0;
  for (const Entry& entry : entries) {
    for (const auto& layer : entry.layers) {
      if (kept.insert(layer.get()).second) out += layer->info().disk_bytes;
    }
  }
  return out;
}

std::set<Digest> Going(const std::vector<Entry>& entries, bool all) {
  std::set<Digest> out;
  for (const Entry& entry : entries) {
    if (CanGo(entry, all)) out.insert(entry.image->id);
  }
  return out;
}

Result<std::vector<HistoryEntry>> HistoryOf(const std::string& config_json, const Entry& entry) {
  const Json document = LN_TRY_CTX(ParseJson(config_json, {.max_bytes = 8U << 20}), "image config");
  std::vector<HistoryEntry> out;
  std::size_t next = 0;
  const auto give_layer = [&](HistoryEntry& to) {
    const auto& diff_ids = entry.image->config.diff_ids;
    if (next >= diff_ids.size()) return;
    to.diff_id = diff_ids[next].str();
    if (next < entry.layers.size() && entry.complete)
      to.disk_bytes = entry.layers[next]->info().disk_bytes;
    ++next;
  };
  for (const JsonView& v : LN_TRY_CTX(JsonView(document).Array("history"), "image config")) {
    HistoryEntry one;
    one.created = LN_TRY(v.Optional<std::string>("created", ""));
    one.created_by = LN_TRY(v.Optional<std::string>("created_by", ""));
    one.comment = LN_TRY(v.Optional<std::string>("comment", ""));
    one.empty_layer = LN_TRY(v.Optional<bool>("empty_layer", false));
    if (!one.empty_layer) give_layer(one);
    out.push_back(std::move(one));
  }
  // Layers that the history does not know.
  while (next < entry.image->config.diff_ids.size()) {
    HistoryEntry one;
    give_layer(one);
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace

Result<ImageDetails> InspectImage(const StoreParts& parts, std::string_view ref_or_id) {
  const auto entry = parts.table.FindEntry(ref_or_id);
  if (!entry) return NotFound("image \"" + std::string(ref_or_id) + "\" is not here");
  ImageDetails out{.image = entry->image, .in_use = entry->held};
  out.config_json = LN_TRY(parts.table.ReadConfig(entry->image->id));
  out.manifest_json = LN_TRY(parts.table.ReadManifest(entry->image->id));
  const auto manifest = Manifest::Parse(out.manifest_json);
  const auto uses = CountUses(parts.table.Entries());
  for (std::size_t i = 0; i < entry->layers.size(); ++i) {
    const auto& layer = entry->layers[i];
    const LayerInfo& info = layer->info();
    LayerDetails one{.diff_id = info.diff_id,
                     .directory = Dirname(layer->path()),
                     .disk_bytes = info.disk_bytes,
                     .inodes = info.inodes,
                     .exact = info.exact};
    if (manifest && entry->complete && manifest->layers.size() == entry->layers.size()) {
      one.blob = manifest->layers[i].digest.str();
      one.blob_bytes = manifest->layers[i].size;
    }
    const auto used = uses.find(layer.get());
    one.images = used == uses.end() ? 0 : used->second;
    out.layers.push_back(std::move(one));
  }
  out.history = LN_TRY(HistoryOf(out.config_json, *entry));
  return out;
}

DiskUse UseOf(const StoreParts& parts) {
  const std::vector<Entry> entries = parts.table.Entries();
  const auto uses = CountUses(entries);
  DiskUse out;
  const ImageTable::Totals totals = parts.table.Count();
  out.bytes = totals.bytes;
  out.inodes = totals.inodes;
  out.unfinished_bytes = parts.pool.CountSpares().bytes;
  out.layers = uses.size();
  for (const Entry& entry : entries) {
    if (entry.damaged) continue;
    DiskUse::PerImage one{.image = entry.image, .in_use = entry.held};
    std::set<const Layer*> seen;
    for (const auto& layer : entry.layers) {
      if (!seen.insert(layer.get()).second) continue;
      one.bytes += layer->info().disk_bytes;
      if (uses.at(layer.get()) == 1) one.unique_bytes += layer->info().disk_bytes;
    }
    out.images.push_back(std::move(one));
  }
  out.reclaimable_bytes = BytesFreed(entries, Going(entries, true)) + out.unfinished_bytes;
  return out;
}

Result<PruneResult> PruneImages(const StoreParts& parts, const PruneOptions& options) {
  const std::vector<Entry> entries = parts.table.Entries();
  const std::set<Digest> going = Going(entries, options.all);
  PruneResult out;
  out.freed_bytes = BytesFreed(entries, going);
  for (const Entry& entry : entries) {
    if (going.contains(entry.image->id)) out.removed.push_back(entry.image);
  }
  if (options.dry_run) {
    out.freed_bytes += parts.pool.CountSpares().bytes;
    return out;
  }
  for (const auto& image : out.removed) LN_TRY(parts.table.Remove(image->id));
  out.freed_bytes += parts.pool.DropSpares().bytes;
  return out;
}

}  // namespace linnet::oci
