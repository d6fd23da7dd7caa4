#include "unpack/decompressor.h"

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

#include "tar_builder.h"

namespace linnet::oci {
namespace {

using testing::Gzip;
using testing::Zstd;

// Little room at a time, so that output is cut everywhere.
class Collect final : public OutputBuffer {
 public:
  explicit Collect(std::size_t room = 7) : room_(room, '\0') {}
  Result<std::span<char>> Room() override { return std::span<char>(room_.data(), room_.size()); }
  Result<void> Filled(std::size_t bytes) override {
    all.append(room_, 0, bytes);
    return Ok();
  }
  std::string all;

 private:
  std::string room_;
};

Result<std::string> Decompress(std::string_view bytes, std::size_t piece) {
  Collect out;
  Decompressor decompressor(out);
  for (std::size_t i = 0; i < bytes.size(); i += piece)
    LN_TRY(decompressor.Write(bytes.substr(i, piece)));
  LN_TRY(decompressor.Finish());
  return out.all;
}

std::string Text(std::size_t bytes) {
  std::string out;
  for (unsigned i = 0; out.size() < bytes; ++i)
    out += "line " + std::to_string(i * 7919U % 104729U) + "\n";
  out.resize(bytes);
  return out;
}

TEST(Decompressor, AnyCompressionInPiecesOfAnySize_SameBytes) {
  const std::string text = Text(5000);
  for (const std::string& packed :
       {text, Gzip(text), Gzip(text, 0), Gzip(text, 9, "layer.tar"), Zstd(text)}) {
    for (const std::size_t piece : {1U, 2U, 3U, 5U, 8U, 13U, 1000U, 100000U}) {
      EXPECT_EQ(LN_ASSERT_OK(Decompress(packed, piece)), text);
    }
  }
}

TEST(Decompressor, SeveralMembersOrFrames_Concatenated) {
  const std::string a = Text(3000);
  const std::string b = Text(100);
  for (const std::size_t piece : {1U, 2U, 7U, 4096U, 100000U}) {
    EXPECT_EQ(LN_ASSERT_OK(Decompress(Gzip(a) + Gzip(b, 6, "name") + Gzip("") + Gzip(a), piece)),
              a + b + a);
    EXPECT_EQ(LN_ASSERT_OK(Decompress(Zstd(a) + Zstd(b), piece)), a + b);
  }
}

TEST(Decompressor, SkippableZstdFrameFirst_Skipped) {
  const std::string skippable("\x5a\x2a\x4d\x18\x03\x00\x00\x00xyz", 11);
  EXPECT_EQ(LN_ASSERT_OK(Decompress(skippable + Zstd("abc") + skippable, 4)), "abc");
}

TEST(Decompressor, CutShort_DataLoss) {
  const std::string text = Text(5000);
  const std::string gzip = Gzip(text);
  const std::string zstd = Zstd(text);
  for (const std::size_t cut : {1UL, 4UL, 8UL, 9UL, 100UL, gzip.size() - 7}) {
    LN_EXPECT_ERROR(Decompress(gzip.substr(0, gzip.size() - cut), 512), Code::kDataLoss,
                    "too early");
  }
  LN_EXPECT_ERROR(Decompress(gzip.substr(0, 7), 512), Code::kDataLoss, "too early");
  LN_EXPECT_ERROR(Decompress(zstd.substr(0, zstd.size() - 1), 512), Code::kDataLoss, "too early");
}

TEST(Decompressor, Damaged_DataLoss) {
  std::string gzip = Gzip(Text(5000));
  gzip[gzip.size() - 6] = static_cast<char>(gzip[gzip.size() - 6] ^ 1);
  LN_EXPECT_ERROR(Decompress(gzip, 512), Code::kDataLoss, "checksum");
  std::string zstd = Zstd(Text(5000));
  zstd[20] = static_cast<char>(zstd[20] ^ 0x55);
  EXPECT_FALSE(Decompress(zstd, 512).has_value() && *Decompress(zstd, 512) == Text(5000));
}

TEST(Decompressor, GarbageAfterTheLastMember_DataLossButZerosArePadding) {
  const std::string gzip = Gzip("abc");
  LN_EXPECT_ERROR(Decompress(gzip + "garbage", 512), Code::kDataLoss, "followed");
  EXPECT_EQ(LN_ASSERT_OK(Decompress(gzip + std::string(4096, '\0'), 512)), "abc");
  LN_EXPECT_ERROR(Decompress(gzip + std::string(16, '\0') + gzip, 512), Code::kDataLoss,
                  "followed");
}

TEST(Decompressor, OtherCompression_NamedInTheError) {
  LN_EXPECT_ERROR(Decompress(std::string("\xfd"
                                         "7zXZ\0rest",
                                         10),
                             512),
                  Code::kInvalidArgument, "xz");
  LN_EXPECT_ERROR(Decompress("BZh91AY&SY", 512), Code::kInvalidArgument, "bzip2");
  EXPECT_EQ(LN_ASSERT_OK(Decompress("BZhello", 512)), "BZhello");
}

TEST(Decompressor, NothingOrLittle_PassedOn) {
  EXPECT_EQ(LN_ASSERT_OK(Decompress("", 512)), "");
  EXPECT_EQ(LN_ASSERT_OK(Decompress("ab", 1)), "ab");
  EXPECT_EQ(LN_ASSERT_OK(Decompress(Gzip(""), 1)), "");
}

TEST(Decompressor, ZstdWindowOf2GiB_Refused) {
  // Frame header: magic, descriptor (no single segment, no checksum), window descriptor 0xa8 =
  // 2^31.
  LN_EXPECT_ERROR(Decompress(std::string("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", 9), 512),
                  Code::kDataLoss, "zstd");
}

}  // namespace
}  // namespace linnet::oci
