// engine.fault.<step>: every step of the kernel and the file system that ADD, DEL, CHECK, GC and
// recovery make is failed, one after another, once before it is carried out and once after. What
// can be seen of the host is compared with what it was.
#include <fcntl.h>
#include <unistd.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "engine_fixture.h"
#include "faults.h"

namespace linnet::network {
namespace {

using linnet::testing::ArmFault;
using linnet::testing::DisarmFault;
using linnet::testing::Fault;
using linnet::testing::FaultStep;

constexpr int kMostSteps = 400;

class FaultHost : public EngineHost {
 protected:
  void SetUp() override {
    EngineHost::SetUp();
    if (IsSkipped()) return;
    Start();
    // A pod that lives all the time, with all that the network keeps between pods.
    LN_ASSERT_OK(Attach("live", {Tcp(8080, 80)}));
    LN_ASSERT_OK(Attach("pod", {Tcp(8081, 80)}));
    LN_ASSERT_OK(Detach("pod"));
    Settle();
  }
  void Settle() { host_->DrainRetired(); }

  // Runs `work` with the fault at step 1, 2, … until it is over before the step is reached. `after`
  // looks at what is left behind.
  template <class Work, class After>
  void AtEveryStep(const char* what, int least, const std::function<Fault(int step)>& fault,
                   Work work, After after) {
    for (int step = 1; step < kMostSteps; ++step) {
      ArmFault(fault(step), step);
      Result<void> done = work();
      const int seen = DisarmFault();
      const std::string name = FaultStep();
      SCOPED_TRACE(std::string(what) + ", step " + name + ": " +
                   (done ? "succeeded" : done.error().message()));
      if (name.empty()) {
        EXPECT_TRUE(done) << done.error().message();
        EXPECT_GE(seen, least) << "fewer steps than it can be: the seam is not in place";
        std::printf("%s: %d steps\n", what, seen);
        return;
      }
      after(std::move(done));
      if (HasFailure()) return;
    }
    ADD_FAILURE() << what << " does not end";
  }
};

class EngineFault : public FaultHost, public ::testing::WithParamInterface<Fault> {
 protected:
  static Fault Wanted(int) { return GetParam(); }
};

std::string NameOf(const ::testing::TestParamInfo<Fault>& info) {
  return info.param == Fault::kFailBefore ? "before" : "after";
}
INSTANTIATE_TEST_SUITE_P(Steps, EngineFault,
                         ::testing::Values(Fault::kFailBefore, Fault::kFailAfter), NameOf);

TEST_P(EngineFault, Add) {
  const std::string before = Snapshot();
  AtEveryStep(
      "ADD", 20, Wanted,
      [&]() -> Result<void> {
        LN_TRY(Attach("pod", {Tcp(8081, 80)}));
        return Ok();
      },
      [&](Result<void> done) {
        if (done) LN_EXPECT_OK(Detach("pod"));  // a step that it can do without
        Settle();
        EXPECT_EQ(Snapshot(), before);
      });
  LN_EXPECT_OK(engine_->Check(PodNamed("pod")));
  LN_EXPECT_OK(engine_->Check(PodNamed("live")));
}

TEST_P(EngineFault, Del) {
  const std::string before = Snapshot();
  LN_ASSERT_OK(Attach("pod", {Tcp(8081, 80)}));
  AtEveryStep(
      "DEL", 8, Wanted, [&] { return Detach("pod"); },
      [&](Result<void> done) {
        // A DEL that failed is repeated by its caller; one that said yes has done it all.
        if (!done) LN_EXPECT_OK(Detach("pod"));
        Settle();
        EXPECT_EQ(Snapshot(), before);
        LN_ASSERT_OK(Attach("pod", {Tcp(8081, 80)}));
      });
  Settle();
  EXPECT_EQ(Snapshot(), before);
}

TEST_P(EngineFault, Check) {
  const std::string before = Snapshot();
  AtEveryStep(
      "CHECK", 5, Wanted, [&] { return engine_->Check(PodNamed("live")); },
      [&](const Result<void>&) { EXPECT_EQ(Snapshot(), before); });
  EXPECT_EQ(Snapshot(), before);
}

// The first pod of all: bridge, tables and sysctls are made on the way. Every other step fails
// before it is carried out, those between after.
TEST_F(FaultHost, FirstAdd) {
  LN_ASSERT_OK(Detach("live"));
  Settle();
  const auto clean = [&] {
    if (engine_) Settle();
    Stop();  // it would build its tables again
    Shell("ip link del linnet0; nft flush ruleset; rm -rf " + options_.ipam_dir + " " +
          options_.state_dir + "/attaching");
  };
  clean();
  Start();
  LN_ASSERT_OK(Attach("pod", {Tcp(8081, 80)}));
  LN_ASSERT_OK(Detach("pod"));
  Settle();
  // The bridge's MAC is random where the boot has no name.
  const auto snapshot = [&] {
    std::string text = Snapshot();
    const std::string mac(Trim(ReadFile("/sys/class/net/linnet0/address").value_or("none")));
    for (std::size_t at = 0; (at = text.find(mac, at)) != std::string::npos;)
      text.replace(at, mac.size(), "MAC");
    return text;
  };
  const std::string after_one = snapshot();
  clean();
  Start();
  AtEveryStep(
      "first ADD", 30,
      [](int step) { return step % 2 == 0 ? Fault::kFailBefore : Fault::kFailAfter; },
      [&]() -> Result<void> {
        LN_TRY(Attach("pod", {Tcp(8081, 80)}));
        return Ok();
      },
      [&](Result<void> done) {
        // What is left is nobody's: the next pod comes up as the first would have.
        if (!done) {
          LN_ASSERT_OK(Attach("pod", {Tcp(8081, 80)}));
          LN_EXPECT_OK(engine_->Check(PodNamed("pod")));
        }
        LN_EXPECT_OK(Detach("pod"));
        Settle();
        EXPECT_EQ(snapshot(), after_one);
        clean();
        Start();
      });
}

}  // namespace
}  // namespace linnet::network
