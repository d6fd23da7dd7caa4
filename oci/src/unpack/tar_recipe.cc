#include "unpack/tar_recipe.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "unpack/layer_writer.h"

namespace linnet::oci {
namespace {

constexpr std::string_view kMagic = "linnet-tar-1\n";
constexpr std::size_t kBlock = 512;
constexpr std::size_t kLiteralBytes = 64U << 10;
constexpr std::size_t kMaxPax = 1U << 20;
// A recipe may be this large, and a twenty-fifth of the tar: more is no saving.
constexpr std::uint64_t kFreeRecipeBytes = 4U << 20;
constexpr std::uint64_t kRecipeShare = 25;
// 512 KiB: headers repeat what stood a few files before.
constexpr int kWindowLog = 19;

std::uint64_t PaddingOf(std::uint64_t size) { return (kBlock - size % kBlock) % kBlock; }

// Octal with blanks around, or base 256 (GNU). nullopt: negative, too large, or no number.
std::optional<std::uint64_t> ParseSize(std::string_view field) {
  const auto first = static_cast<unsigned char>(field[0]);
  if ((first & 0x80U) != 0) {
    if (first != 0x80U) return std::nullopt;
    std::uint64_t out = 0;
    for (const char c : field.substr(1)) {
      if (out >> 55U != 0) return std::nullopt;
      out = out << 8U | static_cast<unsigned char>(c);
    }
    return out;
  }
  std::uint64_t out = 0;
  std::size_t i = 0;
  while (i < field.size() && field[i] == ' ') ++i;
  for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i)
    out = out << 3U | static_cast<std::uint64_t>(field[i] - '0');
  return out;
}

// Calls f(key, value) for the records "LENGTH KEY=VALUE\n".
template <class F>
void ForEachPaxRecord(std::string_view text, F&& f) {
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return;
    const auto length = ParseNumber<std::uint32_t>(text.substr(0, space));
    if (!length || *length <= space + 1 || *length > text.size()) return;
    const std::string_view record = text.substr(space + 1, *length - space - 2);
    text.remove_prefix(*length);
    const std::size_t equals = record.find('=');
    if (equals != std::string_view::npos) f(record.substr(0, equals), record.substr(equals + 1));
  }
}

}  // namespace

// ---- recording ----

struct TarRecorder::Output {
  UniqueFd file;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context{ZSTD_createCCtx(), &ZSTD_freeCCtx};
  std::array<char, 32U << 10> buffer{};
  std::uint64_t written = 0;

  bool Compress(std::string_view bytes, ZSTD_EndDirective end) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
      const std::size_t left = ZSTD_compressStream2(context.get(), &out, &in, end);
      if (ZSTD_isError(left) != 0) return false;
      if (out.pos > 0 && !WriteAll(file, std::string_view(buffer.data(), out.pos))) return false;
      written += out.pos;
      if (end == ZSTD_e_continue ? in.pos == in.size : left == 0) return true;
    }
  }
};

TarRecorder::TarRecorder(FdRef directory) : directory_(directory) {
  auto file = OpenAt(directory, kRecipeName, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (!file) return;
  out_ = std::make_unique<Output>();
  out_->file = *std::move(file);
  LN_CHECK(out_->context != nullptr);
  // Both are in range.
  (void)ZSTD_CCtx_setParameter(out_->context.get(), ZSTD_c_compressionLevel, 1);
  (void)ZSTD_CCtx_setParameter(out_->context.get(), ZSTD_c_windowLog, kWindowLog);
  header_.reserve(kBlock);
  literal_.assign(kMagic);
  // The magic is no record: it goes out as it is.
  if (!out_->Compress(literal_, ZSTD_e_continue)) GiveUp();
  literal_.clear();
}
TarRecorder::~TarRecorder() = default;

void TarRecorder::GiveUp() {
  if (!out_) return;
  out_.reset();
  names_.clear();
  names_.shrink_to_fit();
  announced_.clear();
  (void)unlinkat(directory_.get(), kRecipeName, 0);  // whoever finds it all the same asks the index
}

void TarRecorder::Put(char letter, std::uint64_t n, std::string_view bytes) {
  std::array<char, 9> head{};
  head[0] = letter;
  for (std::size_t i = 0; i < 8; ++i) head[i + 1] = static_cast<char>(n >> (8 * i) & 0xffU);
  if (!out_->Compress(std::string_view(head.data(), head.size()), ZSTD_e_continue) ||
      !out_->Compress(bytes, ZSTD_e_continue) ||
      out_->written > kFreeRecipeBytes + total_ / kRecipeShare) {
    GiveUp();
  }
}

void TarRecorder::FlushLiteral() {
  if (literal_.empty() || !out_) return;
  Put('M', literal_.size(), literal_);
  literal_.clear();
}

void TarRecorder::Literal(std::string_view bytes) {
  literal_.append(bytes);
  if (literal_.size() >= kLiteralBytes) FlushLiteral();
}

void TarRecorder::Feed(std::string_view bytes) {
  total_ += bytes.size();
  while (!bytes.empty() && out_) {
    if (at_ == At::kTail) {
      Literal(bytes.substr(0, kLiteralBytes));
      bytes.remove_prefix(std::min(bytes.size(), kLiteralBytes));
      continue;
    }
    if (at_ == At::kHeader || at_ == At::kExtension) {
      const std::size_t n = std::min(bytes.size(), kBlock - header_.size());
      header_.append(bytes.substr(0, n));
      bytes.remove_prefix(n);
      if (header_.size() == kBlock) TakeHeader();
      continue;
    }
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), left_));
    if (at_ != At::kContent) Literal(bytes.substr(0, n));
    if (collecting_pax_ && at_ == At::kLiteral) pax_.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    left_ -= n;
    if (left_ == 0) EndPart();
  }
}

