#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "tar_builder.h"
#include "unpack/layer_unpacker.h"

namespace linnet::oci {
namespace {

using linnet::testing::TempDir;
using testing::Gzip;
using testing::TarBuilder;
using testing::Zstd;

Result<UnpackedLayer> Unpack(const std::string& dir, std::string_view bytes,
                             const UnpackLimits& limits = {}, std::size_t piece = 16384) {
  const UniqueFd root = LN_TRY(OpenDir(dir));
  auto unpacker = LN_TRY(LayerUnpacker::Start(root, "sha256", limits));
  for (std::size_t i = 0; i < bytes.size(); i += piece)
    LN_TRY(unpacker->Write(bytes.substr(i, piece)));
  return unpacker->Finish();
}

struct stat Stat(const std::string& path) {
  struct stat st {};
  EXPECT_EQ(lstat(path.c_str(), &st), 0) << path;
  return st;
}

bool IsWhiteout(const std::string& path) {
  struct stat st {};
  return lstat(path.c_str(), &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
}

class Unpacker : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(mkdir((t_ / "layer").c_str(), 0755), 0); }
  // Empties the layer's directory.
  void Again() {
    ASSERT_TRUE(RemoveAll(t_ / "layer").has_value());
    SetUp();
  }
  std::string In(const std::string& name) const { return t_ / ("layer/" + name); }
  TempDir t_;
};

// ---- what archives bring ----

TEST_F(Unpacker, PlainGzipZstd_SameTreeAndDiffId) {
  TarBuilder tar;
  tar.Dir("bin", 0755)
      .File("bin/tool", std::string(300'000, 'x'), 0755)
      .File("etc/passwd", "root:x:0:0\n", 0600);
  const std::string bytes = tar.Finish();
  for (const std::string& blob : {bytes, Gzip(bytes), Zstd(bytes)}) {
    Again();
    const UnpackedLayer layer = LN_ASSERT_OK(Unpack(t_ / "layer", blob));
    EXPECT_EQ(layer.diff_id, Digest::Sha256Of(bytes));
    EXPECT_EQ(t_.Read("layer/bin/tool"), std::string(300'000, 'x'));
    EXPECT_EQ(Stat(In("bin/tool")).st_mode & 07777U, 0755U);
    EXPECT_EQ(Stat(In("etc/passwd")).st_mode & 07777U, 0600U);
    EXPECT_EQ(layer.facts.inodes, 4U);
    EXPECT_EQ(layer.facts.disk_bytes, 4096U + 303'104U + 4096U);
  }
}

TEST_F(Unpacker, ModeIsExact_WhateverTheUmask) {
  const mode_t before = umask(077);
  TarBuilder tar;
  tar.Dir("d", 0777).File("f", "", 0666).File("set", "", 06755).Dir("sticky", 01777);
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  umask(before);
  EXPECT_EQ(Stat(In("d")).st_mode & 07777U, 0777U);
  EXPECT_EQ(Stat(In("f")).st_mode & 07777U, 0666U);
  EXPECT_EQ(Stat(In("set")).st_mode & 07777U, 06755U);
  EXPECT_EQ(Stat(In("sticky")).st_mode & 07777U, 01777U);
  // The unpacker's own thread had another one.
  EXPECT_EQ(umask(before), before);
}

TEST_F(Unpacker, TimesOfDirectories_ThoseOfTheArchive) {
  TarBuilder tar;
  tar.Dir("./", 0755, 111).Dir("a", 0755, 222).Dir("a/b", 0755, 333).File("a/b/f", "x");
  tar.Dir("c", 0755, 444)
      .File("a/late", "y")
      .Symlink("a/b/l", "f")
      .HardLink("c/h", "a/b/f")
      .Whiteout("c/gone");
  tar.File("a/late", "replaced").Dir("a/b", 0755, 555);
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(Stat(t_ / "layer").st_mtime, 111);
  EXPECT_EQ(Stat(In("a")).st_mtime, 222);
  EXPECT_EQ(Stat(In("a/b")).st_mtime, 555);
  EXPECT_EQ(Stat(In("c")).st_mtime, 444);
  EXPECT_EQ(Stat(In("a/b/f")).st_mtime, 1'000'000'000);
  EXPECT_EQ(Stat(In("a/b/l")).st_mtime, 1'000'000'000);
}

TEST_F(Unpacker, PaxTimes_Nanoseconds) {
  TarBuilder tar;
  tar.Add({.name = "f",
           .uid = geteuid(),
           .gid = getegid(),
           .pax = {{"mtime", "1234567890.123456789"}}});
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(Stat(In("f")).st_mtim.tv_sec, 1234567890);
  EXPECT_EQ(Stat(In("f")).st_mtim.tv_nsec, 123456789);
}

TEST_F(Unpacker, Links_ToTheFilesOfThisLayer) {
  TarBuilder tar;
  tar.File("a/f", "data", 0640)
      .HardLink("h", "a/f")
      .HardLink("b/h2", "./a//f")
      .HardLink("abs", "/a/f");
  tar.Symlink("s", "a/f").Symlink("dangling", "/nowhere").HardLink("hs", "s");
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(Stat(In("a/f")).st_nlink, 4U);
  EXPECT_EQ(Stat(In("h")).st_ino, Stat(In("a/f")).st_ino);
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(In("s"))), "a/f");
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(In("dangling"))), "/nowhere");
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(In("hs"))), "a/f");
}

TEST_F(Unpacker, NamesAsTheyAre_LongOddOrNotUtf8) {
  const std::string deep =
      std::string(120, 'd') + "/" + std::string(120, 'e') + "/" + std::string(200, 'f');
  const std::string nfd = "cafe\xcc\x81";  // e + combining accent: not to be normalised
  const std::string nfc = "caf\xc3\xa9";
  const std::string latin1 = "caf\xe9";
  const std::string control = "a\nb\x1b[0m\\c";
  TarBuilder tar;
  for (const std::string& name : {deep, nfd, nfc, latin1, control}) {
    tar.Add(
        {.name = "x", .data = name, .uid = geteuid(), .gid = getegid(), .pax = {{"path", name}}});
  }
  tar.File("plain-" + latin1, latin1).File("plain-" + nfd, nfd);
  // GNU: the name in a member of its own before.
  tar.Add({.name = "././@LongLink", .type = 'L', .data = "gnu/" + deep + std::string(1, '\0')});
  tar.Add({.name = "gnu", .data = "long", .uid = geteuid(), .gid = getegid()});
  tar.Add({.name = "l",
           .type = '2',
           .uid = geteuid(),
           .gid = getegid(),
           .pax = {{"linkpath", deep + nfd}}});
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  for (const std::string& name : {deep, nfd, nfc, latin1, control})
    EXPECT_EQ(t_.Read("layer/" + name), name);
  EXPECT_EQ(t_.Read("layer/plain-" + latin1), latin1);
  EXPECT_EQ(t_.Read("layer/plain-" + nfd), nfd);
  EXPECT_EQ(t_.Read("layer/gnu/" + deep), "long");
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(In("l"))), deep + nfd);
}

