#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/oci/image_store.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "fake_registry.h"
#include "store/image_store_internal.h"
#include "store/layer_pool.h"
#include "store/pull.h"
#include "tar_builder.h"

namespace linnet::oci {
namespace {

using linnet::testing::TempDir;
using testing::FakeRegistry;
using testing::Gzip;
using testing::MadeImage;
using testing::MakeImage;
using testing::MakeIndex;
using testing::TarBuilder;
using testing::Zstd;

std::string Tar(const std::string& name, const std::string& data) {
  return TarBuilder().File(name, data).Finish();
}

class Store : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  // Ends the store as a stopped daemon would, and opens it again.
  void Reopen() {
    store_.reset();
    auto opened = OpenImageStore({.root = t_ / "root"}, registry_.Client());
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    store_ = *std::move(opened);
  }

  Result<std::shared_ptr<const Image>> Pull(const std::string& name,
                                            const PullOptions& options = {}) {
    const Reference ref = LN_TRY(Reference::Parse(name));
    return store_->Pull(ref, options);
  }
  Result<std::shared_ptr<const Image>> Import(const std::string& bytes,
                                              const ImageStore::ImportOptions& options = {}) {
    t_.Write("archive", bytes);
    const UniqueFd file = LN_TRY(Open(t_ / "archive", O_RDONLY));
    return store_->Import(file, options);
  }
  std::vector<std::string> Layers() {
    WaitForRemovals(*store_);
    auto names = ListDir(t_ / "root/layers");
    return names ? *names : std::vector<std::string>{"?"};
  }
  static std::string Content(const Image& image, std::size_t layer, const std::string& name) {
    return ReadFile(JoinPath(image.layer_dirs.at(layer), name)).value_or("<absent>");
  }

  TempDir t_;
  FakeRegistry registry_;
  std::unique_ptr<ImageStore> store_;
};

// ---- pull ----

TEST_F(Store, PullByTag_ImageIsComplete) {
  const MadeImage made = MakeImage({Tar("a", "one"), Tar("b", "two")});
  registry_.Put("example.com/app:1", made);
  const auto image = LN_ASSERT_OK(Pull("example.com/app:1"));
  EXPECT_EQ(image->id, made.config_digest);
  EXPECT_EQ(image->repo_tags, std::vector<std::string>{"example.com/app:1"});
  EXPECT_EQ(image->repo_digests,
            std::vector<std::string>{"example.com/app@" + made.manifest_digest.str()});
  EXPECT_EQ(image->size_bytes, made.size);
  EXPECT_EQ(image->config.user, "1000");
  ASSERT_EQ(image->layer_dirs.size(), 2U);
  EXPECT_EQ(Content(*image, 0, "a"), "one");
  EXPECT_EQ(Content(*image, 1, "b"), "two");
  EXPECT_EQ(image->layer_dirs[0],
            t_ / ("root/layers/" + LayerName(Digest::Sha256Of(Tar("a", "one"))) + "/fs"));
  EXPECT_EQ(store_->List(), std::vector<std::shared_ptr<const Image>>{image});
  EXPECT_EQ(Layers().size(), 2U);
}

TEST_F(Store, PullOfAnIndex_TakesThisMachinesEntryAndTheIndexsDigest) {
  const MadeImage ours = MakeImage({Tar("a", "ours")});
  const MadeImage other = MakeImage({Tar("a", "other")}, "/other");
  registry_.Put("example.com/parts:ours", ours);
  registry_.Put("example.com/parts:other", other);
  const std::string index = MakeIndex({{"vax", &other}, {HostArchitecture(), &ours}});
  registry_.PutIndex("example.com/app:1", index);
  const auto image = LN_ASSERT_OK(Pull("example.com/app:1"));
  EXPECT_EQ(image->id, ours.config_digest);
  EXPECT_EQ(image->repo_digests,
            std::vector<std::string>{"example.com/app@" + Digest::Sha256Of(index).str()});
  const std::string none = MakeIndex({{"vax", &other}});
  registry_.PutIndex("example.com/app:2", none);
  LN_EXPECT_ERROR(Pull("example.com/app:2"), Code::kNotFound, "vax");
}

TEST_F(Store, PullByDigest_NoTag) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("example.com/app:1", made);
  const std::string name = "example.com/app@" + made.manifest_digest.str();
  const auto image = LN_ASSERT_OK(Pull(name));
  EXPECT_TRUE(image->repo_tags.empty());
  EXPECT_EQ(image->repo_digests, std::vector<std::string>{name});
}

TEST_F(Store, PullAgain_ResolvesTheTagAndFetchesNothing) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  const auto first = LN_ASSERT_OK(Pull("example.com/app:1"));
  const int blobs = registry_.blob_fetches();
  EXPECT_EQ(LN_ASSERT_OK(Pull("example.com/app:1")), first);
  EXPECT_EQ(registry_.blob_fetches(), blobs);
  EXPECT_EQ(registry_.manifest_fetches(), 2);
}

