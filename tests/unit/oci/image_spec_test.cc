#include "linnet/oci/image_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/json_view.h"

#include "media_types.h"
#include "platform.h"

namespace linnet::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string DigestText(char digit) { return "sha256:" + std::string(64, digit); }

Json DescriptorJson(char digit, std::int64_t size = 5) {
  return {{"mediaType", "application/vnd.oci.image.layer.v1.tar+gzip"},
          {"digest", DigestText(digit)},
          {"size", size}};
}

Json ManifestJson() {
  return {{"schemaVersion", 2},
          {"mediaType", media_type::kOciManifest},
          {"config", DescriptorJson('c')},
          {"layers", Json::array({DescriptorJson('1'), DescriptorJson('2', 7)})}};
}

Json EntryJson(char digit, const std::string& os, const std::string& architecture,
               const std::string& variant = "") {
  Json out = DescriptorJson(digit);
  out["mediaType"] = media_type::kOciManifest;
  out["platform"] = {{"os", os}, {"architecture", architecture}};
  if (!variant.empty()) out["platform"]["variant"] = variant;
  return out;
}

Result<Index> IndexOf(const Json& entries) {
  return Index::Parse(Json{{"schemaVersion", 2}, {"manifests", entries}}.dump());
}

// The digit of the chosen entry's digest, or '-'.
char Chosen(const Json& entries, std::string_view architecture) {
  const auto index = IndexOf(entries);
  if (!index) return '!';
  const auto chosen = index->Select("linux", architecture);
  return chosen ? chosen->digest.hex()[0] : '-';
}

void ExpectRefused(const Json& manifest, const std::string& text,
                   Code code = Code::kInvalidArgument) {
  const auto m = Manifest::Parse(manifest.dump());
  ASSERT_FALSE(m) << manifest.dump();
  EXPECT_TRUE(m.error().Is(code)) << m.error().message();
  EXPECT_THAT(m.error().message(), HasSubstr(text));
}

TEST(Manifest, Parse_Oci_ReadsAll) {
  const auto m = Manifest::Parse(ManifestJson().dump());
  ASSERT_TRUE(m) << m.error().message();
  EXPECT_EQ(m->media_type, media_type::kOciManifest);
  EXPECT_EQ(m->config.digest.str(), DigestText('c'));
  ASSERT_EQ(m->layers.size(), 2U);
  EXPECT_EQ(m->layers[1].size, 7U);
}

TEST(Manifest, Parse_Docker_Accepted) {
  Json j = ManifestJson();
  j["mediaType"] = media_type::kDockerManifest;
  const auto m = Manifest::Parse(j.dump());
  ASSERT_TRUE(m);
  EXPECT_EQ(m->media_type, media_type::kDockerManifest);
}

TEST(Manifest, Parse_NoMediaType_IsOci) {
  Json j = ManifestJson();
  j.erase("mediaType");
  const auto m = Manifest::Parse(j.dump());
  ASSERT_TRUE(m);
  EXPECT_EQ(m->media_type, media_type::kOciManifest);
}

TEST(Manifest, Parse_AlsoAnIndex_Refused) {
  Json j = ManifestJson();
  j["manifests"] = Json::array();
  ExpectRefused(j, "at once");
}

TEST(Manifest, Parse_KeyInOtherCase_Refused) {
  Json j = ManifestJson();
  j["Layers"] = Json::array();
  ExpectRefused(j, "case");
}

TEST(Manifest, Parse_Schema1_SaysSo) {
  ExpectRefused({{"schemaVersion", 1}, {"name", "x"}, {"fsLayers", Json::array()}}, "schema 1",
                Code::kFailedPrecondition);
}

TEST(Manifest, Parse_WrongMembers_NamesThePath) {
  Json j = ManifestJson();
  j["layers"][1]["size"] = -1;
  ExpectRefused(j, "$.layers[1]: size");
  j = ManifestJson();
  j["layers"][1]["size"] = "7";
  ExpectRefused(j, "$.layers[1].size");
  j = ManifestJson();
  j["layers"][1]["size"] = 1.5;
  ExpectRefused(j, "$.layers[1].size");
  j = ManifestJson();
  j["layers"][0]["digest"] = "sha256:../../x";
  ExpectRefused(j, "$.layers[0]: digest");
  j = ManifestJson();
  j["config"].erase("digest");
  ExpectRefused(j, "$.config");
  j = ManifestJson();
  j.erase("config");
  ExpectRefused(j, "config");
  j = ManifestJson();
  j.erase("layers");
  ExpectRefused(j, "layers");
  j = ManifestJson();
  j["layers"] = 3;
  ExpectRefused(j, "$.layers");
  j = ManifestJson();
  j["schemaVersion"] = 3;
  ExpectRefused(j, "schemaVersion");
  j = ManifestJson();
  j["mediaType"] = media_type::kOciIndex;
  ExpectRefused(j, "mediaType");
}

