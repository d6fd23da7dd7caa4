#include "cgroup/hierarchy.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::runtime {
namespace {

constexpr std::array<std::string_view, kControllerCount> kNames = {
    "cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb"};

// mountinfo writes blanks, tabs, line ends and backslashes as \ooo.
std::string Unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool IsCgroupFs(FdRef dir, bool v2) {
  struct statfs fs {};
  if (::fstatfs(dir.get(), &fs) != 0) return false;
  return fs.f_type == (v2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
}

struct DirDeleter {
  void operator()(DIR* d) const { ::closedir(d); }
};

}  // namespace

std::string_view ControllerName(Controller c) { return kNames[static_cast<std::size_t>(c)]; }

ControllerSet ParseControllers(std::string_view text, char separator) {
  ControllerSet out;
  for (const std::string& word : Split(Trim(text), separator)) {
    const std::string_view name = word == "io" ? std::string_view("blkio") : std::string_view(word);
    const auto* it = std::find(kNames.begin(), kNames.end(), name);
    if (it != kNames.end()) out.Add(static_cast<Controller>(it - kNames.begin()));
  }
  return out;
}

std::vector<HierarchyMount> ParseCgroupMounts(std::string_view mountinfo) {
  std::vector<HierarchyMount> out;
  for (const std::string& line : Split(mountinfo, '\n')) {
    // id parent major:minor root mount-point options [tags…] - type source super-options
    const std::vector<std::string> fields = SplitFields(line);
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const std::string& type = *(dash + 1);
    if (type != "cgroup" && type != "cgroup2") continue;
    HierarchyMount mount;
    mount.v2 = type == "cgroup2";
    mount.root = Unescape(fields[3]);
    mount.mount_point = Unescape(fields[4]);
    if (!mount.v2) {
      mount.controllers = ParseControllers(*(dash + 3), ',');
      if (mount.controllers.empty()) continue;  // name=systemd, net_cls, …
    }
    out.push_back(std::move(mount));
  }
  std::reverse(out.begin(), out.end());
  std::stable_partition(out.begin(), out.end(),
                        [](const HierarchyMount& m) { return m.root == "/"; });
  return out;
}

Result<Hierarchies> OpenHierarchies() {
  const std::string table = LN_TRY(ReadFile("/proc/self/mountinfo"));
  Hierarchies out;
  ControllerSet taken;
  for (const HierarchyMount& mount : ParseCgroupMounts(table)) {
    if (mount.v2 ? out.v2.has_value() : taken.Covers(mount.controllers)) continue;
    Result<UniqueFd> dir = OpenDir(mount.mount_point);
    if (!dir || !IsCgroupFs(*dir, mount.v2)) continue;  // covered by another mount
    Hierarchy hierarchy{
        .controllers = mount.controllers, .mount_point = mount.mount_point, .dir = *std::move(dir)};
    if (!mount.v2) {
      for (int i = 0; i < kControllerCount; ++i) {
        if (mount.controllers.Has(static_cast<Controller>(i)))
          taken.Add(static_cast<Controller>(i));
      }
      out.v1.push_back(std::move(hierarchy));
      continue;
    }
    const auto controllers = ReadFileAt(hierarchy.dir, "cgroup.controllers");
    if (!controllers) continue;
    hierarchy.controllers = ParseControllers(*controllers, ' ');
    out.v2 = std::move(hierarchy);
  }
  if (out.v1.empty() && !out.v2) return FailedPrecondition("no cgroup hierarchy is mounted");
  return out;
}

Result<std::string> RelativePath(const std::string& path) {
  std::string out;
  for (const std::string& part : Split(path, '/')) {
    if (part.empty()) continue;
    const bool control =
        std::any_of(part.begin(), part.end(), [](char c) { return c == '\n' || c == '\0'; });
    if (part == "." || part == ".." || control)
      return InvalidArgument("cgroup path \"" + path + "\" is not a plain path");
    if (!out.empty()) out += '/';
    out += part;
  }
  if (out.empty()) return InvalidArgument("cgroup path \"" + path + "\" names a hierarchy's root");
  return out;
}

Result<std::vector<std::string>> ChildDirs(FdRef dir) {
  // A descriptor of its own: reading a directory moves the position that all duplicates share.
  UniqueFd fd = LN_TRY(OpenAt(dir, ".", O_RDONLY | O_DIRECTORY));
  const std::unique_ptr<DIR, DirDeleter> stream(::fdopendir(fd.get()));
  if (!stream) return Error::FromErrno(errno, "list cgroup");
  (void)fd.Release();  // the stream's now
  std::vector<std::string> out;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") out.emplace_back(name);
  }
  // ENOENT: the cgroup was removed meanwhile.
  if (errno != 0 && errno != ENOENT) return Error::FromErrno(errno, "list cgroup");
  std::sort(out.begin(), out.end());
  return out;
}

Result<void> ForEachBelow(FdRef root, const std::string& path, const VisitCgroup& visit) {
  Result<UniqueFd> dir = OpenAt(root, path, O_RDONLY | O_DIRECTORY);
  if (!dir) {
    if (dir.error().Is(Code::kNotFound)) return Ok();
    return std::move(dir).error();
  }
  for (const std::string& name : LN_TRY(ChildDirs(*dir)))
    LN_TRY(ForEachBelow(root, JoinPath(path, name), visit));
  return visit(*dir, path);
}

}  // namespace linnet::runtime
