#include "host/features.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

bool HasMountSetattr() {
  mount_attr attributes{};
  // A bad descriptor: EBADF where the system call exists.
  return syscall(SYS_mount_setattr, -1, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0 ||
         errno != ENOSYS;
}

bool Says(const char* path, char wanted) {
  const auto text = ReadFile(path);
  return text && !text->empty() && text->front() == wanted;
}

bool HasUserNamespaces() {
  if (!Exists("/proc/self/ns/user")) return false;
  const auto text = ReadFile("/proc/sys/user/max_user_namespaces");
  return !text || Trim(*text) != "0";
}

std::string LayoutName(CgroupLayout layout) {
  switch (layout) {
    case CgroupLayout::kV1:
      return "v1";
    case CgroupLayout::kHybrid:
      return "hybrid";
    case CgroupLayout::kV2:
      return "v2";
  }
  return "v2";
}

}  // namespace

Runtime::Features ProbeFeatures(CgroupLayout layout) {
  return {.cgroup_layout = LayoutName(layout),
          .recursive_read_only = HasMountSetattr(),
          .user_namespaces = HasUserNamespaces(),
          .seccomp = Exists("/proc/sys/kernel/seccomp/actions_avail"),
          .apparmor = Says("/sys/module/apparmor/parameters/enabled", 'Y'),
          .selinux = Exists("/sys/fs/selinux/enforce")};
}

}  // namespace linnet::runtime