TEST_F(Store, TagMoves_OldImageStaysByIdAndDigest) {
  const MadeImage old = MakeImage({Tar("a", "old")});
  const MadeImage fresh = MakeImage({Tar("a", "new")});
  registry_.Put("example.com/app:1", old);
  LN_EXPECT_OK(Pull("example.com/app:1"));
  registry_.Put("example.com/app:1", fresh);
  LN_EXPECT_OK(Pull("example.com/app:1"));
  EXPECT_EQ(store_->List().size(), 2U);
  EXPECT_EQ(store_->Find("example.com/app:1")->id, fresh.config_digest);
  const auto dangling = store_->Find(old.config_digest.str());
  ASSERT_TRUE(dangling);
  EXPECT_TRUE(dangling->repo_tags.empty());
  EXPECT_EQ(dangling->repo_digests,
            std::vector<std::string>{"example.com/app@" + old.manifest_digest.str()});
}

TEST_F(Store, SeveralNames_OneImage) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  for (const char* name : {"b.io/x:2", "a.io/x:1", "a.io/x:3"}) {
    registry_.Put(name, made);
    LN_EXPECT_OK(Pull(name));
  }
  ASSERT_EQ(store_->List().size(), 1U);
  const auto image = store_->List().front();
  EXPECT_EQ(image->repo_tags, (std::vector<std::string>{"a.io/x:1", "a.io/x:3", "b.io/x:2"}));
  EXPECT_EQ(image->repo_digests.size(), 2U);
  for (const char* name : {"b.io/x:2", "a.io/x:1", "a.io/x:3"})
    EXPECT_EQ(store_->Find(name), image);
}

TEST_F(Store, ImagesWithACommonLayer_KeptOnce) {
  const std::string base = Tar("base", "base");
  registry_.Put("example.com/a:1", MakeImage({base, Tar("a", "a")}));
  registry_.Put("example.com/b:1", MakeImage({base, Tar("b", "b")}));
  const auto a = LN_ASSERT_OK(Pull("example.com/a:1"));
  const auto b = LN_ASSERT_OK(Pull("example.com/b:1"));
  EXPECT_EQ(a->layer_dirs[0], b->layer_dirs[0]);
  EXPECT_EQ(Layers().size(), 3U);
  EXPECT_EQ(registry_.blob_fetches(), 5);  // two configs, three layers
  LN_EXPECT_OK(store_->Remove("example.com/a:1"));
  EXPECT_EQ(Layers().size(), 2U);
  EXPECT_EQ(Content(*b, 0, "base"), "base");
}

TEST_F(Store, ConcurrentPullsOfOneName_Joined) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one"), Tar("b", "two")}));
  registry_.CloseGate();
  std::vector<std::future<Result<std::shared_ptr<const Image>>>> pulls;
  pulls.push_back(std::async(std::launch::async, [&] { return Pull("example.com/app:1"); }));
  registry_.WaitForFetches(1);
  for (int i = 0; i < 4; ++i)
    pulls.push_back(std::async(std::launch::async, [&] { return Pull("example.com/app:1"); }));
  registry_.OpenGate();
  for (auto& pull : pulls) LN_EXPECT_OK(pull.get());
  // Whoever came after the end asked again; nobody fetched again.
  EXPECT_EQ(registry_.blob_fetches(), 3);
  EXPECT_EQ(store_->List().size(), 1U);
}

TEST_F(Store, ConcurrentPullsOfImagesWithACommonLayer_FetchedOnce) {
  const std::string base = Tar("base", std::string(100'000, 'b'));
  registry_.Put("example.com/a:1", MakeImage({base}, "a"));
  registry_.Put("example.com/b:1", MakeImage({base}, "b"));
  registry_.CloseGate();
  auto a = std::async(std::launch::async, [&] { return Pull("example.com/a:1"); });
  auto b = std::async(std::launch::async, [&] { return Pull("example.com/b:1"); });
  registry_.WaitForFetches(2);  // the two configs
  registry_.OpenGate();
  EXPECT_EQ(LN_ASSERT_OK(a.get())->layer_dirs, LN_ASSERT_OK(b.get())->layer_dirs);
  EXPECT_LE(registry_.blob_fetches(), 3);
}

TEST_F(Store, JoinedLayerGivenUpByItsOwner_FetchedByTheOther) {
  const std::string base = Tar("base", "b");
  const MadeImage first = MakeImage({base}, "a");
  registry_.Put("example.com/a:1", first);
  registry_.Put("example.com/b:1", MakeImage({base}, "b"));
  LN_EXPECT_OK(Pull("example.com/a:1"));  // its config passes the gate; then all goes again
  LN_EXPECT_OK(store_->Remove("example.com/a:1"));
  registry_.CloseGate();
  std::stop_source stop;
  auto a = std::async(std::launch::async,
                      [&] { return Pull("example.com/a:1", {.stop = stop.get_token()}); });
  registry_.WaitForFetches(1);
  auto b = std::async(std::launch::async, [&] { return Pull("example.com/b:1"); });
  registry_.WaitForFetches(2);
  stop.request_stop();
  LN_EXPECT_ERROR(a.get(), Code::kCancelled, "cancelled");
  registry_.WaitForStops(1);
  registry_.OpenGate();
  LN_EXPECT_OK(b.get());
}

TEST_F(Store, DeadlinePassed_TheCallerGoesAndTheOtherGetsTheImage) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  registry_.CloseGate();
  auto patient = std::async(std::launch::async, [&] { return Pull("example.com/app:1"); });
  registry_.WaitForFetches(1);
  LN_EXPECT_ERROR(Pull("example.com/app:1", {.deadline = std::chrono::steady_clock::now() +
                                                         std::chrono::milliseconds(20)}),
                  Code::kDeadlineExceeded, "deadline");
  registry_.OpenGate();
  LN_EXPECT_OK(patient.get());
}

TEST_F(Store, LastCallerGone_PullIsGivenUpAndNothingIsLeft) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  registry_.CloseGate();
  LN_EXPECT_ERROR(Pull("example.com/app:1", {.deadline = std::chrono::steady_clock::now() +
                                                         std::chrono::milliseconds(20)}),
                  Code::kDeadlineExceeded, "deadline");
  registry_.WaitForStops(1);
  registry_.OpenGate();
  LN_EXPECT_OK(Pull("example.com/app:1"));  // anew
  Reopen();
  EXPECT_EQ(Layers().size(), 1U);
}

