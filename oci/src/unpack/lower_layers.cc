// What a layer takes from the layers below: attributes of directories that it only implies, files
// that it links to.
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>

#include "unpack/layer_writer.h"

namespace linnet::oci {
namespace {

Error Failed(const char* what) { return Error::FromErrno(errno, what); }

bool IsOpaque(FdRef dir) {
  char value = 0;
  return fgetxattr(dir.get(), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

// Where an object is in one layer.
struct Found {
  UniqueFd parent;
  std::string name;
  struct stat st {};
};
struct Lookup {
  std::optional<Found> found;
  bool hidden = false;  // nothing further below is visible
};

Result<Lookup> FindInLayer(const std::string& layer, const std::string& path) {
  Lookup out;
  UniqueFd dir = LN_TRY(OpenDir(layer));
  for (std::size_t i = 0;;) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string name = path.substr(i, end - i);
    struct stat st {};
    if (fstatat(dir.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) return Failed("stat a lower layer");
      return out;
    }
    if (end == path.size()) {
      out.hidden = true;
      if (!(S_ISCHR(st.st_mode) && st.st_rdev == 0)) out.found = Found{std::move(dir), name, st};
      return out;
    }
    if (!S_ISDIR(st.st_mode)) {
      out.hidden = true;
      return out;
    }
    dir = LN_TRY(OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (IsOpaque(dir)) out.hidden = true;
    i = end + 1;
  }
}

Result<std::optional<Found>> FindBelow(const std::vector<std::string>& lower,
                                       const std::string& path) {
  for (const std::string& layer : lower) {
    Lookup lookup = LN_TRY(FindInLayer(layer, path));
    if (lookup.found) return std::move(lookup.found);
    if (lookup.hidden) break;
  }
  return std::optional<Found>();
}

Result<void> CopyXattrs(FdRef from, FdRef to) {
  std::array<char, 4096> names{};
  const ssize_t size = flistxattr(from.get(), names.data(), names.size());
  if (size < 0) return errno == EOPNOTSUPP ? Ok() : Result<void>(Failed("list attributes"));
  std::string value(64U << 10, '\0');
  for (const char* name = names.data(); name < names.data() + size;
       name += std::string_view(name).size() + 1) {
    if (std::string_view(name).substr(0, 8) == "trusted.") continue;
    const ssize_t n = fgetxattr(from.get(), name, value.data(), value.size());
    if (n < 0) return Failed("read an attribute");
    if (fsetxattr(to.get(), name, value.data(), static_cast<std::size_t>(n), 0) != 0 &&
        errno != EOPNOTSUPP && errno != EPERM) {
      return Failed("set an attribute");
    }
  }
  return Ok();
}

Result<void> CopyAttributes(const struct stat& st, FdRef from, FdRef to) {
  if (fchown(to.get(), st.st_uid, st.st_gid) != 0 && errno != EPERM) return Failed("chown");
  if (fchmod(to.get(), st.st_mode & 07777U) != 0) return Failed("chmod");
  LN_TRY(CopyXattrs(from, to));
  const std::array<timespec, 2> times{st.st_mtim, st.st_mtim};
  if (futimens(to.get(), times.data()) != 0) return Failed("set times");
  return Ok();
}

// Puts the times of a directory back.
class KeepTimes {
 public:
  explicit KeepTimes(FdRef dir) : dir_(dir), valid_(fstat(dir.get(), &before_) == 0) {}
  ~KeepTimes() {
    const std::array<timespec, 2> times{before_.st_atim, before_.st_mtim};
    if (valid_)
      (void)futimens(dir_.get(),
                     times.data());  // our own directory: cannot fail in a way that matters
  }
  KeepTimes(const KeepTimes&) = delete;
  KeepTimes& operator=(const KeepTimes&) = delete;

 private:
  FdRef dir_;
  struct stat before_ {};
  bool valid_;
};

Result<void> CopyFile(const Found& source, FdRef dir, const std::string& name) {
  const UniqueFd from =
      LN_TRY(OpenAt(source.parent, source.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  const UniqueFd to = LN_TRY(OpenAt(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  for (;;) {
    const ssize_t n = sendfile(to.get(), from.get(), nullptr, 1U << 30);
    if (n < 0) return Failed("copy");
    if (n == 0) break;
  }
  return CopyAttributes(source.st, from, to);
}

Result<UniqueFd> OpenInLayer(FdRef root, const std::string& path) {
  if (path.empty()) return OpenAt(root, ".", O_RDONLY | O_DIRECTORY);
  return OpenAt2(root, path, O_RDONLY | O_DIRECTORY, 0,
                 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

struct Place {
  UniqueFd dir;
  std::string name;
};
Result<Place> PlaceOf(FdRef root, const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  return Place{LN_TRY(OpenInLayer(root, parent)),
               slash == std::string::npos ? path : path.substr(slash + 1)};
}

bool IsThere(const Place& place) {
  return faccessat(place.dir.get(), place.name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<std::uint64_t> MakeLink(FdRef root, const PendingLink& link,
                               const std::vector<std::string>& lower,
                               std::map<std::string, std::string>& copied) {
  const Place to = LN_TRY(PlaceOf(root, link.path));
  if (IsThere(to)) return std::uint64_t{0};  // a later entry took the name
  const KeepTimes keep(to.dir);
  if (const auto before = copied.find(link.target); before != copied.end()) {
    const Place same = LN_TRY(PlaceOf(root, before->second));
    if (linkat(same.dir.get(), same.name.c_str(), to.dir.get(), to.name.c_str(), 0) != 0)
      return Failed("make hard link");
    return std::uint64_t{0};
  }
  // A target that the layer itself brought after the link.
  if (auto here = PlaceOf(root, link.target); here && IsThere(*here)) {
    if (linkat(here->dir.get(), here->name.c_str(), to.dir.get(), to.name.c_str(), 0) != 0)
      return Failed("make hard link");
    return std::uint64_t{0};
  }
  const std::optional<Found> source = LN_TRY(FindBelow(lower, link.target));
  if (!source)
    return InvalidArgument("hard link to \"" + link.target.substr(0, 256) +
                           "\", which is not in the image");
  if (!S_ISREG(source->st.st_mode))
    return InvalidArgument("hard link to \"" + link.target.substr(0, 256) +
                           "\", which is no regular file");
  LN_TRY(CopyFile(*source, to.dir, to.name));
  copied[link.target] = link.path;
  return static_cast<std::uint64_t>(source->st.st_blocks) * 512;
}

// ---- directories that are links below ----

constexpr int kMaxHops = 40;

// Where a directory is in the merged layers below, links followed inside their root; nullopt: it is
// no directory.
Result<std::optional<std::string>> ResolveBelow(const std::vector<std::string>& lower,
                                                const std::string& path) {
  std::string left = path;
  std::string done;
  for (int hops = 0; !left.empty();) {
    const std::size_t slash = std::min(left.find('/'), left.size());
    const std::string next = JoinPath(done, left.substr(0, slash));
    left = left.substr(std::min(slash + 1, left.size()));
    const std::optional<Found> found = LN_TRY(FindBelow(lower, next));
    if (!found) return std::optional<std::string>();
    if (S_ISDIR(found->st.st_mode)) {
      done = next;
      continue;
    }
    if (!S_ISLNK(found->st.st_mode) || ++hops > kMaxHops) return std::optional<std::string>();
    std::string target(4096, '\0');
    const ssize_t n =
        readlinkat(found->parent.get(), found->name.c_str(), target.data(), target.size());
    if (n <= 0) return std::optional<std::string>();
    target.resize(static_cast<std::size_t>(n));
    const std::string from = target.starts_with('/') ? target : JoinPath("/" + done, target);
    // Clean, absolute: ".." ends at the root. Begun anew from there.
    left = CleanPath(JoinPath(from, left)).substr(1);
    done.clear();
  }
  return done.empty() ? std::optional<std::string>() : std::optional<std::string>(done);
}

Result<UniqueFd> OpenMaking(FdRef root, const std::string& path,
                            const std::vector<std::string>& lower, LayerFacts& facts) {
  if (auto dir = OpenInLayer(root, path); dir || !dir.error().IsErrno(ENOENT)) return dir;
  const Place at = LN_TRY(PlaceOf(root, path));
  const KeepTimes keep(at.dir);
  if (mkdirat(at.dir.get(), at.name.c_str(), 0755) != 0) return Failed("make directory");
  ++facts.inodes;
  UniqueFd made = LN_TRY(OpenAt(at.dir, at.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const std::optional<Found> source = LN_TRY(FindBelow(lower, path));
  if (source && S_ISDIR(source->st.st_mode)) {
    const UniqueFd from =
        LN_TRY(OpenAt(source->parent, source->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    LN_TRY(CopyAttributes(source->st, from, made));
  }
  return made;
}

// Moves what is in `from` into `to`; directories are merged, of two files the moved one stays.
Result<void> MoveContents(FdRef from, FdRef to) {
  const KeepTimes keep(to);
  for (const std::string& name : LN_TRY(ListDirAt(from))) {
    if (renameat2(from.get(), name.c_str(), to.get(), name.c_str(), RENAME_NOREPLACE) == 0)
      continue;
    if (errno != EEXIST) return Failed("move");
    auto a = OpenAt(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    auto b = OpenAt(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (a && b) {
      LN_TRY(MoveContents(*a, *b));
      continue;
    }
    LN_TRY(RemoveAllAt(to, name));
    if (renameat(from.get(), name.c_str(), to.get(), name.c_str()) != 0) return Failed("move");
  }
  return Ok();
}

std::string Moved(const std::string& path, const std::map<std::string, std::string>& moves) {
  for (const auto& [from, to] : moves) {
    if (path.starts_with(from) && (path.size() == from.size() || path[from.size()] == '/')) {
      return to + path.substr(from.size());
    }
  }
  return path;
}

// An archive that has lib/x, and nothing to say of lib itself, means the directory that /lib leads
// to in the image. A directory of that name would hide the link, and with it all that was there.
Result<void> MoveBehindLinks(FdRef root, LayerFacts& facts, const std::vector<std::string>& lower) {
  std::map<std::string, std::string> moves;
  for (std::string& path : facts.implied_dirs) {
    path = Moved(path, moves);
    if (path.empty()) continue;
    const std::optional<Found> below = LN_TRY(FindBelow(lower, path));
    if (!below || !S_ISLNK(below->st.st_mode)) continue;
    const std::optional<std::string> behind = LN_TRY(ResolveBelow(lower, path));
    auto from = OpenInLayer(root, path);
    if (!behind || !from) continue;
    UniqueFd to = LN_TRY(OpenAt(root, ".", O_RDONLY | O_DIRECTORY));
    for (std::size_t slash = behind->find('/');; slash = behind->find('/', slash + 1)) {
      to = LN_TRY(OpenMaking(root, behind->substr(0, slash), lower, facts));
      if (slash == std::string::npos) break;
    }
    // What is there with attributes of its own keeps them.
    for (std::string& other : facts.implied_dirs) {
      if (other.starts_with(path + "/") && OpenInLayer(root, *behind + other.substr(path.size()))) {
        other.clear();
      }
    }
    LN_TRY(MoveContents(*from, to));
    const Place at = LN_TRY(PlaceOf(root, path));
    const KeepTimes keep(at.dir);
    LN_TRY(RemoveAllAt(at.dir, at.name));
    moves[path] = *behind;
    path.clear();
  }
  std::erase(facts.implied_dirs, "");
  for (PendingLink& link : facts.pending_links) {
    link.path = Moved(link.path, moves);
    link.target = Moved(link.target, moves);
  }
  facts.moved = std::move(moves);
  return Ok();
}

}  // namespace

Result<void> CompleteFromLower(FdRef layer_root, LayerFacts& facts,
                               const std::vector<std::string>& lower) {
  LN_TRY_CTX(MoveBehindLinks(layer_root, facts, lower), "directory that is a link below");
  std::map<std::string, std::string> copied;
  for (const PendingLink& link : facts.pending_links) {
    facts.disk_bytes += LN_TRY_CTX(MakeLink(layer_root, link, lower, copied),
                                   "\"" + link.path.substr(0, 256) + "\"");
  }
  for (const std::string& path : facts.implied_dirs) {
    auto dir = OpenInLayer(layer_root, path);
    if (!dir) continue;  // a later entry took the name
    const std::optional<Found> source = LN_TRY(FindBelow(lower, path));
    if (!source || !S_ISDIR(source->st.st_mode)) continue;
    const UniqueFd from =
        LN_TRY(OpenAt(source->parent, source->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    LN_TRY_CTX(CopyAttributes(source->st, from, *dir), "\"" + path.substr(0, 256) + "\"");
  }
  return Ok();
}

}  // namespace linnet::oci
