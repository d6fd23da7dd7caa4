// The container's file system: overlay, mounts, devices, masks; then pivot_root.
#include <dirent.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <climits>
#include <cstdlib>

#include "child.h"

namespace linnet::runtime::keeper {
namespace {

using plan::Op;
using plan::OpKind;

constexpr int kMaxLinks = 16;

// `dir` + "/" + `name`; false: too long.
bool JoinInto(char* out, const char* dir, std::size_t dir_size, const char* name) {
  const std::size_t name_size = strlen(name);
  if (dir_size + 1 + name_size >= PATH_MAX) return false;
  memmove(out, dir, dir_size);
  out[dir_size] = '/';
  memcpy(out + dir_size + 1, name, name_size + 1);
  return true;
}

int ResolveStep(int root, const char* path, Missing missing, int links);

// Opens the parent of the last component of `path`, which it copies (without slashes at its end)
// into `copy`.
int OpenParent(int root, const char* path, char* copy, const char** name, int links) {
  std::size_t size = strlen(path);
  while (size > 1 && path[size - 1] == '/') --size;
  if (size >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(copy, path, size);
  copy[size] = '\0';
  char* slash = strrchr(copy, '/');
  *name = slash == nullptr ? copy : slash + 1;
  if (**name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) {
    errno = EINVAL;
    return -1;
  }
  if (slash == nullptr || slash == copy) return OpenInRoot(root, ".", O_PATH | O_DIRECTORY);
  *slash = '\0';
  const int parent = ResolveStep(root, copy, Missing::kMakeDirectory, links);
  const int err = errno;
  *slash = '/';
  errno = err;
  return parent;
}

// A link that leads nowhere yet (/var/run -> /run in an image without /run): its target is made.
int FollowDangling(int root, int parent, const char* copy, const char* name, Missing missing,
                   int links) {
  char link[PATH_MAX];
  const ssize_t size = readlinkat(parent, name, link, sizeof link - 1);
  if (size <= 0) {
    errno = size < 0 && errno == EINVAL ? EEXIST : ENOENT;
    return -1;
  }
  link[size] = '\0';
  if (links >= kMaxLinks) {
    errno = ELOOP;
    return -1;
  }
  if (link[0] == '/') return ResolveStep(root, link, missing, links + 1);
  char joined[PATH_MAX];
  const auto dir_size = static_cast<std::size_t>(name - copy) - (name == copy ? 0 : 1);
  if (!JoinInto(joined, copy, dir_size, link)) {
    errno = ENAMETOOLONG;
    return -1;
  }
  return ResolveStep(root, joined, missing, links + 1);
}

int ResolveStep(int root, const char* path, Missing missing, int links) {
  int fd = OpenInRoot(root, path, O_PATH);
  if (fd >= 0 || errno != ENOENT || missing == Missing::kFail) return fd;
  char copy[PATH_MAX];
  const char* name = nullptr;
  const int parent = OpenParent(root, path, copy, &name, links);
  if (parent < 0) return -1;
  int made = 0;
  if (missing == Missing::kMakeDirectory) {
    made = mkdirat(parent, name, 0755);
  } else {
    made = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDONLY | O_CLOEXEC, 0644);
    if (made >= 0) close(made);
  }
  if (made < 0 && errno == EEXIST) {
    fd = FollowDangling(root, parent, copy, name, missing, links);
  } else if (made >= 0) {
    fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  }
  const int err = errno;
  close(parent);
  errno = err;
  return fd;
}

[[noreturn]] void FailOp(const ChildContext& child, Stage stage, const Op& op, const char* action) {
  Fail(child, stage, errno, action, child.plan->text(op.target));
}

unsigned long MountFlags(std::uint32_t attributes) {
  unsigned long flags = 0;
  const struct {
    std::uint32_t attribute;
    unsigned long flag;
  } pairs[] = {{MOUNT_ATTR_RDONLY, MS_RDONLY},         {MOUNT_ATTR_NOSUID, MS_NOSUID},
               {MOUNT_ATTR_NODEV, MS_NODEV},           {MOUNT_ATTR_NOEXEC, MS_NOEXEC},
               {MOUNT_ATTR_NODIRATIME, MS_NODIRATIME}, {MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW}};
  for (const auto& pair : pairs) {
    if ((attributes & pair.attribute) != 0) flags |= pair.flag;
  }
  if ((attributes & MOUNT_ATTR__ATIME) == MOUNT_ATTR_NOATIME) flags |= MS_NOATIME;
  if ((attributes & MOUNT_ATTR__ATIME) == MOUNT_ATTR_STRICTATIME) flags |= MS_STRICTATIME;
  return flags;
}

// 0 or errno.
int SetAttributes(int tree, bool recursive, std::uint64_t set, std::uint64_t clear,
                  std::uint64_t propagation, int user = -1) {
  // The atime bits are a field of three values: it has to be cleared as a whole.
  if ((set & MOUNT_ATTR__ATIME) != 0 || (clear & MOUNT_ATTR__ATIME) != 0)
    clear |= MOUNT_ATTR__ATIME;
  if (set == 0 && clear == 0 && propagation == 0 && user < 0) return 0;
  mount_attr attr = {};
  attr.attr_set = set | (user >= 0 ? MOUNT_ATTR_IDMAP : 0);
  attr.attr_clr = clear;
  attr.propagation = propagation;
  attr.userns_fd = user >= 0 ? static_cast<std::uint64_t>(user) : 0;
  const int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  return syscall(SYS_mount_setattr, tree, "", flags, &attr, sizeof attr) != 0 ? errno : 0;
}

unsigned long PropagationFlags(plan::Propagation propagation) {
  const auto value = static_cast<unsigned>(propagation);
  unsigned long flags = 0;
  switch (static_cast<plan::Propagation>(value & 7)) {
    case plan::Propagation::kPrivate:
      flags = MS_PRIVATE;
      break;
    case plan::Propagation::kSlave:
      flags = MS_SLAVE;
      break;
    case plan::Propagation::kShared:
      flags = MS_SHARED;
      break;
    case plan::Propagation::kUnbindable:
      flags = MS_UNBINDABLE;
      break;
    default:
      return 0;
  }
  return flags | ((value & 8) != 0 ? MS_REC : 0);
}

bool IsProc(int fd) {
  struct statfs info = {};
  return fstatfs(fd, &info) == 0 && info.f_type == PROC_SUPER_MAGIC;
}

// Nothing may cover /proc or what is in it, except a procfs, and the files that lxcfs puts there
// (what is written to /proc by name would go elsewhere, CVE-2019-16884, CVE-2025-52881). Judged by
// where `target` really is.
bool CoversProc(const ChildContext& child, int target, bool is_proc) {
  char path[PATH_MAX], root[PATH_MAX];
  const ssize_t root_size = readlink(PathOfFd(child.root).text(), root, sizeof root - 1);
  const ssize_t size = readlink(PathOfFd(target).text(), path, sizeof path - 1);
  if (root_size < 0 || size < root_size) return true;
  path[size] = '\0';
  const char* inside = path + root_size;
  if (strcmp(inside, "/proc") == 0) return !is_proc;
  if (!IsProc(target)) return strncmp(inside, "/proc/", 6) == 0;
  if (strncmp(inside, "/proc/", 6) != 0) return true;
  for (const char* file : {"cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg",
                           "slabinfo", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"}) {
    if (strcmp(inside + 6, file) == 0) return false;
  }
  return true;
}

int ResolveTarget(const ChildContext& child, const Op& op, Missing missing, bool is_proc) {
  const char* path = child.plan->text(op.target);
  const int target = ResolveInRoot(child.root, path, missing);
  if (target < 0) return -1;
  if (CoversProc(child, target, is_proc)) {
    close(target);
    errno = EPERM;
    return -1;
  }
  return target;
}

// --------------------------------------------------------------------------------------------------
// operations

void Propagate(const ChildContext& child, const Op& op, const char* path) {
  const unsigned long flags = PropagationFlags(op.propagation);
  if (flags != 0 && mount(nullptr, path, nullptr, flags, nullptr) != 0)
    FailOp(child, Stage::kMount, op, "propagation of");
}

void MountFilesystem(const ChildContext& child, const Op& op) {
  const char* type = child.plan->text(op.type);
  const bool is_proc = strcmp(type, "proc") == 0;
  int target = -1;
  if (is_proc || strcmp(type, "sysfs") == 0) {
    // An image whose /proc is a link would make the runtime write elsewhere (CVE-2019-19921).
    const char* name = nullptr;
    const int parent = ResolveParent(child.root, child.plan->text(op.target), &name);
    if (parent >= 0 && mkdirat(parent, name, 0755) != 0 && errno != EEXIST)
      FailOp(child, Stage::kMount, op, type);
    if (parent >= 0) target = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const int err = errno;
    if (parent >= 0) close(parent);
    errno = err;
    if (target >= 0 && CoversProc(child, target, is_proc)) {
      errno = EPERM;
      FailOp(child, Stage::kMount, op, type);
    }
  } else {
    target = ResolveTarget(child, op, Missing::kMakeDirectory, false);
  }
  if (target < 0) FailOp(child, Stage::kMount, op, type);
  const char* source = plan::Reader::present(op.source) ? child.plan->text(op.source) : type;
  const char* data = plan::Reader::present(op.data) ? child.plan->text(op.data) : nullptr;
  const FdPath path = PathOfFd(target);
  if (mount(source, path.text(), type, MountFlags(op.attr_set), data) != 0)
    FailOp(child, Stage::kMount, op, type);
  close(target);
  if (op.propagation != plan::Propagation::kUnset) {
    target = ResolveInRoot(child.root, child.plan->text(op.target), Missing::kFail);
    if (target < 0) FailOp(child, Stage::kMount, op, type);
    Propagate(child, op, PathOfFd(target).text());
    close(target);
  }
}

void AttachTree(const ChildContext& child, const Op& op, Stage stage) {
  const int tree = child.fds[op.fd];
  struct stat info = {};
  if (fstat(tree, &info) != 0) FailOp(child, stage, op, "stat");
  const Missing missing = S_ISDIR(info.st_mode) ? Missing::kMakeDirectory : Missing::kMakeFile;
  // Unless asked for, nothing propagates from a container to the host.
  const auto propagation =
      op.propagation == plan::Propagation::kUnset ? plan::Propagation::kRprivate : op.propagation;
  const unsigned long flags = PropagationFlags(propagation);
  int err =
      SetAttributes(tree, (flags & MS_REC) != 0, 0, 0, flags & ~static_cast<unsigned long>(MS_REC));
  if (err == 0) err = SetAttributes(tree, true, op.rattr_set, op.rattr_clear, 0);
  if (err == 0) err = SetAttributes(tree, false, op.attr_set, op.attr_clear, 0);
  errno = err;
  if (err != 0) FailOp(child, stage, op, "attributes of");
  const int target = ResolveTarget(child, op, missing, S_ISDIR(info.st_mode) && IsProc(tree));
  if (target < 0) FailOp(child, stage, op, "mountpoint");
  if (MoveMountFd(tree, target) != 0) FailOp(child, stage, op, "attach");
  close(target);
}

void MountShm(const ChildContext& child, const Op& op) {
  const int target = ResolveTarget(child, op, Missing::kMakeDirectory, false);
  if (target < 0) FailOp(child, Stage::kMount, op, "shm");
  const FdPath path = PathOfFd(target);
  const int done = child.has_shm ? mount(kShmPath, path.text(), nullptr, MS_BIND, nullptr)
                                 : mount("shm", path.text(), "tmpfs", MountFlags(op.attr_set),
                                         child.plan->text(op.data));
  if (done != 0) FailOp(child, Stage::kMount, op, "shm");
  close(target);
}

// One hierarchy of v1; `controllers` as in the mount option.
void MountHierarchy(const ChildContext& child, const Op& op, int top, const char* controllers) {
  const bool unified = strcmp(controllers, "unified") == 0;
  const char* name = strncmp(controllers, "name=", 5) == 0 ? controllers + 5 : controllers;
  if (mkdirat(top, name, 0755) != 0 && errno != EEXIST) FailOp(child, Stage::kMount, op, "cgroup");
  const int target = openat(top, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (target < 0) FailOp(child, Stage::kMount, op, "cgroup");
  if (mount("cgroup", PathOfFd(target).text(), unified ? "cgroup2" : "cgroup",
            MountFlags(op.attr_set), unified ? nullptr : controllers) != 0) {
    Fail(child, Stage::kMount, errno, "cgroup", controllers);
  }
  close(target);
  if (unified || strchr(name, ',') == nullptr) return;
  char copy[256];
  strncpy(copy, name, sizeof copy - 1);
  copy[sizeof copy - 1] = '\0';
  for (char *rest = copy, *member = nullptr; (member = strsep(&rest, ",")) != nullptr;) {
    if (symlinkat(name, top, member) != 0 && errno != EEXIST)
      FailOp(child, Stage::kMount, op, "cgroup link in");
  }
}

void MountCgroup(const ChildContext& child, const Op& op) {
  const int target = ResolveTarget(child, op, Missing::kMakeDirectory, false);
  if (target < 0) FailOp(child, Stage::kMount, op, "cgroup");
  const FdPath path = PathOfFd(target);
  if (!plan::Reader::present(op.data)) {
    if (mount("cgroup", path.text(), "cgroup2", MountFlags(op.attr_set), nullptr) != 0)
      FailOp(child, Stage::kMount, op, "cgroup2");
    close(target);
    return;
  }
  if (mount("tmpfs", path.text(), "tmpfs",
            MountFlags(op.attr_set & ~static_cast<std::uint32_t>(MOUNT_ATTR_RDONLY)),
            "mode=755,size=64k") != 0) {
    FailOp(child, Stage::kMount, op, "cgroup");
  }
  close(target);
  const int top = OpenInRoot(child.root, child.plan->text(op.target), O_RDONLY | O_DIRECTORY);
  char* list = strdup(child.plan->text(op.data));
  if (top < 0 || list == nullptr) FailOp(child, Stage::kMount, op, "cgroup");
  for (char *rest = list, *controllers = nullptr; (controllers = strsep(&rest, ";")) != nullptr;) {
    if (*controllers != '\0') MountHierarchy(child, op, top, controllers);
  }
  if (const int err = SetAttributes(top, false, op.attr_set & MOUNT_ATTR_RDONLY, 0, 0); err != 0) {
    Fail(child, Stage::kMount, err, "cgroup", child.plan->text(op.target));
  }
  close(top);
}

// The directory of the device before: nearly all stand in /dev.
struct LastParent {
  char path[256] = {};
  int fd = -1;
};

int ParentOf(const ChildContext& child, LastParent& last, const char* path, const char** name) {
  const char* slash = strrchr(path, '/');
  const std::size_t size = slash == nullptr ? 0 : static_cast<std::size_t>(slash - path);
  if (last.fd >= 0 && size == strlen(last.path) && memcmp(path, last.path, size) == 0 &&
      slash != nullptr && slash[1] != '\0') {
    *name = slash + 1;
    return last.fd;
  }
  if (last.fd >= 0) close(last.fd);
  last.path[0] = '\0';
  last.fd = ResolveParent(child.root, path, name);
  if (last.fd >= 0 && IsProc(last.fd)) {
    CloseFd(last.fd);
    errno = EPERM;
  }
  if (last.fd >= 0 && size > 0 && size < sizeof last.path) {
    memcpy(last.path, path, size);
    last.path[size] = '\0';
  }
  return last.fd;
}

void MakeDevice(const ChildContext& child, const Op& op, LastParent& last) {
  if (op.fd != plan::kNoFd) {
    AttachTree(child, op, Stage::kDevice);
    return;
  }
  const char* name = nullptr;
  const int parent = ParentOf(child, last, child.plan->text(op.target), &name);
  if (parent < 0) FailOp(child, Stage::kDevice, op, "directory of");
  const dev_t device = makedev(op.major, op.minor);
  if (mknodat(parent, name, op.mode, device) != 0) {
    struct stat info = {};
    if (errno != EEXIST || fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
      FailOp(child, Stage::kDevice, op, "mknod");
    // What the image put there is kept only where it is the very same device.
    if ((info.st_mode & S_IFMT) != (op.mode & S_IFMT) || info.st_rdev != device) {
      if (unlinkat(parent, name, 0) != 0 || mknodat(parent, name, op.mode, device) != 0)
        FailOp(child, Stage::kDevice, op, "mknod");
    }
  }
  if ((op.uid != 0 || op.gid != 0) &&
      fchownat(parent, name, op.uid, op.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    FailOp(child, Stage::kDevice, op, "chown");
  }
}

void MakeSymlink(const ChildContext& child, const Op& op, LastParent& last) {
  const char* name = nullptr;
  const int parent = ParentOf(child, last, child.plan->text(op.target), &name);
  if (parent < 0) FailOp(child, Stage::kSymlink, op, "directory of");
  const char* text = child.plan->text(op.data);
  if (symlinkat(text, parent, name) == 0) return;
  char there[PATH_MAX];
  const ssize_t size = errno == EEXIST ? readlinkat(parent, name, there, sizeof there) : -1;
  if (size >= 0 && static_cast<std::size_t>(size) == strlen(text) &&
      memcmp(there, text, strlen(text)) == 0)
    return;
  if (unlinkat(parent, name, 0) != 0 || symlinkat(text, parent, name) != 0)
    FailOp(child, Stage::kSymlink, op, "create");
}

// The masked paths are inside /proc and /sys as a rule: here nothing is judged by its place, links
// are not followed.
int OpenPlain(const ChildContext& child, const Op& op) {
  return OpenAt2(child.root, child.plan->text(op.target), O_PATH, 0,
                 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}
bool IsAbsent(int err) { return err == ENOENT || err == ENOTDIR; }

void Mask(const ChildContext& child, const Op& op) {
  const int target = OpenPlain(child, op);
  if (target < 0) {
    if (IsAbsent(errno)) return;
    FailOp(child, Stage::kMask, op, "open");
  }
  struct stat info = {};
  if (fstat(target, &info) != 0) FailOp(child, Stage::kMask, op, "stat");
  // Both are the keeper's own, verified when it started; the directory is empty and on a read-only
  // file system.
  const char* cover = S_ISDIR(info.st_mode) ? kEmptyPath : kNullPath;
  if (mount(cover, PathOfFd(target).text(), nullptr, MS_BIND, nullptr) != 0)
    FailOp(child, Stage::kMask, op, "cover");
  close(target);
}

void MakeReadonly(const ChildContext& child, const Op& op) {
  const int target = OpenPlain(child, op);
  if (target < 0) {
    if (IsAbsent(errno)) return;
    FailOp(child, Stage::kReadonly, op, "open");
  }
  const int tree = OpenTree(target, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
  if (tree < 0) FailOp(child, Stage::kReadonly, op, "clone");
  if (const int err = SetAttributes(tree, false, MOUNT_ATTR_RDONLY, 0, 0); err != 0) {
    Fail(child, Stage::kReadonly, err, "attributes of", child.plan->text(op.target));
  }
  if (MoveMountFd(tree, target) != 0) FailOp(child, Stage::kReadonly, op, "attach");
  close(tree);
  close(target);
}

void SetSysctl(const ChildContext& child, const Op& op) {
  const char* name = child.plan->text(op.target);
  const char* value = child.plan->text(op.data);
  const int sys = openat(child.proc_dir, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int fd = sys < 0 ? -1
                         : OpenAt2(sys, name, O_WRONLY, 0,
                                   RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
  if (fd < 0 || write(fd, value, strlen(value)) < 0) FailOp(child, Stage::kSysctl, op, "write");
  close(fd);
  close(sys);
}

void MakeDirectory(const ChildContext& child, const Op& op) {
  int fd = ResolveInRoot(child.root, child.plan->text(op.target), Missing::kFail);
  if (fd >= 0) {
    close(fd);
    return;
  }
  fd = ResolveInRoot(child.root, child.plan->text(op.target), Missing::kMakeDirectory);
  if (fd < 0) FailOp(child, Stage::kMakeDir, op, "create");
  const int real = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (real < 0 || fchmod(real, op.mode & 07777) != 0 || fchown(real, op.uid, op.gid) != 0)
    FailOp(child, Stage::kMakeDir, op, "owner of");
  close(real);
  close(fd);
}

void CarryOutOne(const ChildContext& child, const Op& op, LastParent& last) {
  switch (op.kind) {
    case OpKind::kMount:
      return MountFilesystem(child, op);
    case OpKind::kBind:
      return AttachTree(child, op, Stage::kMount);
    case OpKind::kShm:
      return MountShm(child, op);
    case OpKind::kCgroup:
      return MountCgroup(child, op);
    case OpKind::kDevice:
      return MakeDevice(child, op, last);
    case OpKind::kSymlink:
      return MakeSymlink(child, op, last);
    case OpKind::kMask:
      return Mask(child, op);
    case OpKind::kReadonly:
      return MakeReadonly(child, op);
    case OpKind::kSysctl:
      return SetSysctl(child, op);
    case OpKind::kMakeDir:
      return MakeDirectory(child, op);
  }
}

// A directory of the plan as an O_PATH descriptor in this mount namespace.
int OpenDirectory(const ChildContext& child, const plan::Directory& directory, bool* attached) {
  const int tree = child.fds[directory.tree];
  if (!attached[directory.tree]) {
    const int user = (directory.flags & plan::kDirectoryIdmap) != 0 ? child.user_namespace : -1;
    if (const int err = SetAttributes(tree, false, 0, 0, MS_PRIVATE, user); err != 0)
      Fail(child, Stage::kRootFs, err, "map layer");
    // The kernel takes layers only from mounts of this namespace. They cover each other there; the
    // descriptors do not mind.
    if (MoveMountTo(tree, kLayerPath) != 0) Fail(child, Stage::kRootFs, errno, "attach layer");
    attached[directory.tree] = true;
  }
  if (!plan::Reader::present(directory.path)) return tree;
  const char* path = child.plan->text(directory.path);
  const int fd = OpenAt2(tree, path, O_PATH | O_DIRECTORY, 0,
                         RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
  if (fd < 0) Fail(child, Stage::kRootFs, errno, "layer", path);
  return fd;
}

void MountOverlay(const ChildContext& child, const plan::ContainerPlan& container, bool* attached) {
  const auto* lower = child.plan->items<plan::Directory>(container.lower);
  const std::uint32_t count = container.lower.count;
  const bool has_upper = container.upper.tree != plan::kNoFd;
  if (count == 1 && !has_upper) {  // an overlay has at least two directories
    const int only = OpenDirectory(child, lower[0], attached);
    if (mount(PathOfFd(only).text(), kRootPath, nullptr, MS_BIND, nullptr) != 0)
      Fail(child, Stage::kRootFs, errno, "bind layer");
    return;
  }
  // Names within /proc/self/fd: short enough that the options of 500 layers fit into a page.
  static Line<4096> options;
  options.Add("lowerdir=");
  for (std::uint32_t i = count; i-- > 0;) {
    options.Add(OpenDirectory(child, lower[i], attached));
    if (i > 0) options.Add(":");
  }
  if (has_upper) {
    options.Add(",upperdir=").Add(OpenDirectory(child, container.upper, attached));
    options.Add(",workdir=").Add(OpenDirectory(child, container.work, attached));
  }
  if (options.full()) Fail(child, Stage::kRootFs, E2BIG, "too many layers");
  if (chdir("/proc/self/fd") != 0) Fail(child, Stage::kRootFs, errno, "chdir");
  if (mount("overlay", kRootPath, "overlay", 0, options.text()) != 0)
    Fail(child, Stage::kRootFs, errno, "overlay");
  if (chdir("/") != 0) Fail(child, Stage::kRootFs, errno, "chdir");
}

}  // namespace

int ResolveInRoot(int root, const char* path, Missing missing) {
  return ResolveStep(root, path, missing, 0);
}

int ResolveParent(int root, const char* path, const char** name) {
  char copy[PATH_MAX];
  const char* last = nullptr;
  const int parent = OpenParent(root, path, copy, &last, 0);
  if (parent >= 0) {
    // The same component in the caller's text, which may end with slashes: those are refused.
    const char* slash = strrchr(path, '/');
    *name = slash == nullptr ? path : slash + 1;
    if (**name == '\0') {
      close(parent);
      errno = EINVAL;
      return -1;
    }
  }
  return parent;
}

void MountRoot(ChildContext& child, const plan::ContainerPlan& container) {
  std::uint32_t highest = 0;
  const auto* lower = child.plan->items<plan::Directory>(container.lower);
  for (std::uint32_t i = 0; i < container.lower.count; ++i)
    highest = lower[i].tree > highest ? lower[i].tree : highest;
  for (const plan::Directory* directory : {&container.upper, &container.work, &container.plain}) {
    if (directory->tree != plan::kNoFd && directory->tree > highest) highest = directory->tree;
  }
  auto* attached = static_cast<bool*>(calloc(highest + 1, sizeof(bool)));
  if (attached == nullptr) Fail(child, Stage::kRootFs, ENOMEM, "");
  if (container.plain.tree != plan::kNoFd) {
    const int plain = OpenDirectory(child, container.plain, attached);
    if (mount(PathOfFd(plain).text(), kRootPath, nullptr, MS_BIND | MS_REC, nullptr) != 0)
      Fail(child, Stage::kRootFs, errno, "bind");
  } else {
    MountOverlay(child, container, attached);
  }
  child.root = open(kRootPath, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (child.root < 0) Fail(child, Stage::kRootFs, errno, "open");
}

void CarryOut(ChildContext& child, const plan::ContainerPlan& container) {
  const Op* ops = child.plan->items<Op>(container.ops);
  LastParent last;
  for (std::uint32_t i = 0; i < container.ops.count; ++i) {
    // A mount may cover the directory that was used last.
    if (ops[i].kind != OpKind::kDevice && ops[i].kind != OpKind::kSymlink && last.fd >= 0)
      CloseFd(last.fd);
    CarryOutOne(child, ops[i], last);
  }
}

void MapMounts(const ChildContext& child, const plan::ContainerPlan& container) {
  const Op* ops = child.plan->items<Op>(container.ops);
  for (std::uint32_t i = 0; i < container.ops.count; ++i) {
    if ((ops[i].flags & plan::kOpIdmap) == 0 || ops[i].fd == plan::kNoFd) continue;
    const int err = SetAttributes(child.fds[ops[i].fd], true, 0, 0, 0, child.user_namespace);
    if (err != 0) Fail(child, Stage::kMount, err, "map ids of", child.plan->text(ops[i].target));
  }
}

void MakeWorkingDirectory(ChildContext& child, const plan::Process& process) {
  if ((process.flags & plan::kProcessMakeCwd) == 0 || !plan::Reader::present(process.cwd)) return;
  const int fd = ResolveInRoot(child.root, child.plan->text(process.cwd), Missing::kMakeDirectory);
  if (fd >= 0) close(fd);
  // Not there and not to be made (read-only): chdir tells.
}

void MakeRootReadonly(ChildContext& child) {
  if (const int err = SetAttributes(child.root, false, MOUNT_ATTR_RDONLY, 0, 0); err != 0) {
    Fail(child, Stage::kRootFs, err, "make read-only");
  }
}

void EnterRoot(ChildContext& child, plan::Propagation propagation) {
  // Both on "/": the old root ends up on top of the new one, and is taken away from there.
  if (fchdir(child.root) != 0 || PivotRoot(".", ".") != 0) Fail(child, Stage::kPivot, errno, "");
  if (umount2(".", MNT_DETACH) != 0) Fail(child, Stage::kPivot, errno, "detach the old root");
  if (chdir("/") != 0) Fail(child, Stage::kPivot, errno, "chdir");
  const unsigned long flags = PropagationFlags(propagation);
  if (flags != 0 && mount(nullptr, "/", nullptr, flags, nullptr) != 0)
    Fail(child, Stage::kPivot, errno, "propagation");
}

}  // namespace linnet::runtime::keeper