void TarRecorder::EndPart() {
  if (at_ == At::kLiteral && collecting_pax_) {
    collecting_pax_ = false;
    ForEachPaxRecord(pax_, [this](std::string_view key, std::string_view value) {
      if (key == "size") {
        const auto size = ParseNumber<std::uint64_t>(value);
        if (size) pax_size_ = *size;
      }
      if (key.starts_with("GNU.sparse.")) pax_sparse_ = true;
    });
    pax_.clear();
  }
  left_ = std::exchange(after_, 0);
  at_ = left_ > 0 ? At::kPadding : At::kHeader;
}

void TarRecorder::TakeHeader() {
  const std::string h = std::exchange(header_, {});
  header_.reserve(kBlock);
  Literal(h);
  if (at_ == At::kExtension) {
    if (h[504] != '\0') return;  // one more
    left_ = sparse_bytes_;
    after_ = PaddingOf(left_);
    at_ = At::kLiteral;
    if (left_ == 0) EndPart();
    return;
  }
  if (h.find_first_not_of('\0') == std::string::npos) {
    at_ = At::kTail;  // the end of the archive; what follows is padding, or nobody's
    return;
  }
  const std::optional<std::uint64_t> size = ParseSize(std::string_view(h).substr(124, 12));
  if (!size) {
    GiveUp();
    return;
  }
  const char type = h[156];
  if (type == 'x' || type == 'X') {
    if (*size > kMaxPax) {
      GiveUp();
      return;
    }
    collecting_pax_ = true;
  }
  if (type == 'x' || type == 'X' || type == 'g' || type == 'L' || type == 'K') {
    left_ = *size;
    after_ = PaddingOf(left_);
    at_ = At::kLiteral;
    if (left_ == 0) EndPart();
    return;
  }
  const std::uint64_t real = pax_size_.value_or(*size);
  if (type == 'S') {
    FlushLiteral();
    if (out_) Put('S', 0, {});
    announced_.emplace_back(std::nullopt);
    pax_size_.reset();
    pax_sparse_ = false;
    sparse_bytes_ = real;
    if (h[482] != '\0') {
      at_ = At::kExtension;
      return;
    }
    left_ = real;
    after_ = PaddingOf(left_);
    at_ = At::kLiteral;
    if (left_ == 0) EndPart();
    return;
  }
  TakeEntry(type, real);
}

void TarRecorder::TakeEntry(char type, std::uint64_t size) {
  const bool sparse = std::exchange(pax_sparse_, false);
  pax_size_.reset();
  if (size == 0) return;
  if (type >= '1' && type <= '6') {
    // Tools differ in whether such a body is there.
    GiveUp();
    return;
  }
  FlushLiteral();
  if (!out_) return;
  left_ = size;
  after_ = PaddingOf(size);
  if (sparse) {
    Put('S', 0, {});
    announced_.emplace_back(std::nullopt);
    at_ = At::kLiteral;
  } else {
    Put('F', size, {});
    announced_.emplace_back(size);
    at_ = At::kContent;
  }
}

void TarRecorder::SawEntry(std::string_view path, std::uint64_t data_bytes) {
  if (!out_) return;
  const std::uint64_t hash = std::hash<std::string_view>()(path);
  names_.push_back((hash & ~std::uint64_t{1}) | (data_bytes > 0 ? 1U : 0U));
  if (data_bytes == 0) return;
  // The reader has another opinion of what the archive is.
  if (announced_.empty() || (announced_.front() && *announced_.front() != data_bytes)) {
    GiveUp();
    return;
  }
  announced_.pop_front();
}

