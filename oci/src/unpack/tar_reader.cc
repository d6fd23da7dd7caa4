#include "unpack/tar_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <sys/stat.h>

#include <cerrno>

namespace linnet::oci {
namespace {

// Of headers between the data of two entries. Names and extended headers end far below; a map of
// a sparse file may be longer than that, and libarchive keeps all of it in memory, some 20 times as
// large.
constexpr std::size_t kMaxHeaderBytes = 2U << 20;

// libarchive converts names between UTF-8 (pax) and the thread's locale. In "C" whatever is not
// ASCII cannot be converted, and it falls back to the bytes as they are in the archive: just what a
// file system wants.
class PlainLocale {
 public:
  PlainLocale() : before_(uselocale(C())) {}
  ~PlainLocale() { uselocale(before_); }
  PlainLocale(const PlainLocale&) = delete;
  PlainLocale& operator=(const PlainLocale&) = delete;

 private:
  static locale_t C() {
    static const locale_t c = newlocale(LC_ALL_MASK, "C", nullptr);
    return c;
  }
  locale_t before_;
};

// A symbolic link that libarchive reads before the archive. Without one, 3.6.2 loses the target of
// an archive's first link where that stands in a pax record only, as Go writes targets without any
// ASCII character.
std::string LinkHeader() {
  std::string h(512, '\0');
  const auto put = [&h](std::size_t at, std::string_view text) {
    h.replace(at, text.size(), text);
  };
  put(0, "link");
  put(100, "0000777");
  put(108, "0000000");
  put(116, "0000000");
  put(124, "00000000000");
  put(136, "00000000000");
  put(148, "        ");
  put(156, "2target");
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : h) sum += static_cast<unsigned char>(c);
  for (std::size_t i = 0; i < 6; ++i) h[153 - i] = static_cast<char>('0' + ((sum >> (3 * i)) & 7U));
  h[154] = '\0';
  return h;
}

}  // namespace

struct TarReader::Impl {
  Source source;
  std::optional<Error> source_error;
  const std::string link_header = LinkHeader();
  bool link_header_given = false;
  std::string_view first;  // read ahead, to tell an empty stream
  bool started = false;
  bool ended = false;
  bool in_header = false;
  std::size_t header_bytes = 0;  // handed over while a header is read
  std::unique_ptr<archive, decltype(&archive_read_free)> reader{nullptr, &archive_read_free};
  std::string path;  // of the current entry, for messages
  TarEntry entry;

  static la_ssize_t ReadBlock(archive* a, void* self, const void** bytes);
  Result<void> Open();
  Error Failure(std::string_view what);
  Result<void> Take(archive_entry* e);
};

la_ssize_t TarReader::Impl::ReadBlock(archive* a, void* self, const void** bytes) {
  auto* impl = static_cast<Impl*>(self);
  std::string_view block;
  if (!std::exchange(impl->link_header_given, true)) {
    block = impl->link_header;
  } else {
    block = std::exchange(impl->first, {});
  }
  if (block.empty()) {
    auto next = impl->source();
    if (!next) {
      impl->source_error = std::move(next).error();
      archive_set_error(a, EIO, "the stream failed");
      return -1;
    }
    block = *next;
  }
  if (impl->in_header) {
    if (impl->header_bytes > kMaxHeaderBytes) {
      impl->source_error =
          Error(Code::kResourceExhausted,
                "tar: " + impl->path.substr(0, 256) + ": the headers that follow it are too large");
      archive_set_error(a, ENOMEM, "headers are too large");
      return -1;
    }
    impl->header_bytes += block.size();
  }
  *bytes = block.data();
  return static_cast<la_ssize_t>(block.size());
}

Result<void> TarReader::Impl::Open() {
  started = true;
  first = LN_TRY(source());
  if (first.empty()) {
    ended = true;  // no byte at all: an empty layer
    return Ok();
  }
  reader.reset(archive_read_new());
  LN_CHECK(reader != nullptr);
  if (archive_read_support_format_tar(reader.get()) != ARCHIVE_OK ||
      archive_read_open(reader.get(), this, nullptr, &ReadBlock, nullptr) != ARCHIVE_OK) {
    return Failure("open");
  }
  archive_entry* link = nullptr;
  if (archive_read_next_header(reader.get(), &link) != ARCHIVE_OK) return Failure("open");
  return Ok();
}

Error TarReader::Impl::Failure(std::string_view what) {
  if (source_error) return *source_error;
  const char* text = archive_error_string(reader.get());
  return {Code::kDataLoss,
          std::string("tar: ") + std::string(what) + ": " + (text != nullptr ? text : "damaged")};
}

