#include "host/sources.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

#ifndef AT_RECURSIVE
constexpr unsigned AT_RECURSIVE = 0x8000;
#endif

Result<UniqueFd> CloneTree(FdRef at, const std::string& path, unsigned flags) {
  UniqueFd fd(static_cast<int>(
      syscall(SYS_open_tree, at.get(), path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags)));
  if (!fd) return Error::FromErrno(errno, "open_tree " + path);
  return fd;
}

Result<UniqueFd> CloneTreeOf(FdRef fd, const std::string& path, unsigned flags) {
  UniqueFd tree(static_cast<int>(syscall(
      SYS_open_tree, fd.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags)));
  if (!tree) return Error::FromErrno(errno, "open_tree " + path);
  return tree;
}

bool IsBelow(const std::string& path, const std::string& top) {
  return path.size() > top.size() && path.starts_with(top) && path[top.size()] == '/';
}

Result<UniqueFd> OpenBindSource(const std::string& source, const std::string& pod_dir) {
  const std::string path = CleanPath(source);
  if (pod_dir.size() > 1 && IsBelow(path, pod_dir)) {
    const UniqueFd dir = LN_TRY(Open(pod_dir, O_PATH | O_DIRECTORY));
    return OpenAt2(dir, path.substr(pod_dir.size() + 1), O_PATH, 0,
                   RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH);
  }
  return OpenAt2(FdRef::Cwd(), path, O_PATH, 0, RESOLVE_NO_SYMLINKS);
}

// ------------------------------------------------------------------------------------------------------
// layers

struct MountId {
  std::uint64_t id = 0;
  bool directory = false;
};
Result<MountId> MountOf(const std::string& path) {
  struct statx info {};
  if (statx(AT_FDCWD, path.c_str(), AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MNT_ID, &info) != 0) {
    return Error::FromErrno(errno, "stat " + path);
  }
  return MountId{.id = info.stx_mnt_id, .directory = S_ISDIR(info.stx_mode)};
}

// Directories of one mount share a clone of their common parent: one descriptor, however many
// layers.
Result<std::vector<plan::TreePath>> ShareTree(const std::vector<std::string>& paths,
                                              std::vector<UniqueFd>& owned) {
  std::vector<std::string> clean;
  clean.reserve(paths.size());
  for (const std::string& path : paths) clean.push_back(CleanPath(path));
  const std::string top = CommonParent(clean);
  const MountId top_mount = LN_TRY(MountOf(top));
  FdRef shared(-1);
  std::vector<plan::TreePath> out;
  for (const std::string& path : clean) {
    const MountId mount = LN_TRY(MountOf(path));
    if (!mount.directory) return Error::FromErrno(ENOTDIR, path);
    if (mount.id != top_mount.id) {  // a file system of its own
      owned.push_back(LN_TRY(CloneTree(FdRef::Cwd(), path, 0)));
      out.push_back({.tree = owned.back(), .path = {}});
      continue;
    }
    if (!shared.valid()) {
      owned.push_back(LN_TRY(CloneTree(FdRef::Cwd(), top, 0)));
      shared = owned.back();
    }
    const std::size_t skip = top == "/" ? 1 : std::min(top.size() + 1, path.size());
    out.push_back({.tree = shared, .path = path.substr(skip)});
  }
  return out;
}

std::uint32_t HostRoot(const std::vector<oci::IdMapping>& mappings) {
  for (const oci::IdMapping& m : mappings) {
    if (m.container_id == 0) return m.host_id;
  }
  return 0;
}

