#include "engine/record_store.h"

#include <fcntl.h>

#include <cerrno>

#include "linnet/base/file.h"

namespace linnet::network {

Result<void> RecordStore::WriteFile(const std::string& path, const std::string& text) const {
  if (writing_ == Writing::kReplaced) return ReplaceFile(path, text, 0600);
  const UniqueFd file = LN_TRY(Open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  return WriteAll(file, text);
}

Result<void> RecordStore::Write(const cni::Record& record) const {
  const std::string path =
      JoinPath(directory_, cni::RecordName(record.network, record.container_id, record.ifname));
  const std::string text = cni::DumpRecord(record);
  auto written = WriteFile(path, text);
  if (!written && written.error().IsErrno(ENOENT)) {
    LN_TRY(MakeDirs(directory_, 0700));
    written = WriteFile(path, text);
  }
  return written;
}

Result<void> RecordStore::Remove(const std::string& name) const {
  return RemoveFile(JoinPath(directory_, name));
}

template <class Keep>
Result<std::vector<RecordStore::File>> RecordStore::Read(Keep keep) const {
  std::vector<File> out;
  auto names = ListDir(directory_);
  if (!names && names.error().IsErrno(ENOENT)) return out;
  if (!names) return std::move(names).error();
  for (const std::string& name : *names) {
    if (!keep(name)) continue;
    auto text = ReadFile(JoinPath(directory_, name));
    if (!text && text.error().IsErrno(ENOENT)) continue;
    File file{name, std::nullopt};
    auto record = text ? cni::ParseRecord(*text) : Result<cni::Record>(std::move(text).error());
    if (record) file.record = *std::move(record);
    out.push_back(std::move(file));
  }
  return out;
}

Result<std::vector<RecordStore::File>> RecordStore::Of(std::string_view container_id) const {
  const std::string part = "-" + std::string(container_id) + "-";
  std::vector<File> files =
      LN_TRY(Read([&](const std::string& name) { return name.find(part) != std::string::npos; }));
  // "a-b-c-eth0" may be of "b" or of "b-c": the record knows.
  std::erase_if(files, [&](const File& file) {
    return file.record && file.record->container_id != container_id;
  });
  return files;
}

Result<std::vector<RecordStore::File>> RecordStore::All() const {
  return Read([](const std::string&) { return true; });
}

}  // namespace linnet::network