RecipeFacts TarRecorder::Finish() {
  RecipeFacts out{.tar_bytes = total_};
  if (!out_) return out;
  // A name that comes twice: the contents of the first one are gone.
  const auto same = [](std::uint64_t a, std::uint64_t b) { return a >> 1U == b >> 1U; };
  std::stable_sort(names_.begin(), names_.end(),
                   [](std::uint64_t a, std::uint64_t b) { return a >> 1U < b >> 1U; });
  for (std::size_t i = 1; i < names_.size(); ++i) {
    if (same(names_[i - 1], names_[i]) && (names_[i - 1] & 1U) != 0) {
      GiveUp();
      return out;
    }
  }
  if (!announced_.empty() || at_ == At::kContent || at_ == At::kExtension) {
    GiveUp();
    return out;
  }
  Literal(header_);
  FlushLiteral();
  if (out_) Put('E', total_, {});
  if (!out_) return out;
  if (!out_->Compress({}, ZSTD_e_end)) {
    GiveUp();
    return out;
  }
  out.exact = true;
  out.recipe_bytes = out_->written;
  return out;
}

// ---- making it again ----

namespace {

Error Damaged() { return {Code::kDataLoss, "tar.zst of the layer is damaged"}; }

// The records of a recipe, one after the other.
class RecordReader {
 public:
  static Result<std::unique_ptr<RecordReader>> Open(FdRef directory) {
    auto file = OpenAt(directory, kRecipeName, O_RDONLY | O_NOFOLLOW);
    if (!file && file.error().Is(Code::kNotFound)) {
      return FailedPrecondition("the layer's tar cannot be made again: tar.zst is not beside it");
    }
    std::unique_ptr<RecordReader> reader(new RecordReader(LN_TRY(std::move(file))));
    std::string magic(kMagic.size(), '\0');
    LN_TRY(reader->Read(magic.data(), magic.size()));
    if (magic != kMagic) return Damaged();
    return reader;
  }

  struct Record {
    char letter = 'E';
    std::uint64_t n = 0;
    std::string_view bytes;  // of M; valid until the next call
  };
  Result<Record> Next() {
    std::array<char, 9> head{};
    LN_TRY(Read(head.data(), head.size()));
    Record out{.letter = head[0]};
    for (std::size_t i = 0; i < 8; ++i)
      out.n |= static_cast<std::uint64_t>(static_cast<unsigned char>(head[i + 1])) << (8 * i);
    switch (out.letter) {
      case 'M':
        if (out.n > 2 * kLiteralBytes) return Damaged();
        literal_.resize(static_cast<std::size_t>(out.n));
        LN_TRY(Read(literal_.data(), literal_.size()));
        out.bytes = literal_;
        break;
      case 'F':
      case 'S':
      case 'E':
        break;
      default:
        return Damaged();
    }
    return out;
  }

 private:
  explicit RecordReader(UniqueFd file) : file_(std::move(file)) {}

  Result<void> Read(char* to, std::size_t bytes) {
    while (bytes > 0) {
      if (used_ == have_) LN_TRY(Fill());
      const std::size_t n = std::min(bytes, have_ - used_);
      std::memcpy(to, plain_.data() + used_, n);
      used_ += n;
      to += n;
      bytes -= n;
    }
    return Ok();
  }

  Result<void> Fill() {
    for (;;) {
      if (in_.pos == in_.size && !more_output_) {
        const ssize_t n = read(file_.get(), packed_.data(), packed_.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return Error::FromErrno(errno, "read tar.zst of the layer");
        if (n == 0) return Damaged();
        in_ = {packed_.data(), static_cast<std::size_t>(n), 0};
      }
      ZSTD_outBuffer out{plain_.data(), plain_.size(), 0};
      if (ZSTD_isError(ZSTD_decompressStream(context_.get(), &out, &in_)) != 0) return Damaged();
      more_output_ = out.pos == out.size;
      if (out.pos == 0) continue;
      used_ = 0;
      have_ = out.pos;
      return Ok();
    }
  }

  UniqueFd file_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_{ZSTD_createDCtx(), &ZSTD_freeDCtx};
  std::array<char, 32U << 10> packed_{}, plain_{};
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool more_output_ = false;
  std::size_t used_ = 0, have_ = 0;
  std::string literal_;
};

// The names of the files that F and S stand for: a second reading of the recipe, with zeros for
// contents.
class NameReader {
 public:
  static Result<std::unique_ptr<NameReader>> Open(FdRef directory) {
    return std::unique_ptr<NameReader>(new NameReader(LN_TRY(RecordReader::Open(directory))));
  }
  Result<const TarEntry*> NextEntry() { return tar_.Next(); }
  // Of the next regular file with data.
  Result<std::string> Next() {
    for (;;) {
      const TarEntry* entry = LN_TRY(tar_.Next());
      if (entry == nullptr) return Damaged();
      if (entry->kind == EntryKind::kFile && entry->size > 0)
        return CleanEntryPath(entry->path, UnpackLimits());
    }
  }

