#include "archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"

namespace linnet::cli {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kChunkBytes = 1U << 20;
constexpr std::size_t kMaxName = 100;
// The largest size that 11 octal digits tell.
constexpr std::uint64_t kMaxOctal = (1ULL << 33U) - 1;

std::string Octal(std::uint64_t value, std::size_t digits) {
  std::string out(digits, '0');
  for (std::size_t i = digits; i > 0; --i, value >>= 3U)
    out[i - 1] = static_cast<char>('0' + (value & 7U));
  return out;
}

Result<std::string_view> ReadSome(FdRef from, std::string& buffer, const std::string& what) {
  buffer.resize(kChunkBytes);
  for (;;) {
    const ssize_t n = ::read(from.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::FromErrno(errno, "read " + what);
    return std::string_view(buffer.data(), static_cast<std::size_t>(n));
  }
}

class FileReader final : public ArchiveReader {
 public:
  FileReader(UniqueFd owned, FdRef from, std::string path)
      : owned_(std::move(owned)), from_(from), path_(std::move(path)) {
    struct stat st {};
    if (::fstat(from_.get(), &st) == 0 && S_ISREG(st.st_mode))
      size_ = static_cast<std::uint64_t>(st.st_size);
  }
  Result<std::string_view> Next() override { return ReadSome(from_, buffer_, path_); }
  std::uint64_t size() const override { return size_; }

 private:
  const UniqueFd owned_;
  const FdRef from_;
  const std::string path_;
  std::string buffer_;
  std::uint64_t size_ = 0;
};

class LayoutReader final : public ArchiveReader {
 public:
  LayoutReader(std::string directory, std::vector<std::string> names)
      : directory_(std::move(directory)), names_(std::move(names)) {}

  Result<std::string_view> Next() override {
    if (left_ > 0) {
      std::string_view bytes = LN_TRY(ReadSome(file_, buffer_, shown_));
      if (bytes.empty()) return Error(Code::kDataLoss, shown_ + " became shorter");
      bytes =
          bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, kChunkBytes)));
      left_ -= bytes.size();
      return bytes;
    }
    // The padding of the one before, and the header of the next one.
    buffer_ = TarPadding(member_size_);
    member_size_ = 0;
    if (next_ == names_.size()) {
      if (!std::exchange(ended_, true)) buffer_ += TarEnd();
      return std::string_view(buffer_);
    }
    const std::string& name = names_[next_++];
    shown_ = JoinPath(directory_, name);
    file_ = LN_TRY(linnet::Open(shown_, O_RDONLY));
    struct stat st {};
    if (::fstat(file_.get(), &st) != 0) return Error::FromErrno(errno, "stat " + shown_);
    member_size_ = left_ = static_cast<std::uint64_t>(st.st_size);
    buffer_ += TarHeader(name, member_size_);
    return std::string_view(buffer_);
  }

 private:
  const std::string directory_;
  const std::vector<std::string> names_;
  std::size_t next_ = 0;
  std::string shown_, buffer_;
  UniqueFd file_;
  std::uint64_t member_size_ = 0, left_ = 0;
  bool ended_ = false;
};

Result<std::unique_ptr<ArchiveReader>> OpenLayout(const std::string& path) {
  if (!Exists(JoinPath(path, "index.json")))
    return InvalidArgument(path + " is no OCI layout: it has no index.json");
  std::vector<std::string> names;
  for (const char* name : {"oci-layout", "index.json", "manifest.json"}) {
    if (Exists(JoinPath(path, name))) names.emplace_back(name);
  }
  const std::string blobs = JoinPath(path, "blobs");
  for (const std::string& algorithm : LN_TRY(ListDir(blobs))) {
    for (const std::string& hex : LN_TRY(ListDir(JoinPath(blobs, algorithm)))) {
      std::string name = "blobs/" + algorithm + "/" + hex;
      if (name.size() > kMaxName)
        return InvalidArgument(JoinPath(path, name) + ": only sha256 digests are supported");
      names.push_back(std::move(name));
    }
  }
  return std::unique_ptr<ArchiveReader>(std::make_unique<LayoutReader>(path, std::move(names)));
}

// A file that has no name until it is whole, where the file system knows that; else one with a name
// of its own that is removed when it fails.
class NewFile {
 public:
  static Result<NewFile> Make(const std::string& path) {
    NewFile out;
    out.path_ = path;
    const std::string directory = path.find('/') == std::string::npos ? "." : Dirname(path);
    auto file = linnet::Open(directory, O_TMPFILE | O_WRONLY, 0644);
    if (!file) {
      out.temporary_ = path + "." + RandomHex(4) + ".part";
      file = linnet::Open(out.temporary_, O_WRONLY | O_CREAT | O_EXCL, 0644);
    }
    out.file_ = LN_TRY(std::move(file));
    return out;
  }
  NewFile() = default;
  NewFile(NewFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, {})),
        file_(std::move(other.file_)) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (!temporary_.empty()) (void)RemoveFile(temporary_);
  }
  FdRef fd() const { return file_; }
  Result<void> Commit() {
    if (temporary_.empty()) {
      temporary_ = path_ + "." + RandomHex(4) + ".part";
      if (::linkat(AT_FDCWD, FdPath(file_).c_str(), AT_FDCWD, temporary_.c_str(),
                   AT_SYMLINK_FOLLOW) != 0) {
        temporary_.clear();
        return Error::FromErrno(errno, "link " + path_);
      }
    }
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return Error::FromErrno(errno, "rename to " + path_);
    temporary_.clear();
    return Ok();
  }

 private:
  std::string path_, temporary_;
  UniqueFd file_;
};

