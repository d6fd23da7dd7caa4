// Compressed blobs, cut into pieces of odd sizes: the same bytes come out whatever the pieces are,
// and no more than asked for.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "unpack/decompressor.h"

namespace {

using linnet::Error;
using linnet::Ok;
using linnet::Result;

constexpr std::size_t kEnough = 1U << 20;

class Output final : public linnet::oci::OutputBuffer {
 public:
  Result<std::span<char>> Room() override {
    if (text.size() >= kEnough) return Error(linnet::Code::kResourceExhausted, "enough");
    return std::span<char>(room_);
  }
  Result<void> Filled(std::size_t bytes) override {
    if (bytes > room_.size()) std::abort();
    text.append(room_.data(), bytes);
    return Ok();
  }
  std::string text;

 private:
  std::array<char, 4096> room_{};
};

bool Decompress(std::string_view bytes, std::size_t piece, std::string& out) {
  Output output;
  linnet::oci::Decompressor decompressor(output, 1U << 20);
  bool good = true;
  for (std::size_t i = 0; i < bytes.size() && good; i += piece)
    good = decompressor.Write(bytes.substr(i, piece)).has_value();
  good = good && decompressor.Finish().has_value();
  out = std::move(output.text);
  return good;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string whole;
  std::string pieces;
  const bool good = Decompress(bytes, std::max<std::size_t>(size, 1), whole);
  if (Decompress(bytes, 7, pieces) != good || (good && whole != pieces)) std::abort();
  return 0;
}