 private:
  explicit NameReader(std::unique_ptr<RecordReader> records)
      : records_(std::move(records)), tar_([this] { return Bytes(); }) {}

  Result<std::string_view> Bytes() {
    static constexpr std::array<char, 64U << 10> kZeros{};
    for (;;) {
      if (zeros_ > 0) {
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(zeros_, kZeros.size()));
        zeros_ -= n;
        return std::string_view(kZeros.data(), n);
      }
      if (ended_) return std::string_view();
      const RecordReader::Record record = LN_TRY(records_->Next());
      if (record.letter == 'M') return record.bytes;
      if (record.letter == 'F') zeros_ = record.n;
      if (record.letter == 'E') ended_ = true;
    }
  }

  std::unique_ptr<RecordReader> records_;
  std::uint64_t zeros_ = 0;
  bool ended_ = false;
  TarReader tar_;
};

std::string Moved(const std::string& path, const std::map<std::string, std::string>* moved) {
  if (moved == nullptr) return path;
  for (const auto& [from, to] : *moved) {
    if (path.starts_with(from) && (path.size() == from.size() || path[from.size()] == '/'))
      return to + path.substr(from.size());
  }
  return path;
}

class Contents {
 public:
  explicit Contents(const TarRebuilder::Source& source) : source_(source) {}

  Result<void> Send(const std::string& name, std::uint64_t size, const TarRebuilder::Sink& sink) {
    const std::string path = Moved(name, source_.moved);
    const UniqueFd file = LN_TRY(OpenFile(path));
    struct stat st {};
    if (fstat(file.get(), &st) != 0) return Error::FromErrno(errno, "stat " + Shown(path));
    if (!S_ISREG(st.st_mode)) return Changed(path, "it is no regular file any more");
    if (static_cast<std::uint64_t>(st.st_size) != size) {
      return Changed(
          path, "it has " + std::to_string(st.st_size) + " bytes, not " + std::to_string(size));
    }
    if (buffer_.empty()) buffer_.resize(256U << 10);
    while (size > 0) {
      const std::size_t want =
          static_cast<std::size_t>(std::min<std::uint64_t>(size, buffer_.size()));
      const ssize_t n = read(file.get(), buffer_.data(), want);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error::FromErrno(errno, "read " + Shown(path)).As(Code::kDataLoss);
      if (n == 0) return Changed(path, "it became shorter");
      LN_TRY(sink(std::string_view(buffer_.data(), static_cast<std::size_t>(n))));
      size -= static_cast<std::uint64_t>(n);
    }
    return Ok();
  }

 private:
  static std::string Shown(const std::string& path) { return "\"" + path.substr(0, 256) + "\""; }
  static Error Changed(const std::string& path, const std::string& how) {
    return {Code::kDataLoss, Shown(path) + " was changed: " + how};
  }

  Result<UniqueFd> OpenFile(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const auto open_below = [&]() -> Result<UniqueFd> {
      if (parent != parent_ || !parent_fd_) {
        parent_fd_ =
            LN_TRY(OpenAt2(source_.tree, parent, O_PATH | O_DIRECTORY, 0, RESOLVE_IN_ROOT));
        parent_ = parent;
      }
      return OpenAt(parent_fd_, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    };
    auto file = open_below();
    if (!file && (file.error().Is(Code::kNotFound) || file.error().IsErrno(ENOTDIR) ||
                  file.error().IsErrno(ELOOP))) {
      return Error(Code::kDataLoss, Shown(path) + " is missing");
    }
    return file;
  }

  const TarRebuilder::Source& source_;
  std::string parent_;
  UniqueFd parent_fd_;
  std::string buffer_;
};

}  // namespace

Result<void> TarRebuilder::ForEachEntry(FdRef layer,
                                        const std::function<Result<void>(const TarEntry&)>& visit) {
  const auto names = LN_TRY(NameReader::Open(layer));
  while (const TarEntry* entry = LN_TRY(names->NextEntry())) LN_TRY(visit(*entry));
  return Ok();
}

Result<void> TarRebuilder::Run(const Source& source, const Sink& sink) {
  const auto records = LN_TRY(RecordReader::Open(source.layer));
  const auto names = LN_TRY(NameReader::Open(source.layer));
  Contents contents(source);
  for (;;) {
    const RecordReader::Record record = LN_TRY(records->Next());
    switch (record.letter) {
      case 'M':
        LN_TRY(sink(record.bytes));
        break;
      case 'F': {
        const std::string name = LN_TRY(names->Next());
        LN_TRY(contents.Send(name, record.n, sink));
        break;
      }
      case 'S':
        LN_TRY(names->Next());
        break;
      default:
        return Ok();
    }
  }
}

}  // namespace linnet::oci
