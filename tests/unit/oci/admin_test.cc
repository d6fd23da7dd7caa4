// What ImageAdmin offers, and what of the store it needs: recipes of tars, versions, spares.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/oci/image_admin.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "fake_registry.h"
#include "store/image_store_internal.h"
#include "store/layer_info.h"
#include "tar_builder.h"
#include "unpack/layer_unpacker.h"

namespace linnet::oci {
namespace {

using linnet::testing::TempDir;
using testing::FakeRegistry;
using testing::Gzip;
using testing::MadeImage;
using testing::MakeImage;
using testing::TarBuilder;
using testing::Zstd;

// An archive in memory.
class MemorySink final : public ArchiveSink {
 public:
  Result<void> Begin(const std::string& name, std::uint64_t bytes) override {
    order.push_back(name);
    sizes[name] = bytes;
    return Ok();
  }
  Result<void> Write(std::string_view bytes) override {
    members[order.back()] += bytes;
    return Ok();
  }
  std::string Tar() const {
    TarBuilder out;
    for (const std::string& name : order) out.File(name, members.at(name));
    return out.Finish();
  }
  std::vector<std::string> order;
  std::map<std::string, std::string> members;
  std::map<std::string, std::uint64_t> sizes;
};

// Of every kind a file, and sizes around the block.
std::string RichTar() {
  TarBuilder t;
  t.Dir("d").File("d/empty", "").File("d/one", "1").Symlink("d/link", "one");
  for (const std::size_t n : {511, 512, 513, 4096})
    t.File("f" + std::to_string(n), std::string(n, 'x'));
  t.File("big", std::string(300'000, 'y'), 0755).HardLink("hard", "big");
  t.Add({.name = "short",
         .data = "a long name",
         .pax = {{"path", "d/" + std::string(150, 'n')}, {"mtime", "1000000000.25"}}});
  t.Dir("no", 0700).File("no/secret", "s", 0600).Whiteout("d/gone");
  return t.Finish();
}

class Admin : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  void Reopen(std::chrono::seconds keep = std::chrono::seconds(0)) {
    store_.reset();
    ImageStoreOptions options;
    options.root = t_ / "root";
    options.keep_unfinished = keep;
    options.pinned = {"example.com/pinned:*"};
    auto opened = OpenImageStore(options, registry_.Client());
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    store_ = *std::move(opened);
  }
  ImageAdmin& admin() { return *store_->admin(); }

  Result<std::shared_ptr<const Image>> Pull(const std::string& name) {
    const Reference ref = LN_TRY(Reference::Parse(name));
    return store_->Pull(ref, {});
  }
  std::shared_ptr<const Image> Pulled(const std::string& name, const std::vector<std::string>& tars,
                                      const std::string& cmd = "/bin/sh") {
    registry_.Put(name, MakeImage(tars, cmd));
    auto image = Pull(name);
    EXPECT_TRUE(image.has_value()) << image.error().message();
    return image ? *image : nullptr;
  }
  Result<std::shared_ptr<const Image>> Import(ImageStore& store, const std::string& bytes) {
    t_.Write("archive", bytes);
    const UniqueFd file = LN_TRY(Open(t_ / "archive", O_RDONLY));
    return store.Import(file, {});
  }
  Result<MemorySink> Save(const std::string& name, LayerCompression how = LayerCompression::kNone) {
    MemorySink sink;
    LN_TRY(admin().Save({name}, {.compression = how}, sink));
    return sink;
  }
  std::vector<LayerFinding> Check(bool repair = false) {
    CheckOptions options;
    options.repair = repair;
    auto findings = admin().Check(options);
    EXPECT_TRUE(findings.has_value()) << findings.error().message();
    return findings ? *findings : std::vector<LayerFinding>();
  }
  static Json ReadJson(const std::string& path) {
    const auto text = ReadFile(path);
    auto json = ParseJson(text ? *text : "null");
    EXPECT_TRUE(json.has_value());
    return json ? *std::move(json) : Json();
  }
  // Unpacks with a recipe, and makes the tar again.
  Result<std::string> Again(const std::string& tar, bool* exact) {
    const std::string dir = t_ / ("again" + std::to_string(++count_));
    LN_TRY(MakeDirs(dir + "/fs", 0755));
    const UniqueFd layer = LN_TRY(OpenDir(dir));
    const UniqueFd tree = LN_TRY(OpenDir(dir + "/fs"));
    const auto unpacker = LN_TRY(LayerUnpacker::Start(tree, "sha256", UnpackLimits(), layer));
    LN_TRY(unpacker->Write(tar));
    const UnpackedLayer unpacked = LN_TRY(unpacker->Finish());
    *exact = unpacked.recipe.exact;
    EXPECT_EQ(unpacked.recipe.exact, Exists(dir + "/tar.zst"));
    if (!unpacked.recipe.exact) return std::string();
    EXPECT_EQ(unpacked.recipe.tar_bytes, tar.size());
    std::string out;
    const auto take = [&out](std::string_view bytes) {
      out += bytes;
      return Ok();
    };
    LN_TRY(TarRebuilder::Run({.layer = layer, .tree = tree}, take));
    return out;
  }

  TempDir t_;
  FakeRegistry registry_;
  std::unique_ptr<ImageStore> store_;
  int count_ = 0;
};

// ---- recipes ----

TEST_F(Admin, Recipe_TheSameBytesAgain) {
  std::map<std::string, std::string> tars;
  tars["rich"] = RichTar();
  tars["without an end"] = TarBuilder().File("a", "one").unfinished();
  tars["with a tail"] = TarBuilder().File("a", "one").Finish() + std::string(9000, '\0') + "tail";
  tars["empty"] = TarBuilder().Finish();
  tars["names that are not clean"] =
      TarBuilder().Dir("./d/").File("./d//../d/a", "one").File("/b", "two").Finish();
  tars["behind a link"] = TarBuilder()
                              .Dir("usr")
                              .Dir("usr/lib")
                              .Symlink("lib", "usr/lib")
                              .File("lib/a", "one")
                              .Finish();
  for (const auto& [what, tar] : tars) {
    bool exact = false;
    const auto again = LN_ASSERT_OK(Again(tar, &exact));
    EXPECT_TRUE(exact) << what;
    EXPECT_TRUE(again == tar) << what << ": " << again.size() << " of " << tar.size();
  }
}

TEST_F(Admin, Recipe_NameThatComesTwice_IsNotExact) {
  bool exact = true;
  LN_ASSERT_OK(Again(TarBuilder().File("a", "one").File("a", "two").Finish(), &exact));
  EXPECT_FALSE(exact);
  // Without contents nothing is lost.
  LN_ASSERT_OK(Again(TarBuilder().Dir("a").File("a/b", "one").Dir("a").Finish(), &exact));
  EXPECT_TRUE(exact);
}

TEST_F(Admin, Recipe_IsSmall) {
  TarBuilder t;
  for (int i = 0; i < 2000; ++i) t.File("dir/file" + std::to_string(i), std::string(4000, 'z'));
  const auto image = Pulled("example.com/many:1", {t.Finish()});
  ASSERT_NE(image, nullptr);
  struct stat st {};
  ASSERT_EQ(stat((Dirname(image->layer_dirs[0]) + "/tar.zst").c_str(), &st), 0);
  EXPECT_LT(st.st_size, 2000 * 60);
}

// ---- save ----

TEST_F(Admin, Save_ImportedElsewhere_IsTheSameImage) {
  const auto image = Pulled("example.com/app:1", {RichTar(), TarBuilder().File("b", "2").Finish()});
  ASSERT_NE(image, nullptr);
  for (const LayerCompression how :
       {LayerCompression::kNone, LayerCompression::kGzip, LayerCompression::kZstd}) {
    const auto saved = LN_ASSERT_OK(Save("example.com/app:1", how));
    EXPECT_EQ(saved.order[1], "index.json");
    for (const auto& [name, size] : saved.sizes) EXPECT_EQ(saved.members.at(name).size(), size);
    FakeRegistry nothing;
    TempDir elsewhere;
    const auto other = LN_ASSERT_OK(OpenImageStore({.root = elsewhere / "root"}, nothing.Client()));
    const auto again = LN_ASSERT_OK(Import(*other, saved.Tar()));
    EXPECT_EQ(again->id, image->id);
    EXPECT_EQ(again->repo_tags, image->repo_tags);
    ASSERT_EQ(again->layer_dirs.size(), 2U);
    EXPECT_EQ(Basename(Dirname(again->layer_dirs[0])), Basename(Dirname(image->layer_dirs[0])));
    EXPECT_EQ(ReadFile(again->layer_dirs[0] + "/d/one").value_or(""), "1");
  }
}

TEST_F(Admin, Save_DockerReadsItToo) {
  const auto image = Pulled("example.com/app:1", {TarBuilder().File("a", "1").Finish()});
  const auto saved = LN_ASSERT_OK(Save(image->id.str()));
  const Json docker = LN_ASSERT_OK(ParseJson(saved.members.at("manifest.json")));
  ASSERT_EQ(docker.size(), 1U);
  EXPECT_EQ(docker[0]["RepoTags"][0], "example.com/app:1");
  EXPECT_TRUE(saved.members.contains(docker[0]["Config"]));
  EXPECT_TRUE(saved.members.contains(docker[0]["Layers"][0]));
  // As a docker archive alone.
  MemorySink old = saved;
  std::erase(old.order, "index.json");
  std::erase(old.order, "oci-layout");
  EXPECT_EQ(LN_ASSERT_OK(Import(*store_, old.Tar()))->id, image->id);
  LN_EXPECT_ERROR(Save("example.com/absent:1"), Code::kNotFound, "absent");
}

TEST_F(Admin, Save_WhatCannotBeMadeAgain_SaysSo) {
  Pulled("example.com/twice:1", {TarBuilder().File("a", "1").File("a", "2").Finish()});
  LN_EXPECT_ERROR(Save("example.com/twice:1"), Code::kFailedPrecondition, "byte by byte");
}

TEST_F(Admin, Import_OutOfAPipe_WhateverTheOrder) {
  const MadeImage made = MakeImage({TarBuilder().File("a", "1").Finish()});
  const std::string layer = "blobs/sha256/" + std::string(Digest::Sha256Of(made.layers[0]).hex());
  const std::string config = "blobs/sha256/" + std::string(made.config_digest.hex());
  const std::string manifest = "blobs/sha256/" + std::string(made.manifest_digest.hex());
  const Json index = {
      {"schemaVersion", 2},
      {"manifests",
       {{{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
         {"digest", made.manifest_digest.str()},
         {"size", made.manifest.size()},
         {"annotations", {{"org.opencontainers.image.ref.name", "example.com/pipe:1"}}}}}}};
  const std::string last = TarBuilder()
                               .File(layer, made.layers[0])
                               .File(config, made.config)
                               .File(manifest, made.manifest)
                               .File("index.json", DumpJson(index))
                               .Finish();
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd from(ends[0]);
  std::thread writer([&] {
    const UniqueFd to(ends[1]);
    (void)WriteAll(to, Gzip(last));
  });
  const auto image = store_->Import(from, {});
  writer.join();
  EXPECT_EQ(LN_ASSERT_OK(image)->id, made.config_digest);
  EXPECT_EQ(ListDir(t_ / "root/tmp").value_or({"?"}).size(), 0U);
  // A blob that is not what its name says.
  const std::string wrong = TarBuilder()
                                .File("index.json", DumpJson(index))
                                .File(config, made.config)
                                .File(manifest, made.manifest)
                                .File(layer, Gzip(TarBuilder().File("a", "other").Finish()))
                                .Finish();
  LN_EXPECT_OK(store_->Remove(made.config_digest.str()));
  const auto refused = Import(*store_, wrong);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(CodeName(refused.error().code()), CodeName(Code::kDataLoss));
  EXPECT_TRUE(store_->List().empty());
}

// ---- names, pins, prune ----

TEST_F(Admin, Tag_ThenPrune_KeepsWhatIsUsedPinnedOrNamed) {
  const auto used = Pulled("example.com/used:1", {TarBuilder().File("u", "1").Finish()}, "u");
  const auto idle = Pulled("example.com/idle:1", {TarBuilder().File("i", "1").Finish()}, "i");
  const auto fixed = Pulled("example.com/pinned:1", {TarBuilder().File("p", "1").Finish()}, "p");
  EXPECT_TRUE(fixed->pinned);
  EXPECT_EQ(LN_ASSERT_OK(admin().Tag("example.com/idle:1", *Reference::Parse("mine:2")))->id,
            idle->id);
  EXPECT_EQ(store_->Find("mine:2")->id, idle->id);
  const auto hold = LN_ASSERT_OK(store_->Hold(used->id));
  EXPECT_TRUE(LN_ASSERT_OK(admin().Prune({})).removed.empty());
  const DiskUse use = LN_ASSERT_OK(admin().Use());
  EXPECT_EQ(use.images.size(), 3U);
  EXPECT_GT(use.reclaimable_bytes, 0U);
  const auto tried = LN_ASSERT_OK(admin().Prune({.all = true, .dry_run = true}));
  ASSERT_EQ(tried.removed.size(), 1U);
  EXPECT_EQ(tried.freed_bytes, use.reclaimable_bytes);
  EXPECT_EQ(store_->List().size(), 3U);
  EXPECT_EQ(LN_ASSERT_OK(admin().Prune({.all = true})).removed[0]->id, idle->id);
  EXPECT_EQ(store_->Find("mine:2"), nullptr);
  EXPECT_NE(store_->Find("example.com/pinned:1"), nullptr);
  EXPECT_NE(store_->Find("example.com/used:1"), nullptr);
}

TEST_F(Admin, Pin_IsRemembered) {
  Pulled("example.com/app:1", {TarBuilder().File("a", "1").Finish()});
  LN_EXPECT_OK(admin().Pin("example.com/app:1", true));
  Reopen();
  EXPECT_TRUE(store_->Find("example.com/app:1")->pinned);
  EXPECT_FALSE(LN_ASSERT_OK(admin().Pin("example.com/app:1", false))->pinned);
}

TEST_F(Admin, Inspect_LayersAndHistory) {
  const std::string tar = TarBuilder().File("a", "1").Finish();
  Pulled("example.com/app:1", {tar});
  Pulled("example.com/app:2", {tar}, "other");
  const ImageDetails d = LN_ASSERT_OK(admin().Inspect("example.com/app:1"));
  ASSERT_EQ(d.layers.size(), 1U);
  EXPECT_EQ(d.layers[0].diff_id, Digest::Sha256Of(tar).str());
  EXPECT_EQ(d.layers[0].images, 2U);
  EXPECT_TRUE(d.layers[0].exact);
  EXPECT_FALSE(d.layers[0].blob.empty());
  ASSERT_EQ(d.history.size(), 1U);
  EXPECT_EQ(d.history[0].diff_id, d.layers[0].diff_id);
}

// ---- fsck ----

TEST_F(Admin, Check_EachKindOfDamage_FoundAndRepaired) {
  const auto image = Pulled("example.com/app:1", {RichTar()});
  ASSERT_NE(image, nullptr);
  const std::string fs = image->layer_dirs[0];
  ASSERT_EQ(Check().size(), 1U);
  EXPECT_TRUE(Check()[0].state == LayerState::kGood)
      << (Check()[0].problems.empty() ? "" : Check()[0].problems[0]);
  const std::map<std::string, std::function<void()>> damages = {
      {"f512",
       [&] {
         t_.Write("root/layers/" + Basename(Dirname(fs)) + "/fs/f512", std::string(512, 'z'));
       }},
      {"d/one", [&] { (void)unlink((fs + "/d/one").c_str()); }},
      {"foreign", [&] { t_.Write("root/layers/" + Basename(Dirname(fs)) + "/fs/foreign", "x"); }},
      {"big", [&] { (void)chmod((fs + "/big").c_str(), 04755); }},
      {"d/link", [&] {
         (void)unlink((fs + "/d/link").c_str());
         (void)symlink("/etc/passwd", (fs + "/d/link").c_str());
       }}};
  for (const auto& [name, damage] : damages) {
    damage();
    const auto found = Check();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_TRUE(found[0].state == LayerState::kDamaged) << name;
    bool named =
        name == "f512";  // its digest tells only that something is wrong, and so may its time
    for (const std::string& problem : found[0].problems)
      named = named || problem.find(name) != std::string::npos;
    EXPECT_TRUE(named) << name << ": " << found[0].problems[0];
    EXPECT_TRUE(Check(true)[0].state == LayerState::kRepaired) << name;
    EXPECT_TRUE(Check()[0].state == LayerState::kGood) << name;
  }
  WaitForRemovals(*store_);
  EXPECT_EQ(ListDir(t_ / "root/layers")->size(), 1U);
}

TEST_F(Admin, Check_LayerInUse_IsNotRepaired) {
  const auto image = Pulled("example.com/app:1", {RichTar()});
  const auto hold = LN_ASSERT_OK(store_->Hold(image->id));
  ASSERT_EQ(unlink((image->layer_dirs[0] + "/d/one").c_str()), 0);
  const auto found = Check(true);
  EXPECT_TRUE(found[0].state == LayerState::kDamaged);
  EXPECT_NE(found[0].problems.back().find("in use"), std::string::npos);
}

// ---- versions ----

TEST_F(Admin, StoreOfVersion1_MovesForward) {
  const auto image = Pulled("example.com/app:1", {RichTar(), TarBuilder().File("b", "2").Finish()});
  const std::string id = image->id.str();
  store_.reset();
  // As version 1 wrote it: neither diff ids nor recipes.
  const std::string path = t_ / "root/images/index.json";
  Json index = ReadJson(path);
  EXPECT_EQ(index["version"], 2);
  index["version"] = 1;
  for (Json& entry : index["images"]) {
    for (Json& layer : entry["layers"]) {
      const std::string dir = t_ / ("root/layers/" + layer["name"].get<std::string>());
      LN_EXPECT_OK(RemoveFile(dir + "/tar.zst"));
      LN_EXPECT_OK(RemoveFile(dir + "/layer.json"));
      layer = {{"name", layer["name"]}, {"bytes", layer["bytes"]}, {"inodes", layer["inodes"]}};
    }
  }
  LN_EXPECT_OK(WriteFileDurable(path, DumpJson(index)));
  Reopen();
  ASSERT_NE(store_->Find("example.com/app:1"), nullptr);
  EXPECT_EQ(store_->Find("example.com/app:1")->id.str(), id);
  EXPECT_EQ(store_->Find("example.com/app:1")->layer_dirs.size(), 2U);
  EXPECT_EQ(ReadJson(path)["version"], 2);
  LN_EXPECT_ERROR(Save("example.com/app:1"), Code::kFailedPrecondition, "older linnet");
  EXPECT_TRUE(Check()[0].state == LayerState::kUnverifiable);
  EXPECT_TRUE(Check(true)[0].state == LayerState::kRepaired);
  LN_EXPECT_OK(Save("example.com/app:1"));
}

TEST_F(Admin, StoreOfALaterVersion_IsLeftAlone) {
  Pulled("example.com/app:1", {TarBuilder().File("a", "1").Finish()});
  store_.reset();
  const std::string path = t_ / "root/images/index.json";
  Json index = ReadJson(path);
  index["version"] = 3;
  LN_EXPECT_OK(WriteFileDurable(path, DumpJson(index)));
  const auto opened = OpenImageStore({.root = t_ / "root"}, registry_.Client());
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().message().find("later version"), std::string::npos);
  EXPECT_EQ(ListDir(t_ / "root/layers")->size(), 1U);
}

// ---- spares ----

TEST_F(Admin, PullThatFails_NextAttemptFetchesTheRest) {
  Reopen(std::chrono::hours(1));
  const MadeImage made =
      MakeImage({TarBuilder().File("a", "1").Finish(), TarBuilder().File("b", "2").Finish()});
  registry_.Put("example.com/app:1", made);
  registry_.RemoveBlob(Digest::Sha256Of(made.layers[1]));
  EXPECT_FALSE(Pull("example.com/app:1").has_value());
  // The first of two that are fetched side by side may have been given up: then there is nothing.
  const bool kept = LN_ASSERT_OK(admin().Use()).unfinished_bytes > 0;
  Reopen(std::chrono::hours(1));
  EXPECT_EQ(LN_ASSERT_OK(admin().Use()).unfinished_bytes > 0, kept);
  registry_.Put("example.com/app:1", made);
  const int before = registry_.blob_fetches();
  LN_EXPECT_OK(Pull("example.com/app:1"));
  EXPECT_EQ(registry_.blob_fetches() - before, kept ? 2 : 3);  // with the config
  EXPECT_EQ(LN_ASSERT_OK(admin().Use()).unfinished_bytes, 0U);
}

TEST_F(Admin, Spares_GoWithPruneAndWithoutTheOption) {
  const auto plant = [&] {
    Reopen(std::chrono::hours(1));
    const MadeImage right =
        MakeImage({TarBuilder().File("a", "1").Finish(), TarBuilder().File("b", "2").Finish()}, "s",
                  {Digest::Sha256Of(TarBuilder().File("a", "1").Finish()).str(),
                   Digest::Sha256Of("wrong").str()});
    registry_.Put("example.com/app:1", right);
    // Until the first layer was whole before the second one failed.
    for (int i = 0; i < 100 && LN_ASSERT_OK(admin().Use()).unfinished_bytes == 0; ++i)
      EXPECT_FALSE(Pull("example.com/app:1").has_value());
    EXPECT_GT(LN_ASSERT_OK(admin().Use()).unfinished_bytes, 0U);
  };
  plant();
  EXPECT_GT(LN_ASSERT_OK(admin().Prune({})).freed_bytes, 0U);
  WaitForRemovals(*store_);
  EXPECT_TRUE(ListDir(t_ / "root/layers")->empty());
  plant();
  Reopen();
  WaitForRemovals(*store_);
  EXPECT_TRUE(ListDir(t_ / "root/layers")->empty());
}

// ---- the rest ----

TEST_F(Admin, ImageWithoutLayers_HasAnEmptyDirectory) {
  const auto image = Pulled("example.com/empty:1", {});
  ASSERT_NE(image, nullptr);
  ASSERT_EQ(image->layer_dirs.size(), 1U);
  EXPECT_TRUE(ListDir(image->layer_dirs[0])->empty());
  Reopen();
  EXPECT_EQ(store_->Find("example.com/empty:1")->layer_dirs, image->layer_dirs);
  EXPECT_TRUE(Exists(image->layer_dirs[0]));
  LN_EXPECT_OK(Save("example.com/empty:1"));
}

TEST_F(Admin, Preload_OnceAndWhenChanged) {
  Pulled("example.com/app:1", {TarBuilder().File("a", "1").Finish()}, "one");
  const std::string one = LN_ASSERT_OK(Save("example.com/app:1")).Tar();
  const auto second = Pulled("example.com/app:2", {TarBuilder().File("b", "2").Finish()}, "two");
  const std::string two = LN_ASSERT_OK(Save("example.com/app:2")).Tar();
  LN_EXPECT_OK(admin().Prune({.all = true}));
  EXPECT_TRUE(LN_ASSERT_OK(admin().Preload({})).empty());  // no directory
  LN_EXPECT_OK(MakeDirs(t_ / "root/preload", 0755));
  t_.Write("root/preload/a.tar", one);
  t_.Write("root/preload/bad.tar", "no archive");
  auto files = LN_ASSERT_OK(admin().Preload({}));
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].state, "loaded");
  EXPECT_EQ(files[0].images, std::vector<std::string>{"example.com/app:1"});
  EXPECT_EQ(files[1].state, "failed");
  EXPECT_FALSE(files[1].error.empty());
  EXPECT_TRUE(store_->Find("example.com/app:1")->pinned);
  // Removed by somebody: not loaded again, also by the next daemon.
  LN_EXPECT_OK(store_->Remove("example.com/app:1"));
  Reopen();
  LN_EXPECT_OK(admin().Preload({}));
  EXPECT_EQ(store_->Find("example.com/app:1"), nullptr);
  t_.Write("root/preload/a.tar", two + std::string(512, '\0'));
  LN_EXPECT_OK(admin().Preload({}));
  ASSERT_NE(store_->Find("example.com/app:2"), nullptr);
  EXPECT_EQ(store_->Find("example.com/app:2")->id, second->id);
}

}  // namespace
}  // namespace linnet::oci
