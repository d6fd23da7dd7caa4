#include "linnet/base/json_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"

namespace linnet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class View : public ::testing::Test {
 protected:
  JsonView Of(std::string_view text, KeyMatch match = KeyMatch::kExact) {
    auto json = ParseJson(text);
    EXPECT_TRUE(json.has_value()) << (json ? "" : json.error().message());
    document_ = json ? *json : Json();
    return JsonView(document_, "$", match);
  }
  Json document_;
};

TEST(ParseJson, Limits) {
  LN_EXPECT_ERROR(ParseJson("{}", {.max_bytes = 1, .max_depth = 9}), Code::kInvalidArgument,
                  "larger than 1");
  LN_EXPECT_OK(ParseJson("[[{\"a\":\"[[[[\"}]]", {.max_bytes = 99, .max_depth = 3}));
  LN_EXPECT_ERROR(ParseJson("[[{\"a\":[]}]]", {.max_bytes = 99, .max_depth = 3}),
                  Code::kInvalidArgument, "deeper than 3");
  LN_EXPECT_ERROR(ParseJson(std::string(1000000, '[')), Code::kInvalidArgument, "deeper");
  LN_EXPECT_OK(ParseJson(R"(["\"[[[[[[[[", "\\"])", {.max_bytes = 99, .max_depth = 1}));
}

TEST(ParseJson, Nonsense) {
  for (const char* text : {"", "{", "[1,]", "{'a':1}", "nul", "01", "1 2", "\"\xff\"",
                           "\"\\ud800\"", "1e999", "NaN", "// c\n1"}) {
    LN_EXPECT_ERROR(ParseJson(text), Code::kInvalidArgument, "");
  }
}

TEST(ParseJson, DuplicateKey_TheLastCounts) {
  EXPECT_EQ(LN_ASSERT_OK(ParseJson(R"({"a":1,"a":2})"))["a"], 2);
}

TEST(DumpJson, InvalidUtf8_IsReplaced) {
  EXPECT_EQ(DumpJson(Json("a\xff")), "\"a\xef\xbf\xbd\"");
  EXPECT_EQ(DumpJson(Json{{"b", 1}}), R"({"b":1})");
  EXPECT_EQ(DumpJson(Json{{"b", 1}}, 2), "{\n  \"b\": 1\n}");
}

TEST_F(View, Integers_AreNeverCoerced) {
  const JsonView v = Of(
      R"({"u16":65535,"big":70000,"neg":-1,"real":80.9,"whole":80.0,"text":"1","yes":true,"max":18446744073709551615})");
  EXPECT_EQ(LN_ASSERT_OK(v.Required<std::uint16_t>("u16")), 65535);
  LN_EXPECT_ERROR(v.Required<std::uint16_t>("big"), Code::kInvalidArgument,
                  "$.big: 70000 out of range (0…65535)");
  LN_EXPECT_ERROR(v.Required<std::uint8_t>("neg"), Code::kInvalidArgument,
                  "$.neg: -1 out of range (0…255)");
  LN_EXPECT_ERROR(v.Required<std::uint64_t>("neg"), Code::kInvalidArgument, "out of range");
  EXPECT_EQ(LN_ASSERT_OK(v.Required<std::int8_t>("neg")), -1);
  LN_EXPECT_ERROR(v.Required<int>("real"), Code::kInvalidArgument, "80.9 is not an integer");
  LN_EXPECT_ERROR(v.Required<int>("whole"), Code::kInvalidArgument, "not an integer");
  LN_EXPECT_ERROR(v.Required<int>("text"), Code::kInvalidArgument, "not a string");
  LN_EXPECT_ERROR(v.Required<int>("yes"), Code::kInvalidArgument, "not a boolean");
  EXPECT_EQ(LN_ASSERT_OK(v.Required<std::uint64_t>("max")), UINT64_MAX);
  LN_EXPECT_ERROR(v.Required<std::int64_t>("max"), Code::kInvalidArgument, "out of range");
}