Result<void> OpenRoot(const RootFs& root, const oci::Spec& spec, Sources& out) {
  if (!root.plain_dir.empty()) {
    out.owned.push_back(LN_TRY(CloneTree(FdRef::Cwd(), root.plain_dir, AT_RECURSIVE)));
    out.plain.tree = out.owned.back();
    return Ok();
  }
  if (root.lower_dirs.empty()) return InvalidArgument("rootfs: neither layers nor a directory");
  out.lower = LN_TRY(ShareTree(root.lower_dirs, out.owned));
  if (root.upper_dir.empty()) return Ok();
  LN_TRY(MakeDirs(root.upper_dir, 0755));
  LN_TRY(MakeDirs(root.work_dir, 0700));
  if (!spec.uid_mappings.empty()) {  // its root's
    for (const std::string& dir : {root.upper_dir, root.work_dir}) {
      if (chown(dir.c_str(), HostRoot(spec.uid_mappings), HostRoot(spec.gid_mappings)) != 0) {
        return Error::FromErrno(errno, "chown " + dir);
      }
    }
  }
  const std::vector<plan::TreePath> writable =
      LN_TRY(ShareTree({root.upper_dir, root.work_dir}, out.owned));
  if (writable[0].tree.get() != writable[1].tree.get()) {
    return InvalidArgument("rootfs: upper and work directory are on different mounts");
  }
  out.upper = writable[0];
  out.work = writable[1];
  return Ok();
}

// -----------------------------------------------------------------------------------------------------
// devices

bool IsNode(const std::string& path, mode_t type, dev_t number) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && (info.st_mode & S_IFMT) == type &&
         info.st_rdev == number;
}

// The host's node of a device: at the container's path, or where the kernel's name for it says.
Result<std::string> HostNode(const oci::Device& device) {
  const bool block = device.type == "b";
  const dev_t number =
      makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
  const mode_t type = block ? S_IFBLK : S_IFCHR;
  if (IsNode(device.path, type, number)) return device.path;
  const std::string uevent = "/sys/dev/" + std::string(block ? "block/" : "char/") +
                             std::to_string(device.major) + ":" + std::to_string(device.minor) +
                             "/uevent";
  if (const auto text = ReadFile(uevent)) {
    for (const std::string& line : Split(*text, '\n')) {
      if (!line.starts_with("DEVNAME=")) continue;
      std::string path = JoinPath("/dev", line.substr(8));
      if (IsNode(path, type, number)) return path;
    }
  }
  return NotFound("the host has no node of device " + std::to_string(device.major) + ":" +
                  std::to_string(device.minor));
}

// mknod is refused in a user namespace: nodes are bound from the host.
Result<void> OpenDevices(const std::vector<oci::Device>& devices, Sources& out) {
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (devices[i].type == "p") {
      out.device_nodes.emplace_back(-1);
      continue;
    }
    const std::string field = "linux.devices[" + std::to_string(i) + "] " + devices[i].path;
    const std::string node = LN_TRY_CTX(HostNode(devices[i]), field);
    out.owned.push_back(LN_TRY_CTX(CloneTree(FdRef::Cwd(), node, 0), field));
    out.device_nodes.push_back(out.owned.back());
  }
  return Ok();
}

}  // namespace

std::string CommonParent(const std::vector<std::string>& paths) {
  std::string common = paths.front();
  for (const std::string& path : paths) {
    while (common != "/" && path != common && !IsBelow(path, common)) common = Dirname(common);
  }
  return common;
}

Result<Sources> OpenSources(const ContainerSpec& spec,
                            const std::vector<plan::ParsedMount>& mounts) {
  Sources out;
  LN_TRY_CTX(OpenRoot(spec.rootfs, spec.spec, out), "root file system");
  const std::string pod_dir = Dirname(Dirname(CleanPath(spec.directory)));
  for (std::size_t i = 0; i < mounts.size(); ++i) {
    const plan::ParsedMount& mount = mounts[i];
    if (mount.kind != plan::OpKind::kBind) {
      out.mount_trees.emplace_back(-1);
      continue;
    }
    const std::string field = "mounts[" + std::to_string(i) + "].source";
    const UniqueFd source = LN_TRY_CTX(OpenBindSource(mount.source, pod_dir), field);
    out.owned.push_back(
        LN_TRY_CTX(CloneTreeOf(source, mount.source, mount.recursive ? AT_RECURSIVE : 0U), field));
    out.mount_trees.push_back(out.owned.back());
  }
  if (!spec.spec.uid_mappings.empty()) LN_TRY(OpenDevices(spec.spec.devices, out));
  return out;
}

}  // namespace linnet::runtime