TEST_F(Store, DeadlineBeforeTheStart_NothingIsAsked) {
  LN_EXPECT_ERROR(Pull("example.com/app:1", {.deadline = std::chrono::steady_clock::now()}),
                  Code::kDeadlineExceeded, "");
  EXPECT_EQ(registry_.manifest_fetches(), 0);
}

TEST_F(Store, WrongContent_ErrorAndNothingLeft) {
  const std::string good = Tar("a", "one");
  MadeImage cut = MakeImage({good, Tar("b", std::string(100'000, 'x'))});
  cut.layers[1] = cut.layers[1].substr(0, cut.layers[1].size() / 2);
  struct Case {
    const char* name;
    MadeImage image;
    Code code;
    const char* part;
  };
  const std::vector<Case> cases = {
      {"diff_id", MakeImage({good}, "x", {Digest::Sha256Of("else").str()}), Code::kDataLoss,
       "promises"},
      {"second_layer", MakeImage({good, Tar("../b", "x")}), Code::kInvalidArgument,
       "out of the root"},
      {"no_diff_ids", MakeImage({good, good}, "x", {Digest::Sha256Of(good).str()}),
       Code::kInvalidArgument, "2 layers"},
      {"not_a_tar", MakeImage({std::string(10'000, 'x')}), Code::kDataLoss, "tar"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    registry_.Put("example.com/bad:1", c.image);
    LN_EXPECT_ERROR(Pull("example.com/bad:1"), c.code, c.part);
    EXPECT_TRUE(Layers().empty());
    EXPECT_TRUE(store_->List().empty());
    EXPECT_TRUE(LN_ASSERT_OK(ListDir(t_ / "root/images")).empty());
  }
  // The blob is not there.
  const MadeImage made = MakeImage({good, Tar("b", "two")});
  registry_.Put("example.com/bad:1", made);
  registry_.RemoveBlob(Digest::Sha256Of(made.layers[1]));
  LN_EXPECT_ERROR(Pull("example.com/bad:1"), Code::kNotFound, "is not there");
  EXPECT_TRUE(Layers().empty());
}

TEST_F(Store, RegistryUnavailable_MessageBeginsWithIt) {
  registry_.FailWith(Unavailable("RegistryUnavailable: example.com: connection refused"));
  const auto pulled = Pull("example.com/app:1");
  ASSERT_FALSE(pulled.has_value());
  EXPECT_TRUE(pulled.error().message().starts_with("RegistryUnavailable"))
      << pulled.error().message();
  EXPECT_EQ(pulled.error().code(), Code::kUnavailable);
}

TEST_F(Store, NoImage_RefusedByItsLayersType) {
  MadeImage made = MakeImage({Tar("a", "one")});
  Json manifest = Json::parse(made.manifest);
  manifest["layers"][0]["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.whatever";
  made.manifest = DumpJson(manifest);
  made.manifest_digest = Digest::Sha256Of(made.manifest);
  registry_.Put("example.com/chart:1", made);
  LN_EXPECT_ERROR(Pull("example.com/chart:1"), Code::kInvalidArgument, "helm");
}

TEST_F(Store, Progress_FromResolvingToDone) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  std::mutex mu;
  std::vector<std::string> seen;
  LN_EXPECT_OK(Pull("example.com/app:1", {.progress = [&](const PullProgress& p) {
                      const std::scoped_lock lock(mu);
                      seen.push_back(p.what);
                    }}));
  ASSERT_GE(seen.size(), 4U);
  EXPECT_EQ(seen.front(), "resolving");
  EXPECT_EQ(seen.back(), "done");
  EXPECT_EQ(seen[1].size(), 12U);
  EXPECT_EQ(seen[2], "unpacking " + seen[1]);
}

// ---- layers that depend on each other ----

TEST_F(Store, ImpliedDirectory_HasTheAttributesOfTheImagesOwnLowerLayer) {
  const std::string sticky = TarBuilder().Dir("tmp", 01777).Finish();
  const std::string closed = TarBuilder().Dir("tmp", 0700).Finish();
  const std::string top = Tar("tmp/f", "x");  // says nothing about tmp
  registry_.Put("example.com/a:1", MakeImage({sticky, top}));
  registry_.Put("example.com/b:1", MakeImage({closed, top}));
  registry_.Put("example.com/c:1", MakeImage({top}));
  registry_.Put("example.com/d:1", MakeImage({sticky, top}, "again"));
  const auto mode = [](const Image& image, std::size_t layer) {
    struct stat st {};
    EXPECT_EQ(stat((image.layer_dirs.at(layer) + "/tmp").c_str(), &st), 0);
    return st.st_mode & 07777U;
  };
  // c first: its lowest layer must not be taken for that of the others.
  EXPECT_EQ(mode(*LN_ASSERT_OK(Pull("example.com/c:1")), 0), 0755U);
  const auto a = LN_ASSERT_OK(Pull("example.com/a:1"));
  EXPECT_EQ(mode(*a, 1), 01777U);
  EXPECT_EQ(mode(*LN_ASSERT_OK(Pull("example.com/b:1")), 1), 0700U);
  // The same chain shares.
  EXPECT_EQ(LN_ASSERT_OK(Pull("example.com/d:1"))->layer_dirs, a->layer_dirs);
  Reopen();
  EXPECT_EQ(mode(*store_->Find("example.com/a:1"), 1), 01777U);
  registry_.Put("example.com/e:1", MakeImage({TarBuilder().Dir("tmp", 0711).Finish(), top}));
  EXPECT_EQ(mode(*LN_ASSERT_OK(Pull("example.com/e:1")), 1), 0711U);
}

TEST_F(Store, LinkToALowerFile_CopiedIntoTheLayer) {
  registry_.Put("example.com/a:1",
                MakeImage({Tar("f", "data"), TarBuilder().HardLink("g", "f").Finish()}));
  EXPECT_EQ(Content(*LN_ASSERT_OK(Pull("example.com/a:1")), 1, "g"), "data");
  registry_.Put("example.com/b:1",
                MakeImage({Tar("f", "data"), TarBuilder().HardLink("g", "nothing").Finish()}));
  LN_EXPECT_ERROR(Pull("example.com/b:1"), Code::kInvalidArgument, "not in the image");
  EXPECT_EQ(Layers().size(), 2U);
}

TEST_F(Store, OpaqueRoot_HidesTheLayersBelow) {
  const std::string opaque = TarBuilder().File(".wh..wh..opq", "").File("b", "b").Finish();
  registry_.Put("example.com/a:1", MakeImage({Tar("a", "a"), opaque, Tar("c", "c")}));
  const auto image = LN_ASSERT_OK(Pull("example.com/a:1"));
  ASSERT_EQ(image->layer_dirs.size(), 2U);
  EXPECT_EQ(Content(*image, 0, "b"), "b");
  EXPECT_EQ(Layers().size(), 3U);  // what nobody sees is kept: save and push want it
}

TEST_F(Store, SameLayerTwice_InTheStackOnceOnTop) {
  const std::string twice = Tar("a", "a");
  registry_.Put("example.com/a:1", MakeImage({twice, Tar("b", "b"), twice}));
  const auto image = LN_ASSERT_OK(Pull("example.com/a:1"));
  ASSERT_EQ(image->layer_dirs.size(), 2U);
  EXPECT_EQ(Content(*image, 0, "b"), "b");
  EXPECT_EQ(Content(*image, 1, "a"), "a");
}

// ---- find, remove, hold ----

TEST_F(Store, Find_ByEveryName) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("docker.io/library/app:latest", made);
  const auto image = LN_ASSERT_OK(Pull("app"));
  const std::string hex(made.config_digest.hex());
  for (const std::string& name :
       {std::string("app"), std::string("app:latest"), std::string("library/app"),
        std::string("docker.io/library/app"), std::string("docker.io/library/app:latest"),
        "app@" + made.manifest_digest.str(), "app:other@" + made.manifest_digest.str(), hex,
        "sha256:" + hex, hex.substr(0, 7), "sha256:" + hex.substr(0, 12)}) {
    EXPECT_EQ(store_->Find(name), image) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("other"), std::string("app:1"), hex.substr(0, 6),
        "sha256:" + std::string(64, '0'), std::string("sha256:"), std::string("NOT A NAME"),
        hex + "0", "app@sha256:" + std::string(64, '0')}) {
    EXPECT_EQ(store_->Find(name), nullptr) << name;
  }
}

TEST_F(Store, Remove_AllNamesAndTheDisk) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("a.io/x:1", made);
  registry_.Put("b.io/x:1", made);
  LN_EXPECT_OK(Pull("a.io/x:1"));
  LN_EXPECT_OK(Pull("b.io/x:1"));
  EXPECT_GT(LN_ASSERT_OK(store_->Usage()).used_bytes, 4096U);
  LN_EXPECT_OK(store_->Remove("a.io/x:1"));
  EXPECT_TRUE(store_->List().empty());
  EXPECT_EQ(store_->Find("b.io/x:1"), nullptr);
  EXPECT_TRUE(Layers().empty());
  EXPECT_EQ(LN_ASSERT_OK(ListDir(t_ / "root/images")), std::vector<std::string>{"index.json"});
  EXPECT_EQ(LN_ASSERT_OK(store_->Usage()).used_bytes, 0U);
  LN_EXPECT_OK(store_->Remove("a.io/x:1"));
  LN_EXPECT_OK(store_->Remove("sha256:" + std::string(64, '0')));
  Reopen();
  EXPECT_TRUE(store_->List().empty());
}

TEST_F(Store, FiveRemovalsAtOnce_AllSucceed) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  LN_EXPECT_OK(Pull("example.com/app:1"));
  std::vector<std::future<Result<void>>> removals;
  for (int i = 0; i < 5; ++i) {
    removals.push_back(
        std::async(std::launch::async, [&] { return store_->Remove("example.com/app:1"); }));
  }
  for (auto& removal : removals) LN_EXPECT_OK(removal.get());
  EXPECT_TRUE(Layers().empty());
}

TEST_F(Store, HeldImage_LayersStayUntilItIsReleased) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("example.com/app:1", made);
  const auto image = LN_ASSERT_OK(Pull("example.com/app:1"));
  auto one = LN_ASSERT_OK(store_->Hold(image->id));
  auto two = LN_ASSERT_OK(store_->Hold(image->id));
  LN_EXPECT_OK(store_->Remove("example.com/app:1"));
  EXPECT_TRUE(store_->List().empty());
  one.reset();
  EXPECT_EQ(Layers().size(), 1U);
  EXPECT_EQ(Content(*image, 0, "a"), "one");
  two.reset();
  EXPECT_TRUE(Layers().empty());
  LN_EXPECT_ERROR(store_->Hold(image->id), Code::kNotFound, "not here");
  EXPECT_EQ(LN_ASSERT_OK(ListDir(t_ / "root/images")), std::vector<std::string>{"index.json"});
}

TEST_F(Store, RemovedWhileHeldThenRestart_CanBeHeldAgain) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("example.com/app:1", made);
  registry_.Put("example.com/other:1", MakeImage({Tar("o", "o")}));
  const auto image = LN_ASSERT_OK(Pull("example.com/app:1"));
  auto hold = LN_ASSERT_OK(store_->Hold(image->id));
  LN_EXPECT_OK(store_->Remove("example.com/app:1"));
  Reopen();
  hold.reset();  // the old daemon's: means nothing any more
  EXPECT_EQ(Layers().size(), 1U);
  EXPECT_TRUE(store_->List().empty());
  hold = LN_ASSERT_OK(store_->Hold(image->id));
  LN_EXPECT_OK(Pull("example.com/other:1"));
  EXPECT_EQ(Layers().size(), 2U);
  hold.reset();
  EXPECT_EQ(Layers().size(), 1U);
}

TEST_F(Store, RemovedWhileHeldThenRestartWithoutTheContainer_GoesWithTheNextChange) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("example.com/app:1", made);
  registry_.Put("example.com/other:1", MakeImage({Tar("o", "o")}));
  const auto image = LN_ASSERT_OK(Pull("example.com/app:1"));
  const auto hold = LN_ASSERT_OK(store_->Hold(image->id));
  LN_EXPECT_OK(store_->Remove("example.com/app:1"));
  Reopen();
  EXPECT_EQ(Layers().size(), 1U);
  LN_EXPECT_OK(Pull("example.com/other:1"));
  EXPECT_EQ(Layers().size(), 1U);
  EXPECT_FALSE(Exists(image->layer_dirs[0]));
}

TEST_F(Store, PulledAgainWhileRemovedAndHeld_BackWithTheSameLayers) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  registry_.Put("example.com/app:1", made);
  const auto before = LN_ASSERT_OK(Pull("example.com/app:1"));
  auto hold = LN_ASSERT_OK(store_->Hold(before->id));
  LN_EXPECT_OK(store_->Remove("example.com/app:1"));
  const auto after = LN_ASSERT_OK(Pull("example.com/app:1"));
  EXPECT_EQ(after->layer_dirs, before->layer_dirs);
  hold.reset();
  EXPECT_EQ(Layers().size(), 1U);
  EXPECT_EQ(Content(*after, 0, "a"), "one");
}

