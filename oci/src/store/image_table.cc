#include "store/image_table.h"

#include <unistd.h>

#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/log.h"

namespace linnet::oci {
namespace {

constexpr std::int64_t kVersion = 1;
constexpr const char* kIndexName = "index.json";
constexpr std::size_t kMaxIndexBytes = 64U << 20;
constexpr std::size_t kMinIdDigits = 7;
constexpr std::uint64_t kDocumentBytes = 8192;  // of one image's config and manifest, whole pages
constexpr std::uint64_t kDocumentInodes = 2;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

void Insert(std::vector<std::string>& sorted, const std::string& text) {
  const auto at = std::lower_bound(sorted.begin(), sorted.end(), text);
  if (at == sorted.end() || *at != text) sorted.insert(at, text);
}

void Erase(std::vector<std::string>& from, const std::string& text) {
  from.erase(std::remove(from.begin(), from.end(), text), from.end());
}

Json DumpLayer(const LayerInfo& info) {
  Json out = {{"name", info.name}, {"bytes", info.disk_bytes}, {"inodes", info.inodes}};
  if (info.opaque_root) out["opaque"] = true;
  if (info.chained) out["chained"] = true;
  return out;
}

Result<LayerInfo> ParseLayer(const JsonView& v) {
  LayerInfo out;
  out.name = LN_TRY(v.Required<std::string>("name"));
  // It becomes a path: nothing but what LayerName makes.
  const std::size_t dash = out.name.find('-');
  if (dash == std::string::npos) return v.Fail("not the name of a layer");
  const Digest id =
      LN_TRY(Digest::Parse(out.name.substr(0, dash) + ":" + out.name.substr(dash + 1)));
  out.name = LayerName(id);
  out.disk_bytes = LN_TRY(v.Optional<std::uint64_t>("bytes", 0));
  out.inodes = LN_TRY(v.Optional<std::uint64_t>("inodes", 0));
  out.opaque_root = LN_TRY(v.Optional<bool>("opaque", false));
  out.chained = LN_TRY(v.Optional<bool>("chained", false));
  return out;
}

}  // namespace

// A hold: the layers, and a word to the table when it ends.
struct ImageTable::Held {
  std::weak_ptr<ImageTable> table;
  std::vector<std::shared_ptr<const Layer>> layers;

  Held(std::weak_ptr<ImageTable> t, std::vector<std::shared_ptr<const Layer>> l)
      : table(std::move(t)), layers(std::move(l)) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    const std::shared_ptr<ImageTable> t = table.lock();
    if (!t) return;
    t->pool_->Post([weak = table] {
      if (const std::shared_ptr<ImageTable> still = weak.lock()) still->PurgeReleased();
    });
  }
};

ImageTable::ImageTable(std::string directory, std::shared_ptr<LayerPool> pool)
    : directory_(std::move(directory)), pool_(std::move(pool)), view_(std::make_shared<View>()) {}

Result<std::shared_ptr<ImageTable>> ImageTable::Open(const std::string& directory,
                                                     std::shared_ptr<LayerPool> pool) {
  LN_TRY(MakeDirs(directory, 0700));
  auto table = std::make_shared<ImageTable>(directory, std::move(pool));
  LN_TRY(table->Load());
  return table;
}

std::string ImageTable::DocumentPath(const Digest& id, std::string_view kind) const {
  return JoinPath(directory_, LayerName(id) + "." + std::string(kind) + ".json");
}

// ---- disk ----

