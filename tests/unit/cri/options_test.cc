#include "daemon/options.h"

#include <vector>

#include <gtest/gtest.h>

namespace linnet::cri {
namespace {

ParsedOptions Parse(std::vector<const char*> words) {
  words.insert(words.begin(), "linnetd");
  return ParseOptions(static_cast<int>(words.size()), words.data());
}

TEST(Options, None_IsFine) {
  const ParsedOptions parsed = Parse({});
  EXPECT_FALSE(parsed.exit);
  EXPECT_TRUE(parsed.options.settings.empty());
}

TEST(Options, All_BecomeSettings) {
  const ParsedOptions parsed =
      Parse({"--config", "/c", "--root", "/r", "--state=/s", "--socket", "/k", "--log-level",
             "debug", "--log-format", "json", "--log-file", "/l", "--print-config"});
  ASSERT_FALSE(parsed.exit);
  EXPECT_EQ(parsed.options.config_file, "/c");
  EXPECT_TRUE(parsed.options.print_config);
  const std::map<std::string, std::string> want = {{"root", "/r"},         {"state", "/s"},
                                                   {"socket", "/k"},       {"log.level", "debug"},
                                                   {"log.format", "json"}, {"log.file", "/l"}};
  EXPECT_EQ(parsed.options.settings, want);
}

TEST(Options, Version_IsPrinted) {
  const ParsedOptions parsed = Parse({"--version"});
  ASSERT_TRUE(parsed.exit);
  EXPECT_EQ(parsed.exit->code, 0);
  EXPECT_TRUE(parsed.exit->text.starts_with("linnetd 0.")) << parsed.exit->text;
}

TEST(Options, Help_NamesEveryOption) {
  const ParsedOptions parsed = Parse({"--help"});
  ASSERT_TRUE(parsed.exit);
  EXPECT_EQ(parsed.exit->code, 0);
  for (const char* option : {"--config", "--root", "--state", "--socket", "--log-level",
                             "--log-file", "--print-config"}) {
    EXPECT_NE(parsed.exit->text.find(option), std::string::npos) << option;
  }
}

TEST(Options, Unknown_IsAMistake) {
  const ParsedOptions parsed = Parse({"--rot", "/r"});
  ASSERT_TRUE(parsed.exit);
  EXPECT_EQ(parsed.exit->code, 2);
  EXPECT_NE(parsed.exit->text.find("--rot"), std::string::npos) << parsed.exit->text;
}

}  // namespace
}  // namespace linnet::cri