TEST_F(Store, HoldOutlivesTheStore_NothingIsRemoved) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  const auto image = LN_ASSERT_OK(Pull("example.com/app:1"));
  auto hold = LN_ASSERT_OK(store_->Hold(image->id));
  store_.reset();
  hold.reset();
  EXPECT_EQ(Content(*image, 0, "a"), "one");
}

// ---- restart ----

TEST_F(Store, Restart_EverythingIsThere) {
  const MadeImage made = MakeImage({Tar("a", "one"), Tar("b", "two")});
  registry_.Put("example.com/app:1", made);
  const auto before = LN_ASSERT_OK(Pull("example.com/app:1"));
  const std::uint64_t used = LN_ASSERT_OK(store_->Usage()).used_bytes;
  Reopen();
  ASSERT_EQ(store_->List().size(), 1U);
  const auto after = store_->List().front();
  EXPECT_EQ(after->id, before->id);
  EXPECT_EQ(after->repo_tags, before->repo_tags);
  EXPECT_EQ(after->repo_digests, before->repo_digests);
  EXPECT_EQ(after->size_bytes, before->size_bytes);
  EXPECT_EQ(after->layer_dirs, before->layer_dirs);
  EXPECT_EQ(after->config.cmd, before->config.cmd);
  EXPECT_EQ(LN_ASSERT_OK(store_->Usage()).used_bytes, used);
}

