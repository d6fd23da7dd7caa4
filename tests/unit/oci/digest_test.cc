#include "linnet/oci/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linnet::oci {
namespace {

using testing::HasSubstr;

const std::string kEmpty =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

TEST(Digest, Parse_Sha256_SplitsAlgorithmAndHex) {
  const auto d = Digest::Parse(kEmpty);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->str(), kEmpty);
  EXPECT_EQ(d->algorithm(), "sha256");
  EXPECT_EQ(d->hex(), kEmpty.substr(7));
}

TEST(Digest, Parse_Sha512_Accepted) {
  EXPECT_TRUE(Digest::Parse("sha512:" + std::string(128, 'a')));
}

TEST(Digest, Parse_WhatCouldLeaveADirectory_Refused) {
  for (const std::string& text :
       {std::string(), std::string("sha256"), std::string("sha256:"), kEmpty.substr(7),
        "sha256:" + std::string(63, 'a'), "sha256:" + std::string(65, 'a'),
        "sha256:" + std::string(63, 'a') + "A", "SHA256:" + std::string(64, 'a'),
        "sha256:../../../../" + std::string(52, 'a'), "md5:" + std::string(32, 'a'),
        "../sha256:" + std::string(64, 'a'), "sha256:" + std::string(63, 'a') + "/",
        "sha256:" + std::string(63, 'a') + std::string(1, '\0'), " " + kEmpty, kEmpty + " ",
        kEmpty + "\n", "sha512:" + std::string(64, 'a'), "sha256:" + std::string(32, ':')}) {
    const auto d = Digest::Parse(text);
    ASSERT_FALSE(d) << text;
    EXPECT_TRUE(d.error().Is(Code::kInvalidArgument));
  }
}

TEST(Digest, Parse_UnprintableText_MessageIsPrintable) {
  const auto d = Digest::Parse("sha256:\x1b[2J\n");
  ASSERT_FALSE(d);
  EXPECT_EQ(d.error().message().find('\x1b'), std::string::npos);
  EXPECT_EQ(d.error().message().find('\n'), std::string::npos);
}

TEST(Digest, Sha256Of_KnownVectors_Match) {
  EXPECT_EQ(Digest::Sha256Of("").str(), kEmpty);
  EXPECT_EQ(Digest::Sha256Of("abc").str(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Hasher, Update_InPieces_SameAsAtOnce) {
  Hasher hasher;
  hasher.Update("a");
  hasher.Update("");
  Hasher moved = std::move(hasher);
  moved.Update("bc");
  EXPECT_EQ(moved.Finish(), Digest::Sha256Of("abc"));
}

TEST(Hasher, Sha512_KnownVector_Matches) {
  Hasher hasher("sha512");
  hasher.Update("abc");
  EXPECT_THAT(hasher.Finish().str(), HasSubstr("sha512:ddaf35a193617abacc417349ae204131"));
}

}  // namespace
}  // namespace linnet::oci
