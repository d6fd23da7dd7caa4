// Trees as other tools unpack them, and archives as other tools write them: twenty images of random
// layers compared with umoci's trees file by file; what podman, skopeo and umoci write is imported.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/text.h"
#include "linnet/oci/image_store.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "fake_registry.h"
#include "real_registry.h"
#include "store/image_store_internal.h"
#include "tar_builder.h"
#include "tree_description.h"

namespace linnet::oci {
namespace {

using linnet::testing::CompareTrees;
using linnet::testing::DescribeTree;
using linnet::testing::RunTool;
using linnet::testing::TempDir;
using testing::FakeRegistry;
using testing::MadeImage;
using testing::MakeImage;
using testing::Member;
using testing::TarBuilder;

// cap_net_raw=ep, version 2.
const std::string kCapability(
    "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);

// Layers as they could come out of a build, and a few odd ones: each knows what is below.
class RandomLayers {
 public:
  explicit RandomLayers(unsigned seed) : random_(seed * 7919 + 1) {}

  std::vector<std::string> Make() {
    std::vector<std::string> out;
    const unsigned layers = 1 + Pick(5);
    for (unsigned i = 0; i < layers; ++i) {
      TarBuilder tar;
      own_.clear();
      if (i == 0) tar.Dir("./");
      const unsigned entries = 15 + Pick(25);
      for (unsigned e = 0; e < entries; ++e) AddOne(tar, i);
      out.push_back(tar.Finish());
    }
    return out;
  }

 private:
  unsigned Pick(unsigned below) { return static_cast<unsigned>(random_() / 3) % below; }
  std::string Name() {
    static const std::vector<std::string> kNames = {
        "a",           "lib",        "usr",   "etc",     "x86_64-linux-gnu",
        "caf\xc3\xa9", "with space", "UPPER", ".hidden", std::string(120, 'n')};
    const std::string name = kNames[Pick(static_cast<unsigned>(kNames.size()))];
    return Pick(3) == 0 ? name + std::to_string(Pick(20)) : name;
  }
  // A directory of the image, brought along by this layer with all above it.
  std::string Parent(TarBuilder& tar) {
    std::string path;
    for (unsigned depth = Pick(4); depth > 0; --depth) {
      const std::string next = path + Name();
      const auto known = kinds_.find(next);
      if (known != kinds_.end() && known->second != '5') break;
      if (!own_.contains(next)) AddDirectory(tar, next);
      path = next + "/";
    }
    return path;
  }
  Member WithOwner(Member m) {
    static const std::vector<std::uint64_t> kIds = {0, 0, 0, 1000, 65'534, 70'000, 2'000'000'000};
    m.uid = kIds[Pick(7)];
    m.gid = kIds[Pick(7)];
    m.mtime = 900'000'000 + Pick(900'000'000);
    if (Pick(4) == 0) m.pax["mtime"] = std::to_string(m.mtime) + ".125";
    return m;
  }
  void Put(TarBuilder& tar, Member m, const std::string& path) {
    if (path.size() > 95) m.pax["path"] = path;
    m.name = path.substr(0, 95);
    tar.Add(WithOwner(std::move(m)));
  }
  void AddDirectory(TarBuilder& tar, const std::string& path) {
    static const std::vector<unsigned> kModes = {0755, 0755, 0700, 01777, 02775};
    Put(tar, {.type = '5', .mode = kModes[Pick(5)]}, path);
    kinds_[path] = '5';
    own_.insert(path);
  }
  void Forget(const std::string& path) {
    std::erase_if(
        kinds_, [&](const auto& e) { return e.first == path || e.first.starts_with(path + "/"); });
    std::erase_if(own_, [&](const auto& e) { return e == path || e.starts_with(path + "/"); });
    std::erase_if(files_, [&](const auto& e) { return e == path || e.starts_with(path + "/"); });
  }

  void AddOne(TarBuilder& tar, unsigned layer) {
    const std::string parent = Parent(tar);
    const std::string path = parent + Name();
    const auto known = kinds_.find(path);
    const bool is_dir = known != kinds_.end() && known->second == '5';
    if (layer > 0 && known != kinds_.end() && !own_.contains(path) && Pick(3) == 0) {
      tar.Whiteout(path);
      Forget(path);
      gone_.insert(path);
      return;
    }
    if (layer > 0 && is_dir && !own_.contains(path) && Pick(4) == 0) {
      AddDirectory(tar, path);
      tar.File(path + "/.wh..wh..opq", "");
      Forget(path);
      kinds_[path] = '5';
      own_.insert(path);
      return;
    }
    if (is_dir || own_.contains(path) || gone_.contains(path)) return;
    const bool replaces = known != kinds_.end();
    switch (const unsigned what = Pick(12); what) {
      case 0:
      case 1:
        if (!replaces) AddDirectory(tar, path);
        return;
      case 2: {
        Put(tar,
            {.type = '2', .link = Pick(2) == 0 ? "/etc/" + Name() : "../" + Name(), .mode = 0777},
            path);
        kinds_[path] = '2';
        break;
      }
      case 3:
        if (!files_.empty() && own_.contains(*files_.begin()) && *files_.begin() != path) {
          const std::string target = *files_.begin();
          Member m{.type = '1', .link = target.substr(0, 95)};
          if (target.size() > 95) m.pax["linkpath"] = target;
          if (path.size() > 95) m.pax["path"] = path;
          m.name = path.substr(0, 95);
          tar.Add(std::move(m));
          kinds_[path] = '0';
          break;
        }
        return;
      case 4:
        Put(tar,
            {.type = Pick(2) == 0 ? '3' : '4',
             .mode = 0660,
             .major = 1 + Pick(200),
             .minor = Pick(70'000)},
            path);
        kinds_[path] = '3';
        break;
      case 5:
        Put(tar, {.type = '6', .mode = 0622}, path);
        kinds_[path] = '6';
        break;
      default: {
        static const std::vector<unsigned> kModes = {0644, 0755, 0600, 04755, 02755, 0444, 0000};
        Member m{.data = std::string(Pick(2) == 0 ? Pick(200) : Pick(20'000),
                                     static_cast<char>('a' + Pick(26))),
                 .mode = kModes[Pick(7)]};
        if (what == 6) m.pax["SCHILY.xattr.security.capability"] = kCapability;
        if (what == 7) m.pax["SCHILY.xattr.user.note"] = "note " + std::to_string(Pick(100));
        Put(tar, std::move(m), path);
        kinds_[path] = '0';
        files_.insert(path);
      }
    }
    own_.insert(path);
  }

  std::minstd_rand random_;
  std::map<std::string, char> kinds_;  // of the whole image
  std::set<std::string> own_;          // of this layer
  std::set<std::string> files_;        // regular, not links
  std::set<std::string> gone_;         // removed once: not made again
};

class TreeRoundTrip : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    // On a file system of its own: what the trees need of one is known.
    ASSERT_EQ(mount("linnet-test", t_.path().c_str(), "tmpfs", 0, "size=256m"), 0);
    if (lsetxattr(t_.path().c_str(), "user.probe", "1", 1, 0) != 0) {
      // tmpfs has no user.* before Linux 6.6.
      ASSERT_EQ(umount(t_.path().c_str()), 0);
    }
    store_ = LN_ASSERT_OK(OpenImageStore({.root = t_ / "root"}, registry_.Client()));
  }
  void TearDown() override {
    store_.reset();
    (void)umount2(t_.path().c_str(), MNT_DETACH);  // ends with the namespace otherwise
  }
  void WriteLayout(const MadeImage& made) {
    const auto write = [&](const std::string& name, const std::string& bytes) {
      const std::string path = t_ / ("layout/" + name);
      ASSERT_TRUE(MakeDirs(Dirname(path), 0755).has_value());
      ASSERT_TRUE(ReplaceFile(path, bytes, 0644).has_value());
    };
    std::vector<std::string> blobs = made.layers;
    blobs.push_back(made.config);
    blobs.push_back(made.manifest);
    for (const std::string& blob : blobs)
      write("blobs/sha256/" + std::string(Digest::Sha256Of(blob).hex()), blob);
    write("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
    write("index.json",
          DumpJson({{"schemaVersion", 2},
                    {"manifests",
                     {{{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                       {"digest", made.manifest_digest.str()},
                       {"size", made.manifest.size()},
                       {"annotations", {{"org.opencontainers.image.ref.name", "t"}}}}}}}));
  }
  // As a container's root shows it. The root of an overlay is that of its uppermost layer (a
  // container's is its own), so it is left out.
  std::map<std::string, std::string> Ours(const Image& image) {
    std::vector<std::string> lower(image.layer_dirs.rbegin(), image.layer_dirs.rend());
    const std::string top = t_ / "ours";
    EXPECT_TRUE(MakeDirs(top, 0755).has_value());
    if (lower.size() == 1) lower.push_back(top);
    const std::string options = "lowerdir=" + Join(lower, ":");
    EXPECT_EQ(mount("overlay", top.c_str(), "overlay", MS_RDONLY, options.c_str()), 0)
        << strerror(errno);
    auto out = DescribeTree(top);
    EXPECT_EQ(umount(top.c_str()), 0);
    out.erase("/");
    return out;
  }
  std::map<std::string, std::string> Umocis() {
    const auto done =
        RunTool({"umoci", "raw", "unpack", "--image", t_ / "layout:t", t_ / "theirs"});
    EXPECT_TRUE(done.has_value()) << done.error().message();
    auto out = DescribeTree(t_ / "theirs");
    out.erase("/");
    EXPECT_TRUE(RemoveAll(t_ / "theirs").has_value());
    EXPECT_TRUE(RemoveAll(t_ / "layout").has_value());
    return out;
  }
  Result<std::shared_ptr<const Image>> Import(const std::string& file) {
    const UniqueFd fd = LN_TRY(Open(t_ / file, O_RDONLY));
    return store_->Import(fd, {});
  }
  std::vector<std::string> Podman(std::vector<std::string> arguments) const {
    std::vector<std::string> argv = {
        "podman",          "--root",           t_ / "podman", "--runroot",
        t_ / "podman-run", "--storage-driver", "vfs",         "--cgroup-manager",
        "cgroupfs",        "--events-backend", "none"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return argv;
  }

  TempDir t_;
  FakeRegistry registry_;
  std::unique_ptr<ImageStore> store_;
};

TEST_F(TreeRoundTrip, TwentyImages_AsUmociUnpacksThem) {
  if (!Exists("/usr/bin/umoci")) GTEST_SKIP() << "needs umoci";
  std::size_t files = 0;
  for (unsigned i = 0; i < 20; ++i) {
    SCOPED_TRACE("image " + std::to_string(i));
    const MadeImage made = MakeImage(RandomLayers(i).Make());
    WriteLayout(made);
    const std::string name = "example.com/t:" + std::to_string(i);
    registry_.Put(name, made);
    const auto image = LN_ASSERT_OK(store_->Pull(*Reference::Parse(name), {}));
    const auto ours = Ours(*image);
    EXPECT_EQ(CompareTrees(ours, Umocis()), "");
    files += ours.size();
  }
  EXPECT_GT(files, 500U);
}

// What umoci makes of a tree: its layers are pax with everything that it knows.
TEST_F(TreeRoundTrip, WhatUmociWrites_IsReadAsItWas) {
  if (!Exists("/usr/bin/umoci")) GTEST_SKIP() << "needs umoci";
  WriteLayout(MakeImage({TarBuilder().Dir("./").Dir("etc").File("etc/f", "x").Finish()}));
  LN_ASSERT_OK(RunTool({"umoci", "unpack", "--image", t_ / "layout:t", t_ / "bundle"}));
  const std::string rootfs = t_ / "bundle/rootfs";
  ASSERT_TRUE(ReplaceFile(rootfs + "/etc/new", "new", 0640).has_value());
  ASSERT_EQ(chown((rootfs + "/etc/new").c_str(), 70'000, 8), 0);
  ASSERT_TRUE(RemoveAll(rootfs + "/etc/f").has_value());
  ASSERT_EQ(symlink("new", (rootfs + "/etc/link").c_str()), 0);
  ASSERT_EQ(link((rootfs + "/etc/new").c_str(), (rootfs + "/hard").c_str()), 0);
  ASSERT_TRUE(MakeDirs(rootfs + "/" + std::string(150, 'd') + "/" + std::string(150, 'e')));
  ASSERT_EQ(setxattr((rootfs + "/etc/new").c_str(), "security.capability", kCapability.data(),
                     kCapability.size(), 0),
            0);
  // umoci writes whole seconds.
  LN_ASSERT_OK(RunTool(
      {"find", rootfs, "-exec", "touch", "--no-dereference", "--date=@1500000000", "{}", "+"}));
  LN_ASSERT_OK(RunTool({"umoci", "repack", "--image", t_ / "layout:t", t_ / "bundle"}));
  LN_ASSERT_OK(RunTool({"skopeo", "copy", "oci:" + (t_ / "layout:t"),
                        "oci-archive:" + (t_ / "oci.tar") + ":example.com/repacked:1"}));
  const auto image = LN_ASSERT_OK(Import("oci.tar"));
  EXPECT_EQ(image->repo_tags, std::vector<std::string>{"example.com/repacked:1"});
  auto theirs = DescribeTree(rootfs);
  theirs.erase("/");
  EXPECT_EQ(CompareTrees(Ours(*image), theirs), "");
}

TEST_F(TreeRoundTrip, WhatPodmanWrites_IsReadAsItWas) {
  if (!Exists("/usr/bin/podman")) GTEST_SKIP() << "needs podman";
  TarBuilder tar;
  tar.Dir("./").Dir("etc").File("etc/f", "contents").Symlink("etc/l", "f").HardLink("h", "etc/f");
  tar.Add({.name = "owned", .data = "x", .mode = 04755, .uid = 1000, .gid = 70'000});
  tar.Add({.name = "able",
           .data = "y",
           .mode = 0755,
           .pax = {{"SCHILY.xattr.security.capability", kCapability}}});
  ASSERT_TRUE(ReplaceFile(t_ / "root.tar", tar.Finish(), 0600).has_value());
  LN_ASSERT_OK(RunTool(Podman({"import", "--quiet", t_ / "root.tar", "example.com/made:1"})));
  LN_ASSERT_OK(RunTool(Podman({"tag", "example.com/made:1", "example.com/made:2"})));
  const auto direct = LN_ASSERT_OK([&]() -> Result<std::shared_ptr<const Image>> {
    const UniqueFd fd = LN_TRY(Open(t_ / "root.tar", O_RDONLY));
    ImageStore::ImportOptions options;
    options.name = "example.com/direct:1";
    return store_->Import(fd, options);
  }());
  const auto wanted = Ours(*direct);
  EXPECT_EQ(wanted.size(), 6U);
  for (const char* format : {"oci-archive", "docker-archive"}) {
    SCOPED_TRACE(format);
    const std::string file = std::string(format) + ".tar";
    LN_ASSERT_OK(RunTool(
        Podman({"save", "--quiet", "--format", format, "-o", t_ / file, "example.com/made:1"})));
    const auto image = LN_ASSERT_OK(Import(file));
    EXPECT_EQ(image->repo_tags, std::vector<std::string>{"example.com/made:1"});
    EXPECT_EQ(CompareTrees(Ours(*image), wanted), "");
    LN_EXPECT_OK(store_->Remove(image->id.str()));
  }
  LN_ASSERT_OK(RunTool(Podman({"save", "--quiet", "-m", "-o", t_ / "several.tar",
                               "example.com/made:1", "example.com/made:2"})));
  LN_EXPECT_OK(Import("several.tar"));
  for (const char* name : {"example.com/made:1", "example.com/made:2"})
    EXPECT_NE(store_->Find(name), nullptr) << name;
}

}  // namespace
}  // namespace linnet::oci