TEST_F(View, OtherTypes) {
  const JsonView v = Of(R"({"b":true,"s":"x","d":1.5,"i":2})");
  EXPECT_TRUE(LN_ASSERT_OK(v.Required<bool>("b")));
  EXPECT_EQ(LN_ASSERT_OK(v.Required<std::string>("s")), "x");
  EXPECT_EQ(LN_ASSERT_OK(v.Required<double>("d")), 1.5);
  EXPECT_EQ(LN_ASSERT_OK(v.Required<double>("i")), 2.0);
  LN_EXPECT_ERROR(v.Required<bool>("i"), Code::kInvalidArgument,
                  "$.i: a boolean is expected, not a number");
  LN_EXPECT_ERROR(v.Required<std::string>("b"), Code::kInvalidArgument, "a string is expected");
  LN_EXPECT_ERROR(v.Required<double>("s"), Code::kInvalidArgument, "a number is expected");
}

TEST_F(View, AbsentAndNull) {
  const JsonView v = Of(R"({"null":null,"x":1})");
  LN_EXPECT_ERROR(v.Required<int>("none"), Code::kInvalidArgument,
                  "$: required key \"none\" is missing");
  LN_EXPECT_ERROR(v.Required<int>("null"), Code::kInvalidArgument, "required key");
  EXPECT_EQ(LN_ASSERT_OK(v.Optional<int>("none", 5)), 5);
  EXPECT_EQ(LN_ASSERT_OK(v.Optional<int>("null", 5)), 5);
  EXPECT_EQ(LN_ASSERT_OK(v.Optional<int>("x", 5)), 1);
  EXPECT_EQ(LN_ASSERT_OK(v.Maybe<int>("none")), std::nullopt);
  EXPECT_EQ(LN_ASSERT_OK(v.Maybe<int>("x")), 1);
  LN_EXPECT_ERROR(v.Optional<std::string>("x", ""), Code::kInvalidArgument, "$.x");
  LN_EXPECT_ERROR(v.Maybe<bool>("x"), Code::kInvalidArgument, "$.x");
}

TEST_F(View, NotAnObject) {
  LN_EXPECT_ERROR(Of("[1]").Find("a"), Code::kInvalidArgument,
                  "$: an object is expected, not an array");
  LN_EXPECT_ERROR(Of("\"x\"").Required<int>("a"), Code::kInvalidArgument, "not a string");
}

TEST_F(View, Arrays_KnowTheirPath) {
  const JsonView v =
      Of(R"({"list":[{"port":80},{"port":70000}],"words":["a","b"],"mixed":["a",1],"no":{}})");
  const auto list = LN_ASSERT_OK(v.Array("list"));
  ASSERT_EQ(list.size(), 2U);
  LN_EXPECT_ERROR(list[1].Required<std::uint16_t>("port"), Code::kInvalidArgument,
                  "$.list[1].port: 70000");
  EXPECT_THAT(LN_ASSERT_OK(v.Strings("words")), ElementsAre("a", "b"));
  EXPECT_THAT(LN_ASSERT_OK(v.Strings("none")), IsEmpty());
  LN_EXPECT_ERROR(v.Strings("mixed"), Code::kInvalidArgument, "$.mixed[1]");
  LN_EXPECT_ERROR(v.Array("no"), Code::kInvalidArgument, "$.no: an array is expected");
}

TEST_F(View, StringMap) {
  const JsonView v = Of(R"({"m":{"a":"1","b":"2"},"bad":{"a":1},"list":[]})");
  EXPECT_THAT(LN_ASSERT_OK(v.StringMap("m")),
              ElementsAre(std::pair("a", "1"), std::pair("b", "2")));
  EXPECT_THAT(LN_ASSERT_OK(v.StringMap("none")), IsEmpty());
  LN_EXPECT_ERROR(v.StringMap("bad"), Code::kInvalidArgument, "$.bad.a");
  LN_EXPECT_ERROR(v.StringMap("list"), Code::kInvalidArgument, "$.list: an object is expected");
}

TEST_F(View, IgnoreCase_PrefersTheExactKey) {
  const JsonView v =
      Of(R"({"NAME":"upper","name":"lower","Other":{"INNER":1}})", KeyMatch::kIgnoreCase);
  EXPECT_EQ(LN_ASSERT_OK(v.Required<std::string>("name")), "lower");
  const JsonView other = LN_ASSERT_OK(v.At("other"));
  EXPECT_EQ(LN_ASSERT_OK(other.Required<int>("inner")), 1) << "inherited by what is inside";
  EXPECT_FALSE(LN_ASSERT_OK(Of(R"({"NAME":1})").Find("name")).has_value());
}

}  // namespace
}  // namespace linnet
