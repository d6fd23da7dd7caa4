// Places the entries of a layer below one directory, by descriptor, in the form that overlayfs
// reads.
//
// - Names are cleaned lexically; one that would leave the root is an error. Parents are opened with
// RESOLVE_IN_ROOT: a
//   symbolic link that the layer itself brought is followed inside the layer's root and nowhere
//   else. The last component is never followed: something that exists is removed, then made anew
//   with O_EXCL.
// - ".wh.NAME" becomes a character device 0:0, ".wh..wh..opq" the attribute trusted.overlay.opaque
// of its directory.
//   They speak of lower layers only: what this layer itself has under that name stays, whatever the
//   order.
// - Hard links reach files of this layer. A link to a file of a lower layer, and directories that
// are only implied by
//   the names of their entries, depend on what lies below: they are reported, and CompleteFromLower
//   settles them.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/file.h"
#include "linnet/base/result.h"
#include "linnet/base/unique_fd.h"

#include "unpack/tar_reader.h"

namespace linnet::oci {

struct UnpackLimits {
  std::uint64_t max_bytes = 100ULL << 30;  // of file data, in whole pages of 4 KiB
  std::uint64_t max_entries = 2'000'000;
  std::size_t max_depth = 256;                    // components of a name
  std::size_t max_xattr_bytes = 64U << 10;        // per entry, names and values
  std::size_t max_pending_bytes = 4U << 20;       // of names kept for CompleteFromLower
  std::uint64_t max_window_bytes = 128ULL << 20;  // of zstd: memory that a layer may ask for
};

struct PendingLink {
  std::string path;
  std::string target;
};

struct LayerFacts {
  std::uint64_t disk_bytes = 0;  // what the files occupy, in whole 4 KiB pages
  std::uint64_t inodes = 0;
  bool opaque_root = false;  // hides all layers below
  // Sorted, parents first; relative to the layer's root.
  std::vector<std::string> implied_dirs;
  std::vector<PendingLink> pending_links;
  // What CompleteFromLower put elsewhere: directory → where the link below of that name leads.
  std::map<std::string, std::string> moved;
  bool DependsOnLower() const { return !implied_dirs.empty() || !pending_links.empty(); }
};

// Lexically cleaned, relative, "" for the root. Errors: kInvalidArgument.
Result<std::string> CleanEntryPath(std::string_view path, const UnpackLimits& limits);

// Thread-compatible.
class LayerWriter {
 public:
  // `root` stays open and belongs to this writer alone until it is destroyed.
  LayerWriter(FdRef root, const UnpackLimits& limits);
  ~LayerWriter();
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;

  // The umask of the calling thread (it must be the one that calls Place) is 0 already.
  void AssumeNoUmask() { no_umask_ = true; }

  // `read` gives the entry's data. Errors name the entry; kInvalidArgument: the archive is hostile
  // or damaged, kResourceExhausted: a limit, or the disk is full.
  using ReadData = std::function<Result<std::optional<TarReader::Data>>()>;
  Result<void> Place(const TarEntry& entry, const ReadData& read);
  // After the last entry.
  Result<LayerFacts> Finish();

 private:
  struct Parent {
    std::string path;
    UniqueFd fd;
    struct stat before {};  // its times are put back when it is left
    bool default_acl = false;
  };

  Result<void> PlaceAt(const TarEntry& entry, const std::string& path, const ReadData& read);
  Result<void> EnterParent(const std::string& path);
  Result<void> LeaveParent();
  Result<UniqueFd> OpenParent(const std::string& path);
  Result<UniqueFd> OpenMakingParents(const std::string& path);
  Result<UniqueFd> MakeImplied(FdRef dir, const std::string& name, const std::string& path);
  Result<void> CountInode();
  Result<void> PlaceRoot(const TarEntry& entry);
  Result<void> PlaceFile(const TarEntry& entry, const std::string& name, const ReadData& read);
  Result<void> PlaceDirectory(const TarEntry& entry, const std::string& name);
  Result<void> PlaceSymlink(const TarEntry& entry, const std::string& name);
  Result<void> PlaceHardLink(const TarEntry& entry, const std::string& path,
                             const std::string& name);
  Result<void> PlaceNode(const TarEntry& entry, const std::string& name);
  Result<void> PlaceWhiteout(std::string_view name);
  Result<void> PlaceOpaque();
  Result<void> WriteData(FdRef fd, const TarEntry& entry, const ReadData& read);
  // Makes way for an entry that is no directory. Was what stood there a whiteout?
  Result<bool> Displace(const std::string& name);
  Result<void> SetOwnerAndMode(FdRef fd, const TarEntry& entry);
  Result<void> SetOwnerAt(const TarEntry& entry, const std::string& name);
  Result<void> SetXattrs(FdRef fd, const TarEntry& entry);
  bool NeedsChown(const TarEntry& entry) const;
  bool ModeIsExact(const TarEntry& entry) const;
  Result<void> RememberPending(std::size_t bytes);

  FdRef root_;
  const UnpackLimits limits_;
  LayerFacts facts_;
  std::set<std::string, std::less<>> implied_;
  Parent parent_;
  bool no_umask_ = false;
  std::uint64_t entries_ = 0;
  std::uint64_t data_bytes_ = 0;
  std::size_t pending_bytes_ = 0;
  std::uint32_t euid_ = 0, egid_ = 0;
};

// Gives implied directories the attributes of the directory that lies below, moves those that are a
// link below to where the link leads, and makes the files of pending links by copying. `lower`: the
// layers below, highest first. Errors: kInvalidArgument for a link to a file that is nowhere.
Result<void> CompleteFromLower(FdRef layer_root, LayerFacts& facts,
                               const std::vector<std::string>& lower);

}  // namespace linnet::oci
