// What only root can do: owners, devices, capabilities of files, overlay attributes; trees as other
// tools unpack them; a full disk. Runs in a mount namespace of its own.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/spawn.h"
#include "linnet/base/text.h"
#include "linnet/oci/image_store.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "fake_registry.h"
#include "store/image_store_internal.h"
#include "tar_builder.h"
#include "tree_description.h"
#include "unpack/layer_unpacker.h"

namespace linnet::oci {
namespace {

using linnet::testing::TempDir;
using testing::FakeRegistry;
using testing::Gzip;
using testing::MadeImage;
using testing::MakeImage;
using testing::Member;
using testing::TarBuilder;

// cap_net_bind_service=ep, version 2.
const std::string kCapability(
    "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);

Result<UnpackedLayer> Unpack(const std::string& dir, std::string_view bytes) {
  const UniqueFd root = LN_TRY(OpenDir(dir));
  auto unpacker = LN_TRY(LayerUnpacker::Start(root, "sha256", {}));
  for (std::size_t i = 0; i < bytes.size(); i += 16384)
    LN_TRY(unpacker->Write(bytes.substr(i, 16384)));
  return unpacker->Finish();
}

std::string Xattr(const std::string& path, const char* name) {
  std::array<char, 256> value{};
  const ssize_t n = lgetxattr(path.c_str(), name, value.data(), value.size());
  return n < 0 ? "<none>" : std::string(value.data(), static_cast<std::size_t>(n));
}

struct stat Stat(const std::string& path) {
  struct stat st {};
  EXPECT_EQ(lstat(path.c_str(), &st), 0) << path;
  return st;
}

// A file system of its own: its size is known, and what it holds goes with it.
class MountedDir {
 public:
  explicit MountedDir(const std::string& options) {
    LN_CHECK(mount("linnet-test", dir_.path().c_str(), "tmpfs", 0, options.c_str()) == 0);
  }
  MountedDir(const MountedDir&) = delete;
  MountedDir& operator=(const MountedDir&) = delete;
  ~MountedDir() {
    (void)umount2(dir_.path().c_str(), MNT_DETACH);
  }  // ends with the namespace otherwise
  std::string operator/(const std::string& name) const { return dir_ / name; }
  const std::string& path() const { return dir_.path(); }

 private:
  TempDir dir_;
};

class UnpackAsRoot : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(mkdir((t_ / "layer").c_str(), 0755), 0);
  }
  std::string In(const std::string& name) const { return t_ / ("layer/" + name); }
  MountedDir t_{"size=64m"};
};

TEST_F(UnpackAsRoot, Owners_BeforeSetIdBits) {
  TarBuilder tar;
  tar.Add({.name = "d", .type = '5', .mode = 02775, .uid = 10, .gid = 20});
  tar.Add({.name = "d/inherits", .mode = 0644, .uid = 0, .gid = 0});
  tar.Add({.name = "d/sub", .type = '5', .mode = 0755, .uid = 1, .gid = 2});
  tar.Add({.name = "suid", .data = "x", .mode = 04755, .uid = 1000, .gid = 1000});
  tar.Add({.name = "big", .uid = 100'000, .gid = 3'000'000'000});
  tar.Add({.name = "link", .type = '2', .link = "suid", .uid = 7, .gid = 8});
  tar.Add({.name = "fifo", .type = '6', .mode = 0640, .uid = 5, .gid = 6});
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  const auto check = [&](const char* name, unsigned mode, unsigned uid, unsigned gid) {
    const struct stat st = Stat(In(name));
    EXPECT_EQ(st.st_mode & 07777U, mode) << name;
    EXPECT_EQ(st.st_uid, uid) << name;
    EXPECT_EQ(st.st_gid, gid) << name;
  };
  check("d", 02775, 10, 20);
  check("d/inherits", 0644, 0, 0);
  check("d/sub", 0755, 1, 2);
  check("suid", 04755, 1000, 1000);
  check("big", 0644, 100'000, 3'000'000'000);
  check("link", 0777, 7, 8);
  check("fifo", 0640, 5, 6);
}

TEST_F(UnpackAsRoot, Devices_Made) {
  TarBuilder tar;
  tar.Add({.name = "null", .type = '3', .mode = 0666, .major = 1, .minor = 3});
  tar.Add({.name = "loop", .type = '4', .mode = 0660, .gid = 6, .major = 7, .minor = 300});
  tar.Add({.name = "null", .type = '3', .mode = 0600, .major = 1, .minor = 5});
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(Stat(In("null")).st_rdev, makedev(1, 5));
  EXPECT_EQ(Stat(In("null")).st_mode, S_IFCHR | 0600U);
  EXPECT_EQ(Stat(In("loop")).st_rdev, makedev(7, 300));
  EXPECT_EQ(Stat(In("loop")).st_mode, S_IFBLK | 0660U);
  // Written through: no. The file takes its place.
  TarBuilder through;
  through.Add({.name = "disk", .type = '4', .mode = 0666, .major = 7, .minor = 0})
      .File("disk", "data");
  LN_EXPECT_OK(Unpack(t_ / "layer", through.Finish()));
  EXPECT_TRUE(S_ISREG(Stat(In("disk")).st_mode));
}

TEST_F(UnpackAsRoot, Attributes_ThoseOfTheListOnly) {
  TarBuilder tar;
  tar.Add({.name = "f",
           .data = "x",
           .uid = 3,
           .pax = {{"SCHILY.xattr.security.capability", kCapability},
                   {"SCHILY.xattr.user.note", "hello"},
                   {"SCHILY.xattr.user.overlay.redirect", "/etc"},
                   {"SCHILY.xattr.trusted.overlay.redirect", "/etc"},
                   {"SCHILY.xattr.trusted.other", "x"},
                   {"SCHILY.xattr.security.ima", "x"}}});
  tar.Add({.name = "d",
           .type = '5',
           .mode = 0755,
           .pax = {{"SCHILY.xattr.trusted.overlay.opaque", "y"},
                   {"SCHILY.xattr.trusted.overlay.redirect", "/etc"}}});
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  EXPECT_EQ(Xattr(In("f"), "security.capability"), kCapability);
  EXPECT_EQ(Stat(In("f")).st_uid, 3U);
  // tmpfs has no user.* before Linux 6.6.
  if (lsetxattr(In("f").c_str(), "user.probe", "1", 1, 0) == 0) {
    EXPECT_EQ(Xattr(In("f"), "user.note"), "hello");
  }
  for (const char* name :
       {"user.overlay.redirect", "trusted.overlay.redirect", "trusted.other", "security.ima"}) {
    EXPECT_EQ(Xattr(In("f"), name), "<none>") << name;
  }
  EXPECT_EQ(Xattr(In("d"), "trusted.overlay.opaque"), "<none>");
  EXPECT_EQ(Xattr(In("d"), "trusted.overlay.redirect"), "<none>");
}

TEST_F(UnpackAsRoot, DefaultAccessList_NotInheritedByWhatIsUnpacked) {
  // Version 2; user::rwx, group::rwx, mask::rwx, other::---.
  const std::string acl(
      "\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x07\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff"
      "\xff\x20\0\0\0\xff\xff\xff\xff",
      36);
  TarBuilder tar;
  tar.Add({.name = "d",
           .type = '5',
           .mode = 0755,
           .pax = {{"SCHILY.xattr.system.posix_acl_default", acl}}});
  tar.File("d/f", "x", 0644).Dir("d/s", 0755);
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  if (Xattr(In("d"), "system.posix_acl_default") == "<none>")
    GTEST_SKIP() << "no access lists here";
  EXPECT_EQ(Stat(In("d/f")).st_mode & 07777U, 0644U);
  EXPECT_EQ(Stat(In("d/s")).st_mode & 07777U, 0755U);
  EXPECT_EQ(Xattr(In("d/f"), "system.posix_acl_access"), "<none>");
  EXPECT_EQ(Xattr(In("d/s"), "system.posix_acl_default"), "<none>");
}

TEST_F(UnpackAsRoot, Opaque_AttributeOfTheDirectoryWhateverTheOrder) {
  TarBuilder tar;
  tar.Dir("first").File("first/.wh..wh..opq", "").File("first/f", "x");
  tar.Dir("last").File("last/f", "x").File("last/.wh..wh..opq", "");
  tar.Whiteout("again").Dir("again").File("again/f", "x");  // removed below, made anew here
  tar.Dir("after").File("after/f", "x").Whiteout("after");  // the same, told later
  tar.Whiteout("implied").File("implied/f", "x");
  tar.Dir("plain").File("plain/f", "x");
  LN_EXPECT_OK(Unpack(t_ / "layer", tar.Finish()));
  for (const char* name : {"first", "last", "again", "after", "implied"}) {
    EXPECT_EQ(Xattr(In(name), "trusted.overlay.opaque"), "y") << name;
    EXPECT_EQ(LN_ASSERT_OK(ListDir(In(name))), std::vector<std::string>{"f"}) << name;
  }
  EXPECT_EQ(Xattr(In("plain"), "trusted.overlay.opaque"), "<none>");
  EXPECT_EQ(Stat(In("first")).st_mtime, 1'000'000'000);
}

TEST_F(UnpackAsRoot, OpaqueThroughALink_StaysInside) {
  ASSERT_EQ(mkdir((t_ / "canary").c_str(), 0755), 0);
  LN_EXPECT_OK(
      Unpack(t_ / "layer", TarBuilder().Symlink("x", "..").File("x/.wh..wh..opq", "").Finish()));
  EXPECT_EQ(Xattr(t_ / "canary", "trusted.overlay.opaque"), "<none>");
  EXPECT_EQ(Xattr(t_.path(), "trusted.overlay.opaque"), "<none>");
}

// ---- trees as others unpack them ----

std::vector<std::string> LayersForComparison() {
  TarBuilder base;
  base.Dir("./", 0755, 1'000'000'001);
  base.Dir("bin")
      .File("bin/busybox", std::string(70'000, 'b'), 0755)
      .HardLink("bin/sh", "bin/busybox")
      .Symlink("bin/ls", "busybox");
  base.Add({.name = "bin/su", .data = "su", .mode = 04755});
  base.Add({.name = "bin/ping",
            .data = "ping",
            .mode = 0755,
            .pax = {{"SCHILY.xattr.security.capability", kCapability}}});
  base.Dir("tmp", 01777).Dir("var").Add({.name = "var/mail", .type = '5', .mode = 02775, .gid = 8});
  base.Add({.name = "var/mail/www", .data = "mail", .mode = 0660, .uid = 33, .gid = 8});
  base.Dir("etc")
      .File("etc/passwd", "root")
      .File("etc/shadow", "secret", 0640)
      .File("etc/old", "old");
  base.Dir("etc/conf.d")
      .File("etc/conf.d/a", "a")
      .File("etc/conf.d/b", "b")
      .Dir("opt")
      .Dir("opt/x")
      .File("opt/x/f", "f");
  base.Add({.name = "dev-null", .type = '3', .mode = 0666, .major = 1, .minor = 3});
  base.Add({.name = "fifo", .type = '6', .mode = 0600, .uid = 1});
  const std::string deep =
      std::string(90, 'l') + "/" + std::string(90, 'o') + "/" + std::string(90, 'n');
  std::string path = std::string(90, 'l');
  base.Dir(path + "/");
  base.Add({.name = "x",
            .type = '5',
            .mode = 0755,
            .pax = {{"path", path + "/" + std::string(90, 'o')}}});
  base.Add({.name = "x", .data = "deep", .pax = {{"path", deep}, {"mtime", "1500000000.25"}}});
  base.Add({.name = "u", .data = "utf8", .pax = {{"path", "caf\xc3\xa9"}}});
  base.Add({.name = "ids", .data = "x", .uid = 70'000, .gid = 3'000'000});

  TarBuilder change;
  change.Dir("etc", 0750).Whiteout("etc/old").File("etc/passwd", "root and more", 0600);
  change.Dir("etc/conf.d").File("etc/conf.d/.wh..wh..opq", "").File("etc/conf.d/c", "c");
  change.Whiteout("opt")
      .Dir("bin")
      .File("bin/ls", "now a file", 0755)
      .Symlink("bin/link", "/bin/busybox");
  TarBuilder last;
  last.Dir("opt")
      .File("opt/new", "new")
      .Dir("var")
      .Whiteout("var/mail")
      .Dir("etc")
      .Dir("etc/old")
      .File("etc/old/in", "in");
  return {base.Finish(), change.Finish(), last.Finish()};
}

TEST_F(UnpackAsRoot, TreeOfSeveralLayers_AsUmociUnpacksIt) {
  if (!Exists("/usr/bin/umoci")) GTEST_SKIP() << "needs umoci";
  const MadeImage made = MakeImage(LayersForComparison());
  // For umoci: a layout.
  const auto write = [&](const std::string& name, const std::string& bytes) {
    const std::string path = t_ / ("layout/" + name);
    ASSERT_TRUE(MakeDirs(Dirname(path), 0755).has_value());
    ASSERT_TRUE(ReplaceFile(path, bytes, 0644).has_value());
  };
  for (const std::string& blob :
       {made.config, made.manifest, made.layers[0], made.layers[1], made.layers[2]}) {
    write("blobs/sha256/" + std::string(Digest::Sha256Of(blob).hex()), blob);
  }
  write("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  write("index.json",
        DumpJson({{"schemaVersion", 2},
                  {"manifests",
                   {{{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                     {"digest", made.manifest_digest.str()},
                     {"size", made.manifest.size()},
                     {"annotations", {{"org.opencontainers.image.ref.name", "t"}}}}}}}));
  const RunResult umoci = LN_ASSERT_OK(
      linnet::Run({.path = "/usr/bin/umoci",
                   .argv = {"umoci", "raw", "unpack", "--image", t_ / "layout:t", t_ / "theirs"},
                   .env = {"PATH=/usr/bin:/bin"}},
                  "", std::chrono::steady_clock::now() + std::chrono::seconds(60)));
  ASSERT_EQ(umoci.status.code, 0) << umoci.out << umoci.err;

  // Ours: layers, stacked as a container's root is.
  FakeRegistry registry;
  registry.Put("example.com/t:1", made);
  const auto store = LN_ASSERT_OK(OpenImageStore({.root = t_ / "root"}, registry.Client()));
  const auto image = LN_ASSERT_OK(store->Pull(*Reference::Parse("example.com/t:1"), {}));
  std::vector<std::string> lower(image->layer_dirs.rbegin(), image->layer_dirs.rend());
  ASSERT_EQ(mkdir((t_ / "ours").c_str(), 0755), 0);
  const std::string options = "lowerdir=" + Join(lower, ":");
  ASSERT_EQ(mount("overlay", (t_ / "ours").c_str(), "overlay", MS_RDONLY, options.c_str()), 0)
      << strerror(errno);

  auto ours = linnet::testing::DescribeTree(t_ / "ours");
  auto theirs = linnet::testing::DescribeTree(t_ / "theirs");
  ASSERT_EQ(umount((t_ / "ours").c_str()), 0);
  // The root of an overlay is that of its uppermost layer (a container's is its own); umoci has the
  // archive's.
  ours.erase("/");
  theirs.erase("/");
  EXPECT_EQ(linnet::testing::CompareTrees(ours, theirs), "");
  EXPECT_EQ(ours.size(), 25U);
}

// ---- full disks ----

TEST(StoreOnAFullDisk, Pull_ClearErrorAndTheSpaceComesBack) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const MountedDir disk("size=8m");
  FakeRegistry registry;
  registry.Put("example.com/big:1",
               MakeImage({TarBuilder().File("a", "a").Finish(),
                          TarBuilder().File("big", std::string(32U << 20, 'x')).Finish()}));
  registry.Put("example.com/small:1",
               MakeImage({TarBuilder().File("small", std::string(6U << 20, 'x')).Finish()}));
  const auto store = LN_ASSERT_OK(OpenImageStore({.root = disk / "root"}, registry.Client()));
  const auto pull = [&](const char* name) { return store->Pull(*Reference::Parse(name), {}); };
  LN_EXPECT_ERROR(pull("example.com/big:1"), Code::kResourceExhausted, "No space left on device");
  EXPECT_TRUE(store->List().empty());
  WaitForRemovals(*store);
  EXPECT_TRUE(LN_ASSERT_OK(ListDir(disk / "root/layers")).empty());
  // Only if all of it came back is there room for this one, twice.
  for (int i = 0; i < 2; ++i) {
    LN_EXPECT_OK(pull("example.com/small:1"));
    LN_EXPECT_OK(store->Remove("example.com/small:1"));
    WaitForRemovals(*store);
  }
}

TEST(StoreOnAFullDisk, OutOfInodes_ClearErrorAndNothingLeft) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const MountedDir disk("size=8m,nr_inodes=100");
  TarBuilder many;
  for (int i = 0; i < 300; ++i) many.File("f" + std::to_string(i), "");
  FakeRegistry registry;
  registry.Put("example.com/many:1", MakeImage({many.Finish()}));
  const auto store = LN_ASSERT_OK(OpenImageStore({.root = disk / "root"}, registry.Client()));
  LN_EXPECT_ERROR(store->Pull(*Reference::Parse("example.com/many:1"), {}),
                  Code::kResourceExhausted, "No space left");
  EXPECT_TRUE(LN_ASSERT_OK(ListDir(disk / "root/layers")).empty());
}

}  // namespace
}  // namespace linnet::oci