TEST_F(Unpacker, SparseFile_HolesStayHoles) {
  // GNU sparse 1.0: the map is at the beginning of the data.
  std::string map = "2\n1048576\n4\n3145728\n4\n";
  map.resize(512);
  TarBuilder tar;
  tar.Add({.name = "GNUSparseFile.0/f",
           .data = map + "headtail",
           .uid = geteuid(),
           .gid = getegid(),
           .pax = {{"GNU.sparse.major", "1"},
                   {"GNU.sparse.minor", "0"},
                   {"GNU.sparse.name", "f"},
                   {"GNU.sparse.realsize", "8388608"}}});
  const UnpackedLayer layer = LN_ASSERT_OK(Unpack(t_ / "layer", tar.Finish()));
  const std::string data = t_.Read("layer/f");
  ASSERT_EQ(data.size(), 8388608U);
  EXPECT_EQ(data.substr(1048576, 4), "head");
  EXPECT_EQ(data.substr(3145728, 4), "tail");
  EXPECT_EQ(data.substr(3145732), std::string(8388608 - 3145732, '\0'));
  EXPECT_LT(Stat(In("f")).st_blocks * 512, 1'000'000);
  EXPECT_LT(layer.facts.disk_bytes, 10'000U);
}

TEST_F(Unpacker, Fifo_Made) {
  TarBuilder tar;
  tar.Add({.name = "pipe", .type = '6', .mode = 0622, .uid = geteuid(), .gid = getegid()});
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_TRUE(S_ISFIFO(Stat(In("pipe")).st_mode));
  EXPECT_EQ(Stat(In("pipe")).st_mode & 0777U, 0622U);
}

TEST_F(Unpacker, ImpliedParents_MadeAndReported) {
  TarBuilder tar;
  tar.File("a/b/c/f", "x").Dir("a/b", 0700).File("z/f", "x");
  const UnpackedLayer layer = LN_ASSERT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(layer.facts.implied_dirs, (std::vector<std::string>{"a", "a/b/c", "z"}));
  EXPECT_EQ(Stat(In("a")).st_mode & 07777U, 0755U);
  EXPECT_EQ(Stat(In("a/b")).st_mode & 07777U, 0700U);
}

TEST_F(Unpacker, SameNameTwice_TheLaterWins) {
  TarBuilder tar;
  tar.File("f", "one", 0600).File("f", "two", 0644);
  tar.File("file-dir", "x").Dir("file-dir").File("file-dir/in", "y");
  tar.Dir("dir-file").File("dir-file/in", "x").File("dir-file", "now a file");
  tar.Dir("dir-link").File("dir-link/in", "x").Symlink("dir-link", "f");
  tar.Symlink("link-dir", "f").Dir("link-dir").File("link-dir/in", "z");
  tar.File("link-file-target", "kept")
      .Symlink("link-file", "link-file-target")
      .File("link-file", "own");
  tar.Dir("merged", 0700).File("merged/a", "a").Dir("merged", 0755).File("merged/b", "b");
  tar.File("hard-a", "a")
      .File("hard-b", "b")
      .HardLink("hard-b", "hard-a")
      .HardLink("hard-b", "hard-a");
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(t_.Read("layer/f"), "two");
  EXPECT_EQ(t_.Read("layer/file-dir/in"), "y");
  EXPECT_EQ(t_.Read("layer/dir-file"), "now a file");
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(In("dir-link"))), "f");
  EXPECT_EQ(t_.Read("layer/link-dir/in"), "z");
  EXPECT_TRUE(S_ISREG(Stat(In("link-file")).st_mode));
  EXPECT_EQ(t_.Read("layer/link-file-target"), "kept");
  EXPECT_EQ(t_.Read("layer/merged/a") + t_.Read("layer/merged/b"), "ab");
  EXPECT_EQ(Stat(In("merged")).st_mode & 07777U, 0755U);
  EXPECT_EQ(Stat(In("hard-a")).st_ino, Stat(In("hard-b")).st_ino);
}

