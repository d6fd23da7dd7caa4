#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>
#include <unordered_set>

#include "linnet/base/file.h"

#include "store/check.h"
#include "unpack/tar_recipe.h"

namespace linnet::oci {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";
constexpr int kMaxDepth = 300;

std::size_t HashOf(std::string_view path) { return std::hash<std::string_view>()(path); }

std::string Shown(const std::string& path) { return "\"" + path.substr(0, 256) + "\""; }

std::string Octal(unsigned mode) {
  std::string out;
  for (int shift = 9; shift >= 0; shift -= 3)
    out += static_cast<char>('0' + (mode >> static_cast<unsigned>(shift) & 7U));
  return out;
}

class Comparison {
 public:
  Comparison(FdRef directory, FdRef tree, const LayerInfo& info, std::size_t max)
      : directory_(directory), tree_(tree), info_(info), max_(max) {}

  Result<std::vector<std::string>> Run() {
    root_path_ = LN_TRY(ReadLink(FdPath(tree_)));
    // Of a name that comes twice, the last entry counts.
    std::uint64_t ordinal = 0;
    const auto count = [&](const TarEntry& entry) -> Result<void> {
      last_[HashOf(LN_TRY(CleanEntryPath(entry.path, UnpackLimits())))] = ordinal++;
      return Ok();
    };
    LN_TRY(TarRebuilder::ForEachEntry(directory_, count));
    ordinal = 0;
    const auto compare = [&](const TarEntry& entry) -> Result<void> {
      const std::string path = LN_TRY(CleanEntryPath(entry.path, UnpackLimits()));
      const bool counts = last_.at(HashOf(path)) == ordinal++;
      return counts ? Compare(entry, Moved(path)) : Ok();
    };
    LN_TRY(TarRebuilder::ForEachEntry(directory_, compare));
    // What was put elsewhere, or taken from below, the tar does not know.
    if (!info_.chained) LN_TRY(FindForeign(tree_, "", 0));
    if (count_ > problems_.size())
      problems_.push_back("and " + std::to_string(count_ - problems_.size()) + " more");
    return std::move(problems_);
  }

 private:
  void Problem(const std::string& path, const std::string& what) {
    ++count_;
    if (problems_.size() < max_) problems_.push_back(Shown(path) + " " + what);
  }

  std::string Moved(const std::string& path) const {
    for (const auto& [from, to] : info_.moved) {
      if (path.starts_with(from) && (path.size() == from.size() || path[from.size()] == '/'))
        return to + path.substr(from.size());
    }
    return path;
  }

  // Remembers the real name of what `path` leads to, with the directories above.
  void Expect(const std::string& real) {
    for (std::size_t slash = real.find('/'); slash != std::string::npos;
         slash = real.find('/', slash + 1)) {
      expected_.insert(HashOf(std::string_view(real).substr(0, slash)));
    }
    expected_.insert(HashOf(real));
  }

  // False: it is missing, and that was said.
  bool OpenParent(const std::string& path, const std::string& parent) {
    if (parent_fd_ && parent == parent_) return true;
    auto fd =
        OpenAt2(tree_, parent.empty() ? "." : parent, O_PATH | O_DIRECTORY, 0, RESOLVE_IN_ROOT);
    const auto real = fd ? ReadLink(FdPath(*fd)) : Result<std::string>(fd.error());
    if (!real || !real->starts_with(root_path_)) {
      Problem(path, "is missing");
      return false;
    }
    parent_fd_ = *std::move(fd);
    parent_ = parent;
    real_parent_ = real->substr(std::min(real->size(), root_path_.size() + 1));
    return true;
  }

