#include "store/compressor.h"

#include <zstd.h>

#include <algorithm>
#include <limits>
#include <vector>

#include <isa-l/igzip_lib.h>

namespace linnet::oci {
namespace {

constexpr std::size_t kOutBytes = 256U << 10;
constexpr int kZstdLevel = 3;

}  // namespace

struct Compressor::Impl {
  LayerCompression how;
  Sink sink;
  std::vector<char> out;
  // gzip
  std::unique_ptr<isal_zstream> gzip;
  std::vector<std::uint8_t> level_buffer;
  // zstd
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> zstd{nullptr, &ZSTD_freeCCtx};

  Result<void> Gzip(std::string_view bytes, bool end) {
    // ISA-L reads only: its interface just lacks the const.
    gzip->next_in = reinterpret_cast<std::uint8_t*>(const_cast<char*>(bytes.data()));
    gzip->avail_in = static_cast<std::uint32_t>(bytes.size());
    gzip->end_of_stream = end ? 1 : 0;
    for (;;) {
      gzip->next_out = reinterpret_cast<std::uint8_t*>(out.data());
      gzip->avail_out = static_cast<std::uint32_t>(out.size());
      if (isal_deflate(gzip.get()) != COMP_OK) return Internal("gzip: cannot compress");
      const std::size_t made = out.size() - gzip->avail_out;
      if (made > 0) LN_TRY(sink(std::string_view(out.data(), made)));
      const bool done = end ? gzip->internal_state.state == ZSTATE_END
                            : gzip->avail_in == 0 && gzip->avail_out > 0;
      if (done) return Ok();
    }
  }

  Result<void> Zstd(std::string_view bytes, bool end) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer to{out.data(), out.size(), 0};
      const std::size_t left =
          ZSTD_compressStream2(zstd.get(), &to, &in, end ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left) != 0) return Internal(std::string("zstd: ") + ZSTD_getErrorName(left));
      if (to.pos > 0) LN_TRY(sink(std::string_view(out.data(), to.pos)));
      if (end ? left == 0 : in.pos == in.size) return Ok();
    }
  }
};

Compressor::Compressor(LayerCompression how, Sink sink) : impl_(std::make_unique<Impl>()) {
  impl_->how = how;
  impl_->sink = std::move(sink);
  if (how == LayerCompression::kNone) return;
  impl_->out.resize(kOutBytes);
  if (how == LayerCompression::kZstd) {
    impl_->zstd.reset(ZSTD_createCCtx());
    LN_CHECK(impl_->zstd != nullptr);
    // In range: cannot fail.
    (void)ZSTD_CCtx_setParameter(impl_->zstd.get(), ZSTD_c_compressionLevel, kZstdLevel);
    return;
  }
  impl_->gzip = std::make_unique<isal_zstream>();
  isal_deflate_init(impl_->gzip.get());
  impl_->level_buffer.resize(ISAL_DEF_LVL1_DEFAULT);
  impl_->gzip->level = 1;
  impl_->gzip->level_buf = impl_->level_buffer.data();
  impl_->gzip->level_buf_size = static_cast<std::uint32_t>(impl_->level_buffer.size());
  impl_->gzip->gzip_flag = IGZIP_GZIP;
}
Compressor::~Compressor() = default;

Result<void> Compressor::Write(std::string_view bytes) {
  if (bytes.empty()) return Ok();
  switch (impl_->how) {
    case LayerCompression::kNone:
      return impl_->sink(bytes);
    case LayerCompression::kZstd:
      return impl_->Zstd(bytes, false);
    case LayerCompression::kGzip:
      break;
  }
  return impl_->Gzip(bytes, false);
}

Result<void> Compressor::Finish() {
  switch (impl_->how) {
    case LayerCompression::kNone:
      return Ok();
    case LayerCompression::kZstd:
      return impl_->Zstd({}, true);
    case LayerCompression::kGzip:
      break;
  }
  return impl_->Gzip({}, true);
}

std::string_view LayerMediaType(LayerCompression how) {
  switch (how) {
    case LayerCompression::kGzip:
      return "application/vnd.oci.image.layer.v1.tar+gzip";
    case LayerCompression::kZstd:
      return "application/vnd.oci.image.layer.v1.tar+zstd";
    case LayerCompression::kNone:
      break;
  }
  return "application/vnd.oci.image.layer.v1.tar";
}

}  // namespace linnet::oci
