#include "tree_description.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/oci/digest.h"

namespace linnet::testing {
namespace {

// First name of a file that was met, by device and inode.
using FirstNames = std::map<std::pair<dev_t, ino_t>, std::string>;

std::string Xattrs(const std::string& path) {
  std::array<char, 4096> names{};
  const ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
  std::map<std::string, std::string> sorted;
  for (const char* name = names.data(); size > 0 && name < names.data() + size;
       name += std::string_view(name).size() + 1) {
    if (std::string_view(name).starts_with("trusted.")) continue;
    std::array<char, 4096> value{};
    const ssize_t n = lgetxattr(path.c_str(), name, value.data(), value.size());
    sorted[name] =
        Hex(std::string(value.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))));
  }
  std::string out;
  for (const auto& [name, value] : sorted) out.append(" ").append(name).append("=").append(value);
  return out;
}

void Describe(const std::string& root, const std::string& path, FirstNames& first,
              std::map<std::string, std::string>& out) {
  const std::string full = root + path;
  struct stat st {};
  if (lstat(full.c_str(), &st) != 0) {
    out[path] = "<cannot be read>";
    return;
  }
  std::string text = "mode " + std::to_string(st.st_mode) + " owner " + std::to_string(st.st_uid) +
                     ":" + std::to_string(st.st_gid) + " mtime " +
                     std::to_string(st.st_mtim.tv_sec) + "." + std::to_string(st.st_mtim.tv_nsec);
  if (S_ISREG(st.st_mode)) {
    text += " size " + std::to_string(st.st_size) + " " +
            oci::Digest::Sha256Of(ReadFile(full, 1U << 30).value_or("?")).str();
  }
  if (!S_ISDIR(st.st_mode)) {
    text += " same as " + first.try_emplace({st.st_dev, st.st_ino}, path).first->second;
  }
  if (S_ISLNK(st.st_mode)) text += " to " + ReadLink(full).value_or("?");
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) text += " device " + std::to_string(st.st_rdev);
  out[path.empty() ? "/" : path] = text + Xattrs(full);
  if (!S_ISDIR(st.st_mode)) return;
  std::vector<std::string> names = ListDir(full).value_or({});
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) Describe(root, path + "/" + name, first, out);
}

}  // namespace

std::map<std::string, std::string> DescribeTree(const std::string& root) {
  std::map<std::string, std::string> out;
  FirstNames first;
  Describe(root, "", first, out);
  return out;
}

std::string CompareTrees(const std::map<std::string, std::string>& ours,
                         const std::map<std::string, std::string>& theirs) {
  std::string out;
  for (const auto& [path, text] : theirs) {
    const auto at = ours.find(path);
    if (at == ours.end()) {
      out += path + ": only theirs (" + text + ")\n";
    } else if (at->second != text) {
      out += path + ":\n  ours   " + at->second + "\n  theirs " + text + "\n";
    }
  }
  for (const auto& [path, text] : ours) {
    if (!theirs.contains(path)) out += path + ": only ours (" + text + ")\n";
  }
  return out;
}

}  // namespace linnet::testing
