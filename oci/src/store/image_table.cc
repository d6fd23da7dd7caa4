#include "store/image_table.h"

#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/log.h"

namespace linnet::oci {
namespace {

constexpr std::int64_t kVersion = 2;
constexpr std::int64_t kOldestVersion = 1;
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

// "pause:*" → "docker.io/library/pause:*", as names are stored; what starts with * stays.
std::string WholePattern(const std::string& pattern) {
  constexpr std::string_view kLatest = ":latest";
  std::string plain = pattern;
  std::replace(plain.begin(), plain.end(), '*', 'x');
  const auto ref = Reference::Parse(plain);
  if (!ref || pattern.starts_with('*')) return pattern;
  std::string whole = ref->str();
  std::string end = pattern;
  if (whole.ends_with(kLatest) && !plain.ends_with(kLatest)) {
    // "registry.k8s.io/*" means every tag.
    if (pattern.ends_with('*')) {
      whole.resize(whole.size() - kLatest.size());
    } else {
      end += kLatest;
    }
  }
  return whole.substr(0, whole.size() - std::min(whole.size(), end.size())) + end;
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

std::vector<std::string> VisibleDirs(const std::vector<std::shared_ptr<const Layer>>& layers,
                                     const std::string& empty) {
  std::vector<std::string> out;
  // From the top: of a layer that comes twice, overlayfs takes one only, and the upper one decides.
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    if (std::find(out.begin(), out.end(), (*layer)->path()) == out.end())
      out.push_back((*layer)->path());
    if ((*layer)->info().opaque_root) break;
  }
  if (out.empty()) out.push_back(empty);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> ChainNames(const std::vector<Digest>& diff_ids) {
  std::vector<std::string> out;
  std::optional<Digest> chain;
  for (const Digest& diff_id : diff_ids) {
    chain = chain ? Digest::Sha256Of(chain->str() + " " + diff_id.str()) : diff_id;
    out.push_back(LayerName(*chain));
  }
  return out;
}

ImageTable::ImageTable(std::string directory, std::shared_ptr<LayerPool> pool,
                       std::vector<std::string> pinned)
    : directory_(std::move(directory)),
      pool_(std::move(pool)),
      pinned_(std::move(pinned)),
      view_(std::make_shared<View>()) {
  for (std::string& pattern : pinned_) pattern = WholePattern(pattern);
}

Result<std::shared_ptr<ImageTable>> ImageTable::Open(const std::string& directory,
                                                     std::shared_ptr<LayerPool> pool,
                                                     const std::vector<std::string>& pinned) {
  LN_TRY(MakeDirs(directory, 0700));
  auto table = std::make_shared<ImageTable>(directory, std::move(pool), pinned);
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
  std::int64_t version = kVersion;
  if (Exists(path)) {
    const std::string text = LN_TRY(ReadFile(path, kMaxIndexBytes));
    auto document = ParseJson(text, {.max_bytes = kMaxIndexBytes});
    if (!document) return std::move(document).error().With(path).As(Code::kDataLoss);
    const JsonView v(*document);
    version = LN_TRY_CTX(v.Required<std::int64_t>("version"), path);
    if (version < kOldestVersion || version > kVersion) {
      return FailedPrecondition(path + ": version " + std::to_string(version) +
                                " was written by a later version of linnet; this one reads " +
                                std::to_string(kOldestVersion) + " to " + std::to_string(kVersion) +
                                ": install that one again");
    }
    for (const JsonView& entry : LN_TRY_CTX(v.Array("images"), path)) {
      auto record = LoadImage(entry, version);
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
  if (version != kVersion) LN_TRY(WriteFileDurable(path, DumpIndex(records)));
  MutexLock lock(mu_);
  view_ = MakeView(records);
  records_ = std::move(records);
  return Ok();
}

namespace {

// One layer for each diff id; false where there are some that nobody kept.
bool CompleteFromVersion1(const std::vector<Digest>& diff_ids, std::vector<LayerInfo>& infos) {
  if (diff_ids.empty()) return infos.empty();
  const std::vector<std::string> chains = ChainNames(diff_ids);
  std::vector<LayerInfo> out;
  for (std::size_t i = 0; i < diff_ids.size(); ++i) {
    const std::string plain = LayerName(diff_ids[i]);
    const auto at = std::find_if(infos.begin(), infos.end(), [&](const LayerInfo& info) {
      return info.name == chains[i] || (info.name == plain && !info.chained);
    });
    if (at == infos.end()) return false;
    out.push_back(*at);
    out.back().diff_id = diff_ids[i].str();
  }
  infos = std::move(out);
  return true;
}

}  // namespace

// What of it can be read. An image that is damaged is kept as removed: a container may still run on
// its layers.
Result<ImageTable::Record> ImageTable::LoadImage(const JsonView& entry, std::int64_t version) {
  Record record;
  const auto id_text = LN_TRY(entry.Required<std::string>("id"));
  const Digest id = LN_TRY(Digest::Parse(id_text));
  auto image = std::make_shared<Image>(Image{.id = id});
  image->size_bytes = LN_TRY(entry.Optional<std::uint64_t>("size", 0));
  image->repo_tags = LN_TRY(entry.Strings("tags"));
  image->repo_digests = LN_TRY(entry.Strings("digests"));
  record.removed = LN_TRY(entry.Optional<bool>("removed", false));
  record.complete = LN_TRY(entry.Optional<bool>("complete", true));
  record.pinned = LN_TRY(entry.Optional<bool>("pinned", false));
  bool damaged = false;
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
  std::vector<LayerInfo> infos;
  for (const JsonView& v : LN_TRY(entry.Array("layers"))) infos.push_back(LN_TRY(ParseLayer(v)));
  if (version == 1) record.complete = CompleteFromVersion1(image->config.diff_ids, infos);
  for (const LayerInfo& info : infos) {
    std::shared_ptr<const Layer> layer = pool_->Adopt(info);
    if (!layer) {
      damaged = true;
      continue;
    }
    record.layers.push_back(std::move(layer));
  }
  image->layer_dirs = VisibleDirs(record.layers, pool_->empty_layer());
  if (damaged) {
    log::Debug("image is damaged and left out", {{"id", id}});
    record.removed = true;
    record.damaged = true;
  }
  if (record.removed) {
    image->repo_tags.clear();
    image->repo_digests.clear();
  }
  image->pinned = IsPinned(record, *image);
  record.image = std::move(image);
  return record;
}

bool ImageTable::IsPinned(const Record& record, const Image& image) const {
  if (record.pinned) return true;
  for (const std::string& pattern : pinned_) {
    for (const std::string& tag : image.repo_tags) {
      if (fnmatch(pattern.c_str(), tag.c_str(), 0) == 0) return true;
    }
  }
  return false;
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
    if (!record.complete) entry["complete"] = false;
    if (record.pinned) entry["pinned"] = true;
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
  const LayerPool::Totals spares = pool_->CountSpares();
  out.bytes = spares.bytes;
  out.inodes = spares.inodes;
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

void ImageTable::GiveNames(Records& records, const Digest& id, const ImageNames& names) const {
  for (auto& [other, record] : records) {
    if (other == id || !(HasAny(record.image->repo_tags, names.tags) ||
                         HasAny(record.image->repo_digests, names.digests))) {
      continue;
    }
    auto image = std::make_shared<Image>(*record.image);
    for (const std::string& tag : names.tags) Erase(image->repo_tags, tag);
    for (const std::string& digest : names.digests) Erase(image->repo_digests, digest);
    image->pinned = IsPinned(record, *image);
    record.image = std::move(image);
  }
  Record& record = records.at(id);
  auto image = std::make_shared<Image>(*record.image);
  for (const std::string& tag : names.tags) Insert(image->repo_tags, tag);
  for (const std::string& digest : names.digests) Insert(image->repo_digests, digest);
  image->pinned = IsPinned(record, *image);
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
      Record& kept = next[id];
      kept = record;
      kept.image = std::move(image);
      kept.removed = true;
      kept.pinned = false;
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
  // A damaged one (removed, without its config or with layers missing) is made whole, and so is one
  // of which not all layers were kept, or one whose tars could not be made again.
  if (is_new || record.removed || !record.complete) {
    auto made = std::make_shared<Image>(Image{.id = id});
    made->size_bytes = image.size_bytes;
    made->config = std::move(image.config);
    made->layer_dirs = VisibleDirs(image.layers, pool_->empty_layer());
    if (record.image && !record.removed) {
      made->repo_tags = record.image->repo_tags;
      made->repo_digests = record.image->repo_digests;
    }
    const bool pinned = record.pinned;
    record = Record{.image = std::move(made), .layers = std::move(image.layers)};
    record.pinned = pinned;
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
  const std::vector<std::shared_ptr<const Layer>> layers = next.at(id).layers;
  LN_TRY(Change(std::move(next)));
  pool_->ForgetSpares(layers);
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

Result<std::shared_ptr<const Image>> ImageTable::Pin(const Digest& id, bool pinned) {
  MutexLock change(change_mu_);
  Records next = CopyRecords();
  const auto at = next.find(id);
  if (at == next.end() || at->second.removed) return NotFound("image " + id.str() + " is not here");
  Record& record = at->second;
  record.pinned = pinned;
  auto image = std::make_shared<Image>(*record.image);
  image->pinned = IsPinned(record, *image);
  std::shared_ptr<const Image> out = image;
  record.image = std::move(image);
  LN_TRY(Change(std::move(next)));
  return out;
}

Result<void> ImageTable::SwapLayer(const Layer& old, const std::shared_ptr<const Layer>& fresh) {
  MutexLock change(change_mu_);
  Records next = CopyRecords();
  for (auto& [id, record] : next) {
    for (auto& layer : record.layers) {
      if (layer.get() == &old) layer = fresh;
    }
  }
  return Change(std::move(next));
}

ImageTable::Entry ImageTable::MakeEntry(const Record& record) const {
  return Entry{.image = record.image,
               .layers = record.layers,
               .complete = record.complete && !record.damaged,
               .held = IsHeld(record.image->id),
               .damaged = record.damaged};
}

std::vector<ImageTable::Entry> ImageTable::Entries() const {
  std::vector<Entry> out;
  MutexLock lock(mu_);
  for (const auto& [id, record] : records_) {
    if (!record.removed || record.damaged) out.push_back(MakeEntry(record));
  }
  return out;
}

std::optional<ImageTable::Entry> ImageTable::FindEntry(std::string_view ref_or_id) const {
  const std::shared_ptr<const Image> image = Find(ref_or_id);
  MutexLock lock(mu_);
  const auto at = image ? records_.find(image->id) : records_.end();
  if (at == records_.end()) return std::nullopt;
  return MakeEntry(at->second);
}

Result<std::string> ImageTable::ReadConfig(const Digest& id) const {
  std::string text = LN_TRY(ReadFile(DocumentPath(id, "config")));
  if (Digest::Sha256Of(text) != id)
    return Error(Code::kDataLoss, "the config of image " + id.str() + " is damaged: pull it again");
  return text;
}

Result<std::string> ImageTable::ReadManifest(const Digest& id) const {
  auto text = ReadFile(DocumentPath(id, "manifest"));
  if (!text && text.error().Is(Code::kNotFound)) return std::string();
  return text;
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
