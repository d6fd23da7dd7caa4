// What a cgroup uses, read from trees of files as the kernel writes them.
#include "cgroup/usage.h"

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::runtime {
namespace {

using testing::TempDir;

constexpr const char* kPressure =
    "some avg10=1.50 avg60=0.25 avg300=0.07 total=123456\nfull avg10=0.75 avg60=0.00 avg300=0.01 "
    "total=65432\n";

class Usage : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) { dir_.Write(name, text); }
  Result<CgroupUsage> V1() {
    fd_ = LN_TRY(OpenDir(dir_.path()));
    return ReadUsageV1({.cpuacct = fd_, .memory = fd_, .pids = fd_, .pressure = fd_});
  }
  Result<CgroupUsage> V2() {
    fd_ = LN_TRY(OpenDir(dir_.path()));
    return ReadUsageV2(fd_);
  }
  void WriteV1() {
    Write("cpuacct.usage", "1234567890\n");
    Write("memory.usage_in_bytes", "10000000\n");
    Write("memory.limit_in_bytes", "67108864\n");
    Write("memory.stat",
          "cache 1\nrss 2\ninactive_file 3\npgfault 4\npgmajfault 5\nhierarchical_memory_limit "
          "67108864\n"
          "hierarchical_memsw_limit 100663296\ntotal_cache 11\ntotal_rss 4096000\ntotal_swap "
          "8192\ntotal_pgfault 700\n"
          "total_pgmajfault 8\ntotal_inactive_file 1000000\n");
    Write("pids.current", "7\n");
  }
  void WriteV2() {
    Write("cpu.stat", "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\nnr_periods 0\n");
    Write("memory.current", "10000000\n");
    Write("memory.max", "67108864\n");
    Write("memory.stat",
          "anon 4096000\nfile 5\ninactive_anon 6\nactive_file 7\ninactive_file 1000000\npgfault "
          "700\npgmajfault 8\n");
    Write("memory.swap.current", "8192\n");
    Write("memory.swap.max", "1048576\n");
    Write("pids.current", "7\n");
  }
  TempDir dir_;
  UniqueFd fd_;
};

TEST_F(Usage, V1_Everything) {
  WriteV1();
  const CgroupUsage u = LN_ASSERT_OK(V1());
  EXPECT_EQ(u.cpu_ns, 1234567890U);
  ASSERT_TRUE(u.memory);
  EXPECT_EQ(u.memory->usage_bytes, 10000000U);
  EXPECT_EQ(u.memory->working_set_bytes, 9000000U);
  EXPECT_EQ(u.memory->rss_bytes, 4096000U) << "with that of the groups below";
  EXPECT_EQ(u.memory->page_faults, 700U);
  EXPECT_EQ(u.memory->major_page_faults, 8U);
  EXPECT_EQ(u.memory->limit_bytes, 67108864U);
  EXPECT_EQ(u.swap_bytes, 8192U);
  EXPECT_EQ(u.swap_limit_bytes, 33554432U);
  EXPECT_EQ(u.pids, 7U);
  EXPECT_FALSE(u.cpu_pressure);
}

TEST_F(Usage, V1_Unlimited_NoLimits) {
  WriteV1();
  Write("memory.limit_in_bytes", "9223372036854771712\n");
  Write(
      "memory.stat",
      "total_rss 1\nhierarchical_memsw_limit 9223372036854771712\ntotal_inactive_file 20000000\n");
  const CgroupUsage u = LN_ASSERT_OK(V1());
  EXPECT_FALSE(u.memory->limit_bytes);
  EXPECT_EQ(u.memory->working_set_bytes, 0U) << "never below nothing";
  EXPECT_FALSE(u.swap_bytes);
  EXPECT_FALSE(u.swap_limit_bytes);
}

