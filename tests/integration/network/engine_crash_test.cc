// engine.crash.<step>: the process is killed in the place of every step that ADD and DEL make; what
// the next one finds when it recovers is what the living pods need, and nothing else.
#include <sys/wait.h>
#include <unistd.h>

#include "linnet/base/file.h"

#include "engine_fixture.h"
#include "faults.h"

namespace linnet::network {
namespace {

using linnet::testing::ArmFault;
using linnet::testing::DisarmFault;
using linnet::testing::Fault;

constexpr int kMostSteps = 400;
constexpr int kFailed = 77;

class EngineCrash : public EngineHost {
 protected:
  // Runs `work` in a process of its own, which ends without any clean-up. The exit code, or the
  // negative signal. The parent has no thread but its own.
  template <class Work>
  int InProcess(Work work) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      Start();
      Result<void> done = engine_ ? work() : Internal("no engine");
      if (!done) std::printf("  child: %s\n", done.error().message().c_str());
      std::fflush(nullptr);
      _exit(done ? 0 : kFailed);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }
  Result<void> Recover(const std::vector<std::string>& known) {
    std::vector<PodId> pods;
    for (const std::string& pod : known) pods.push_back(PodNamed(pod));
    LN_TRY(engine_->Recover(pods));
    host_->DrainRetired();
    return Ok();
  }
  Result<void> AttachIt() {
    LN_TRY(Attach("pod", {Tcp(8081, 80)}));
    return Ok();
  }
  Result<void> RemoveIt() {
    LN_TRY(Detach("pod"));
    LN_TRY(engine_->ReleaseNetns(PodNamed("pod")));
    host_->DrainRetired();
    return Ok();
  }
  // One pod that lives on, and the network as it is after another one came and went.
  void Prepare() {
    ASSERT_EQ(InProcess([&]() -> Result<void> {
                LN_TRY(Recover({}));
                LN_TRY(Attach("live", {Tcp(8080, 80)}));
                LN_TRY(AttachIt());
                return RemoveIt();
              }),
              0);
  }
  Result<void> CheckLive() { return engine_->Check(PodNamed("live")); }
};

// Until it is recovered, whether the pod is still wanted is not the engine's to know: both are
// tried.
TEST_F(EngineCrash, Add) {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  const std::string before = Snapshot();
  int step = 1;
  for (; step < kMostSteps; ++step) {
    SCOPED_TRACE("ADD, killed at step " + std::to_string(step));
    for (const bool known : {false, true}) {
      const int code = InProcess([&]() -> Result<void> {
        LN_TRY(Recover({"live"}));
        ArmFault(Fault::kDieBefore, step);
        LN_TRY(AttachIt());
        (void)DisarmFault();
        return Ok();
      });
      ASSERT_TRUE(code == -SIGKILL || code == 0) << code;
      ASSERT_EQ(InProcess([&]() -> Result<void> {
                  LN_TRY(Recover(known ? std::vector<std::string>{"live", "pod"}
                                       : std::vector<std::string>{"live"}));
                  LN_TRY(CheckLive());
                  // Whoever keeps a pod that has no network detaches it sooner or later.
                  return known ? RemoveIt() : Ok();
                }),
                0);
      ASSERT_EQ(Snapshot(), before) << (known ? "known" : "not known");
      if (code == 0 && known) {
        EXPECT_GE(step, 20) << "fewer steps than it can be: the seam is not in place";
        std::printf("ADD: %d steps\n", step - 1);
        return;
      }
    }
  }
  ADD_FAILURE() << "ADD does not end";
}

TEST_F(EngineCrash, Del) {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  const std::string before = Snapshot();
  for (int step = 1; step < kMostSteps; ++step) {
    SCOPED_TRACE("DEL, killed at step " + std::to_string(step));
    for (const bool known : {false, true}) {
      const int code = InProcess([&]() -> Result<void> {
        LN_TRY(Recover({"live"}));
        LN_TRY(AttachIt());
        ArmFault(Fault::kDieBefore, step);
        LN_TRY(Detach("pod"));
        LN_TRY(engine_->ReleaseNetns(PodNamed("pod")));
        (void)DisarmFault();
        return Ok();
      });
      ASSERT_TRUE(code == -SIGKILL || code == 0) << code;
      ASSERT_EQ(InProcess([&]() -> Result<void> {
                  LN_TRY(Recover(known ? std::vector<std::string>{"live", "pod"}
                                       : std::vector<std::string>{"live"}));
                  LN_TRY(CheckLive());
                  return known ? RemoveIt() : Ok();
                }),
                0);
      ASSERT_EQ(Snapshot(), before) << (known ? "known" : "not known");
      if (code == 0 && known) {
        EXPECT_GE(step, 8) << "fewer steps than it can be: the seam is not in place";
        std::printf("DEL: %d steps\n", step - 1);
        return;
      }
    }
  }
  ADD_FAILURE() << "DEL does not end";
}

// Recovery itself dies: the next one goes on from there.
TEST_F(EngineCrash, Recover) {
  ASSERT_NO_FATAL_FAILURE(Prepare());
  const std::string before = Snapshot();
  for (int step = 1; step < kMostSteps; ++step) {
    SCOPED_TRACE("recovery, killed at step " + std::to_string(step));
    ASSERT_EQ(InProcess([&]() -> Result<void> {
                LN_TRY(Recover({"live"}));
                return AttachIt();
              }),
              0);
    const int code = InProcess([&]() -> Result<void> {
      ArmFault(Fault::kDieBefore, step);
      LN_TRY(Recover({"live"}));
      (void)DisarmFault();
      return Ok();
    });
    ASSERT_TRUE(code == -SIGKILL || code == 0) << code;
    ASSERT_EQ(InProcess([&]() -> Result<void> {
                LN_TRY(Recover({"live"}));
                return CheckLive();
              }),
              0);
    ASSERT_EQ(Snapshot(), before);
    if (code == 0) {
      EXPECT_GE(step, 20) << "fewer steps than it can be: the seam is not in place";
      std::printf("recovery: %d steps\n", step - 1);
      return;
    }
  }
  ADD_FAILURE() << "recovery does not end";
}

}  // namespace
}  // namespace linnet::network