TEST_F(Store, KilledInTheMiddle_LeftoversAreRemoved) {
  registry_.Put("example.com/app:1", MakeImage({Tar("a", "one")}));
  LN_EXPECT_OK(Pull("example.com/app:1"));
  store_.reset();
  // A layer half unpacked, one that was complete but whose image never was, one half removed, a
  // spool, documents.
  t_.Write({{"root/layers/tmp-1234-1/fs/half", "x"},
            {"root/layers/trash-1234-2/fs/half", "x"},
            {"root/tmp/import-1/0", "x"},
            {"root/images/.index.json.1-2.tmp", "{"}});
  t_.Write("root/layers/" + LayerName(Digest::Sha256Of("no image")) + "/fs/f", "x");
  t_.Write("root/images/" + LayerName(Digest::Sha256Of("no image")) + ".config.json", "{}");
  Reopen();
  EXPECT_EQ(Layers().size(), 1U);
  EXPECT_EQ(store_->List().size(), 1U);
  EXPECT_TRUE(LN_ASSERT_OK(ListDir(t_ / "root/tmp")).empty());
  EXPECT_EQ(LN_ASSERT_OK(ListDir(t_ / "root/images")).size(), 3U);
}

TEST_F(Store, DamagedImage_LeftOutAndPulledAnew) {
  const MadeImage a = MakeImage({Tar("a", "a"), Tar("c", "c")});
  const MadeImage b = MakeImage({Tar("b", "b")});
  const MadeImage good = MakeImage({Tar("g", "g")});
  registry_.Put("example.com/a:1", a);
  registry_.Put("example.com/b:1", b);
  registry_.Put("example.com/g:1", good);
  const auto image = LN_ASSERT_OK(Pull("example.com/a:1"));
  LN_EXPECT_OK(Pull("example.com/b:1"));
  LN_EXPECT_OK(Pull("example.com/g:1"));
  store_.reset();
  ASSERT_TRUE(RemoveAll(Dirname(image->layer_dirs[1])).has_value());
  t_.Write("root/images/" + LayerName(b.config_digest) + ".config.json", "{}");
  Reopen();
  ASSERT_EQ(store_->List().size(), 1U);
  EXPECT_EQ(store_->List().front()->id, good.config_digest);
  // What a container may still run on is there until something changes.
  EXPECT_TRUE(Exists(image->layer_dirs[0]));
  EXPECT_EQ(Content(*LN_ASSERT_OK(Pull("example.com/a:1")), 1, "c"), "c");
  EXPECT_EQ(LN_ASSERT_OK(Pull("example.com/b:1"))->id, b.config_digest);
  Reopen();
  EXPECT_EQ(store_->List().size(), 3U);
}

