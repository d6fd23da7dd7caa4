#include "plan/sysctls.h"

#include <algorithm>
#include <string_view>

#include "linnet/base/text.h"

namespace linnet::runtime::plan {
namespace {

constexpr std::string_view kIpc[] = {"kernel/msgmax", "kernel/msgmnb",         "kernel/msgmni",
                                     "kernel/sem",    "kernel/shmall",         "kernel/shmmax",
                                     "kernel/shmmni", "kernel/shm_rmid_forced"};

bool IsPlainPath(const std::string& path) {
  const auto allowed = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '/' || c == '.' || c == ':' || c == '@';
  };
  if (!std::all_of(path.begin(), path.end(), allowed)) return false;
  const std::vector<std::string> parts = Split(path, '/');
  return std::none_of(parts.begin(), parts.end(), [](const std::string& part) {
    return part.empty() || part == "." || part == "..";
  });
}

Error Refuse(const std::string& key, std::string_view why) {
  return InvalidArgument("sysctl \"" + key + "\": " + std::string(why));
}

}  // namespace

Result<std::string> SysctlPath(const std::string& key, const OwnNamespaces& own) {
  std::string path = key;
  const std::size_t first = path.find_first_of("./");
  if (first != std::string::npos && path[first] == '.') {
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  if (!IsPlainPath(path)) return Refuse(key, "not a plain name");
  if (path.starts_with("net/")) {
    if (own.network) return path;
    return Refuse(key, "the pod has no network namespace of its own");
  }
  if (path.starts_with("fs/mqueue/") ||
      std::find(std::begin(kIpc), std::end(kIpc), path) != std::end(kIpc)) {
    if (own.ipc) return path;
    return Refuse(key, "the pod has no IPC namespace of its own");
  }
  if (path == "kernel/domainname") {
    if (own.uts) return path;
    return Refuse(key, "the pod has no UTS namespace of its own");
  }
  if (path.starts_with("user/")) {
    if (own.user) return path;
    return Refuse(key, "the pod has no user namespace");
  }
  return Refuse(key, path == "kernel/hostname" ? "the host name is set by the pod's hostname"
                                               : "not a namespaced sysctl");
}

}  // namespace linnet::runtime::plan
