#include "layer_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "linnet/base/file.h"

namespace linnet::pods {
namespace {

constexpr std::size_t kMaxRelativePath = 2000;

// A directory still to be read: `path` below `anchor`. Owners of an anchor: the entries below it
// that wait.
struct Pending {
  std::shared_ptr<const UniqueFd> anchor;
  std::string path;
};

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

class Walk {
 public:
  explicit Walk(std::size_t max_inodes) : max_inodes_(max_inodes) {}

  Result<TreeUsage> Run(FdRef root) {
    struct stat st {};
    if (::fstat(root.get(), &st) != 0) return Error::FromErrno(errno, "stat a layer");
    device_ = st.st_dev;
    Count(st);
    pending_.push_back(
        {std::make_shared<const UniqueFd>(LN_TRY(OpenAt(root, ".", O_RDONLY | O_DIRECTORY))), "."});
    while (!pending_.empty() && usage_.whole) {
      Pending next = std::move(pending_.back());
      pending_.pop_back();
      LN_TRY(ReadDirectory(std::move(next)));
    }
    return usage_;
  }

 private:
  Result<void> ReadDirectory(Pending at) {
    constexpr std::uint64_t kStayInside = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
    constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK;
    auto fd = OpenAt2(*at.anchor, at.path, kFlags, 0, kStayInside);
    // Without openat2 a rename can at worst make it count elsewhere: nothing is told but numbers.
    if (!fd && fd.error().IsErrno(ENOSYS)) fd = OpenAt(*at.anchor, at.path, kFlags);
    if (!fd) return Tolerate(std::move(fd).error());
    if (at.path.size() > kMaxRelativePath) {
      at.anchor =
          std::make_shared<const UniqueFd>(LN_TRY(OpenAt(*fd, ".", O_RDONLY | O_DIRECTORY)));
      at.path = ".";
    }
    const std::unique_ptr<DIR, CloseDir> dir(::fdopendir(fd->get()));
    if (!dir) return Error::FromErrno(errno, "read a directory of a layer");
    const FdRef here(fd->Release());  // the stream's now
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(dir.get());
      if (entry == nullptr)
        return errno == 0 ? Ok() : Tolerate(Error::FromErrno(errno, "read a directory of a layer"));
      const std::string_view name(static_cast<const char*>(entry->d_name));
      if (name == "." || name == "..") continue;
      struct stat st {};
      if (::fstatat(here.get(), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        continue;  // gone meanwhile
      if (st.st_dev != device_) continue;
      if (usage_.inodes >= max_inodes_) {
        usage_.whole = false;
        return Ok();
      }
      Count(st);
      if (S_ISDIR(st.st_mode))
        pending_.push_back(
            {at.anchor, at.path == "." ? std::string(name) : JoinPath(at.path, name)});
    }
  }

  // It was removed, or something else has its name now.
  static Result<void> Tolerate(Error error) {
    const bool moved = error.Is(Code::kNotFound) || error.IsErrno(ENOTDIR) ||
                       error.IsErrno(ELOOP) || error.IsErrno(EXDEV);
    return moved ? Ok() : Result<void>(std::move(error));
  }

  void Count(const struct stat& st) {
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && !seen_.insert(st.st_ino).second) return;
    ++usage_.inodes;
    usage_.bytes += static_cast<std::uint64_t>(st.st_blocks) * 512;
  }

  const std::size_t max_inodes_;
  dev_t device_ = 0;
  TreeUsage usage_;
  std::set<ino_t> seen_;
  std::vector<Pending> pending_;
};

}  // namespace

Result<TreeUsage> MeasureTree(FdRef root, std::size_t max_inodes) {
  return Walk(max_inodes).Run(root);
}

}  // namespace linnet::pods
