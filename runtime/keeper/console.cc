#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "child.h"

namespace linnet::runtime::keeper {
namespace {

constexpr unsigned kDevptsMagic = 0x1cd1;
constexpr std::uint64_t kNoLinks = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

// The multiplexer of a devpts, not what an image may have put there (CVE-2025-52565).
int OpenMaster(int root) {
  const int master = OpenAt2(root, "dev/pts/ptmx", O_RDWR | O_NOCTTY, 0, kNoLinks);
  if (master < 0) return -1;
  struct stat info = {};
  struct statfs fs = {};
  if (fstat(master, &info) == 0 && fstatfs(master, &fs) == 0 &&
      static_cast<unsigned>(fs.f_type) == kDevptsMagic && S_ISCHR(info.st_mode) &&
      info.st_rdev == makedev(5, 2)) {
    return master;
  }
  close(master);
  errno = ENODEV;
  return -1;
}

void SendMaster(const ChildContext& child, int master) {
  ReportMessage message;
  message.kind = ReportMessage::Kind::kConsole;
  iovec data = {&message, offsetof(ReportMessage, detail)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(rights), &master, sizeof master);
  if (sendmsg(child.report, &header, MSG_NOSIGNAL) < 0) Fail(child, Stage::kConsole, errno, "send");
}

void BindConsole(const ChildContext& child, int root, int slave) {
  const int dev = OpenAt2(root, "dev", O_PATH | O_DIRECTORY, 0, kNoLinks);
  if (dev < 0) Fail(child, Stage::kConsole, errno, "/dev");
  int node = openat(dev, "console", O_CREAT | O_EXCL | O_NOFOLLOW | O_RDONLY | O_CLOEXEC, 0600);
  if (node >= 0) close(node);
  node = openat(dev, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat info = {};
  if (node < 0 || fstat(node, &info) != 0 || S_ISLNK(info.st_mode) || S_ISDIR(info.st_mode)) {
    Fail(child, Stage::kConsole, node < 0 ? errno : EINVAL, "/dev/console");
  }
  const int tree = OpenTree(slave, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
  if (tree < 0 || MoveMountFd(tree, node) != 0)
    Fail(child, Stage::kConsole, errno, "bind /dev/console");
  close(tree);
  close(node);
  close(dev);
}

}  // namespace

int OpenConsole(ChildContext& child, int root, const plan::Process& process, bool bind_console) {
  const int master = OpenMaster(root);
  if (master < 0) Fail(child, Stage::kConsole, errno, "open /dev/pts/ptmx");
  int unlock = 0;
  if (ioctl(master, TIOCSPTLCK, &unlock) != 0) Fail(child, Stage::kConsole, errno, "unlock");
  const int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) Fail(child, Stage::kConsole, errno, "open its other end");
  if ((process.flags & plan::kProcessConsoleSize) != 0) {
    winsize size = {};
    size.ws_row = process.rows;
    size.ws_col = process.columns;
    (void)ioctl(master, TIOCSWINSZ, &size);  // a size is a wish
  }
  if (fchown(slave, process.uid, static_cast<gid_t>(-1)) != 0)
    Fail(child, Stage::kConsole, errno, "owner");
  SendMaster(child, master);
  close(master);
  if (bind_console) BindConsole(child, root, slave);
  return slave;
}

}  // namespace linnet::runtime::keeper
