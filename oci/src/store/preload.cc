#include "store/preload.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"

namespace linnet::oci {

Preloader::Preloader(std::string directory, std::string record, Load load)
    : directory_(std::move(directory)), record_(std::move(record)), load_(std::move(load)) {
  MutexLock lock(mu_);
  ReadRecord();
}

// One that cannot be read means that all is loaded again, which does no harm.
void Preloader::ReadRecord() {
  const auto text = ReadFile(record_);
  const auto document = text ? ParseJson(*text) : Result<Json>(text.error());
  if (!document) return;
  const auto files = JsonView(*document).Array("files");
  if (!files) return;
  for (const JsonView& v : *files) {
    Entry entry;
    entry.file.file = v.Optional<std::string>("file", "").value_or("");
    entry.file.images = v.Strings("images").value_or({});
    entry.file.state = "loaded";
    entry.bytes = v.Optional<std::uint64_t>("bytes", 0).value_or(0);
    entry.changed_nanos = v.Optional<std::int64_t>("changed", 0).value_or(0);
    entry.inode = v.Optional<std::uint64_t>("inode", 0).value_or(0);
    if (!entry.file.file.empty()) entries_[entry.file.file] = std::move(entry);
  }
}

Result<void> Preloader::WriteRecord() const {
  Json files = Json::array();
  {
    MutexLock lock(mu_);
    for (const auto& [name, entry] : entries_) {
      if (entry.file.state != "loaded") continue;
      files.push_back({{"file", name},
                       {"images", entry.file.images},
                       {"bytes", entry.bytes},
                       {"changed", entry.changed_nanos},
                       {"inode", entry.inode}});
    }
  }
  return WriteFileDurable(record_,
                          DumpJson(Json{{"version", 1}, {"files", std::move(files)}}) + "\n");
}

Result<std::vector<PreloadedFile>> Preloader::Run(const std::stop_token& stop) {
  MutexLock one(running_);
  auto names = ListDir(directory_);
  if (!names && names.error().Is(Code::kNotFound)) names = std::vector<std::string>();
  if (!names) return std::move(names).error();
  {
    MutexLock lock(mu_);
    const std::set<std::string> there(names->begin(), names->end());
    std::erase_if(entries_, [&](const auto& e) { return !there.contains(e.first); });
  }
  for (const std::string& name : *names) {
    if (stop.stop_requested()) return Error(Code::kCancelled, "loading was cancelled");
    if (name.starts_with('.')) continue;
    LN_TRY(LoadOne(name, stop));
  }
  return List();
}

Result<void> Preloader::LoadOne(const std::string& name, const std::stop_token& stop) {
  const std::string path = JoinPath(directory_, name);
  Entry entry{.file = {.file = name, .images = {}, .error = "", .state = "loading"}};
  struct stat st {};
  // Links are fine: the directory is root's own.
  if (stat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return Ok();
    entry.file.error = Error::FromErrno(errno, "stat").message();
  } else if (!S_ISREG(st.st_mode)) {
    return Ok();
  }
  entry.bytes = static_cast<std::uint64_t>(st.st_size);
  entry.changed_nanos = st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec;
  entry.inode = st.st_ino;
  {
    MutexLock lock(mu_);
    const auto known = entries_.find(name);
    if (known != entries_.end() && known->second.file.state == "loaded" &&
        known->second.bytes == entry.bytes && known->second.inode == entry.inode &&
        known->second.changed_nanos == entry.changed_nanos) {
      return Ok();
    }
    entries_[name] = entry;
  }
  Result<std::vector<std::string>> loaded = Internal("not opened");
  if (auto file = Open(path, O_RDONLY)) {
    loaded = load_(*file, stop);
  } else {
    loaded = std::move(file).error();
  }
  if (!loaded && stop.stop_requested()) {
    MutexLock lock(mu_);
    entries_.erase(name);
    return std::move(loaded).error();
  }
  entry.file.state = loaded ? "loaded" : "failed";
  if (loaded) {
    entry.file.images = *std::move(loaded);
  } else {
    entry.file.error = loaded.error().message();
  }
  {
    MutexLock lock(mu_);
    entries_[name] = std::move(entry);
  }
  return WriteRecord();
}

std::vector<PreloadedFile> Preloader::List() const {
  std::vector<PreloadedFile> out;
  MutexLock lock(mu_);
  for (const auto& [name, entry] : entries_) out.push_back(entry.file);
  return out;
}

}  // namespace linnet::oci
