// What the parser takes for its own, and what belongs to the command in the container.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app.h"

namespace linnet::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The action fails to connect; what was parsed stays.
struct Parsed {
  App app;
  int code = -1;
  explicit Parsed(std::vector<std::string> args) {
    args.insert(args.begin(), {"linnet", "--address", "/nonexistent/linnet.sock"});
    std::vector<char*> argv;
    for (auto& arg : args) argv.push_back(arg.data());
    ::testing::internal::CaptureStderr();
    ::testing::internal::CaptureStdout();
    code = app.Main(static_cast<int>(argv.size()), argv.data());
    (void)::testing::internal::GetCapturedStdout();
    error = ::testing::internal::GetCapturedStderr();
  }
  std::string error;
};

TEST(CommandLine, ExecCommandWithOptions_IsNotParsed) {
  Parsed p({"exec", "--timeout", "5", "web", "sh", "-c", "exit 3", "-o", "x"});
  EXPECT_THAT(p.app.command_words(), ElementsAre("sh", "-c", "exit 3", "-o", "x"));
  EXPECT_EQ(p.code, 1);  // parsed, and no daemon
}

TEST(CommandLine, DoubleDash_IsDropped) {
  Parsed p({"exec", "web", "--", "ls", "--", "-l"});
  EXPECT_THAT(p.app.command_words(), ElementsAre("ls", "--", "-l"));
}

TEST(CommandLine, RunOptionsBeforeImage_AreOurs) {
  Parsed p({"run", "-d", "--name", "web", "-p", "8080:80", "-p", "81:81", "nginx", "-p", "80"});
  EXPECT_THAT(p.app.command_words(), ElementsAre("-p", "80"));
  EXPECT_EQ(p.code, 1);
}

TEST(CommandLine, OutputFormatAnywhere_IsGlobal) {
  Parsed p({"ps", "-o", "json"});
  EXPECT_TRUE(p.app.json());
  EXPECT_THAT(p.app.command_words(), IsEmpty());
}

TEST(CommandLine, UnknownCommand_IsUsageError) {
  Parsed p({"fly"});
  EXPECT_EQ(p.code, 2);
}

TEST(CommandLine, NoDaemonAtGivenAddress_NamesSocket) {
  Parsed p({"ps"});
  EXPECT_EQ(p.code, 1);
  EXPECT_THAT(p.error, ::testing::HasSubstr("/nonexistent/linnet.sock"));
}

TEST(CommandLine, Help_IsSuccess) {
  Parsed p({"run", "--help"});
  EXPECT_EQ(p.code, 0);
}

}  // namespace
}  // namespace linnet::cli