TEST_F(Unpacker, Whiteouts_BecomeDevice00AndSpeakOfLowerLayersOnly) {
  TarBuilder tar;
  tar.Whiteout("gone").Dir("d").Whiteout("d/gone").File("here", "x").Whiteout("here");
  tar.Whiteout("again").File("again", "new");
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_TRUE(IsWhiteout(In("gone")));
  EXPECT_TRUE(IsWhiteout(In("d/gone")));
  EXPECT_EQ(t_.Read("layer/here"), "x");
  EXPECT_EQ(t_.Read("layer/again"), "new");
  EXPECT_FALSE(Exists(In(".wh.gone")));
}

TEST_F(Unpacker, OpaqueRoot_Reported) {
  TarBuilder tar;
  tar.File(".wh..wh..opq", "").File("f", "x");
  EXPECT_TRUE(LN_ASSERT_OK(Unpack(t_ / "layer", tar.Finish())).facts.opaque_root);
}

TEST_F(Unpacker, ParentIsALinkOfTheLayer_FollowedInsideTheRoot) {
  TarBuilder tar;
  tar.Dir("usr")
      .Dir("usr/lib")
      .Symlink("lib", "usr/lib")
      .File("lib/so", "x")
      .Symlink("abs", "/usr")
      .File("abs/y", "y");
  tar.HardLink("h", "lib/so").Symlink("up", "../../../../usr").File("up/z", "z");
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(t_.Read("layer/usr/lib/so"), "x");
  EXPECT_EQ(t_.Read("layer/usr/y"), "y");
  EXPECT_EQ(t_.Read("layer/usr/z"), "z");
  EXPECT_EQ(Stat(In("h")).st_nlink, 2U);
}

