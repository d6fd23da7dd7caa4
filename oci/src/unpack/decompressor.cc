#include "unpack/decompressor.h"

#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include <isa-l/igzip_lib.h>

namespace linnet::oci {
namespace {
// ZSTD_WINDOWLOG_ABSOLUTEMIN, and what fits into 32 bits on any machine.
constexpr int kMinWindowLog = 10;
constexpr int kMaxWindowLog = 30;
}  // namespace

class Decompressor::Codec {
 public:
  virtual ~Codec() = default;
  virtual Result<void> Write(std::string_view bytes, OutputBuffer& out) = 0;
  virtual Result<void> Finish() = 0;
};

namespace {

Error Damaged(std::string_view what) { return {Code::kDataLoss, std::string(what)}; }

class PlainCodec final : public Decompressor::Codec {
 public:
  Result<void> Write(std::string_view bytes, OutputBuffer& out) override {
    while (!bytes.empty()) {
      const std::span<char> room = LN_TRY(out.Room());
      const std::size_t n = std::min(room.size(), bytes.size());
      std::memcpy(room.data(), bytes.data(), n);
      LN_TRY(out.Filled(n));
      bytes.remove_prefix(n);
    }
    return Ok();
  }
  Result<void> Finish() override { return Ok(); }
};

class GzipCodec final : public Decompressor::Codec {
 public:
  GzipCodec() { StartMember(); }

  Result<void> Write(std::string_view bytes, OutputBuffer& out) override {
    while (!bytes.empty()) {
      const std::size_t n =
          std::min<std::size_t>(bytes.size(), std::numeric_limits<std::uint32_t>::max());
      // ISA-L reads only: its interface just lacks the const.
      state_->next_in = reinterpret_cast<std::uint8_t*>(const_cast<char*>(bytes.data()));
      state_->avail_in = static_cast<std::uint32_t>(n);
      bytes.remove_prefix(n);
      LN_TRY(Consume(out));
    }
    return Ok();
  }

  Result<void> Finish() override {
    if (phase_ == Phase::kBetween) return Ok();
    return Damaged("gzip stream ends too early");
  }

 private:
  enum class Phase { kBetween, kHeader, kBody };

  void StartMember() {
    if (!state_) state_ = std::make_unique<inflate_state>();
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
    header_ = isal_gzip_header{};
    phase_ = Phase::kHeader;
  }

  Result<void> Consume(OutputBuffer& out) {
    for (;;) {
      if (phase_ == Phase::kBetween) {
        // Zeros after the last member are padding of a tape or a block device.
        while (state_->avail_in > 0 && *state_->next_in == 0) {
          ++state_->next_in;
          --state_->avail_in;
          padding_ = true;
        }
        if (state_->avail_in == 0) return Ok();
        if (padding_ || *state_->next_in != 0x1f)
          return Damaged("gzip stream is followed by something else");
        std::uint8_t* const next = state_->next_in;
        const std::uint32_t available = state_->avail_in;
        StartMember();
        state_->next_in = next;
        state_->avail_in = available;
      }
      if (phase_ == Phase::kHeader) {
        if (state_->avail_in == 0) return Ok();
        const int rc = isal_read_gzip_header(state_.get(), &header_);
        if (rc == ISAL_END_INPUT) return Ok();
        if (rc != ISAL_DECOMP_OK) return Damaged("gzip header is damaged");
        phase_ = Phase::kBody;
      }
      const std::span<char> room = LN_TRY(out.Room());
      const auto size = static_cast<std::uint32_t>(room.size());
      state_->next_out = reinterpret_cast<std::uint8_t*>(room.data());
      state_->avail_out = size;
      const int rc = isal_inflate(state_.get());
      LN_TRY(out.Filled(size - state_->avail_out));
      if (rc != ISAL_DECOMP_OK) {
        return Damaged(rc == ISAL_INCORRECT_CHECKSUM ? "gzip checksum does not match"
                                                     : "gzip data is damaged");
      }
      if (state_->block_state == ISAL_BLOCK_FINISH) {
        phase_ = Phase::kBetween;
        continue;
      }
      // Room left: it stopped because it wants more input.
      if (state_->avail_out > 0 && state_->avail_in == 0) return Ok();
    }
  }

