// The whole store against other people's tools: docker-registry, skopeo, umoci.
#include <fcntl.h>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/oci/image_store.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "real_registry.h"

namespace linnet::oci {
namespace {

using linnet::testing::RealRegistry;
using linnet::testing::RunTool;
using linnet::testing::TempDir;

class StoreAndTools : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto missing = linnet::testing::MissingTools();
    if (!missing.empty()) GTEST_SKIP() << missing[0] << " is not installed";
    auto store = ImageStore::Open({.root = t_ / "root"});
    ASSERT_TRUE(store.has_value()) << store.error().message();
    store_ = *std::move(store);
    const auto started = registry_.Start();
    ASSERT_TRUE(started.has_value()) << started.error().message();
  }
  std::string Name(const std::string& name) const { return registry_.authority() + "/" + name; }
  Result<std::shared_ptr<const Image>> Pull(const std::string& name) {
    const Reference ref = LN_TRY(Reference::Parse(Name(name)));
    return store_->Pull(ref,
                        {.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60)});
  }
  Result<std::shared_ptr<const Image>> Import(const std::string& file,
                                              const std::string& name = "") {
    const UniqueFd fd = LN_TRY(Open(t_ / file, O_RDONLY));
    return store_->Import(fd, {.name = name});
  }
  // Name and contents of the only file in the image's only layer.
  static std::string OnlyFile(const Image& image) {
    if (image.layer_dirs.size() != 1)
      return "<" + std::to_string(image.layer_dirs.size()) + " layers>";
    std::string path = image.layer_dirs[0];
    for (;;) {
      const auto names = ListDir(path);
      if (!names)
        return path.substr(image.layer_dirs[0].size()) + "=" +
               ReadFile(path).value_or("<unreadable>");
      if (names->size() != 1) return "<" + std::to_string(names->size()) + " files>";
      path = JoinPath(path, names->front());
    }
  }

  TempDir t_;
  RealRegistry registry_{{}};
  std::unique_ptr<ImageStore> store_;
};

TEST_F(StoreAndTools, Pull_EveryFormatOfTheSameImage) {
  LN_ASSERT_OK(registry_.Push("demo/web:1"));
  LN_ASSERT_OK(registry_.Push("demo/web:zstd", {"--dest-compress-format", "zstd"}));
  LN_ASSERT_OK(registry_.Push("demo/web:docker", {"--format", "v2s2"}));
  const auto gzip = LN_ASSERT_OK(Pull("demo/web:1"));
  EXPECT_EQ(gzip->config.cmd, std::vector<std::string>{"run"});
  const std::string file = OnlyFile(*gzip);
  EXPECT_NE(file.find('='), std::string::npos) << file;
  const auto zstd = LN_ASSERT_OK(Pull("demo/web:zstd"));
  const auto docker = LN_ASSERT_OK(Pull("demo/web:docker"));
  for (const auto& image : {zstd, docker}) {
    EXPECT_EQ(OnlyFile(*image), file);
    EXPECT_EQ(image->layer_dirs, gzip->layer_dirs);  // by diff id, however it was compressed
  }
  // The same config: one image with two names.
  EXPECT_EQ(zstd->id, gzip->id);
  EXPECT_EQ(store_->Find(gzip->id.str())->repo_tags.size(), docker->id == gzip->id ? 3U : 2U);
  LN_EXPECT_ERROR(Pull("demo/web:absent"), Code::kNotFound, "demo/web");
}

TEST_F(StoreAndTools, NobodyListens_RegistryUnavailable) {
  const Reference ref = *Reference::Parse("127.0.0.1:1/demo/web:1");
  const auto pulled = store_->Pull(ref, {});
  ASSERT_FALSE(pulled.has_value());
  EXPECT_EQ(CodeName(pulled.error().code()), CodeName(Code::kUnavailable));
  EXPECT_TRUE(pulled.error().message().starts_with("RegistryUnavailable"))
      << pulled.error().message();
}

TEST_F(StoreAndTools, Import_WhatSkopeoWrites) {
  LN_ASSERT_OK(registry_.Push("demo/web:1"));
  const auto pulled = LN_ASSERT_OK(Pull("demo/web:1"));
  const std::string from = "docker://" + Name("demo/web:1");
  LN_ASSERT_OK(RunTool({"skopeo", "copy", "--src-tls-verify=false", from,
                        "oci-archive:" + (t_ / "oci.tar") + ":example.com/oci:1"}));
  LN_ASSERT_OK(RunTool({"skopeo", "copy", "--src-tls-verify=false", from,
                        "docker-archive:" + (t_ / "docker.tar") + ":example.com/docker:1"}));
  const auto oci = LN_ASSERT_OK(Import("oci.tar"));
  EXPECT_EQ(oci->id, pulled->id);
  EXPECT_EQ(oci->repo_tags, (std::vector<std::string>{Name("demo/web:1"), "example.com/oci:1"}));
  const auto docker = LN_ASSERT_OK(Import("docker.tar"));
  EXPECT_EQ(OnlyFile(*docker), OnlyFile(*pulled));
  EXPECT_EQ(docker->layer_dirs, pulled->layer_dirs);
  EXPECT_EQ(store_->Find("example.com/docker:1")->id, docker->id);
  EXPECT_EQ(LN_ASSERT_OK(Import("docker.tar", "mine:1"))->id, docker->id);
}

}  // namespace
}  // namespace linnet::oci
