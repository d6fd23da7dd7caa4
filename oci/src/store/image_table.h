// Which images there are, under which names: in memory, and in <root>/images:
//
//   index.json                    {"version": 2, "images": [{id, size, tags, digests, removed,
//                                 pinned, layers}]}
//   sha256-<hex>.config.json      the config as it came; its digest is the image's id
//   sha256-<hex>.manifest.json    the manifest as it came (none for an imported root file system)
//
// Version 1 listed an image's visible layers only, each once, without diff ids. It is read and
// written anew as version 2 when the store is opened; an older linnet refuses version 2. What a
// later version has written is refused here.
//
// An image whose last name is gone stays, by id. One that is removed while it is held stays in the
// index as "removed", seen by Hold only: after a restart its layers must not be taken for leftovers
// before recovery has held them again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "linnet/base/json_view.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"
#include "linnet/oci/image_store.h"

#include "store/layer_pool.h"

namespace linnet::oci {

struct NewImage {
  std::string config_json;
  std::string manifest_json;  // may be empty
  ImageConfig config;
  std::uint64_t size_bytes = 0;
  std::vector<std::shared_ptr<const Layer>> layers;  // one for each diff id, lowest first
};

// Where overlayfs is to look, lowest first: each layer once, none below an opaque root; `empty`
// where there is no layer at all.
std::vector<std::string> VisibleDirs(const std::vector<std::shared_ptr<const Layer>>& layers,
                                     const std::string& empty);
// The names by which layers are known where they depend on what lies below.
std::vector<std::string> ChainNames(const std::vector<Digest>& diff_ids);

struct ImageNames {
  std::vector<std::string> tags;
  std::vector<std::string> digests;
};

// Thread-safe. Readers wait for nobody but each other; changes wait for the disk, one after the
// other.
class ImageTable : public std::enable_shared_from_this<ImageTable> {
 public:
  // Reads the index, takes the layers from `pool`, and has the pool remove what no image uses.
  // `pinned`: names, where * stands for anything ("registry.k8s.io/pause:*").
  static Result<std::shared_ptr<ImageTable>> Open(const std::string& directory,
                                                  std::shared_ptr<LayerPool> pool,
                                                  const std::vector<std::string>& pinned = {});
  ImageTable(std::string directory, std::shared_ptr<LayerPool> pool,
             std::vector<std::string> pinned);
  ImageTable(const ImageTable&) = delete;
  ImageTable& operator=(const ImageTable&) = delete;
  ~ImageTable() = default;

  std::vector<std::shared_ptr<const Image>> List() const;
  std::shared_ptr<const Image> Find(std::string_view ref_or_id) const;

  // Durable when it returns. A tag that another image has moves here; its digests stay with it.
  Result<std::shared_ptr<const Image>> Add(NewImage image, const ImageNames& names);
  // The same for an image that is here already; nullptr where it is not.
  Result<std::shared_ptr<const Image>> AddNames(const Digest& id, const ImageNames& names);
  // Absent: success.
  Result<void> Remove(const Digest& id);
  Result<std::shared_ptr<const void>> Hold(const Digest& id);
  // Kept until it is let go of or removed by name. Errors: kNotFound.
  Result<std::shared_ptr<const Image>> Pin(const Digest& id, bool pinned);

  // `fresh` in the place of `old`, in every image.
  Result<void> SwapLayer(const Layer& old, const std::shared_ptr<const Layer>& fresh);

  // What of an image only its administration needs.
  struct Entry {
    std::shared_ptr<const Image> image;
    std::vector<std::shared_ptr<const Layer>> layers;  // as NewImage's; fewer where !complete
    bool complete = false;  // false: from version 1, with layers that nobody sees not kept
    bool held = false;
    bool damaged = false;  // left out of the list
  };
  std::vector<Entry> Entries() const;
  // nullopt: not here.
  std::optional<Entry> FindEntry(std::string_view ref_or_id) const;
  Result<std::string> ReadConfig(const Digest& id) const;
  // "": it has none.
  Result<std::string> ReadManifest(const Digest& id) const;
  // Bytes and inodes of all layers and documents, by what was counted when they were unpacked.
  struct Totals {
    std::uint64_t bytes = 0;
    std::uint64_t inodes = 0;
  };
  Totals Count() const;

 private:
  struct Record {
    std::shared_ptr<const Image> image;  // shared with whoever listed it
    std::vector<std::shared_ptr<const Layer>> layers;
    bool removed = false;
    bool complete = true;
    bool pinned = false;   // by hand
    bool damaged = false;  // since it was read
  };
  using Records = std::map<Digest, Record>;
  struct View {
    std::vector<std::shared_ptr<const Image>> list;  // by id
    std::unordered_map<std::string, std::shared_ptr<const Image>> names;
  };
  struct Held;

  Result<void> Load();
  Result<Record> LoadImage(const JsonView& entry, std::int64_t version);
  bool IsPinned(const Record& record, const Image& image) const;
  Entry MakeEntry(const Record& record) const LN_REQUIRES(mu_);
  static std::string DumpIndex(const Records& records);
  static std::shared_ptr<const View> MakeView(const Records& records);
  std::shared_ptr<const View> CurrentView() const;
  std::shared_ptr<const Image> FindById(const View& view, std::string_view hex) const;
  void GiveNames(Records& records, const Digest& id, const ImageNames& names) const;
  bool IsHeld(const Digest& id) const LN_REQUIRES(mu_);
  Records CopyRecords() const;
  // Writes the index, then makes `next` what readers see. Removed images that nobody holds are
  // dropped; images missing from `next` that somebody holds are kept as removed.
  Result<void> Change(Records next) LN_REQUIRES(change_mu_);
  Result<std::shared_ptr<const Image>> StoreNew(Records next, const Digest& id,
                                                const NewImage& image, const ImageNames& names)
      LN_REQUIRES(change_mu_);
  void RemoveDocuments(const Digest& id) const;
  void PurgeReleased();
  std::string DocumentPath(const Digest& id, std::string_view kind) const;

  const std::string directory_;
  const std::shared_ptr<LayerPool> pool_;  // shared with the store
  std::vector<std::string> pinned_;        // patterns of whole names
  // Changes, one after the other; held across the writing of files. Taken before mu_.
  mutable Mutex change_mu_;
  mutable Mutex mu_;  // memory only
  Records records_ LN_GUARDED_BY(mu_);
  std::shared_ptr<const View> view_ LN_GUARDED_BY(mu_);
  std::map<Digest, std::weak_ptr<const Held>> held_ LN_GUARDED_BY(mu_);
  std::set<Digest> going_ LN_GUARDED_BY(mu_);  // being dropped: cannot be held any more
};

}  // namespace linnet::oci