Result<void> ImageTable::Load() {
  const std::string path = JoinPath(directory_, kIndexName);
  Records records;
  if (Exists(path)) {
    const std::string text = LN_TRY(ReadFile(path, kMaxIndexBytes));
    auto document = ParseJson(text, {.max_bytes = kMaxIndexBytes});
    if (!document) return std::move(document).error().With(path).As(Code::kDataLoss);
    const JsonView v(*document);
    const auto version = LN_TRY_CTX(v.Required<std::int64_t>("version"), path);
    if (version != kVersion) {
      return FailedPrecondition(path + ": version " + std::to_string(version) +
                                " was written by another version of linnet");
    }
    for (const JsonView& entry : LN_TRY_CTX(v.Array("images"), path)) {
      auto record = LoadImage(entry);
      if (!record) {
        log::Debug("image left out", {{"err", record.error()}});
        continue;
      }
      const Digest id = record->image->id;
      records.insert_or_assign(id, *std::move(record));
    }
  }
  // Documents of images that are not in the index.
  std::set<std::string> wanted = {kIndexName};
  for (const auto& [id, record] : records) {
    wanted.insert(Basename(DocumentPath(id, "config")));
    wanted.insert(Basename(DocumentPath(id, "manifest")));
  }
  for (const std::string& name : LN_TRY(ListDir(directory_))) {
    if (!wanted.contains(name)) LN_TRY(RemoveAll(JoinPath(directory_, name)));
  }
  LN_TRY(pool_->RemoveUnknown());
  MutexLock lock(mu_);
  view_ = MakeView(records);
  records_ = std::move(records);
  return Ok();
}

// What of it can be read. An image that is damaged is kept as removed: a container may still run on
// its layers.
Result<ImageTable::Record> ImageTable::LoadImage(const JsonView& entry) {
  Record record;
  const auto id_text = LN_TRY(entry.Required<std::string>("id"));
  const Digest id = LN_TRY(Digest::Parse(id_text));
  auto image = std::make_shared<Image>(Image{.id = id});
  image->size_bytes = LN_TRY(entry.Optional<std::uint64_t>("size", 0));
  image->repo_tags = LN_TRY(entry.Strings("tags"));
  image->repo_digests = LN_TRY(entry.Strings("digests"));
  record.removed = LN_TRY(entry.Optional<bool>("removed", false));
  bool damaged = false;
  for (const JsonView& v : LN_TRY(entry.Array("layers"))) {
    const LayerInfo info = LN_TRY(ParseLayer(v));
    std::shared_ptr<const Layer> layer = pool_->Adopt(info);
    if (!layer) {
      damaged = true;
      continue;
    }
    image->layer_dirs.push_back(layer->path());
    record.layers.push_back(std::move(layer));
  }
  const auto config = ReadFile(DocumentPath(id, "config"));
  if (config && Digest::Sha256Of(*config) == id) {
    auto parsed = ImageConfig::Parse(*config);
    if (parsed) {
      image->config = *std::move(parsed);
    } else {
      damaged = true;
    }
  } else {
    damaged = true;
  }
  if (damaged) {
    log::Debug("image is damaged and left out", {{"id", id}});
    record.removed = true;
  }
  if (record.removed) {
    image->repo_tags.clear();
    image->repo_digests.clear();
  }
  record.image = std::move(image);
  return record;
}

std::string ImageTable::DumpIndex(const Records& records) {
  Json images = Json::array();
  for (const auto& [id, record] : records) {
    Json layers = Json::array();
    for (const auto& layer : record.layers) layers.push_back(DumpLayer(layer->info()));
    Json entry = {{"id", id.str()},
                  {"size", record.image->size_bytes},
                  {"tags", record.image->repo_tags},
                  {"digests", record.image->repo_digests},
                  {"layers", std::move(layers)}};
    if (record.removed) entry["removed"] = true;
    images.push_back(std::move(entry));
  }
  return DumpJson(Json{{"version", kVersion}, {"images", std::move(images)}}, 1) + "\n";
}

// ---- reading ----

std::shared_ptr<const ImageTable::View> ImageTable::MakeView(const Records& records) {
  auto view = std::make_shared<View>();
  for (const auto& [id, record] : records) {
    if (record.removed) continue;
    view->list.push_back(record.image);
    for (const std::string& tag : record.image->repo_tags) view->names[tag] = record.image;
    for (const std::string& digest : record.image->repo_digests) view->names[digest] = record.image;
  }
  return view;
}

std::shared_ptr<const ImageTable::View> ImageTable::CurrentView() const {
  MutexLock lock(mu_);
  return view_;
}