class TarWriter final : public ArchiveWriter {
 public:
  TarWriter(std::optional<NewFile> file, FdRef to) : file_(std::move(file)), to_(to) {}
  Result<void> Begin(const std::string& name, std::uint64_t size) override {
    if (name.size() > kMaxName)
      return InvalidArgument(name +
                             ": only sha256 digests fit into an archive; save to a directory");
    LN_TRY(Put(TarPadding(size_)));
    size_ = size;
    return Put(TarHeader(name, size));
  }
  Result<void> Write(std::string_view bytes) override { return Put(bytes); }
  Result<void> Finish() override {
    LN_TRY(Put(TarPadding(size_) + TarEnd()));
    return file_ ? file_->Commit() : Ok();
  }

 private:
  Result<void> Put(std::string_view bytes) { return WriteAll(file_ ? file_->fd() : to_, bytes); }
  std::optional<NewFile> file_;
  const FdRef to_;
  std::uint64_t size_ = 0;
};

class LayoutWriter final : public ArchiveWriter {
 public:
  explicit LayoutWriter(std::string directory) : directory_(std::move(directory)) {}
  // The index comes last to the disk: before, it is no layout.
  Result<void> Begin(const std::string& name, std::uint64_t) override {
    LN_TRY(Close());
    if (name.starts_with('/') || CleanPath(name) != name || name.starts_with(".."))
      return Error(Code::kInternal, "the daemon sends a member \"" + name + "\"");
    name_ = name;
    if (name == "index.json") return Ok();
    const std::string path = JoinPath(directory_, name);
    LN_TRY(MakeDirs(Dirname(path), 0755));
    file_ = LN_TRY(linnet::Open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
    return Ok();
  }
  Result<void> Write(std::string_view bytes) override {
    if (file_) return WriteAll(file_, bytes);
    index_.append(bytes);
    return Ok();
  }
  Result<void> Finish() override {
    LN_TRY(Close());
    return ReplaceFile(JoinPath(directory_, "index.json"), index_, 0644);
  }

 private:
  Result<void> Close() {
    file_.Reset();
    return Ok();
  }
  const std::string directory_;
  std::string name_, index_;
  UniqueFd file_;
};

}  // namespace

std::string TarHeader(std::string_view name, std::uint64_t size) {
  std::string h(kBlock, '\0');
  const auto put = [&h](std::size_t at, std::string_view text) {
    h.replace(at, text.size(), text);
  };
  LN_CHECK(name.size() <= kMaxName);
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  if (size <= kMaxOctal) {
    put(124, Octal(size, 11));
  } else {  // base 256, as GNU tar and everybody after it
    h[124] = '\x80';
    for (std::size_t i = 0; i < 8; ++i) h[135 - i] = static_cast<char>(size >> (8 * i) & 0xffU);
  }
  put(136, Octal(0, 11));
  put(148, "        ");
  h[156] = '0';
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : h) sum += static_cast<unsigned char>(c);
  put(148, Octal(sum, 6));
  h[154] = '\0';
  return h;
}

std::string TarPadding(std::uint64_t size) {
  return std::string(static_cast<std::size_t>((kBlock - size % kBlock) % kBlock), '\0');
}

std::string TarEnd() { return std::string(2 * kBlock, '\0'); }

Result<std::unique_ptr<ArchiveReader>> ArchiveReader::Open(const std::string& path) {
  if (path == "-") {
    return std::unique_ptr<ArchiveReader>(
        std::make_unique<FileReader>(UniqueFd(), FdRef(STDIN_FILENO), "standard input"));
  }
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return OpenLayout(path);
  UniqueFd file = LN_TRY(linnet::Open(path, O_RDONLY));
  const FdRef from = file;
  return std::unique_ptr<ArchiveReader>(std::make_unique<FileReader>(std::move(file), from, path));
}

Result<std::unique_ptr<ArchiveWriter>> ArchiveWriter::ToFile(const std::string& path) {
  if (path == "-") {
    if (::isatty(STDOUT_FILENO) == 1)
      return InvalidArgument("an archive is nothing for a terminal: give -o FILE");
    return std::unique_ptr<ArchiveWriter>(
        std::make_unique<TarWriter>(std::nullopt, FdRef(STDOUT_FILENO)));
  }
  NewFile file = LN_TRY(NewFile::Make(path));
  return std::unique_ptr<ArchiveWriter>(
      std::make_unique<TarWriter>(std::optional<NewFile>(std::move(file)), FdRef(-1)));
}

Result<std::unique_ptr<ArchiveWriter>> ArchiveWriter::ToDirectory(const std::string& path) {
  LN_TRY(MakeDirs(path, 0755));
  const auto names = LN_TRY(ListDir(path));
  if (!names.empty()) return AlreadyExists(path + " is not empty");
  return std::unique_ptr<ArchiveWriter>(std::make_unique<LayoutWriter>(path));
}

}  // namespace linnet::cli
