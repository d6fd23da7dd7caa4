// A child that starts in a cgroup v2: needs the kernel's.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/spawn.h"
#include "linnet/testing/result.h"

namespace linnet {
namespace {

using std::chrono::steady_clock;

std::string V2Root() {
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    if (Exists(std::string(path) + "/cgroup.controllers")) return path;
  }
  return "";
}

class SpawnIntoCgroup : public ::testing::Test {
 protected:
  void SetUp() override {
    if (V2Root().empty()) GTEST_SKIP() << "no cgroup v2 is mounted";
    if (::mkdir(path_.c_str(), 0755) != 0) GTEST_SKIP() << "cannot make a cgroup: needs root";
    dir_ = LN_ASSERT_OK(OpenDir(path_));
  }
  void TearDown() override { (void)::rmdir(path_.c_str()); }

  SpawnSpec Spec() const {
    SpawnSpec spec;
    spec.path = "/bin/sh";
    spec.argv = {"sh", "-c", "grep ^0:: /proc/self/cgroup"};
    spec.env = {"PATH=/usr/bin:/bin"};
    return spec;
  }
  const std::string path_ = V2Root() + "/linnet-spawn-test";
  UniqueFd dir_;
};

TEST_F(SpawnIntoCgroup, ClonedInto) {
  SpawnSpec spec = Spec();
  spec.cgroup_dir = dir_;
  for (int i = 0; i < 20; ++i) {
    const RunResult r =
        LN_ASSERT_OK(linnet::Run(spec, "", steady_clock::now() + std::chrono::seconds(10)));
    EXPECT_EQ(r.out, "0::/linnet-spawn-test\n");
  }
}

TEST_F(SpawnIntoCgroup, ChildMovesItself) {
  const UniqueFd procs = LN_ASSERT_OK(OpenAt(dir_, "cgroup.procs", O_WRONLY));
  SpawnSpec spec = Spec();
  spec.cgroup_procs = {procs};
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", steady_clock::now() + std::chrono::seconds(10))).out,
            "0::/linnet-spawn-test\n");
}

TEST_F(SpawnIntoCgroup, ErrorsStillNameTheStage) {
  SpawnSpec spec = Spec();
  spec.cgroup_dir = dir_;
  spec.cwd = "/no/such/directory";
  LN_EXPECT_ERROR(Spawn(spec), Code::kNotFound, "chdir");
}

}  // namespace
}  // namespace linnet
