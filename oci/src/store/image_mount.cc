#include "store/image_mount.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <cerrno>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/log.h"
#include "linnet/base/text.h"

namespace linnet::oci {
namespace {

// One page of options, with "/proc/self/fd/NNNNN:" for each layer.
constexpr std::size_t kMaxOptions = 4095;

// "\040" → " " (proc_pid_mountinfo(5))
std::string Unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::set<std::string> OverlayMountpoints() {
  std::set<std::string> out;
  const auto mounts = ReadFile("/proc/self/mountinfo", 16U << 20);
  if (!mounts) return out;
  for (const std::string& line : Split(*mounts, '\n')) {
    if (line.find(" - overlay ") == std::string::npos) continue;
    const std::vector<std::string> fields = SplitFields(line);
    if (fields.size() > 4) out.insert(Unescape(fields[4]));
  }
  return out;
}

}  // namespace

ImageMounts::ImageMounts(std::string file, std::shared_ptr<ImageTable> table,
                         std::string empty_layer)
    : file_(std::move(file)), table_(std::move(table)), empty_layer_(std::move(empty_layer)) {
  MutexLock lock(mu_);
  Load();
}

void ImageMounts::Load() {
  const auto text = ReadFile(file_);
  if (!text) return;
  const auto document = ParseJson(*text);
  const auto list = document ? JsonView(*document).Array("mounts")
                             : Result<std::vector<JsonView>>(document.error());
  if (!list) {
    log::Debug("list of mounted images not read, ignoring", {{"err", list.error()}});
    return;
  }
  const std::set<std::string> mounted = OverlayMountpoints();
  for (const JsonView& v : *list) {
    Entry entry;
    entry.mount.target = v.Optional<std::string>("target", "").value_or("");
    entry.mount.image_id = v.Optional<std::string>("image", "").value_or("");
    entry.mount.name = v.Optional<std::string>("name", "").value_or("");
    if (!mounted.contains(entry.mount.target)) continue;  // the machine was started anew
    const auto id = Digest::Parse(entry.mount.image_id);
    auto hold = id ? table_->Hold(*id) : Result<std::shared_ptr<const void>>(id.error());
    if (!hold) {
      log::Debug("mounted image is not here, ignoring",
                 {{"target", entry.mount.target}, {"err", hold.error()}});
      continue;
    }
    entry.hold = *std::move(hold);
    entries_[entry.mount.target] = std::move(entry);
  }
}

Result<void> ImageMounts::Save() const {
  Json list = Json::array();
  for (const auto& [target, entry] : entries_) {
    list.push_back(
        {{"target", target}, {"image", entry.mount.image_id}, {"name", entry.mount.name}});
  }
  return ReplaceFile(file_, DumpJson(Json{{"version", 1}, {"mounts", std::move(list)}}) + "\n");
}

Result<ImageMount> ImageMounts::Mount(const Image& image, const std::string& name,
                                      const std::string& target) {
  if (!target.starts_with('/')) return InvalidArgument("the target must be an absolute path");
  LN_TRY(MakeDirs(target, 0755));
  const std::string at = LN_TRY(RealPath(target));
  LN_TRY(OpenDir(at));
  MutexLock lock(mu_);
  if (entries_.contains(at)) return AlreadyExists("an image is mounted at " + at + " already");
  Entry entry{.mount = {.target = at, .image_id = image.id.str(), .name = name},
              .hold = LN_TRY(table_->Hold(image.id))};
  // By descriptor, since a page of options holds few whole paths; highest first. overlayfs wants
  // two at least, so the empty one is always the lowest.
  std::vector<UniqueFd> layers;
  std::string options = "lowerdir=";
  for (auto dir = image.layer_dirs.rbegin(); dir != image.layer_dirs.rend(); ++dir) {
    if (*dir == empty_layer_) continue;
    layers.push_back(LN_TRY(OpenDir(*dir)));
    options += FdPath(layers.back()) + ":";
  }
  if (layers.empty()) return FailedPrecondition("the image has no files");
  const UniqueFd empty = LN_TRY(OpenDir(empty_layer_));
  options += FdPath(empty);
  if (options.size() > kMaxOptions) {
    return FailedPrecondition("the image has " + std::to_string(layers.size()) +
                              " layers, more than can be mounted on a host: run a container of it");
  }
  // The list first: a mount that nobody knows would lose its layers.
  entries_[at] = entry;
  auto saved = Save();
  if (saved && mount("linnet", at.c_str(), "overlay", MS_RDONLY | MS_NODEV | MS_NOSUID,
                     options.c_str()) != 0) {
    saved = Error::FromErrno(errno, "mount image at " + at);
  }
  if (!saved) {
    entries_.erase(at);
    (void)Save();  // an entry that is not mounted is dropped at the next start
    return std::move(saved).error();
  }
  return entry.mount;
}

Result<std::vector<ImageMount>> ImageMounts::Unmount(const std::string& target,
                                                     const Image* image) {
  const std::string at = target.starts_with('/') ? CleanPath(target) : "";
  MutexLock lock(mu_);
  std::vector<std::string> going;
  for (const auto& [known, entry] : entries_) {
    if (known == at || (image != nullptr && entry.mount.image_id == image->id.str()))
      going.push_back(known);
  }
  if (going.empty()) return NotFound("no image is mounted as " + target);
  std::vector<ImageMount> out;
  for (const std::string& one : going) {
    // EINVAL: somebody else has unmounted it.
    if (umount2(one.c_str(), UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT)
      return Error::FromErrno(errno, "unmount " + one);
    out.push_back(entries_.at(one).mount);
    entries_.erase(one);
    LN_TRY(Save());
  }
  return out;
}

std::vector<ImageMount> ImageMounts::List() const {
  MutexLock lock(mu_);
  std::vector<ImageMount> out;
  for (const auto& [target, entry] : entries_) out.push_back(entry.mount);
  return out;
}

}  // namespace linnet::oci