Result<void> TarReader::Impl::Take(archive_entry* e) {
  const char* name = archive_entry_pathname(e);
  if (name == nullptr) name = archive_entry_pathname_utf8(e);
  if (name == nullptr) return InvalidArgument("tar: an entry has a name that cannot be read");
  path = name;
  entry.path = name;
  entry.link.clear();
  entry.xattrs.clear();
  entry.mode = static_cast<std::uint32_t>(archive_entry_perm(e)) & 07777U;
  entry.uid = archive_entry_uid(e);
  entry.gid = archive_entry_gid(e);
  entry.mtime_seconds = archive_entry_mtime(e);
  entry.mtime_nanoseconds = archive_entry_mtime_nsec(e);
  const std::int64_t size = archive_entry_size(e);
  if (size < 0) return InvalidArgument("tar: " + path + ": negative size");
  entry.size = static_cast<std::uint64_t>(size);
  entry.device_major = static_cast<std::uint32_t>(archive_entry_rdevmajor(e));
  entry.device_minor = static_cast<std::uint32_t>(archive_entry_rdevminor(e));

  const char* hard = archive_entry_hardlink(e);
  if (hard == nullptr) hard = archive_entry_hardlink_utf8(e);
  if (hard != nullptr) {
    entry.kind = EntryKind::kHardLink;
    entry.link = hard;
    return Ok();
  }
  switch (archive_entry_filetype(e)) {
    case AE_IFREG:
      entry.kind = EntryKind::kFile;
      break;
    case AE_IFDIR:
      entry.kind = EntryKind::kDirectory;
      break;
    case AE_IFLNK: {
      entry.kind = EntryKind::kSymlink;
      const char* target = archive_entry_symlink(e);
      if (target == nullptr) target = archive_entry_symlink_utf8(e);
      if (target != nullptr) entry.link = target;
      break;
    }
    case AE_IFCHR:
      entry.kind = EntryKind::kCharDevice;
      break;
    case AE_IFBLK:
      entry.kind = EntryKind::kBlockDevice;
      break;
    case AE_IFIFO:
      entry.kind = EntryKind::kFifo;
      break;
    default:
      return InvalidArgument("tar: " + path + ": unknown kind of entry");
  }
  if (archive_entry_xattr_count(e) > 0) {
    archive_entry_xattr_reset(e);
    const char* key = nullptr;
    const void* value = nullptr;
    std::size_t bytes = 0;
    while (archive_entry_xattr_next(e, &key, &value, &bytes) == ARCHIVE_OK) {
      if (key == nullptr) continue;  // a name that libarchive could not decode
      entry.xattrs.emplace_back(key, std::string(static_cast<const char*>(value), bytes));
    }
  }
  return Ok();
}

TarReader::TarReader(Source source) : impl_(std::make_unique<Impl>()) {
  impl_->source = std::move(source);
}
TarReader::~TarReader() = default;

Result<const TarEntry*> TarReader::Next() {
  const PlainLocale plain;
  if (!impl_->started) LN_TRY(impl_->Open());
  if (impl_->ended) return nullptr;
  // What is left of the entry before may be long.
  if (!impl_->path.empty()) {
    const int skipped = archive_read_data_skip(impl_->reader.get());
    if (skipped != ARCHIVE_OK && skipped != ARCHIVE_WARN) return impl_->Failure(impl_->path);
  }
  archive_entry* e = nullptr;
  impl_->in_header = true;
  impl_->header_bytes = 0;
  const int rc = archive_read_next_header(impl_->reader.get(), &e);
  impl_->in_header = false;
  if (rc == ARCHIVE_EOF) {
    impl_->ended = true;
    return nullptr;
  }
  // Most warnings are about something that can be left out (a name that is not UTF-8 is taken as it
  // is, an attribute it does not know). Where records were dropped, the entry may not be what it
  // was meant to be.
  const char* text = rc == ARCHIVE_OK ? nullptr : archive_error_string(impl_->reader.get());
  const bool dropped =
      text != nullptr && std::string_view(text).starts_with("Ignoring malformed pax");
  if ((rc != ARCHIVE_OK && rc != ARCHIVE_WARN) || dropped) {
    return impl_->Failure(impl_->path.empty() ? "first entry" : "after " + impl_->path);
  }
  LN_TRY(impl_->Take(e));
  return &impl_->entry;
}

Result<std::optional<TarReader::Data>> TarReader::Read() {
  const void* bytes = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  for (;;) {
    const int rc = archive_read_data_block(impl_->reader.get(), &bytes, &size, &offset);
    if (rc == ARCHIVE_EOF) return std::optional<Data>();
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return impl_->Failure(impl_->path);
    if (size == 0) continue;  // the end of a hole
    if (offset < 0) return InvalidArgument("tar: " + impl_->path + ": negative offset");
    return std::optional<Data>(Data{std::string_view(static_cast<const char*>(bytes), size),
                                    static_cast<std::uint64_t>(offset)});
  }
}

}  // namespace linnet::oci
