#include "linnet/base/rollback.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linnet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RollbackTest : public ::testing::Test {
 protected:
  std::function<Result<void>()> Step(const std::string& name, bool fails = false) {
    return [this, name, fails]() -> Result<void> {
      done_.push_back(name);
      if (fails) return Internal("no " + name);
      return Ok();
    };
  }
  std::vector<std::string> done_;
};

TEST_F(RollbackTest, Destroyed_UndoesLastFirst) {
  {
    Rollback undo;
    undo.Add("a", Step("a"));
    undo.Add("b", Step("b"));
    EXPECT_THAT(done_, IsEmpty());
  }
  EXPECT_THAT(done_, ElementsAre("b", "a"));
}

TEST_F(RollbackTest, Committed_DoesNothing) {
  {
    Rollback undo;
    undo.Add("a", Step("a"));
    undo.Commit();
  }
  EXPECT_THAT(done_, IsEmpty());
}

TEST_F(RollbackTest, AfterCommit_NewStepsCount) {
  {
    Rollback undo;
    undo.Add("a", Step("a"));
    undo.Commit();
    undo.Add("b", Step("b"));
  }
  EXPECT_THAT(done_, ElementsAre("b"));
}

TEST_F(RollbackTest, Run_UndoesOnce) {
  {
    Rollback undo;
    undo.Add("a", Step("a"));
    undo.Run();
    EXPECT_THAT(done_, ElementsAre("a"));
  }
  EXPECT_THAT(done_, ElementsAre("a"));
}

TEST_F(RollbackTest, FailingStep_IsReportedAndTheOthersRun) {
  std::vector<std::string> failures;
  {
    Rollback undo([&](const std::string& what, const Error& error) {
      failures.push_back(what + ": " + error.message());
    });
    undo.Add("remove a", Step("a"));
    undo.Add("remove b", Step("b", true));
    undo.Add("remove c", Step("c"));
  }
  EXPECT_THAT(done_, ElementsAre("c", "b", "a"));
  EXPECT_THAT(failures, ElementsAre("remove b: no b"));
}

}  // namespace
}  // namespace linnet