std::vector<std::shared_ptr<const Image>> ImageTable::List() const { return CurrentView()->list; }

std::shared_ptr<const Image> ImageTable::FindById(const View& view, std::string_view hex) const {
  if (hex.size() < kMinIdDigits || !IsHex(hex)) return nullptr;
  std::shared_ptr<const Image> found;
  for (const auto& image : view.list) {
    if (!image->id.hex().starts_with(hex)) continue;
    if (image->id.hex() == hex) return image;
    if (found) return nullptr;  // ambiguous
    found = image;
  }
  return found;
}

std::shared_ptr<const Image> ImageTable::Find(std::string_view ref_or_id) const {
  const std::shared_ptr<const View> view = CurrentView();
  constexpr std::string_view kSha256 = "sha256:";
  if (ref_or_id.starts_with(kSha256)) return FindById(*view, ref_or_id.substr(kSha256.size()));
  if (const auto at = view->names.find(std::string(ref_or_id)); at != view->names.end()) {
    return at->second;
  }
  if (const auto ref = Reference::Parse(ref_or_id)) {
    if (const auto at = view->names.find(ref->str()); at != view->names.end()) return at->second;
  }
  return FindById(*view, ref_or_id);
}

ImageTable::Totals ImageTable::Count() const {
  Totals out;
  std::set<const Layer*> seen;
  MutexLock lock(mu_);
  for (const auto& [id, record] : records_) {
    out.bytes += kDocumentBytes;
    out.inodes += kDocumentInodes;
    for (const auto& layer : record.layers) {
      if (!seen.insert(layer.get()).second) continue;
      out.bytes += layer->info().disk_bytes;
      out.inodes += layer->info().inodes;
    }
  }
  return out;
}

// ---- changing ----

namespace {

bool HasAny(const std::vector<std::string>& sorted, const std::vector<std::string>& wanted) {
  return std::any_of(wanted.begin(), wanted.end(), [&sorted](const std::string& name) {
    return std::binary_search(sorted.begin(), sorted.end(), name);
  });
}

}  // namespace

void ImageTable::GiveNames(Records& records, const Digest& id, const ImageNames& names) {
  for (auto& [other, record] : records) {
    if (other == id || !(HasAny(record.image->repo_tags, names.tags) ||
                         HasAny(record.image->repo_digests, names.digests))) {
      continue;
    }
    auto image = std::make_shared<Image>(*record.image);
    for (const std::string& tag : names.tags) Erase(image->repo_tags, tag);
    for (const std::string& digest : names.digests) Erase(image->repo_digests, digest);
    record.image = std::move(image);
  }
  Record& record = records.at(id);
  auto image = std::make_shared<Image>(*record.image);
  for (const std::string& tag : names.tags) Insert(image->repo_tags, tag);
  for (const std::string& digest : names.digests) Insert(image->repo_digests, digest);
  record.image = std::move(image);
}

bool ImageTable::IsHeld(const Digest& id) const {
  const auto held = held_.find(id);
  return held != held_.end() && !held->second.expired();
}

ImageTable::Records ImageTable::CopyRecords() const {
  MutexLock lock(mu_);
  return records_;
}

Result<void> ImageTable::Change(Records next) {
  std::vector<Digest> gone;
  {
    MutexLock lock(mu_);
    for (auto at = next.begin(); at != next.end();) {
      at = at->second.removed && !IsHeld(at->first) ? next.erase(at) : std::next(at);
    }
    for (const auto& [id, record] : records_) {
      if (next.contains(id)) continue;
      if (!IsHeld(id)) {
        gone.push_back(id);
        going_.insert(id);
        continue;
      }
      auto image = std::make_shared<Image>(*record.image);
      image->repo_tags.clear();
      image->repo_digests.clear();
      next[id] = Record{std::move(image), record.layers, true};
    }
  }
  auto written = WriteFileDurable(JoinPath(directory_, kIndexName), DumpIndex(next));
  std::shared_ptr<const View> view = MakeView(next);
  Records before;  // let go of outside the lock: that removes layers
  {
    MutexLock lock(mu_);
    going_.clear();  // changes come one at a time: all of them are this one's
    LN_TRY(std::move(written));
    before = std::exchange(records_, std::move(next));
    view_ = std::move(view);
    for (const Digest& id : gone) held_.erase(id);
  }
  for (const Digest& id : gone) RemoveDocuments(id);
  return Ok();
}

