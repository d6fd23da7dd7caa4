#include "security/layered_root.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <deque>
#include <memory>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

constexpr int kMaxLinks = 40;        // as the kernel
constexpr int kMaxComponents = 256;  // all links resolved

// One directory as overlayfs merges it: the same name in several layers, the uppermost first.
// Borrowed from the layers, or owned.
struct MergedDir {
  std::vector<UniqueFd> owned;
  std::vector<int> dirs;
};

bool IsWhiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

// A directory that hides what lower layers have under its name.
bool IsOpaque(FdRef dir) {
  std::array<char, 8> value{};
  // An O_PATH descriptor has no xattrs of its own; through /proc/self/fd the file is reached.
  return ::getxattr(FdPath(dir).c_str(), "trusted.overlay.opaque", value.data(), value.size()) ==
             1 &&
         value[0] == 'y';
}

enum class Kind { kAbsent, kDir, kLink, kFile, kOther };

struct Found {
  Kind kind = Kind::kAbsent;
  MergedDir dir;       // kDir
  int at = -1;         // the layer's directory that holds the name, else
  std::string target;  // kLink
};

Result<std::string> ReadLinkAt(int dir, const std::string& name) {
  std::array<char, PATH_MAX> buffer{};
  const ssize_t n = ::readlinkat(dir, name.c_str(), buffer.data(), buffer.size());
  if (n < 0) return Error::FromErrno(errno, "readlink " + name);
  return std::string(buffer.data(), static_cast<std::size_t>(n));
}

// What the merged directory shows under `name`.
Result<Found> LookUp(const MergedDir& in, const std::string& name) {
  Found out;
  for (const int layer : in.dirs) {
    struct stat st {};
    if (::fstatat(layer, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return Error::FromErrno(errno, "stat " + name);
    }
    if (IsWhiteout(st)) break;
    if (!S_ISDIR(st.st_mode)) {
      if (out.kind == Kind::kDir) break;  // an upper directory hides a lower file
      out.at = layer;
      out.kind = S_ISREG(st.st_mode)   ? Kind::kFile
                 : S_ISLNK(st.st_mode) ? Kind::kLink
                                       : Kind::kOther;
      if (out.kind == Kind::kLink) out.target = LN_TRY(ReadLinkAt(layer, name));
      break;
    }
    UniqueFd dir(::openat(layer, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir) return Error::FromErrno(errno, "open " + name);
    out.kind = Kind::kDir;
    const bool opaque = in.dirs.size() > 1 && IsOpaque(dir);
    out.dir.dirs.push_back(dir.get());
    out.dir.owned.push_back(std::move(dir));
    if (opaque) break;
  }
  return out;
}

void PushComponents(std::deque<std::string>& pending, const std::string& path) {
  std::vector<std::string> parts = Split(path, '/');
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    if (!it->empty() && *it != ".") pending.push_front(std::move(*it));
  }
}

}  // namespace

Result<LayeredRoot> LayeredRoot::Open(const RootFs& rootfs) {
  const auto open_layer = [](const std::string& path) {
    return linnet::Open(path, O_PATH | O_DIRECTORY);
  };
  std::vector<UniqueFd> layers;
  if (!rootfs.plain_dir.empty()) {
    layers.push_back(LN_TRY(open_layer(rootfs.plain_dir)));
    return LayeredRoot(std::move(layers));
  }
  if (!rootfs.upper_dir.empty()) {
    Result<UniqueFd> upper = open_layer(rootfs.upper_dir);
    if (upper) {
      layers.push_back(*std::move(upper));
    } else if (!upper.error().Is(Code::kNotFound)) {
      return std::move(upper).error();
    }
  }
  for (auto it = rootfs.lower_dirs.rbegin(); it != rootfs.lower_dirs.rend(); ++it)
    layers.push_back(LN_TRY(open_layer(*it)));
  return LayeredRoot(std::move(layers));
}

Result<UniqueFd> LayeredRoot::OpenRegular(const std::string& path) const {
  // The directories walked through, the root first: ".." goes back, and never above the root.
  std::vector<MergedDir> walked(1);
  for (const UniqueFd& layer : layers_) walked[0].dirs.push_back(layer.get());
  std::deque<std::string> pending;
  PushComponents(pending, path);
  int links = 0;
  int components = 0;
  while (!pending.empty()) {
    const std::string name = std::move(pending.front());
    pending.pop_front();
    if (++components > kMaxComponents) return InvalidArgument(path + ": too many path components");
    if (name == "..") {
      if (walked.size() > 1) walked.pop_back();
      continue;
    }
    Found found = LN_TRY_CTX(LookUp(walked.back(), name), path);
    if (found.kind == Kind::kAbsent)
      return NotFound(path + ": no such file in the root file system");
    if (found.kind == Kind::kDir) {
      walked.push_back(std::move(found.dir));
      continue;
    }
    if (found.kind == Kind::kLink) {
      if (++links > kMaxLinks) return InvalidArgument(path + ": too many levels of symbolic links");
      if (found.target.starts_with("/")) walked.erase(walked.begin() + 1, walked.end());
      PushComponents(pending, found.target);
      continue;
    }
    if (!pending.empty()) return NotFound(path + ": \"" + name + "\" is not a directory");
    if (found.kind == Kind::kOther) return InvalidArgument(path + " is not a regular file");
    // O_NONBLOCK: should it have become a FIFO since.
    UniqueFd file(::openat(found.at, name.c_str(),
                           O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!file) return Error::FromErrno(errno, "open " + path);
    struct stat st {};
    if (::fstat(file.get(), &st) != 0) return Error::FromErrno(errno, "stat " + path);
    if (!S_ISREG(st.st_mode)) return InvalidArgument(path + " is not a regular file");
    return file;
  }
  return InvalidArgument(path + " is not a regular file");
}

}  // namespace linnet::runtime
