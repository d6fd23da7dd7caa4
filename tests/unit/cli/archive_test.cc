#include "archive.h"

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::cli {
namespace {

using linnet::testing::TempDir;

constexpr const char* kBlob =
    "blobs/sha256/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

Result<void> WriteAllMembers(ArchiveWriter& writer) {
  const std::string blob(1000, 'b');
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{
           {"oci-layout", "{}"}, {"index.json", "[1]"}, {kBlob, blob}}) {
    LN_TRY(writer.Begin(name, text.size()));
    LN_TRY(writer.Write(text.substr(0, 1)));
    LN_TRY(writer.Write(text.substr(1)));
  }
  return Ok();
}

TEST(Archive, DirectoryAndFile_AreTheSameStream) {
  const TempDir t;
  const auto file = LN_ASSERT_OK(ArchiveWriter::ToFile(t / "x.tar"));
  LN_ASSERT_OK(WriteAllMembers(*file));
  EXPECT_FALSE(Exists(t / "x.tar"));  // not before it is whole
  LN_ASSERT_OK(file->Finish());
  const auto directory = LN_ASSERT_OK(ArchiveWriter::ToDirectory(t / "dir"));
  LN_ASSERT_OK(WriteAllMembers(*directory));
  EXPECT_FALSE(Exists(t / "dir/index.json"));
  LN_ASSERT_OK(directory->Finish());

  const auto reader = LN_ASSERT_OK(ArchiveReader::Open(t / "dir"));
  std::string stream;
  for (;;) {
    const std::string_view bytes = LN_ASSERT_OK(reader->Next());
    if (bytes.empty()) break;
    stream += bytes;
  }
  const std::string tar = LN_ASSERT_OK(ReadFile(t / "x.tar"));
  EXPECT_EQ(stream.size(), tar.size());
  EXPECT_TRUE(stream == tar);
  EXPECT_EQ(tar.size(), 3 * 512 + 512 + 512 + 1024 + 1024U);
  LN_EXPECT_ERROR(ArchiveWriter::ToDirectory(t / "dir"), Code::kAlreadyExists, "not empty");
}

TEST(Archive, GivenUp_LeavesNoFile) {
  const TempDir t;
  {
    const auto file = LN_ASSERT_OK(ArchiveWriter::ToFile(t / "x.tar"));
    LN_ASSERT_OK(WriteAllMembers(*file));
  }
  EXPECT_TRUE(ListDir(t.path())->empty());
}

TEST(Archive, WhatIsNoLayout_IsRefused) {
  const TempDir t;
  LN_EXPECT_ERROR(ArchiveReader::Open(t.path()), Code::kInvalidArgument, "index.json");
  EXPECT_FALSE(ArchiveReader::Open(t / "absent").has_value());
}

TEST(Archive, MemberThatLeadsOut_IsRefused) {
  const TempDir t;
  const auto directory = LN_ASSERT_OK(ArchiveWriter::ToDirectory(t / "dir"));
  EXPECT_FALSE(directory->Begin("../x", 1).has_value());
  EXPECT_FALSE(directory->Begin("/x", 1).has_value());
  EXPECT_FALSE(directory->Begin("a/../../x", 1).has_value());
}

TEST(TarHeader, SizesBeyondOctal) {
  const std::string small = TarHeader("a", 1);
  EXPECT_EQ(small.substr(124, 11), "00000000001");
  const std::string large = TarHeader("a", 9ULL << 30);
  EXPECT_EQ(large[124], '\x80');
  EXPECT_EQ(static_cast<unsigned char>(large[131]), 2);  // 9 GiB = 0x2'4000'0000
  EXPECT_EQ(static_cast<unsigned char>(large[132]), 0x40);
  EXPECT_EQ(TarPadding(512).size(), 0U);
  EXPECT_EQ(TarPadding(513).size(), 511U);
}

}  // namespace
}  // namespace linnet::cli