TEST_F(Store, UnreadableIndex_DataLossAndNothingIsTouched) {
  registry_.Put("example.com/a:1", MakeImage({Tar("a", "a")}));
  const auto image = LN_ASSERT_OK(Pull("example.com/a:1"));
  store_.reset();
  const std::string index = t_.Read("root/images/index.json");
  t_.Write("root/images/index.json", "{\"version\": 1, ");
  LN_EXPECT_ERROR(OpenImageStore({.root = t_ / "root"}, registry_.Client()), Code::kDataLoss,
                  "index.json");
  t_.Write("root/images/index.json", "{\"version\": 99, \"images\": []}");
  LN_EXPECT_ERROR(OpenImageStore({.root = t_ / "root"}, registry_.Client()),
                  Code::kFailedPrecondition, "version 99");
  EXPECT_EQ(Content(*image, 0, "a"), "a");
  t_.Write("root/images/index.json", index);
  Reopen();
  EXPECT_EQ(store_->List().size(), 1U);
}

TEST_F(Store, IndexWithPathsForNames_NotFollowed) {
  store_.reset();
  t_.Write("canary/fs/f", "sings");
  Json layers = Json::array({{{"name", "../../canary"}}});
  const Json index = {
      {"version", 1},
      {"images", Json::array({{{"id", Digest::Sha256Of("x").str()}, {"layers", layers}}})}};
  t_.Write("root/images/index.json", DumpJson(index));
  Reopen();
  EXPECT_TRUE(store_->List().empty());
  EXPECT_TRUE(Layers().empty());
  EXPECT_EQ(t_.Read("canary/fs/f"), "sings");
}

// ---- import ----