void ImageTable::RemoveDocuments(const Digest& id) const {
  // What stays is removed at the next start.
  (void)RemoveFile(DocumentPath(id, "config"));
  (void)RemoveFile(DocumentPath(id, "manifest"));
}

Result<std::shared_ptr<const Image>> ImageTable::Add(NewImage image, const ImageNames& names) {
  const Digest id = Digest::Sha256Of(image.config_json);
  MutexLock change(change_mu_);
  Records next = CopyRecords();
  const bool is_new = !next.contains(id);
  Record& record = next[id];
  // A damaged one (removed, without its config or with layers missing) is made whole.
  if (is_new || record.removed) {
    auto made = std::make_shared<Image>(Image{.id = id});
    made->size_bytes = image.size_bytes;
    made->config = std::move(image.config);
    for (const auto& layer : image.layers) made->layer_dirs.push_back(layer->path());
    record = Record{std::move(made), std::move(image.layers), false};
  }
  auto stored = StoreNew(std::move(next), id, image, names);
  if (!stored && is_new) RemoveDocuments(id);
  return stored;
}

Result<std::shared_ptr<const Image>> ImageTable::StoreNew(Records next, const Digest& id,
                                                          const NewImage& image,
                                                          const ImageNames& names) {
  LN_TRY(WriteFileDurable(DocumentPath(id, "config"), image.config_json));
  if (!image.manifest_json.empty()) {
    LN_TRY(WriteFileDurable(DocumentPath(id, "manifest"), image.manifest_json));
  }
  GiveNames(next, id, names);
  std::shared_ptr<const Image> out = next.at(id).image;
  LN_TRY(Change(std::move(next)));
  return out;
}

Result<std::shared_ptr<const Image>> ImageTable::AddNames(const Digest& id,
                                                          const ImageNames& names) {
  MutexLock change(change_mu_);
  Records next = CopyRecords();
  const auto at = next.find(id);
  if (at == next.end() || at->second.removed) return std::shared_ptr<const Image>();
  const std::shared_ptr<const Image> before = at->second.image;
  GiveNames(next, id, names);
  std::shared_ptr<const Image> out = next.at(id).image;
  if (out->repo_tags == before->repo_tags && out->repo_digests == before->repo_digests) {
    return before;  // pulled again, nothing new: nothing to write
  }
  LN_TRY(Change(std::move(next)));
  return out;
}

Result<void> ImageTable::Remove(const Digest& id) {
  MutexLock change(change_mu_);
  Records next = CopyRecords();
  if (next.erase(id) == 0) return Ok();
  return Change(std::move(next));
}

void ImageTable::PurgeReleased() {
  MutexLock change(change_mu_);
  Records next = CopyRecords();
  if (std::none_of(next.begin(), next.end(), [](const auto& e) { return e.second.removed; }))
    return;
  auto changed = Change(std::move(next));
  // It is tried again with the next change, and at the next start.
  if (!changed) log::Debug("released image not removed, ignoring", {{"err", changed.error()}});
}

Result<std::shared_ptr<const void>> ImageTable::Hold(const Digest& id) {
  MutexLock lock(mu_);
  const auto at = records_.find(id);
  if (at == records_.end() || going_.contains(id))
    return NotFound("image " + id.str() + " is not here");
  std::weak_ptr<const Held>& known = held_[id];
  std::shared_ptr<const Held> held = known.lock();
  if (!held) {
    held = std::make_shared<const Held>(weak_from_this(), at->second.layers);
    known = held;
  }
  return std::static_pointer_cast<const void>(held);
}

}  // namespace linnet::oci
