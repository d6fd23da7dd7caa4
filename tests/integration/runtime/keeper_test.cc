#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "keeper_harness.h"
#include "linnet/base/file.h"

namespace linnet::runtime::test {
namespace {

using keeper::Type;
using testing::HasSubstr;

TEST(Keeper, Start_Echo_IsLoggedAndExitRecorded) {
  TestKeeper keeper;
  const Message setup = keeper.SetupPod();
  ASSERT_EQ(setup.type(), Type::kDone) << setup.failure();
  keeper.MustStart("c1", {.args = {"sh", "-c", "echo out; echo err >&2; exit 3"}});
  const keeper::Exit exit = keeper.WaitExit("c1");
  EXPECT_EQ(exit.code, 3);
  EXPECT_EQ(exit.signal, 0);
  EXPECT_THAT(keeper.LogLines(), HasSubstr("stdout F out\n"));
  EXPECT_THAT(keeper.LogLines(), HasSubstr("stderr F err\n"));
  const std::string record = ReadFile(keeper.dir() + "/c1/exit").value_or("");
  EXPECT_THAT(record, HasSubstr("version=1\nid=c1\ncode=3\nsignal=0\noom_killed=0\nstarted_at="));
  EXPECT_TRUE(record.ends_with("\nend\n"));
}

}  // namespace
}  // namespace linnet::runtime::test