TEST_F(Unpacker, BytesAfterTheEndOfTheArchive_InTheDiffId) {
  const std::string bytes = TarBuilder().File("f", "x").Finish() + std::string(600'000, 'z');
  EXPECT_EQ(LN_ASSERT_OK(Unpack(t_ / "layer", Gzip(bytes))).diff_id, Digest::Sha256Of(bytes));
}

TEST_F(Unpacker, NothingAtAll_EmptyLayer) {
  EXPECT_EQ(LN_ASSERT_OK(Unpack(t_ / "layer", "")).diff_id, Digest::Sha256Of(""));
  const std::string zeros(1024, '\0');
  EXPECT_EQ(LN_ASSERT_OK(Unpack(t_ / "layer", Gzip(zeros))).diff_id, Digest::Sha256Of(zeros));
  EXPECT_EQ(LN_ASSERT_OK(ListDir(t_ / "layer")).size(), 0U);
}

TEST_F(Unpacker, ManySmallPieces_SameAsOne) {
  TarBuilder tar;
  for (int i = 0; i < 50; ++i)
    tar.File("d" + std::to_string(i % 7) + "/f" + std::to_string(i), std::string(1000, 'a'));
  const std::string bytes = Gzip(tar.Finish());
  EXPECT_EQ(LN_ASSERT_OK(Unpack(t_ / "layer", bytes, {}, 1)).diff_id,
            Digest::Sha256Of(tar.Finish()));
}

// ---- what archives may not bring ----

TEST_F(Unpacker, Limits_EndInAnError) {
  TarBuilder tar;
  for (int i = 0; i < 20; ++i) tar.File("f" + std::to_string(i), std::string(1000, 'x'));
  LN_EXPECT_ERROR(Unpack(t_ / "layer", tar.Finish(), {.max_bytes = 81'000}),
                  Code::kResourceExhausted, "data");  // 20 pages
  Again();
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish(), {.max_bytes = 82'000}));
  Again();
  LN_EXPECT_ERROR(Unpack(t_ / "layer", tar.Finish(), {.max_entries = 10}), Code::kResourceExhausted,
                  "entries");
  Again();
  LN_EXPECT_ERROR(Unpack(t_ / "layer", TarBuilder().File("a/b/c/d", "").Finish(), {.max_depth = 3}),
                  Code::kInvalidArgument, "components");
  // Directories that come with no entry of their own count too.
  LN_EXPECT_ERROR(
      Unpack(t_ / "layer", TarBuilder().File("a/b/c/d/e/f", "").Finish(), {.max_entries = 3}),
      Code::kResourceExhausted, "files");
  Again();
  LN_EXPECT_ERROR(
      Unpack(t_ / "layer", TarBuilder().File("aaaa/bbbb/f", "").Finish(), {.max_pending_bytes = 8}),
      Code::kResourceExhausted, "implies");
}

TEST_F(Unpacker, BombOfZeros_EndsAtTheLimit) {
  const std::string bomb =
      Gzip(TarBuilder().File("zeros", std::string(64U << 20, '\0')).Finish(), 9);
  ASSERT_LT(bomb.size(), 100'000U);
  LN_EXPECT_ERROR(Unpack(t_ / "layer", bomb, {.max_bytes = 1U << 20}), Code::kResourceExhausted,
                  "data");
  EXPECT_LE(Stat(In("zeros")).st_size, 1 << 20);
}

TEST_F(Unpacker, BombsOfEveryCompression_EndAtTheLimitInLittleTime) {
  const std::string bytes = TarBuilder().File("zeros", std::string(256U << 20, '\0')).Finish();
  for (const std::string& bomb : {Gzip(bytes, 9), Zstd(bytes)}) {
    Again();
    ASSERT_LT(bomb.size(), 400'000U);
    const auto begin = std::chrono::steady_clock::now();
    LN_EXPECT_ERROR(Unpack(t_ / "layer", bomb, {.max_bytes = 8U << 20}), Code::kResourceExhausted,
                    "data");
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
    EXPECT_LE(Stat(In("zeros")).st_size, 8 << 20);
  }
}

// A byte between two holes takes a page of the disk, and an entry in the map of a sparse file
// memory, however well both were compressed.
std::string SparseMember(std::uint64_t entries, std::uint64_t distance) {
  std::string map = std::to_string(entries) + "\n";
  for (std::uint64_t i = 0; i < entries; ++i) map += std::to_string(i * distance) + "\n1\n";
  map.resize((map.size() + 511) / 512 * 512);
  TarBuilder tar;
  tar.File("before", "x");
  tar.Add({.name = "GNUSparseFile.0/f",
           .data = map + std::string(entries, 'x'),
           .uid = geteuid(),
           .gid = getegid(),
           .pax = {{"GNU.sparse.major", "1"},
                   {"GNU.sparse.minor", "0"},
                   {"GNU.sparse.name", "f"},
                   {"GNU.sparse.realsize", std::to_string(entries * distance)}}});
  return tar.Finish();
}

TEST_F(Unpacker, SparseFileOfManyBytes_CountsWhatTheDiskHolds) {
  LN_EXPECT_ERROR(Unpack(t_ / "layer", SparseMember(2000, 8192), {.max_bytes = 1U << 20}),
                  Code::kResourceExhausted, "data");
  Again();
  const UnpackedLayer layer =
      LN_ASSERT_OK(Unpack(t_ / "layer", SparseMember(2000, 8192), {.max_bytes = 16U << 20}));
  EXPECT_GE(layer.facts.disk_bytes, 2000U * 4096);
}

TEST_F(Unpacker, SparseMapWithoutEnd_RefusedBeforeItIsInMemory) {
  const auto high_water = [] {
    const std::string status = ReadFile("/proc/self/status").value_or("");
    const std::size_t at = status.find("VmHWM:");
    return at == std::string::npos ? 0UL : std::stoul(status.substr(at + 6));
  };
  const std::string bomb = Gzip(SparseMember(3'000'000, 4096), 1);
  const unsigned long before = high_water();
  LN_EXPECT_ERROR(Unpack(t_ / "layer", bomb), Code::kResourceExhausted, "headers");
#ifndef __SANITIZE_ADDRESS__
  EXPECT_LT(high_water() - before, 64UL << 10) << "KiB";
#endif
}

// GHSA-rp3h-jf77-q9p4: opaque directories and whiteouts, each of which walks what is there.
TEST_F(Unpacker, ManyOpaqueDirectoriesAndWhiteouts_LinearTime) {
  TarBuilder tar;
  tar.Dir("d");
  for (int i = 0; i < 4000; ++i) {
    tar.File("d/f" + std::to_string(i), "");
    tar.File("d/.wh..wh..opq", "");
    tar.Whiteout("d/gone" + std::to_string(i));
  }
  const auto begin = std::chrono::steady_clock::now();
  auto unpacked = Unpack(t_ / "layer", tar.Finish());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
  // Without root neither the attribute nor the device can be made.
  if (geteuid() == 0) LN_EXPECT_OK(unpacked);
}

// ZIP-like nesting is nothing: what is in a layer is a file, whatever it holds.
TEST_F(Unpacker, CompressedInCompressed_UnpackedOnce) {
  const std::string inner = Gzip(TarBuilder().File("f", "inner").Finish());
  LN_EXPECT_ERROR(Unpack(t_ / "layer", Gzip(inner)), Code::kDataLoss, "tar");
}

struct Hostile {
  const char* name;
  std::string bytes;
  // nullopt: it is harmless, and may be unpacked.
  std::optional<Code> code;
};

std::vector<Hostile> HostileArchives() {
  std::vector<Hostile> out;
  const auto add = [&out](const char* name, const TarBuilder& tar, std::optional<Code> code) {
    out.push_back({name, tar.Finish(), code});
  };
  const auto one = [](testing::Member m) {
    m.uid = geteuid();
    m.gid = getegid();
    return TarBuilder().Add(std::move(m));
  };
  using enum Code;
  add("symlink_rel_then_write",
      TarBuilder().Dir("d").Symlink("d/x", "../../../canary.d").File("d/x/f", "evil"),
      kInvalidArgument);
  add("symlink_then_hardlink_write",
      TarBuilder().Symlink("x", "../canary").HardLink("y", "x").Dir("y").File("y/f", "evil"),
      std::nullopt);
  add("control_characters", TarBuilder().File("\x01\x1b[2J\n", "x").File("\xff\xfe", "y"),
      std::nullopt);
  add("dotdot_name", TarBuilder().File("../canary", "evil"), kInvalidArgument);
  add("dotdot_deep", TarBuilder().Dir("a").File("a/../../canary", "evil"), kInvalidArgument);
  add("abs_name", TarBuilder().File("/canary", "evil"), std::nullopt);
  add("symlink_then_write", TarBuilder().Symlink("x", "../..").File("x/canary", "evil"),
      std::nullopt);
  add("symlink_abs_then_write", TarBuilder().Symlink("x", "/").File("x/canary", "evil"),
      std::nullopt);
  add("symlink_out_then_write", TarBuilder().Symlink("x", "../canary.d").File("x/f", "evil"),
      kInvalidArgument);
  add("symlink_chain", TarBuilder().Symlink("a", "b").Symlink("b", "..").File("a/canary", "evil"),
      std::nullopt);
  add("symlink_loop", TarBuilder().Symlink("a", "b").Symlink("b", "a").File("a/canary", "evil"),
      kInvalidArgument);
  add("symlink_mkdir", TarBuilder().Symlink("x", "../canary.d").Dir("x", 0777), std::nullopt);
  add("symlink_file_write", TarBuilder().Symlink("x", "../canary").File("x", "evil"), std::nullopt);
  add("symlink_chmod_dir", TarBuilder().Symlink("x", "../canary.d").Dir("x/", 0000), std::nullopt);
  add("symlink_to_magic", TarBuilder().Symlink("x", "/proc/self/root").File("x/canary", "evil"),
      kInvalidArgument);
  add("hardlink_dotdot", TarBuilder().HardLink("h", "../canary"), kInvalidArgument);
  add("hardlink_abs", TarBuilder().HardLink("h", "/../canary"), kInvalidArgument);
  add("hardlink_via_symlink",
      TarBuilder().Symlink("x", "..").HardLink("h", "x/canary").File("h", "evil"), std::nullopt);
  add("hardlink_to_symlink_then_write",
      TarBuilder().Symlink("x", "../canary").HardLink("h", "x").File("h", "evil"), std::nullopt);
  add("hardlink_to_symlink_chmod",
      TarBuilder()
          .Symlink("x", "../canary")
          .Add({.name = "h", .type = '1', .link = "x", .mode = 07777}),
      std::nullopt);
  add("hardlink_to_dir", TarBuilder().Dir("d").HardLink("h", "d"), kInvalidArgument);
  add("hardlink_to_root", TarBuilder().HardLink("h", "/"), kInvalidArgument);
  add("hardlink_to_itself", TarBuilder().File("h", "x").HardLink("h", "h"), kInvalidArgument);
  add("whiteout_via_symlink", TarBuilder().Symlink("x", "..").File("x/.wh.canary", ""),
      std::nullopt);
  add("opaque_root_via_symlink", TarBuilder().Symlink("x", "..").File("x/.wh..wh..opq", ""),
      std::nullopt);
  add("whiteout_dot", TarBuilder().File(".wh..", ""), kInvalidArgument);
  add("whiteout_dotdot", TarBuilder().Dir("a").File("a/.wh...", ""), kInvalidArgument);
  add("whiteout_empty", TarBuilder().File(".wh.", ""), kInvalidArgument);
  add("whiteout_meta", TarBuilder().Dir(".wh..wh.plnk"), kInvalidArgument);
  add("whiteout_of_whiteout", TarBuilder().File(".wh..wh.x", ""), kInvalidArgument);
  add("hardlink_to_whiteout", TarBuilder().Whiteout("w").HardLink("h", "w"), kInvalidArgument);
  add("dup_file_dir_symlink",
      TarBuilder()
          .Dir("d")
          .Symlink("d", "../canary.d")
          .File("d", "file")
          .Symlink("d", "..")
          .File("d", "evil"),
      std::nullopt);
  add("symlink_over_existing_dir",
      TarBuilder().Dir("d").File("d/f", "x").Symlink("d", "../canary.d").File("d/f", "evil"),
      kInvalidArgument);
  add("fifo_then_write", one({.name = "p", .type = '6'}).File("p", "evil"), std::nullopt);
  add("file_as_parent", TarBuilder().File("f", "x").File("f/g", "evil"), kInvalidArgument);
  add("char_device_00", one({.name = "dev", .type = '3', .major = 0, .minor = 0}),
      kInvalidArgument);
  add("pax_path_override", one({.name = "ok", .data = "evil", .pax = {{"path", "../canary"}}}),
      kInvalidArgument);
  add("pax_linkpath_override",
      one({.name = "h", .type = '1', .link = "ok", .pax = {{"linkpath", "../canary"}}}),
      kInvalidArgument);
  add("root_is_a_file", TarBuilder().File("./", "x"), std::nullopt);
  add("root_is_a_link", TarBuilder().Symlink("./", "../canary.d").File("f", "evil"),
      kInvalidArgument);
  add("name_too_long", one({.name = "x", .pax = {{"path", std::string(300, 'n')}}}),
      kInvalidArgument);
  add("path_too_long", one({.name = "x", .pax = {{"path", std::string(5000, '/') + "n"}}}),
      kInvalidArgument);
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "d/";
  add("too_deep", one({.name = "x", .pax = {{"path", deep + "f"}}}), kInvalidArgument);
  add("empty_symlink", TarBuilder().Symlink("s", ""), kInvalidArgument);
  add("long_symlink",
      one({.name = "s", .type = '2', .pax = {{"linkpath", std::string(4096, 'l')}}}),
      kInvalidArgument);
  add("uid_too_large", TarBuilder().Add({.name = "f", .uid = 1ULL << 33}), kInvalidArgument);
  add("uid_minus_one", TarBuilder().Add({.name = "f", .uid = 0xffffffffULL}), kInvalidArgument);
  add("xattr_too_large",
      one({.name = "f", .pax = {{"SCHILY.xattr.user.x", std::string(70'000, 'v')}}}),
      kInvalidArgument);
  // The format itself.
  out.push_back({"not_a_tar", std::string(4096, 'x'), kDataLoss});
  out.push_back(
      {"truncated_header", TarBuilder().File("f", "x").unfinished().substr(0, 300), kDataLoss});
  out.push_back({"truncated_data",
                 TarBuilder().File("f", std::string(5000, 'x')).unfinished().substr(0, 1024),
                 kDataLoss});
  out.push_back({"size_negative_b256",
                 TarBuilder().Add({.name = "f", .raw_size = std::string(12, '\xff')}).Finish(),
                 std::nullopt});
  out.push_back(
      {"size_huge_b256",
       TarBuilder()
           .Add({.name = "f",
                 .raw_size = std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12)})
           .Finish(),
       kDataLoss});
  out.push_back({"pax_bomb",
                 one({.name = "f", .pax = {{"comment", std::string(8U << 20, 'c')}}}).Finish(),
                 kDataLoss});
  out.push_back({"pax_len_lies",
                 TarBuilder()
                     .Add({.name = "p", .type = 'x', .data = "999999 path=x\n"})
                     .File("f", "x")
                     .Finish(),
                 kDataLoss});
  out.push_back({"sparse_beyond_the_end",
                 one({.name = "f",
                      .data = std::string("1\n9223372036854775800\n100\n") +
                              std::string(480, '\0') + std::string(100, 'x'),
                      .pax = {{"GNU.sparse.major", "1"},
                              {"GNU.sparse.minor", "0"},
                              {"GNU.sparse.name", "../canary"},
                              {"GNU.sparse.realsize", "9223372036854775807"}}})
                     .Finish(),
                 kDataLoss});
  out.push_back({"sparse_map_lies",
                 one({.name = "f",
                      .data = std::string("99999999\n1\n") + std::string(501, '\0'),
                      .pax = {{"GNU.sparse.major", "1"},
                              {"GNU.sparse.minor", "0"},
                              {"GNU.sparse.realsize", "10"}}})
                     .Finish(),
                 kDataLoss});
  out.push_back({"sparse_overlap",
                 one({.name = "f",
                      .data = std::string("2\n4096\n600\n0\n600\n") + std::string(493, '\0') +
                              std::string(1200, 'x'),
                      .pax = {{"GNU.sparse.major", "1"},
                              {"GNU.sparse.minor", "0"},
                              {"GNU.sparse.realsize", "8192"}}})
                     .Finish(),
                 std::nullopt});
  out.push_back({"gzip_truncated",
                 Gzip(TarBuilder().File("f", std::string(9000, 'x')).Finish()).substr(0, 60),
                 kDataLoss});
  return out;
}

TEST_F(Unpacker, HostileArchives_NothingOutsideTouched) {
  for (const Hostile& hostile : HostileArchives()) {
    SCOPED_TRACE(hostile.name);
    Again();
    t_.Write("canary", "sings");
    t_.Write("canary.d/f", "sings too");
    const struct stat file = Stat(t_ / "canary");
    const struct stat dir = Stat(t_ / "canary.d");
    const auto unpacked = Unpack(t_ / "layer", hostile.bytes);
    if (hostile.code) {
      EXPECT_FALSE(unpacked.has_value());
      if (!unpacked) {
        EXPECT_EQ(CodeName(unpacked.error().code()), CodeName(*hostile.code))
            << unpacked.error().message();
      }
    } else if (!unpacked) {
      // It is refused where it could have been harmless: fine, as long as nobody else is to blame.
      EXPECT_TRUE(unpacked.error().Is(Code::kInvalidArgument) ||
                  unpacked.error().Is(Code::kDataLoss))
          << unpacked.error().message();
    }
    EXPECT_EQ(t_.Read("canary"), "sings");
    EXPECT_EQ(t_.Read("canary.d/f"), "sings too");
    EXPECT_EQ(LN_ASSERT_OK(ListDir(t_.path())),
              (std::vector<std::string>{"canary", "canary.d", "layer"}));
    EXPECT_EQ(LN_ASSERT_OK(ListDir(t_ / "canary.d")), std::vector<std::string>{"f"});
    for (const auto& [path, before] : {std::pair{"canary", file}, {"canary.d", dir}}) {
      const struct stat now = Stat(t_ / path);
      EXPECT_EQ(now.st_mode, before.st_mode) << path;
      EXPECT_EQ(now.st_nlink, before.st_nlink) << path;
      EXPECT_EQ(now.st_ino, before.st_ino) << path;
    }
    ASSERT_TRUE(RemoveAll(t_ / "canary").has_value());
    ASSERT_TRUE(RemoveAll(t_ / "canary.d").has_value());
  }
}

TEST_F(Unpacker, RandomDamage_NeverOutsideNeverHangs) {
  TarBuilder tar;
  tar.Dir("d")
      .File("d/f", std::string(3000, 'x'))
      .Symlink("l", "d")
      .File("l/g", "y")
      .HardLink("h", "d/f")
      .Whiteout("w");
  tar.Add({.name = "p",
           .data = "z",
           .uid = geteuid(),
           .gid = getegid(),
           .pax = {{"path", "pax/name"}, {"mtime", "1.5"}}});
  const std::string good = tar.Finish();
  unsigned seed = 12345;
  const auto next = [&seed] { return seed = seed * 1103515245U + 12345U; };
  t_.Write("canary", "sings");
  for (int round = 0; round < 400; ++round) {
    std::string bytes = good;
    for (unsigned n = next() / 65536U % 4U + 1; n > 0; --n) {
      bytes[(next() / 7U) % bytes.size()] = static_cast<char>(next() / 65536U);
    }
    if (round % 3 == 0) bytes.resize((next() / 7U) % bytes.size());
    (void)Unpack(t_ / "layer", bytes, {.max_bytes = 1U << 20});
    ASSERT_EQ(LN_ASSERT_OK(ListDir(t_.path())), (std::vector<std::string>{"canary", "layer"}))
        << round;
    if (round % 20 == 0) Again();
  }
  EXPECT_EQ(t_.Read("canary"), "sings");
}

TEST(CleanEntryPath, Cleaned) {
  const UnpackLimits limits;
  for (const auto& [given, wanted] :
       std::initializer_list<std::pair<const char*, const char*>>{{"a", "a"},
                                                                  {"./a", "a"},
                                                                  {"/a//b/", "a/b"},
                                                                  {"a/./b", "a/b"},
                                                                  {"a/b/../c", "a/c"},
                                                                  {"a/..", ""},
                                                                  {"", ""},
                                                                  {".", ""},
                                                                  {"/", ""},
                                                                  {"...", "..."},
                                                                  {"a..b", "a..b"}}) {
    EXPECT_EQ(LN_ASSERT_OK(CleanEntryPath(given, limits)), wanted) << given;
  }
  for (const char* given : {"..", "/..", "a/../..", "./..", "a/b/../../../c"}) {
    LN_EXPECT_ERROR(CleanEntryPath(given, limits), Code::kInvalidArgument, "out of the root");
  }
}

// ---- what lies below ----

class Lower : public Unpacker {
 protected:
  Result<void> Complete(const std::string& bytes, const std::vector<std::string>& lower) {
    UnpackedLayer layer = LN_TRY(Unpack(t_ / "layer", bytes));
    const UniqueFd root = LN_TRY(OpenDir(t_ / "layer"));
    return CompleteFromLower(root, layer.facts, lower);
  }
};

TEST_F(Lower, ImpliedDirectories_TakeTheAttributesBelow) {
  t_.Write("low/tmp/", "");
  t_.Write("low/etc/", "");
  ASSERT_EQ(chmod((t_ / "low/tmp").c_str(), 01777), 0);
  ASSERT_EQ(chmod((t_ / "low/etc").c_str(), 0711), 0);
  t_.Write("high/etc/", "");
  ASSERT_EQ(chmod((t_ / "high/etc").c_str(), 0750), 0);
  const std::string tar =
      TarBuilder().File("tmp/f", "x").File("etc/g", "y").File("new/h", "z").Finish();
  LN_EXPECT_OK(Complete(tar, {t_ / "high", t_ / "low"}));
  EXPECT_EQ(Stat(In("tmp")).st_mode & 07777U, 01777U);
  EXPECT_EQ(Stat(In("etc")).st_mode & 07777U, 0750U);
  EXPECT_EQ(Stat(In("new")).st_mode & 07777U, 0755U);
  EXPECT_EQ(Stat(In("tmp")).st_mtime, Stat(t_ / "low/tmp").st_mtime);
}

TEST_F(Lower, WhiteoutBetween_HidesWhatIsFurtherBelow) {
  t_.Write("low/tmp/", "");
  ASSERT_EQ(chmod((t_ / "low/tmp").c_str(), 01777), 0);
  t_.Write("high/");
  ASSERT_EQ(mknod((t_ / "high/tmp").c_str(), S_IFCHR, makedev(0, 0)), 0);
  LN_EXPECT_OK(Complete(TarBuilder().File("tmp/f", "x").Finish(), {t_ / "high", t_ / "low"}));
  EXPECT_EQ(Stat(In("tmp")).st_mode & 07777U, 0755U);
}

TEST_F(Lower, HardLinkToALowerFile_Copied) {
  t_.Write("low/usr/bin/tool", "tool");
  ASSERT_EQ(chmod((t_ / "low/usr/bin/tool").c_str(), 0751), 0);
  const std::string tar = TarBuilder()
                              .Dir("bin")
                              .HardLink("bin/a", "usr/bin/tool")
                              .HardLink("bin/b", "/usr/bin/tool")
                              .Finish();
  LN_EXPECT_OK(Complete(tar, {t_ / "low"}));
  EXPECT_EQ(t_.Read("layer/bin/a"), "tool");
  EXPECT_EQ(Stat(In("bin/a")).st_mode & 07777U, 0751U);
  EXPECT_EQ(Stat(In("bin/a")).st_ino, Stat(In("bin/b")).st_ino);
  EXPECT_EQ(Stat(In("bin")).st_mtime, 1'000'000'000);
  EXPECT_EQ(Stat(t_ / "low/usr/bin/tool").st_nlink, 1U);
}

TEST_F(Lower, ImpliedDirectoryThatIsALinkBelow_FilesGoWhereItLeads) {
  t_.Write({{"low/usr/lib/libc", "c"}, {"low/usr/bin/sh", "sh"}, {"low/data/x/", ""}});
  ASSERT_EQ(chmod((t_ / "low/usr/lib").c_str(), 0711), 0);
  ASSERT_EQ(symlink("usr/lib", (t_ / "low/lib").c_str()), 0);
  ASSERT_EQ(symlink("/usr/bin", (t_ / "low/bin").c_str()), 0);
  ASSERT_EQ(symlink("../../../data/x", (t_ / "low/usr/out").c_str()), 0);
  ASSERT_EQ(symlink("lib", (t_ / "low/twice").c_str()), 0);
  ASSERT_EQ(symlink("loop", (t_ / "low/loop").c_str()), 0);
  ASSERT_EQ(symlink("nowhere", (t_ / "low/broken").c_str()), 0);
  TarBuilder tar;
  tar.File("lib/a/b", "ab").File("lib/c", "c").Whiteout("lib/libc").File("bin/tool", "tool");
  tar.File("usr/out/o", "o").File("twice/t", "t").File("loop/l", "l").File("broken/b", "b");
  tar.Dir("explicit").HardLink("bin/linked", "usr/bin/sh");
  LN_EXPECT_OK(Complete(tar.Finish(), {t_ / "low"}));
  for (const char* gone : {"lib", "bin", "twice", "usr/out"})
    EXPECT_FALSE(Exists(In(gone))) << gone;
  EXPECT_EQ(t_.Read("layer/usr/lib/a/b"), "ab");
  EXPECT_EQ(t_.Read("layer/usr/lib/c"), "c");
  EXPECT_EQ(t_.Read("layer/usr/lib/t"), "t");
  EXPECT_TRUE(IsWhiteout(In("usr/lib/libc")));
  EXPECT_EQ(Stat(In("usr/lib")).st_mode & 07777U, 0711U);
  EXPECT_EQ(t_.Read("layer/usr/bin/tool"), "tool");
  EXPECT_EQ(t_.Read("layer/usr/bin/linked"), "sh");
  EXPECT_EQ(t_.Read("layer/data/x/o"), "o");
  // These lead nowhere: the layer's own directory takes their place.
  EXPECT_EQ(t_.Read("layer/loop/l"), "l");
  EXPECT_EQ(t_.Read("layer/broken/b"), "b");
  EXPECT_EQ(t_.Read("low/usr/lib/libc"), "c");
}

TEST_F(Lower, ImpliedDirectoryBehindALinkThatTheLayerHasToo_Merged) {
  t_.Write("low/usr/lib/x");
  ASSERT_EQ(symlink("usr/lib", (t_ / "low/lib").c_str()), 0);
  TarBuilder tar;
  tar.Dir("usr")
      .Dir("usr/lib", 0700)
      .Dir("usr/lib/d")
      .File("usr/lib/d/own", "own")
      .File("usr/lib/f", "own");
  tar.File("lib/d/moved", "moved").File("lib/f", "moved");
  LN_EXPECT_OK(Complete(tar.Finish(), {t_ / "low"}));
  EXPECT_EQ(t_.Read("layer/usr/lib/d/own") + t_.Read("layer/usr/lib/d/moved"), "ownmoved");
  EXPECT_EQ(t_.Read("layer/usr/lib/f"), "moved");
  EXPECT_EQ(Stat(In("usr/lib")).st_mtime, 1'000'000'000);
  EXPECT_FALSE(Exists(In("lib")));
}

TEST_F(Lower, HardLinkToNothing_InvalidArgument) {
  t_.Write("low/f", "x");
  LN_EXPECT_ERROR(Complete(TarBuilder().HardLink("h", "nothing").Finish(), {t_ / "low"}),
                  Code::kInvalidArgument, "not in the image");
  Again();
  // Through a link of the lower layer: never.
  ASSERT_EQ(symlink("/etc", (t_ / "low/l").c_str()), 0);
  LN_EXPECT_ERROR(Complete(TarBuilder().HardLink("h", "l/passwd").Finish(), {t_ / "low"}),
                  Code::kInvalidArgument, "not in the image");
}

}  // namespace
}  // namespace linnet::oci