TEST_F(Usage, V1_MissingHierarchies_AreAbsent) {
  const CgroupUsage none = LN_ASSERT_OK(ReadUsageV1({}));
  EXPECT_FALSE(none.cpu_ns || none.memory || none.pids || none.cpu_pressure);
}

TEST_F(Usage, V1_Hybrid_PressureOfV2) {
  WriteV1();
  for (const char* file : {"cpu.pressure", "memory.pressure", "io.pressure"})
    Write(file, kPressure);
  const CgroupUsage u = LN_ASSERT_OK(V1());
  ASSERT_TRUE(u.cpu_pressure && u.memory_pressure && u.io_pressure);
  EXPECT_DOUBLE_EQ(u.io_pressure->full.avg10, 0.75);
}

TEST_F(Usage, V2_Everything) {
  WriteV2();
  Write("cpu.pressure", kPressure);
  const CgroupUsage u = LN_ASSERT_OK(V2());
  EXPECT_EQ(u.cpu_ns, 1234567000U);
  ASSERT_TRUE(u.memory);
  EXPECT_EQ(u.memory->working_set_bytes, 9000000U);
  EXPECT_EQ(u.memory->rss_bytes, 4096000U);
  EXPECT_EQ(u.memory->page_faults, 700U);
  EXPECT_EQ(u.memory->major_page_faults, 8U);
  EXPECT_EQ(u.memory->limit_bytes, 67108864U);
  EXPECT_EQ(u.swap_bytes, 8192U);
  EXPECT_EQ(u.swap_limit_bytes, 1048576U);
  EXPECT_EQ(u.pids, 7U);
  ASSERT_TRUE(u.cpu_pressure);
  EXPECT_EQ(u.cpu_pressure->some.total_us, 123456U);
  EXPECT_FALSE(u.memory_pressure);
}

TEST_F(Usage, V2_MaxAndNoSwap) {
  WriteV2();
  Write("memory.max", "max\n");
  LN_ASSERT_OK(RemoveFile(dir_.path() + "/memory.swap.current"));
  const CgroupUsage u = LN_ASSERT_OK(V2());
  EXPECT_FALSE(u.memory->limit_bytes);
  EXPECT_FALSE(u.swap_bytes);
  EXPECT_FALSE(u.swap_limit_bytes) << "no swap accounting, no limit";
}

TEST_F(Usage, V2_NoMemoryController) {
  Write("cpu.stat", "usage_usec 1\n");
  const CgroupUsage u = LN_ASSERT_OK(V2());
  EXPECT_EQ(u.cpu_ns, 1000U);
  EXPECT_FALSE(u.memory);
}

TEST_F(Usage, Garbage_IsAnErrorWithTheFile) {
  WriteV2();
  Write("memory.current", "many\n");
  LN_EXPECT_ERROR(V2(), Code::kInvalidArgument, "memory.current");
  WriteV1();
  Write("cpuacct.usage", "-1\n");
  LN_EXPECT_ERROR(V1(), Code::kInvalidArgument, "cpuacct.usage");
}

TEST(PressureText, BothLines) {
  const Pressure p = ParsePressure(kPressure);
  EXPECT_DOUBLE_EQ(p.some.avg10, 1.5);
  EXPECT_DOUBLE_EQ(p.some.avg60, 0.25);
  EXPECT_DOUBLE_EQ(p.some.avg300, 0.07);
  EXPECT_EQ(p.some.total_us, 123456U);
  EXPECT_EQ(p.full.total_us, 65432U);
}

TEST(PressureText, OldKernelsAndGarbage) {
  EXPECT_EQ(ParsePressure("some avg10=0.00 total=5\n").full.total_us, 0U)
      << "no full line for cpu before 5.13";
  EXPECT_EQ(ParsePressure("some total=x avg10=\nwhat ever\nfull\n").some.total_us, 0U);
  EXPECT_EQ(ParsePressure("").some.total_us, 0U);
}

}  // namespace
}  // namespace linnet::runtime