TEST_F(Store, ImportRootFileSystem_EveryCompression) {
  const std::string tar = TarBuilder().Dir("./").Dir("./bin").File("./bin/sh", "#!", 0755).Finish();
  ImageStore::ImportOptions options{.name = "example.com/root:1"};
  options.config.cmd = {"/bin/sh"};
  options.config.env = {"A=1"};
  options.config.volumes = {"/data"};
  Digest id = Digest::Sha256Of("");
  for (const std::string& bytes : {tar, Gzip(tar), Zstd(tar)}) {
    const auto image = LN_ASSERT_OK(Import(bytes, options));
    EXPECT_EQ(image->repo_tags, std::vector<std::string>{"example.com/root:1"});
    EXPECT_EQ(image->config.cmd, std::vector<std::string>{"/bin/sh"});
    EXPECT_EQ(image->config.env, std::vector<std::string>{"A=1"});
    EXPECT_EQ(image->config.volumes, std::vector<std::string>{"/data"});
    EXPECT_EQ(image->config.architecture, HostArchitecture());
    EXPECT_EQ(image->config.diff_ids, std::vector<Digest>{Digest::Sha256Of(tar)});
    EXPECT_EQ(Content(*image, 0, "bin/sh"), "#!");
    id = image->id;
  }
  EXPECT_EQ(store_->List().size(), 1U);  // the same tar is the same image
  EXPECT_TRUE(LN_ASSERT_OK(ListDir(t_ / "root/tmp")).empty());
  Reopen();
  EXPECT_EQ(store_->Find("example.com/root:1")->id, id);
}