TEST(Manifest, Parse_TooMany_Refused) {
  Json j = ManifestJson();
  j["layers"] = Json::array();
  for (int i = 0; i < 501; ++i) j["layers"].push_back(DescriptorJson('1'));
  ExpectRefused(j, "501 layers");
}

TEST(Manifest, Parse_HostileTexts_Refused) {
  for (const std::string& text : {std::string(), std::string("null"), std::string("[]"),
                                  std::string("{"), std::string("\xff"), std::string(100'000, '['),
                                  "{\"a\":\"" + std::string(5U << 20, 'x') + "\"}"}) {
    EXPECT_FALSE(Manifest::Parse(text));
    EXPECT_FALSE(Index::Parse(text));
    EXPECT_FALSE(ImageConfig::Parse(std::string_view(text).substr(0, 200'000)));
  }
}

TEST(Index, Parse_AlsoAManifest_Refused) {
  const Json j = {{"schemaVersion", 2}, {"manifests", Json::array()}, {"layers", Json::array()}};
  EXPECT_FALSE(Index::Parse(j.dump()));
}

TEST(Index, Parse_TooMany_Refused) {
  Json entries = Json::array();
  for (int i = 0; i < 1001; ++i) entries.push_back(EntryJson('1', "linux", "amd64"));
  EXPECT_FALSE(IndexOf(entries));
}

TEST(Index, Select_ByOsAndArchitecture) {
  const Json entries = {EntryJson('1', "windows", "amd64"), EntryJson('2', "linux", "arm64"),
                        EntryJson('3', "linux", "amd64"), EntryJson('4', "linux", "amd64")};
  EXPECT_EQ(Chosen(entries, "amd64"), '3');
  EXPECT_EQ(Chosen(entries, "arm64"), '2');
  EXPECT_EQ(Chosen(entries, "riscv64"), '-');
}

TEST(Index, Select_Attestation_IsNoImage) {
  Json signature = EntryJson('2', "linux", "amd64");
  signature["annotations"] = {{"vnd.docker.reference.type", "attestation-manifest"}};
  EXPECT_EQ(
      Chosen({EntryJson('1', "unknown", "unknown"), signature, EntryJson('3', "linux", "amd64")},
             "amd64"),
      '3');
  EXPECT_EQ(Chosen(Json::array({EntryJson('1', "unknown", "unknown")}), "amd64"), '-');
}

TEST(Index, Select_NoPlatform_OnlyWhereNothingElseFits) {
  Json unnamed = DescriptorJson('1');
  EXPECT_EQ(Chosen(Json::array({unnamed}), "amd64"), '1');
  EXPECT_EQ(Chosen({unnamed, EntryJson('2', "linux", "amd64")}, "amd64"), '2');
}

TEST(Index, Select_Arm64_WithAndWithoutVariant) {
  EXPECT_EQ(Chosen({EntryJson('1', "linux", "arm", "v7"), EntryJson('2', "linux", "arm64", "v8")},
                   "arm64"),
            '2');
  EXPECT_EQ(Chosen(Json::array({EntryJson('1', "linux", "arm64", "v9")}), "arm64"), '-');
}

TEST(Index, Select_Amd64_PlainBeforeLevels) {
  EXPECT_EQ(Chosen({EntryJson('1', "linux", "386"), EntryJson('2', "linux", "amd64", "v1"),
                    EntryJson('3', "linux", "amd64", "v2")},
                   "amd64"),
            '2');
  EXPECT_EQ(Chosen(Json::array({EntryJson('1', "linux", "amd64", "v9")}), "amd64"), '-');
}

TEST(Index, Select_Nothing_ListsWhatThereIs) {
  const auto index =
      IndexOf({EntryJson('1', "linux", "arm", "v6"), EntryJson('2', "linux", "s390x"),
               EntryJson('3', "unknown", "unknown")});
  ASSERT_TRUE(index);
  const auto chosen = index->Select("linux", "amd64");
  ASSERT_FALSE(chosen);
  EXPECT_TRUE(chosen.error().Is(Code::kNotFound));
  EXPECT_EQ(chosen.error().message(),
            "the image is not made for linux/amd64; there is: linux/arm/v6, linux/s390x");
}

TEST(PlatformRank, Arm_NewestThatRuns) {
  const auto rank = [](const std::string& variant, const std::string& machine) {
    const Descriptor d{
        .digest = Digest::Sha256Of(""), .os = "linux", .architecture = "arm", .variant = variant};
    return PlatformRank(d, "linux", "arm", machine);
  };
  EXPECT_GT(rank("v7", "v7"), rank("v6", "v7"));
  EXPECT_GT(rank("v6", "v7"), rank("v5", "v7"));
  EXPECT_EQ(rank("", "v7"), rank("v7", "v7"));
  EXPECT_EQ(rank("v7", "v6"), 0);
  EXPECT_EQ(rank("", "v6"), 0);
  EXPECT_GT(rank("v5", "v6"), 0);
  EXPECT_EQ(rank("v8", "v7"), 0);
  EXPECT_EQ(rank("hard", "v7"), 0);
}

TEST(ImageConfig, Parse_Full_ReadsAll) {
  const Json j = {
      {"architecture", "amd64"},
      {"os", "linux"},
      {"created", "2026-01-02T03:04:05Z"},
      {"config",
       {{"User", "1000:1000"},
        {"Env", {"PATH=/bin", "A=b=c"}},
        {"Entrypoint", {"/init"}},
        {"Cmd", {"-x"}},
        {"WorkingDir", "/srv"},
        {"Volumes", {{"/z", Json::object()}, {"/a", Json::object()}}},
        {"ExposedPorts", {{"80/tcp", Json::object()}}},
        {"Labels", {{"k", "v"}}},
        {"StopSignal", "SIGQUIT"}}},
      {"rootfs", {{"type", "layers"}, {"diff_ids", {DigestText('1'), DigestText('2')}}}}};
  const auto c = ImageConfig::Parse(j.dump());
  ASSERT_TRUE(c) << c.error().message();
  EXPECT_EQ(c->user, "1000:1000");
  EXPECT_THAT(c->env, ElementsAre("PATH=/bin", "A=b=c"));
  EXPECT_THAT(c->entrypoint, ElementsAre("/init"));
  EXPECT_THAT(c->cmd, ElementsAre("-x"));
  EXPECT_THAT(c->volumes, ElementsAre("/a", "/z"));
  EXPECT_THAT(c->exposed_ports, ElementsAre("80/tcp"));
  EXPECT_EQ(c->labels.at("k"), "v");
  EXPECT_EQ(c->stop_signal, "SIGQUIT");
  EXPECT_EQ(c->working_dir, "/srv");
  ASSERT_EQ(c->diff_ids.size(), 2U);
  EXPECT_EQ(c->diff_ids[1].str(), DigestText('2'));
}

TEST(ImageConfig, Parse_NullMembersAsDockerWritesThem_Empty) {
  const auto c = ImageConfig::Parse(
      R"({"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null},"rootfs":{"type":"layers","diff_ids":null}})");
  ASSERT_TRUE(c) << c.error().message();
  EXPECT_THAT(c->env, IsEmpty());
  EXPECT_THAT(c->volumes, IsEmpty());
  EXPECT_THAT(c->diff_ids, IsEmpty());
}

TEST(ImageConfig, Parse_NulInAString_Refused) {
  const auto c =
      ImageConfig::Parse(R"({"config":{"User":"root\u0000x"},"rootfs":{"diff_ids":[]}})");
  ASSERT_FALSE(c);
  EXPECT_THAT(c.error().message(), HasSubstr("$.config.User"));
  EXPECT_FALSE(ImageConfig::Parse(R"({"config":{"Env":["A=\u0000"]},"rootfs":{"diff_ids":[]}})"));
  EXPECT_FALSE(
      ImageConfig::Parse(R"({"config":{"Labels":{"a\u0000":"b"}},"rootfs":{"diff_ids":[]}})"));
}

TEST(ImageConfig, Parse_WrongTypes_NamesThePath) {
  const auto c = ImageConfig::Parse(R"({"config":{"Env":["a",7]},"rootfs":{"diff_ids":[]}})");
  ASSERT_FALSE(c);
  EXPECT_THAT(c.error().message(), HasSubstr("$.config.Env[1]"));
  EXPECT_FALSE(ImageConfig::Parse(R"({"rootfs":{"diff_ids":["sha256:xyz"]}})"));
  EXPECT_FALSE(ImageConfig::Parse(R"({"config":{}})"));
  EXPECT_FALSE(ImageConfig::Parse(R"({"config":{"Volumes":["/a"]},"rootfs":{"diff_ids":[]}})"));
}

}  // namespace
}  // namespace linnet::oci
