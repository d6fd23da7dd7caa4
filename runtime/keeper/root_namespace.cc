// The mount namespace that a keeper lives in: an empty read-only tmpfs, /proc, and /null. Nothing
// of the host can be reached from it, nothing that is mounted in it is seen by the host, and
// cloning it costs next to nothing.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

// Verified: the node hides files and stands in for standard streams.
int OpenHostNull() {
  const int tree = OpenTree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
  if (tree < 0) return -1;
  struct stat info = {};
  if (fstat(tree, &info) != 0 || !S_ISCHR(info.st_mode) || info.st_rdev != makedev(1, 3)) {
    close(tree);
    errno = ENODEV;
    return -1;
  }
  return tree;
}

int FillRoot(int root, int null_tree) {
  for (const char* directory : {kRootPath, kLayerPath, kShmPath, kEmptyPath, kSysPath, "/proc"}) {
    if (mkdirat(root, directory + 1, 0755) != 0) return errno;
  }
  const int file = openat(root, kNullPath + 1, O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0644);
  if (file < 0) return errno;
  const int moved = MoveMountFd(null_tree, file);
  const int err = moved != 0 ? errno : 0;
  close(file);
  return err;
}

}  // namespace

int JoinRootNamespace(int fd) {
  if (setns(fd, CLONE_NEWNS) != 0) return errno;
  if (unshare(CLONE_NEWNS) != 0) return errno;
  return chdir("/") != 0 ? errno : 0;
}

int MakeRootNamespace() {
  umask(0);
  if (unshare(CLONE_NEWNS) != 0) return errno;
  // A slave first: nothing of what follows is seen by the host.
  if (mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) return errno;
  const int null_tree = OpenHostNull();
  if (null_tree < 0) return errno;
  if (mount("linnet-keeper", "/dev", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
            "size=64k,nr_inodes=32,mode=755") != 0) {
    return errno;
  }
  const int root = open("/dev", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
  if (root < 0) return errno;
  if (const int err = FillRoot(root, null_tree); err != 0) return err;
  if (fchdir(root) != 0) return errno;
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return errno;
  if (mount(nullptr, ".", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) return errno;
  // The old root ends up on top of the new one, and is taken away from there.
  if (PivotRoot(".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) return errno;
  if (mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
            nullptr) != 0)
    return errno;
  close(root);
  close(null_tree);
  return 0;
}

}  // namespace linnet::runtime::keeper
