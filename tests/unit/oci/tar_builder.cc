#include "tar_builder.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "linnet/base/check.h"

namespace linnet::oci::testing {
namespace {

void Put(std::string& header, std::size_t at, std::size_t size, std::string_view text) {
  header.replace(at, std::min(size, text.size()), text.substr(0, size));
}

void PutOctal(std::string& header, std::size_t at, std::size_t size, std::uint64_t value) {
  const std::uint64_t limit = 1ULL << (3 * (size - 1));
  if (value >= limit) {  // base 256, as GNU writes it
    for (std::size_t i = 0; i < size; ++i)
      header[at + size - 1 - i] = static_cast<char>(i < 8 ? value >> (8 * i) : 0);
    header[at] = static_cast<char>(header[at] | '\x80');
    return;
  }
  for (std::size_t i = 0; i + 1 < size; ++i) {
    header[at + size - 2 - i] = static_cast<char>('0' + ((value >> (3 * i)) & 7U));
  }
}

std::string Header(const Member& m) {
  std::string h(512, '\0');
  Put(h, 0, 100, m.name);
  PutOctal(h, 100, 8, m.mode);
  PutOctal(h, 108, 8, m.uid);
  PutOctal(h, 116, 8, m.gid);
  PutOctal(h, 124, 12, m.data.size());
  if (!m.raw_size.empty()) Put(h, 124, 12, m.raw_size);
  PutOctal(h, 136, 12, m.mtime);
  Put(h, 148, 8, "        ");
  h[156] = m.type;
  Put(h, 157, 100, m.link);
  Put(h, 257, 8, std::string_view("ustar\00000", 8));
  PutOctal(h, 329, 8, m.major);
  PutOctal(h, 337, 8, m.minor);
  unsigned sum = 0;
  for (const char c : h) sum += static_cast<unsigned char>(c);
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%06o", sum);
  Put(h, 148, 7, std::string_view(text.data(), 7));
  return h;
}

std::string Padded(std::string data) {
  data.resize((data.size() + 511) / 512 * 512);
  return data;
}

}  // namespace

TarBuilder::TarBuilder() : uid_(geteuid()), gid_(getegid()) {}

std::string TarBuilder::PaxRecord(const std::string& key, const std::string& value) {
  const std::string body = " " + key + "=" + value + "\n";
  std::size_t length = body.size() + 1;
  while (std::to_string(length).size() + body.size() != length)
    length = std::to_string(length).size() + body.size();
  return std::to_string(length) + body;
}

TarBuilder& TarBuilder::Add(Member member) {
  if (!member.pax.empty()) {
    Member extended{.name = "PaxHeaders/x", .type = 'x'};
    for (const auto& [key, value] : member.pax) extended.data += PaxRecord(key, value);
    out_ += Header(extended) + Padded(extended.data);
  }
  out_ += Header(member) + Padded(member.data);
  return *this;
}

TarBuilder& TarBuilder::File(const std::string& name, const std::string& data, unsigned mode) {
  return Add({.name = name, .data = data, .mode = mode, .uid = uid_, .gid = gid_});
}
TarBuilder& TarBuilder::Dir(const std::string& name, unsigned mode, std::uint64_t mtime) {
  return Add({.name = name, .type = '5', .mode = mode, .uid = uid_, .gid = gid_, .mtime = mtime});
}
TarBuilder& TarBuilder::Symlink(const std::string& name, const std::string& target) {
  return Add({.name = name, .type = '2', .link = target, .mode = 0777, .uid = uid_, .gid = gid_});
}
TarBuilder& TarBuilder::HardLink(const std::string& name, const std::string& target) {
  return Add({.name = name, .type = '1', .link = target, .uid = uid_, .gid = gid_});
}
TarBuilder& TarBuilder::Whiteout(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
  return File(path.substr(0, name) + ".wh." + path.substr(name), "");
}
TarBuilder& TarBuilder::Raw(std::string_view bytes) {
  out_ += bytes;
  return *this;
}

std::string TarBuilder::Finish() const { return out_ + std::string(1024, '\0'); }

std::string Gzip(std::string_view bytes, int level, const std::string& file_name) {
  z_stream z{};
  LN_CHECK(deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  gz_header header{};
  std::string name = file_name;
  std::string extra = "extra field";
  if (!file_name.empty()) {
    header.name = reinterpret_cast<Bytef*>(name.data());
    header.extra = reinterpret_cast<Bytef*>(extra.data());
    header.extra_len = static_cast<uInt>(extra.size());
    header.hcrc = 1;
    LN_CHECK(deflateSetHeader(&z, &header) == Z_OK);
  }
  std::string out(deflateBound(&z, bytes.size()) + 1024, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  LN_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t n = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3);
  LN_CHECK(ZSTD_isError(n) == 0);
  out.resize(n);
  return out;
}

}  // namespace linnet::oci::testing
