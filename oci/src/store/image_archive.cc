#include "store/image_archive.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "unpack/layer_unpacker.h"

namespace linnet::oci {
namespace {

constexpr std::size_t kReadBytes = 64U << 10;
// Enough for the first headers, whatever pax records stand before them.
constexpr std::size_t kPeekBytes = 64U << 10;
constexpr std::size_t kMaxMembers = 20'000;
constexpr int kMaxLinks = 8;
constexpr std::size_t kHeadBytes = 512;
constexpr std::uint64_t kMaxDocument = 8U << 20;
constexpr std::uint64_t kMaxDocuments = 64U << 20;
constexpr std::chrono::milliseconds kProgressInterval{100};

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

bool LooksLikeLayer(std::string_view head, std::uint64_t size) {
  const auto compression = SniffCompression(head);
  if (!compression) return true;  // unpacking says what is wrong with it
  return *compression != Compression::kPlain || size % kHeadBytes == 0;
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

Result<std::unique_ptr<ImageArchive>> ImageArchive::Read(ArchiveStream& archive,
                                                         const Options& options) {
  std::unique_ptr<ImageArchive> out(new ImageArchive(options));
  DecompressedStream plain([&archive] { return archive.Next(); });
  TarReader reader([&plain] { return plain.Next(); });
  for (std::size_t count = 0;; ++count) {
    const TarEntry* entry = LN_TRY(reader.Next());
    if (entry == nullptr) break;
    if (count >= kMaxMembers)
      return Error(Code::kResourceExhausted, "archive has too many members");
    const std::string name = LN_TRY_CTX(CleanEntryPath(entry->path, options.limits),
                                        "\"" + entry->path.substr(0, 256) + "\"");
    if (entry->kind == EntryKind::kSymlink || entry->kind == EntryKind::kHardLink) {
      // docker save links equal layers: "../<id>/layer.tar"
      const bool relative = entry->kind == EntryKind::kSymlink;
      out->links_[name] = CleanPath(relative ? JoinPath(Dirname(name), entry->link) : entry->link);
      continue;
    }
    if (entry->kind != EntryKind::kFile) continue;
    LN_TRY(out->ReadMember(reader, *entry, name));
  }
  return out;
}

Result<void> ImageArchive::ReadMember(TarReader& reader, const TarEntry& entry,
                                      const std::string& name) {
  const std::string algorithm = name.starts_with("blobs/sha512/") ? "sha512" : "sha256";
  Hasher hasher(algorithm);
  Member member{.digest = Digest::Sha256Of(""), .size = entry.size};
  std::uint64_t offset = 0;
  std::uint64_t hole = 0;
  std::string_view held;  // behind the hole
  static constexpr std::array<char, 4096> kZeros{};
  // The member's bytes, holes as zeros; empty at the end.
  const auto next = [&]() -> Result<std::string_view> {
    if (options_.stop.stop_requested()) return Error(Code::kCancelled, "the import was cancelled");
    if (hole == 0 && held.empty()) {
      const std::optional<TarReader::Data> data = LN_TRY(reader.Read());
      hole = (data ? data->offset : member.size) - offset;
      if (data) held = data->bytes;
    }
    const std::string_view out =
        hole > 0 ? std::string_view(kZeros.data(), static_cast<std::size_t>(std::min<std::uint64_t>(
                                                       hole, kZeros.size())))
                 : std::exchange(held, {});
    if (hole > 0) hole -= out.size();
    offset += out.size();
    total_bytes_ += out.size();
    if (total_bytes_ > options_.limits.max_bytes)
      return Error(Code::kResourceExhausted, "archive is too large");
    hasher.Update(out);
    return out;
  };
  std::string head;
  while (head.size() < std::min<std::uint64_t>(kHeadBytes, member.size)) {
    const std::string_view more = LN_TRY(next());
    if (more.empty()) break;
    head += more;
  }
  const std::size_t first = head.find_first_not_of(" \t\r\n");
  const bool document =
      (first != std::string::npos && (head[first] == '{' || head[first] == '[')) ||
      member.size < kHeadBytes;
  if (document && member.size <= kMaxDocument) {
    document_bytes_ += member.size;
    if (document_bytes_ > kMaxDocuments)
      return Error(Code::kResourceExhausted, "archive has too many documents");
    member.is_document = true;
    member.document = std::move(head);
    for (;;) {
      const std::string_view more = LN_TRY(next());
      if (more.empty()) break;
      member.document += more;
    }
  } else if (!document && LooksLikeLayer(head, member.size) && !IsHere(name)) {
    LN_TRY(Unpack(member, name, std::move(head), next));
  }
  while (!LN_TRY(next()).empty()) {
  }
  member.digest = hasher.Finish();
  members_.erase(name);  // of two with one name, the last one counts
  members_.emplace(name, std::move(member));
  return Ok();
}

// Errors: of the archive. That it is no layer after all is the member's.
Result<void> ImageArchive::Unpack(Member& member, const std::string& name, std::string head,
                                  const std::function<Result<std::string_view>()>& next) {
  TempLayer temp = LN_TRY(options_.pool.NewTemp());
  const auto unpacker =
      LN_TRY(LayerUnpacker::Start(temp.root(), "sha256", options_.limits, temp.directory()));
  std::uint64_t done = 0;
  std::string_view bytes = head;
  auto reported = std::chrono::steady_clock::now() - kProgressInterval;
  while (!bytes.empty()) {
    auto written = unpacker->Write(bytes);
    if (!written) {
      // A full disk is everybody's.
      if (written.error().Is(Code::kResourceExhausted)) return std::move(written).error();
      member.error = std::move(written).error();
      return Ok();
    }
    done += bytes.size();
    const auto now = std::chrono::steady_clock::now();
    if (options_.progress && now - reported >= kProgressInterval) {
      reported = now;
      options_.progress({Basename(name).substr(0, 12), done, member.size});
    }
    bytes = LN_TRY(next());
  }
  auto unpacked = unpacker->Finish();
  if (!unpacked) {
    if (unpacked.error().Is(Code::kResourceExhausted)) return std::move(unpacked).error();
    member.error = std::move(unpacked).error();
    return Ok();
  }
  member.layer.emplace(ReadyLayer{std::move(temp), *std::move(unpacked)});
  return Ok();
}

// A blob that is the tar of a layer which the pool has: its name says so.
bool ImageArchive::IsHere(const std::string& name) const {
  const std::string hex = Basename(name);
  if (!IsHex64(hex) || Dirname(name) != "blobs/sha256") return false;
  const auto digest = Digest::Parse("sha256:" + hex);
  const auto layer = digest ? options_.pool.Find(LayerName(*digest)) : nullptr;
  return layer && !layer->info().chained;
}

std::optional<ReadyLayer> ImageArchive::TakeLayer(const Digest& diff_id) {
  for (auto& [name, member] : members_) {
    if (!member.layer || member.layer->unpacked.diff_id != diff_id) continue;
    std::optional<ReadyLayer> out = std::move(member.layer);
    member.layer.reset();
    return out;
  }
  return std::nullopt;
}

const ImageArchive::Member* ImageArchive::Find(std::string_view name) const {
  std::string at = CleanPath(name);
  for (int i = 0; i < kMaxLinks; ++i) {
    if (const auto member = members_.find(at); member != members_.end()) return &member->second;
    const auto link = links_.find(at);
    if (link == links_.end()) return nullptr;
    at = link->second;
  }
  return nullptr;
}

Result<std::string> ImageArchive::ReadSmall(std::string_view name, std::size_t max_bytes) const {
  const Member* member = Find(name);
  const std::string shown(name.substr(0, 256));
  if (member == nullptr) return InvalidArgument("the archive has no " + shown);
  if (member->size > max_bytes) return InvalidArgument(shown + " is too large");
  if (!member->is_document) return InvalidArgument(shown + " is not a document");
  return member->document;
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