  Result<void> Compare(const TarEntry& entry, const std::string& path) {
    if (path.empty()) {
      CompareAttributes(entry, tree_, ".", path);
      return Ok();
    }
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
    std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (!OpenParent(path, parent)) return Ok();
    const auto real = [&] { return real_parent_.empty() ? name : JoinPath(real_parent_, name); };
    if (name == kOpaqueName) {
      Expect(real_parent_);
      return Ok();
    }
    if (name.starts_with(kWhiteoutPrefix)) {
      name.erase(0, kWhiteoutPrefix.size());
      Expect(real());
      struct stat st {};
      if (fstatat(parent_fd_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
        Problem(path, "(a whiteout) is missing");
      return Ok();
    }
    Expect(real());
    CompareAttributes(entry, parent_fd_, name, path);
    return Ok();
  }

  static bool KindFits(EntryKind kind, const struct stat& st) {
    switch (kind) {
      case EntryKind::kFile:
      case EntryKind::kHardLink:
        return true;  // a link may lead to a symbolic link; a file's contents tell
      case EntryKind::kDirectory:
        return S_ISDIR(st.st_mode);
      case EntryKind::kSymlink:
        return S_ISLNK(st.st_mode);
      case EntryKind::kCharDevice:
        return S_ISCHR(st.st_mode);
      case EntryKind::kBlockDevice:
        return S_ISBLK(st.st_mode);
      case EntryKind::kFifo:
        return S_ISFIFO(st.st_mode);
    }
    return false;
  }

  void CompareAttributes(const TarEntry& entry, FdRef dir, const std::string& name,
                         const std::string& path) {
    struct stat st {};
    if (fstatat(dir.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      Problem(path, errno == ENOENT ? "is missing" : "cannot be read");
      return;
    }
    if (!KindFits(entry.kind, st) || (entry.kind == EntryKind::kFile && !S_ISREG(st.st_mode))) {
      Problem(path, "is of another kind");
      return;
    }
    if (entry.kind == EntryKind::kHardLink) return;  // its attributes are those of its target
    if (entry.kind == EntryKind::kFile && static_cast<std::uint64_t>(st.st_size) != entry.size)
      Problem(path, "has another size");
    if (!S_ISLNK(st.st_mode) && (st.st_mode & 07777U) != entry.mode)
      Problem(path, "has mode " + Octal(st.st_mode & 07777U) + ", not " + Octal(entry.mode));
    // Without privileges everything is the caller's.
    if (geteuid() == 0 && (static_cast<std::int64_t>(st.st_uid) != entry.uid ||
                           static_cast<std::int64_t>(st.st_gid) != entry.gid)) {
      Problem(path, "belongs to " + std::to_string(st.st_uid) + ":" + std::to_string(st.st_gid) +
                        ", not to " + std::to_string(entry.uid) + ":" + std::to_string(entry.gid));
    }
    if (st.st_mtim.tv_sec != entry.mtime_seconds) Problem(path, "has another time");
    if (entry.kind == EntryKind::kSymlink) CompareLink(entry, dir, name, path);
    if ((S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) &&
        st.st_rdev != makedev(entry.device_major, entry.device_minor)) {
      Problem(path, "is another device");
    }
    CompareXattrs(entry, dir, name, path);
  }

  void CompareLink(const TarEntry& entry, FdRef dir, const std::string& name,
                   const std::string& path) {
    std::string target(entry.link.size() + 1, '\0');
    const ssize_t n = readlinkat(dir.get(), name.c_str(), target.data(), target.size());
    target.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (target != entry.link) Problem(path, "leads to another target");
  }

  void CompareXattrs(const TarEntry& entry, FdRef dir, const std::string& name,
                     const std::string& path) {
    for (const auto& [key, value] : entry.xattrs) {
      const bool kept = (key.starts_with("user.") && !key.starts_with("user.overlay.")) ||
                        (key == "security.capability" && geteuid() == 0);
      if (!kept || entry.kind == EntryKind::kSymlink) continue;
      std::string found(value.size() + 1, '\0');
      const std::string at = JoinPath(FdPath(dir), name);
      const ssize_t n = lgetxattr(at.c_str(), key.c_str(), found.data(), found.size());
      found.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
      if (found != value) Problem(path, "has another " + key.substr(0, 64));
    }
  }

  // What is in the tree and not in the tar.
  Result<void> FindForeign(FdRef dir, const std::string& path, int depth) {
    for (const std::string& name : LN_TRY(ListDirAt(dir))) {
      const std::string at = path.empty() ? name : JoinPath(path, name);
      if (!expected_.contains(HashOf(at))) {
        Problem(at, "does not belong to the layer");
        continue;
      }
      if (depth >= kMaxDepth) continue;
      auto below = OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (below) LN_TRY(FindForeign(*below, at, depth + 1));
    }
    return Ok();
  }

  const FdRef directory_, tree_;
  const LayerInfo& info_;
  const std::size_t max_;
  std::string root_path_;
  std::unordered_map<std::size_t, std::uint64_t> last_;
  std::unordered_set<std::size_t> expected_;
  std::string parent_, real_parent_;
  UniqueFd parent_fd_;
  std::vector<std::string> problems_;
  std::size_t count_ = 0;
};

}  // namespace

Result<std::vector<std::string>> CompareTree(const LayerPool& pool, const Layer& layer,
                                             std::size_t max) {
  const UniqueFd directory = LN_TRY(pool.OpenDirectory(layer));
  const UniqueFd tree = LN_TRY(OpenAt(directory, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return Comparison(directory, tree, layer.info(), max).Run();
}

}  // namespace linnet::oci
