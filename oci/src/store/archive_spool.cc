#include "store/archive_spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"
#include "linnet/base/log.h"

#include "unpack/tar_reader.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kReadBytes = 64U << 10;
// Enough for the first headers, whatever pax records stand before them.
constexpr std::size_t kPeekBytes = 64U << 10;
constexpr std::size_t kMaxMembers = 20'000;
constexpr int kMaxLinks = 8;

bool IsHex64(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool IsArchiveMember(std::string_view path) {
  constexpr std::array<std::string_view, 5> kNames = {"oci-layout", "index.json", "manifest.json",
                                                      "repositories", "blobs"};
  if (std::find(kNames.begin(), kNames.end(), path) != kNames.end()) return true;
  if (path.starts_with("blobs/sha256") || path.starts_with("blobs/sha512")) return true;
  // Docker's own: "<id>/", "<id>/layer.tar", "<id>.json", "<id>.tar".
  return IsHex64(path.substr(0, 64)) && (path.size() == 64 || path[64] == '/' || path[64] == '.');
}

}  // namespace

Result<std::size_t> ArchiveStream::ReadSome(std::string& to) {
  const std::size_t before = to.size();
  to.resize(before + kReadBytes);
  for (;;) {
    const ssize_t n = read(fd_.get(), to.data() + before, kReadBytes);
    if (n < 0 && errno == EINTR) continue;
    to.resize(before + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0) return Error::FromErrno(errno, "read the archive");
    bytes_read_ += static_cast<std::uint64_t>(n);
    return static_cast<std::size_t>(n);
  }
}

Result<std::string_view> ArchiveStream::Next() {
  current_.clear();
  if (!ahead_.empty()) {
    current_.swap(ahead_);
  } else {
    LN_TRY(ReadSome(current_));
  }
  return std::string_view(current_);
}

Result<std::string_view> ArchiveStream::Peek(std::size_t bytes) {
  while (ahead_.size() < bytes && LN_TRY(ReadSome(ahead_)) > 0) {
  }
  return std::string_view(ahead_);
}

DecompressedStream::DecompressedStream(Source source)
    : source_(std::move(source)), decompressor_(*this) {}

Result<std::span<char>> DecompressedStream::Room() {
  if (used_ + kReadBytes > buffer_.size())
    buffer_.resize(std::max(buffer_.size() * 2, 4 * kReadBytes));
  return std::span<char>(buffer_.data() + used_, buffer_.size() - used_);
}

Result<void> DecompressedStream::Filled(std::size_t bytes) {
  used_ += bytes;
  return Ok();
}

Result<std::string_view> DecompressedStream::Next() {
  used_ = 0;
  while (used_ == 0 && !ended_) {
    const std::string_view bytes = LN_TRY(source_());
    if (bytes.empty()) {
      ended_ = true;
      LN_TRY(decompressor_.Finish());
    } else {
      LN_TRY(decompressor_.Write(bytes));
    }
  }
  return std::string_view(buffer_.data(), used_);
}

Result<std::unique_ptr<ArchiveSpool>> ArchiveSpool::Read(const std::string& parent,
                                                         ArchiveStream& archive,
                                                         const UnpackLimits& limits) {
  const std::string directory = JoinPath(parent, "import-" + RandomHex(8));
  LN_TRY(MakeDirs(directory, 0700));
  std::unique_ptr<ArchiveSpool> spool(new ArchiveSpool(directory));
  DecompressedStream plain([&archive] { return archive.Next(); });
  TarReader reader([&plain] { return plain.Next(); });
  std::uint64_t total = 0;
  for (std::size_t count = 0;; ++count) {
    const TarEntry* entry = LN_TRY(reader.Next());
    if (entry == nullptr) break;
    if (count >= kMaxMembers)
      return Error(Code::kResourceExhausted, "archive has too many members");
    const std::string name =
        LN_TRY_CTX(CleanEntryPath(entry->path, limits), "\"" + entry->path.substr(0, 256) + "\"");
    if (entry->kind == EntryKind::kSymlink || entry->kind == EntryKind::kHardLink) {
      // docker save links equal layers: "../<id>/layer.tar"
      const bool relative = entry->kind == EntryKind::kSymlink;
      spool->links_[name] =
          CleanPath(relative ? JoinPath(Dirname(name), entry->link) : entry->link);
      continue;
    }
    if (entry->kind != EntryKind::kFile) continue;
    const Member member{JoinPath(directory, std::to_string(count)), entry->size};
    const UniqueFd file = LN_TRY(Open(member.path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    while (const std::optional<TarReader::Data> data = LN_TRY(reader.Read())) {
      total += data->bytes.size();
      if (total > limits.max_bytes) return Error(Code::kResourceExhausted, "archive is too large");
      if (lseek(file.get(), static_cast<off_t>(data->offset), SEEK_SET) < 0) {
        return Error::FromErrno(errno, "seek in " + member.path);
      }
      LN_TRY_CTX(WriteAll(file, data->bytes), "copy the archive");
    }
    if (ftruncate(file.get(), static_cast<off_t>(entry->size)) != 0)
      return Error::FromErrno(errno, "copy the archive");
    spool->members_[name] = member;
  }
  return spool;
}

ArchiveSpool::~ArchiveSpool() {
  auto removed = RemoveAll(directory_);
  // The next start removes it.
  if (!removed) log::Debug("spool not removed, ignoring", {{"err", removed.error()}});
}

const ArchiveSpool::Member* ArchiveSpool::Find(std::string_view name) const {
  std::string at = CleanPath(name);
  for (int i = 0; i < kMaxLinks; ++i) {
    if (const auto member = members_.find(at); member != members_.end()) return &member->second;
    const auto link = links_.find(at);
    if (link == links_.end()) return nullptr;
    at = link->second;
  }
  return nullptr;
}

Result<std::string> ArchiveSpool::ReadSmall(std::string_view name, std::size_t max_bytes) const {
  const Member* member = Find(name);
  if (member == nullptr)
    return InvalidArgument("the archive has no " + std::string(name.substr(0, 256)));
  if (member->size > max_bytes)
    return InvalidArgument(std::string(name.substr(0, 256)) + " is too large");
  return ReadFile(member->path, max_bytes);
}

Result<bool> LooksLikeImageArchive(ArchiveStream& archive) {
  const std::string_view head = LN_TRY(archive.Peek(kPeekBytes));
  LN_TRY(SniffCompression(head));
  bool given = false;
  DecompressedStream plain([&]() -> Result<std::string_view> {
    return std::exchange(given, true) ? std::string_view() : head;
  });
  TarReader reader([&plain] { return plain.Next(); });
  const UnpackLimits limits;
  for (;;) {
    // An error: the head ends within an entry, or it is no tar at all, which unpacking will say.
    const auto entry = reader.Next();
    if (!entry || *entry == nullptr) return false;
    const auto path = CleanEntryPath((*entry)->path, limits);
    if (!path) return false;
    if (!path->empty()) return IsArchiveMember(*path);
  }
}

}  // namespace linnet::oci
