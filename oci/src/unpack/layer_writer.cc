#include "unpack/layer_writer.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <limits>

#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kWhiteoutMetaPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";
constexpr const char* kOpaqueXattr = "trusted.overlay.opaque";
constexpr std::size_t kMaxPath = 4096;
constexpr std::size_t kMaxName = 255;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kWriteBackBytes = 1U << 20;

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool IsWhiteout(const struct stat& st) {
  return S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
}

// What an archive may set. Everything of trusted.* belongs to the overlay, security.selinux, .ima
// and .evm to the host.
bool XattrAllowed(std::string_view name) {
  if (StartsWith(name, "user.")) return !StartsWith(name, "user.overlay.");
  return name == "security.capability" || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default";
}

struct Split {
  std::string parent;
  std::string name;
};
Split SplitPath(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

Error Failed(const char* what) { return Error::FromErrno(errno, what); }

Result<void> RestoreTimes(FdRef dir, const struct stat& before) {
  const std::array<timespec, 2> times{before.st_atim, before.st_mtim};
  if (futimens(dir.get(), times.data()) != 0) return Failed("set the times of the directory");
  return Ok();
}

std::array<timespec, 2> TimesOf(const TarEntry& entry) {
  timespec t{};
  t.tv_sec = entry.mtime_seconds;
  if (entry.mtime_nanoseconds >= 0 && entry.mtime_nanoseconds < 1'000'000'000)
    t.tv_nsec = entry.mtime_nanoseconds;
  return {t, t};
}

Result<void> CheckIds(const TarEntry& entry) {
  // 2^32 - 1 means "leave as it is" to chown.
  constexpr std::int64_t kMax = std::numeric_limits<std::uint32_t>::max() - 1LL;
  if (entry.uid < 0 || entry.uid > kMax)
    return InvalidArgument("owner " + std::to_string(entry.uid) + " is out of range");
  if (entry.gid < 0 || entry.gid > kMax)
    return InvalidArgument("group " + std::to_string(entry.gid) + " is out of range");
  return Ok();
}

}  // namespace

Result<std::string> CleanEntryPath(std::string_view path, const UnpackLimits& limits) {
  if (path.size() > kMaxPath)
    return InvalidArgument("name of " + std::to_string(path.size()) + " bytes is too long");
  if (path.find('\0') != std::string_view::npos) return InvalidArgument("name contains a NUL byte");
  std::string out;
  out.reserve(path.size());
  std::size_t depth = 0;
  for (std::size_t i = 0; i < path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string_view part = path.substr(i, end - i);
    i = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (depth == 0) return InvalidArgument("name leads out of the root");
      --depth;
      const std::size_t slash = out.rfind('/');
      out.resize(slash == std::string::npos ? 0 : slash);
      continue;
    }
    if (part.size() > kMaxName)
      return InvalidArgument("name has a component of " + std::to_string(part.size()) + " bytes");
    if (++depth > limits.max_depth)
      return InvalidArgument("name has more than " + std::to_string(limits.max_depth) +
                             " components");
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

LayerWriter::LayerWriter(FdRef root, const UnpackLimits& limits)
    : root_(root), limits_(limits), euid_(geteuid()), egid_(getegid()) {}
LayerWriter::~LayerWriter() = default;

Result<void> LayerWriter::Place(const TarEntry& entry, const ReadData& read) {
  if (++entries_ > limits_.max_entries) {
    return Error(Code::kResourceExhausted,
                 "archive has more than " + std::to_string(limits_.max_entries) + " entries");
  }
  const auto place = [&]() -> Result<void> {
    const std::string path = LN_TRY(CleanEntryPath(entry.path, limits_));
    LN_TRY(CheckIds(entry));
    return PlaceAt(entry, path, read);
  };
  // Names of hostile archives are long, and not for terminals.
  LN_TRY_CTX(place(), "\"" + entry.path.substr(0, 256) + "\"");
  return Ok();
}

Result<void> LayerWriter::PlaceAt(const TarEntry& entry, const std::string& path,
                                  const ReadData& read) {
  if (path.empty()) return PlaceRoot(entry);
  const Split split = SplitPath(path);
  LN_TRY(EnterParent(split.parent));
  if (StartsWith(split.name, kWhiteoutPrefix)) {
    if (split.name == kOpaqueName) return PlaceOpaque();
    // What AUFS kept for itself: no engine writes it any more.
    if (StartsWith(split.name, kWhiteoutMetaPrefix))
      return InvalidArgument("reserved whiteout name");
    return PlaceWhiteout(std::string_view(split.name).substr(kWhiteoutPrefix.size()));
  }
  if (!implied_.empty()) implied_.erase(path);
  switch (entry.kind) {
    case EntryKind::kFile:
      return PlaceFile(entry, split.name, read);
    case EntryKind::kDirectory:
      return PlaceDirectory(entry, split.name);
    case EntryKind::kSymlink:
      return PlaceSymlink(entry, split.name);
    case EntryKind::kHardLink:
      return PlaceHardLink(entry, path, split.name);
    case EntryKind::kCharDevice:
    case EntryKind::kBlockDevice:
    case EntryKind::kFifo:
      return PlaceNode(entry, split.name);
  }
  return Internal("unknown kind of entry");
}

// ---- parents ----

Result<void> LayerWriter::LeaveParent() {
  if (!parent_.fd) return Ok();
  const Parent left = std::exchange(parent_, Parent());
  return RestoreTimes(left.fd, left.before);
}

Result<void> LayerWriter::EnterParent(const std::string& path) {
  if (parent_.fd && parent_.path == path) return Ok();
  LN_TRY(LeaveParent());
  Parent next;
  next.path = path;
  next.fd = LN_TRY(OpenParent(path));
  if (fstat(next.fd.get(), &next.before) != 0) return Failed("stat the parent");
  next.default_acl = fgetxattr(next.fd.get(), "system.posix_acl_default", nullptr, 0) > 0;
  parent_ = std::move(next);
  return Ok();
}

Result<UniqueFd> LayerWriter::OpenParent(const std::string& path) {
  if (path.empty()) return OpenAt(root_, ".", O_RDONLY | O_DIRECTORY);
  auto fd = OpenAt2(root_, path, O_RDONLY | O_DIRECTORY, 0,
                    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
  if (fd || (!fd.error().IsErrno(ENOENT) && !fd.error().IsErrno(ENOTDIR))) return fd;
  return OpenMakingParents(path);
}

Result<UniqueFd> LayerWriter::OpenMakingParents(const std::string& path) {
  UniqueFd dir = LN_TRY(OpenAt(root_, ".", O_RDONLY | O_DIRECTORY));
  for (std::size_t i = 0; i < path.size();) {
    const std::size_t end = std::min(path.find('/', i), path.size());
    const std::string name = path.substr(i, end - i);
    const std::string so_far = path.substr(0, end);
    i = end + 1;
    auto next = OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!next && next.error().IsErrno(ENOENT)) {
      next = MakeImplied(dir, name, so_far);
    } else if (!next && next.error().IsErrno(ENOTDIR)) {
      struct stat st {};
      if (fstatat(dir.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
        return Failed("stat the parent");
      if (IsWhiteout(st)) {
        // The lower one is gone, and this layer has a new one: an opaque directory.
        if (unlinkat(dir.get(), name.c_str(), 0) != 0) return Failed("replace a whiteout");
        next = MakeImplied(dir, name, so_far);
        if (next && fsetxattr(next->get(), kOpaqueXattr, "y", 1, 0) != 0)
          return Failed("make the directory opaque");
      } else if (S_ISLNK(st.st_mode)) {
        next = OpenAt2(root_, so_far, O_RDONLY | O_DIRECTORY, 0,
                       RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
        if (!next)
          return InvalidArgument("parent " + so_far +
                                 " is a symbolic link that leads to no directory");
      } else {
        return InvalidArgument("parent " + so_far + " is not a directory");
      }
    }
    dir = LN_TRY(std::move(next));
  }
  return dir;
}

Result<UniqueFd> LayerWriter::MakeImplied(FdRef dir, const std::string& name,
                                          const std::string& path) {
  LN_TRY(CountInode());
  LN_TRY(RememberPending(path.size()));
  struct stat before {};
  if (fstat(dir.get(), &before) != 0) return Failed("stat the parent");
  if (mkdirat(dir.get(), name.c_str(), 0755) != 0) return Failed("make the parent directory");
  implied_.insert(path);
  UniqueFd made = LN_TRY(OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  // Not what the umask or a set-group-id parent made of it.
  if (fchown(made.get(), euid_, egid_) != 0) return Failed("chown the parent directory");
  if (fchmod(made.get(), 0755) != 0) return Failed("chmod the parent directory");
  LN_TRY(RestoreTimes(dir, before));
  return made;
}

Result<void> LayerWriter::CountInode() {
  if (++facts_.inodes > limits_.max_entries) {
    return Error(Code::kResourceExhausted,
                 "layer has more than " + std::to_string(limits_.max_entries) + " files");
  }
  return Ok();
}

Result<void> LayerWriter::RememberPending(std::size_t bytes) {
  pending_bytes_ += bytes;
  if (pending_bytes_ > limits_.max_pending_bytes) {
    return Error(Code::kResourceExhausted,
                 "archive implies too many directories or links without bringing them");
  }
  return Ok();
}

// ---- attributes ----

bool LayerWriter::NeedsChown(const TarEntry& entry) const {
  const std::uint32_t gid = (parent_.before.st_mode & S_ISGID) != 0 ? parent_.before.st_gid : egid_;
  return entry.uid != euid_ || entry.gid != gid;
}

// Has what was made with mode `entry.mode & 0777` just that mode, and no access list?
bool LayerWriter::ModeIsExact(const TarEntry& entry) const {
  if (!no_umask_ || parent_.default_acl || (entry.mode & 07000U) != 0) return false;
  return entry.kind != EntryKind::kDirectory || (parent_.before.st_mode & S_ISGID) == 0;
}

Result<void> LayerWriter::SetOwnerAndMode(FdRef fd, const TarEntry& entry) {
  // Owner first: it clears the set-id bits. Only root may give files away; without it they stay our
  // own.
  if (NeedsChown(entry) &&
      fchown(fd.get(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid)) != 0 &&
      !(errno == EPERM && euid_ != 0)) {
    return Failed("chown");
  }
  if (ModeIsExact(entry)) return Ok();
  if (parent_.default_acl) {
    (void)fremovexattr(fd.get(), "system.posix_acl_access");   // inherited; none is fine
    (void)fremovexattr(fd.get(), "system.posix_acl_default");  // inherited; none is fine
  }
  mode_t mode = entry.mode;
  if (entry.kind == EntryKind::kDirectory && euid_ != 0)
    mode |= 0700;  // else we could not fill or remove it
  if (fchmod(fd.get(), mode) != 0) return Failed("chmod");
  return Ok();
}

Result<void> LayerWriter::SetOwnerAt(const TarEntry& entry, const std::string& name) {
  if (NeedsChown(entry) &&
      fchownat(parent_.fd.get(), name.c_str(), static_cast<uid_t>(entry.uid),
               static_cast<gid_t>(entry.gid), AT_SYMLINK_NOFOLLOW) != 0 &&
      !(errno == EPERM && euid_ != 0)) {
    return Failed("chown");
  }
  return Ok();
}

Result<void> LayerWriter::SetXattrs(FdRef fd, const TarEntry& entry) {
  std::size_t total = 0;
  for (const auto& [name, value] : entry.xattrs) {
    total += name.size() + value.size();
    if (total > limits_.max_xattr_bytes)
      return InvalidArgument("extended attributes are too large");
    if (!XattrAllowed(name)) continue;
    if (fsetxattr(fd.get(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    // The file system has none of that kind, the file cannot have it (user.* on a device), or we
    // may not set it.
    if (errno == EOPNOTSUPP || errno == EPERM) continue;
    return Error::FromErrno(errno, "set attribute " + name.substr(0, 64));
  }
  return Ok();
}

// ---- entries ----

Result<bool> LayerWriter::Displace(const std::string& name) {
  struct stat st {};
  if (fstatat(parent_.fd.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return Failed("stat what is there");
  }
  LN_TRY_CTX(RemoveAllAt(parent_.fd, name), "replace what is there");
  return IsWhiteout(st);
}

Result<void> LayerWriter::PlaceRoot(const TarEntry& entry) {
  if (entry.kind != EntryKind::kDirectory) return InvalidArgument("the root is not a directory");
  LN_TRY(LeaveParent());
  if (euid_ == 0 &&
      fchown(root_.get(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid)) != 0)
    return Failed("chown");
  if (fchmod(root_.get(), entry.mode | (euid_ != 0 ? 0700U : 0U)) != 0) return Failed("chmod");
  LN_TRY(SetXattrs(root_, entry));
  if (futimens(root_.get(), TimesOf(entry).data()) != 0) return Failed("set times");
  return Ok();
}

Result<void> LayerWriter::PlaceFile(const TarEntry& entry, const std::string& name,
                                    const ReadData& read) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  LN_TRY(CountInode());
  const mode_t mode = entry.mode & 0777U;
  UniqueFd fd(openat(parent_.fd.get(), name.c_str(), kFlags, mode));
  if (!fd && errno == EEXIST) {
    LN_TRY(Displace(name));
    fd.Reset(openat(parent_.fd.get(), name.c_str(), kFlags, mode));
  }
  if (!fd) return Failed("create");
  LN_TRY(WriteData(fd, entry, read));
  LN_TRY(SetOwnerAndMode(fd, entry));
  // After the owner: chown drops security.capability.
  if (!entry.xattrs.empty()) LN_TRY(SetXattrs(fd, entry));
  if (futimens(fd.get(), TimesOf(entry).data()) != 0) return Failed("set times");
  return Ok();
}

Result<void> LayerWriter::WriteData(FdRef fd, const TarEntry& entry, const ReadData& read) {
  if (entry.size == 0) return Ok();
  std::uint64_t end = 0;
  std::uint64_t stored = 0;     // on the disk: a byte between two holes takes a page
  std::uint64_t next_page = 0;  // the first that is not counted yet: pieces come in ascending order
  for (;;) {
    const std::optional<TarReader::Data> data = LN_TRY(read());
    if (!data) break;
    std::string_view bytes = data->bytes;
    std::uint64_t offset = data->offset;
    if (offset > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) - bytes.size())
      return InvalidArgument("file is too large");
    if (offset < end) return InvalidArgument("pieces of a sparse file out of order");
    const std::uint64_t first = std::max(offset / kPage, next_page);
    next_page = std::max((offset + bytes.size() + kPage - 1) / kPage, first);
    const std::uint64_t taken = (next_page - first) * kPage;
    if (taken > limits_.max_bytes - std::min(data_bytes_, limits_.max_bytes)) {
      return Error(Code::kResourceExhausted,
                   "layer has more than " + FormatBytes(limits_.max_bytes) + " of data");
    }
    data_bytes_ += taken;
    stored += taken;
    while (!bytes.empty()) {
      const ssize_t n = pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0) {
        if (errno == EINTR) continue;
        return Failed("write");
      }
      bytes.remove_prefix(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
    end = std::max(end, offset);
  }
  if (end < entry.size && ftruncate(fd.get(), static_cast<off_t>(entry.size)) != 0)
    return Failed("set the size");
  // Begin to write it back now, so that the sync at the end finds little left. Small files are not
  // worth the call. An error comes again with that sync.
  if (stored >= kWriteBackBytes) (void)sync_file_range(fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  facts_.disk_bytes += stored;
  return Ok();
}

Result<void> LayerWriter::PlaceDirectory(const TarEntry& entry, const std::string& name) {
  const mode_t mode = (entry.mode & 0777U) | (euid_ != 0 ? 0700U : 0U);
  bool opaque = false;
  UniqueFd existing;
  if (mkdirat(parent_.fd.get(), name.c_str(), mode) != 0) {
    if (errno != EEXIST) return Failed("make directory");
    auto open = OpenAt(parent_.fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (open) {
      existing = *std::move(open);
    } else {
      opaque = LN_TRY(Displace(name));
      if (mkdirat(parent_.fd.get(), name.c_str(), mode) != 0) return Failed("make directory");
    }
  }
  if (!existing) {
    LN_TRY(CountInode());
    facts_.disk_bytes += kPage;
  }
  if (!existing && !opaque && ModeIsExact(entry) && entry.xattrs.empty()) {
    LN_TRY(SetOwnerAt(entry, name));
    if (utimensat(parent_.fd.get(), name.c_str(), TimesOf(entry).data(), AT_SYMLINK_NOFOLLOW) != 0)
      return Failed("set times");
    return Ok();
  }
  const bool merged = existing.valid();
  const UniqueFd fd = merged
                          ? std::move(existing)
                          : LN_TRY(OpenAt(parent_.fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (opaque && fsetxattr(fd.get(), kOpaqueXattr, "y", 1, 0) != 0)
    return Failed("make the directory opaque");
  if (merged) {
    // Its owner may be another one than a new directory would have.
    if (euid_ == 0 &&
        fchown(fd.get(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid)) != 0)
      return Failed("chown");
    if (fchmod(fd.get(), entry.mode | (euid_ != 0 ? 0700U : 0U)) != 0) return Failed("chmod");
  } else {
    LN_TRY(SetOwnerAndMode(fd, entry));
  }
  LN_TRY(SetXattrs(fd, entry));
  if (futimens(fd.get(), TimesOf(entry).data()) != 0) return Failed("set times");
  return Ok();
}

Result<void> LayerWriter::PlaceSymlink(const TarEntry& entry, const std::string& name) {
  if (entry.link.empty()) return InvalidArgument("symbolic link without a target");
  if (entry.link.size() >= kMaxPath)
    return InvalidArgument("target of the symbolic link is too long");
  LN_TRY(CountInode());
  if (symlinkat(entry.link.c_str(), parent_.fd.get(), name.c_str()) != 0) {
    if (errno != EEXIST) return Failed("make symbolic link");
    LN_TRY(Displace(name));
    if (symlinkat(entry.link.c_str(), parent_.fd.get(), name.c_str()) != 0)
      return Failed("make symbolic link");
  }
  LN_TRY(SetOwnerAt(entry, name));
  if (utimensat(parent_.fd.get(), name.c_str(), TimesOf(entry).data(), AT_SYMLINK_NOFOLLOW) != 0)
    return Failed("set times");
  return Ok();
}

Result<void> LayerWriter::PlaceHardLink(const TarEntry& entry, const std::string& path,
                                        const std::string& name) {
  const std::string target =
      LN_TRY_CTX(CleanEntryPath(entry.link, limits_), "target of the hard link");
  if (target.empty()) return InvalidArgument("hard link to the root");
  if (target == path) return InvalidArgument("hard link to itself");
  const Split at = SplitPath(target);
  const auto below = [&]() -> Result<void> {
    LN_TRY(Displace(name));
    LN_TRY(RememberPending(path.size() + target.size()));
    facts_.pending_links.push_back({path, target});
    return Ok();
  };

  UniqueFd opened;
  if (at.parent != parent_.path) {
    auto dir = at.parent.empty()
                   ? OpenAt(root_, ".", O_RDONLY | O_DIRECTORY)
                   : OpenAt2(root_, at.parent, O_RDONLY | O_DIRECTORY, 0,
                             RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
    if (!dir &&
        (dir.error().IsErrno(ENOENT) || dir.error().IsErrno(ENOTDIR) || dir.error().IsErrno(ELOOP)))
      return below();
    opened = LN_TRY(std::move(dir));
  }
  const FdRef dir = opened ? opened.ref() : parent_.fd.ref();
  struct stat st {};
  if (fstatat(dir.get(), at.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return below();
    return Failed("stat the target of the hard link");
  }
  if (IsWhiteout(st)) return InvalidArgument("hard link to a file that this layer removes");
  if (S_ISDIR(st.st_mode)) return InvalidArgument("hard link to a directory");
  // Flags 0: a symbolic link is linked itself, not what it leads to. The link has the attributes of
  // its target.
  if (linkat(dir.get(), at.name.c_str(), parent_.fd.get(), name.c_str(), 0) == 0) return Ok();
  if (errno != EEXIST) return Failed("make hard link");
  struct stat there {};
  if (fstatat(parent_.fd.get(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
      there.st_ino == st.st_ino)
    return Ok();
  LN_TRY(Displace(name));
  if (linkat(dir.get(), at.name.c_str(), parent_.fd.get(), name.c_str(), 0) != 0)
    return Failed("make hard link");
  return Ok();
}

Result<void> LayerWriter::PlaceNode(const TarEntry& entry, const std::string& name) {
  mode_t kind = S_IFIFO;
  dev_t device = 0;
  if (entry.kind != EntryKind::kFifo) {
    if (entry.device_major > 0xfff || entry.device_minor > 0xfffff)
      return InvalidArgument("device number is out of range");
    kind = entry.kind == EntryKind::kCharDevice ? S_IFCHR : S_IFBLK;
    device = makedev(entry.device_major, entry.device_minor);
    // To overlayfs it is a whiteout, which archives spell otherwise.
    if (kind == S_IFCHR && device == makedev(0, 0)) return InvalidArgument("character device 0:0");
  }
  LN_TRY(CountInode());
  const mode_t mode = entry.mode & 0777U;
  const auto make = [&] {
    return mknodat(parent_.fd.get(), name.c_str(), kind | mode, device) == 0 ? 0 : errno;
  };
  int error = make();
  if (error == EEXIST) {
    LN_TRY(Displace(name));
    error = make();
  }
  // Without CAP_MKNOD (the daemon itself in a container): a container has a /dev of its own anyway.
  if (error == EPERM && entry.kind != EntryKind::kFifo) return Ok();
  if (error != 0) return Error::FromErrno(error, "make node");
  LN_TRY(SetOwnerAt(entry, name));
  // Nobody else writes here, and it was made a moment ago: it is no symbolic link.
  if (!ModeIsExact(entry) && fchmodat(parent_.fd.get(), name.c_str(), entry.mode, 0) != 0)
    return Failed("chmod");
  if (utimensat(parent_.fd.get(), name.c_str(), TimesOf(entry).data(), AT_SYMLINK_NOFOLLOW) != 0)
    return Failed("set times");
  return Ok();
}

Result<void> LayerWriter::PlaceWhiteout(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return InvalidArgument("whiteout of no name");
  const std::string target(name);
  struct stat st {};
  if (fstatat(parent_.fd.get(), target.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
    if (!S_ISDIR(st.st_mode)) return Ok();  // a file of this layer hides the lower one already
    const UniqueFd dir = LN_TRY(OpenAt(parent_.fd, target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (fsetxattr(dir.get(), kOpaqueXattr, "y", 1, 0) != 0)
      return Failed("make the directory opaque");
    return Ok();
  }
  if (errno != ENOENT) return Failed("stat what is there");
  LN_TRY(CountInode());
  if (mknodat(parent_.fd.get(), target.c_str(), S_IFCHR, makedev(0, 0)) != 0)
    return Failed("make whiteout");
  return Ok();
}

Result<void> LayerWriter::PlaceOpaque() {
  // overlayfs does not look at the attribute on the root of a layer: the store leaves the lower
  // layers away.
  if (parent_.path.empty()) {
    facts_.opaque_root = true;
    return Ok();
  }
  if (fsetxattr(parent_.fd.get(), kOpaqueXattr, "y", 1, 0) != 0)
    return Failed("make the directory opaque");
  return Ok();
}

Result<LayerFacts> LayerWriter::Finish() {
  LN_TRY(LeaveParent());
  facts_.implied_dirs.assign(implied_.begin(), implied_.end());
  implied_.clear();
  return std::move(facts_);
}

}  // namespace linnet::oci