  std::unique_ptr<inflate_state> state_;
  isal_gzip_header header_{};
  Phase phase_ = Phase::kHeader;
  bool padding_ = false;
};

class ZstdCodec final : public Decompressor::Codec {
 public:
  explicit ZstdCodec(std::uint64_t max_window_bytes) : context_(ZSTD_createDCtx(), &ZSTD_freeDCtx) {
    LN_CHECK(context_ != nullptr);
    // A hostile frame asks for memory by its window.
    const int log = std::clamp(static_cast<int>(std::bit_width(max_window_bytes)) - 1,
                               kMinWindowLog, kMaxWindowLog);
    (void)ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, log);  // in range
  }

  Result<void> Write(std::string_view bytes, OutputBuffer& out) override {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    bool more_output = false;
    while (in.pos < in.size || more_output) {
      const std::span<char> room = LN_TRY(out.Room());
      ZSTD_outBuffer to{room.data(), room.size(), 0};
      const std::size_t hint = ZSTD_decompressStream(context_.get(), &to, &in);
      LN_TRY(out.Filled(to.pos));
      if (ZSTD_isError(hint) != 0) return Damaged(std::string("zstd: ") + ZSTD_getErrorName(hint));
      frame_complete_ = hint == 0;
      more_output = !frame_complete_ && to.pos == to.size;
    }
    return Ok();
  }
  Result<void> Finish() override {
    if (frame_complete_) return Ok();
    return Damaged("zstd stream ends too early");
  }

 private:
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context_;
  bool frame_complete_ = false;
};

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

}  // namespace

Result<Compression> SniffCompression(std::string_view head) {
  using namespace std::string_view_literals;
  if (StartsWith(head, "\x1f\x8b\x08"sv)) return Compression::kGzip;
  if (StartsWith(head, "\x28\xb5\x2f\xfd"sv)) return Compression::kZstd;
  // A skippable frame may come first (RFC 8878, 3.1.2): 0x184D2A50 to 0x184D2A5F, little endian.
  if (head.size() >= 4 && (head[0] & '\xf0') == '\x50' && head.substr(1, 3) == "\x2a\x4d\x18"sv)
    return Compression::kZstd;
  if (StartsWith(head,
                 "\xfd"
                 "7zXZ\0"sv))
    return InvalidArgument("xz compression is not supported (gzip, zstd or none)");
  // A plain tar starts with a name, which could start with "BZh".
  if (head.size() >= 6 && StartsWith(head, "BZh"sv) && head.substr(4, 2) == "\x31\x41"sv)
    return InvalidArgument("bzip2 compression is not supported (gzip, zstd or none)");
  if (StartsWith(head, "\x04\x22\x4d\x18"sv))
    return InvalidArgument("lz4 compression is not supported (gzip, zstd or none)");
  return Compression::kPlain;
}

Decompressor::Decompressor(OutputBuffer& out, std::uint64_t max_window_bytes)
    : out_(out), max_window_bytes_(max_window_bytes) {}
Decompressor::~Decompressor() = default;

Result<void> Decompressor::Start() {
  switch (LN_TRY(SniffCompression(head_))) {
    case Compression::kPlain:
      codec_ = std::make_unique<PlainCodec>();
      break;
    case Compression::kGzip:
      codec_ = std::make_unique<GzipCodec>();
      break;
    case Compression::kZstd:
      codec_ = std::make_unique<ZstdCodec>(max_window_bytes_);
      break;
  }
  return codec_->Write(head_, out_);
}

Result<void> Decompressor::Write(std::string_view bytes) {
  if (!codec_) {
    const std::size_t n = std::min(bytes.size(), kSniffBytes - head_.size());
    head_.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    if (head_.size() < kSniffBytes) return Ok();
    LN_TRY(Start());
  }
  return codec_->Write(bytes, out_);
}

Result<void> Decompressor::Finish() {
  if (!codec_) {
    if (head_.empty()) return Ok();
    LN_TRY(Start());
  }
  return codec_->Finish();
}

}  // namespace linnet::oci