TEST_F(Store, ImportRootFileSystem_FromAPipe) {
  const std::string bytes =
      Gzip(TarBuilder().Dir("bin").File("bin/big", std::string(1U << 20, 'x')).Finish(), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  std::jthread writer([&bytes, fd = ends[1]] {
    const UniqueFd owned(fd);
    (void)WriteAll(owned, bytes);
  });
  const auto image = LN_ASSERT_OK(store_->Import(reader, {.name = "root:1"}));
  EXPECT_EQ(Content(*image, 0, "bin/big").size(), 1U << 20);
  EXPECT_EQ(image->repo_tags, std::vector<std::string>{"docker.io/library/root:1"});
}

TEST_F(Store, ImportWithoutAName_RefusedForARootFileSystem) {
  LN_EXPECT_ERROR(Import(Tar("bin/sh", "x")), Code::kInvalidArgument, "name");
  LN_EXPECT_ERROR(Import(Tar("bin/sh", "x"), {.name = "Not A Name"}), Code::kInvalidArgument, "");
  LN_EXPECT_ERROR(Import("no tar at all, but long enough to be told", {.name = "x"}),
                  Code::kDataLoss, "tar");
  LN_EXPECT_ERROR(Import("", {.name = "x"}), Code::kInvalidArgument, "empty");
  LN_EXPECT_ERROR(Import(Tar("../x", "x"), {.name = "x"}), Code::kInvalidArgument,
                  "out of the root");
  EXPECT_TRUE(Layers().empty());
}

std::string OciArchive(const std::vector<std::pair<std::string, const MadeImage*>>& named,
                       const std::string& prefix = "") {
  TarBuilder tar;
  if (!prefix.empty()) tar.Dir(prefix);
  Json manifests = Json::array();
  for (const auto& [name, image] : named) {
    Json entry = {{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                  {"digest", image->manifest_digest.str()},
                  {"size", image->manifest.size()}};
    if (!name.empty()) entry["annotations"] = {{"org.opencontainers.image.ref.name", name}};
    manifests.push_back(std::move(entry));
    const auto blob = [&](const std::string& bytes) {
      tar.File(prefix + "blobs/sha256/" + std::string(Digest::Sha256Of(bytes).hex()), bytes);
    };
    for (const std::string& layer : image->layers) blob(layer);
    blob(image->config);
    blob(image->manifest);
  }
  tar.File(prefix + "index.json", DumpJson({{"schemaVersion", 2}, {"manifests", manifests}}));
  tar.File(prefix + "oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}");
  return tar.Finish();
}

TEST_F(Store, ImportOciArchive_NamesDigestsLayers) {
  const MadeImage made = MakeImage({Tar("a", "one"), Tar("b", "two")});
  for (const char* prefix : {"", "./"}) {
    const auto image = LN_ASSERT_OK(Import(OciArchive({{"example.com/app:1", &made}}, prefix)));
    EXPECT_EQ(image->id, made.config_digest);
    EXPECT_EQ(image->repo_tags, std::vector<std::string>{"example.com/app:1"});
    EXPECT_EQ(image->repo_digests,
              std::vector<std::string>{"example.com/app@" + made.manifest_digest.str()});
    EXPECT_EQ(image->size_bytes, made.size);
    EXPECT_EQ(Content(*image, 1, "b"), "two");
    LN_EXPECT_OK(store_->Remove(image->id.str()));
  }
  // A bare tag names nothing; a given name takes its place.
  EXPECT_TRUE(LN_ASSERT_OK(Import(OciArchive({{"latest", &made}})))->repo_tags.empty());
  EXPECT_EQ(
      LN_ASSERT_OK(Import(Gzip(OciArchive({{"latest", &made}})), {.name = "mine:2"}))->repo_tags,
      std::vector<std::string>{"docker.io/library/mine:2"});
  EXPECT_TRUE(LN_ASSERT_OK(ListDir(t_ / "root/tmp")).empty());
}

TEST_F(Store, ImportOciArchiveWithSeveralImages_AllOfThem) {
  const MadeImage a = MakeImage({Tar("a", "a")});
  const MadeImage b = MakeImage({Tar("b", "b")});
  const std::string archive = OciArchive({{"example.com/a:1", &a}, {"example.com/b:1", &b}});
  LN_EXPECT_ERROR(Import(archive, {.name = "x"}), Code::kInvalidArgument, "2 images");
  EXPECT_EQ(LN_ASSERT_OK(Import(archive))->id, a.config_digest);
  EXPECT_EQ(store_->Find("example.com/b:1")->id, b.config_digest);
}

TEST_F(Store, ImportOciArchiveThatLies_DataLoss) {
  MadeImage made = MakeImage({Tar("a", "one")});
  std::string archive = OciArchive({{"example.com/app:1", &made}});
  const std::size_t at = archive.find(made.layers[0]);
  archive[at + made.layers[0].size() / 2] =
      static_cast<char>(archive[at + made.layers[0].size() / 2] ^ 1);
  LN_EXPECT_ERROR(Import(archive), Code::kDataLoss, "");
  archive = OciArchive({{"example.com/app:1", &made}});
  archive[archive.find("\"1000\"") + 1] = '2';  // the config
  LN_EXPECT_ERROR(Import(archive), Code::kDataLoss, "does not match");
  LN_EXPECT_ERROR(Import(TarBuilder().File("oci-layout", "{}").Finish()), Code::kInvalidArgument,
                  "neither");
  EXPECT_TRUE(Layers().empty());
  EXPECT_TRUE(store_->List().empty());
}

TEST_F(Store, ImportDockerArchive_OldAndNewShape) {
  const std::string one = Tar("a", "one");
  const std::string two = Tar("b", "two");
  const MadeImage made = MakeImage({one, two, one});
  const std::string id1(64, '1');
  const std::string id2(64, '2');
  const std::string id3(64, '3');
  const std::string config_name = std::string(made.config_digest.hex()) + ".json";
  TarBuilder tar;
  tar.Dir(id1).File(id1 + "/VERSION", "1.0").File(id1 + "/layer.tar", one);
  tar.Dir(id2).File(id2 + "/layer.tar", two);
  tar.Dir(id3).Symlink(id3 + "/layer.tar", "../" + id1 + "/layer.tar");
  tar.File(config_name, made.config);
  tar.File("manifest.json",
           DumpJson(Json::array(
               {{{"Config", config_name},
                 {"RepoTags", {"example.com/app:1", "app:2"}},
                 {"Layers", {id1 + "/layer.tar", id2 + "/layer.tar", id3 + "/layer.tar"}}}})));
  const auto image = LN_ASSERT_OK(Import(tar.Finish()));
  EXPECT_EQ(image->id, made.config_digest);
  EXPECT_EQ(image->repo_tags,
            (std::vector<std::string>{"docker.io/library/app:2", "example.com/app:1"}));
  EXPECT_EQ(image->layer_dirs.size(), 2U);
  EXPECT_EQ(Content(*image, 1, "a"), "one");
  EXPECT_EQ(LN_ASSERT_OK(Import(tar.Finish(), {.name = "mine"}))->repo_tags.size(), 3U);
}

TEST_F(Store, ImportDockerArchiveWithNamesThatLeadOut_Refused) {
  const MadeImage made = MakeImage({Tar("a", "one")});
  for (const char* config : {"../../../../etc/passwd", "/etc/passwd", "link"}) {
    TarBuilder tar;
    tar.File("manifest.json", DumpJson(Json::array({{{"Config", config}, {"Layers", {"l"}}}})));
    tar.Symlink("link", "/etc/passwd");
    LN_EXPECT_ERROR(Import(tar.Finish()), Code::kInvalidArgument, "the archive has no");
  }
}

TEST_F(Store, Usage_FileSystemAndFigures) {
  const FsUsage empty = LN_ASSERT_OK(store_->Usage());
  EXPECT_EQ(empty.used_bytes, 0U);
  EXPECT_TRUE(empty.mountpoint.starts_with("/"));
  EXPECT_TRUE(t_.path().starts_with(empty.mountpoint)) << empty.mountpoint;
  LN_EXPECT_OK(Import(TarBuilder().File("f", std::string(10'000, 'x')).Finish(), {.name = "x"}));
  const FsUsage one = LN_ASSERT_OK(store_->Usage());
  EXPECT_GE(one.used_bytes, 12'288U);
  EXPECT_LE(one.used_bytes, 40'000U);
  EXPECT_EQ(one.inodes_used, 6U);  // with the directory, tar.zst and layer.json
}

}  // namespace
}  // namespace linnet::oci
