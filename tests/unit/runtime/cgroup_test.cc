#include <linux/bpf.h>
#include <sys/stat.h>

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "cgroup/control_writes.h"
#include "cgroup/device_rules.h"
#include "cgroup/hierarchy.h"
#include "cgroup/manager_v1.h"
#include "cgroup/manager_v2.h"

namespace linnet::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempDir;

// -------------------------------------------------------------------------------------------
// hierarchies

TEST(CgroupMounts, Hybrid) {
  const auto mounts = ParseCgroupMounts(
      "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "35 31 0:32 / /sys/fs/cgroup/me\\040mory rw - cgroup cgroup rw,memory\n"
      "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
      "garbage\n"
      "1 2 3 - cgroup x y\n");
  ASSERT_EQ(mounts.size(), 3U);
  EXPECT_TRUE(mounts[0].v2);
  EXPECT_EQ(mounts[1].mount_point, "/sys/fs/cgroup/me mory");
  EXPECT_TRUE(mounts[1].controllers.Has(Controller::kMemory));
  EXPECT_TRUE(mounts[2].controllers.Has(Controller::kCpu));
  EXPECT_TRUE(mounts[2].controllers.Has(Controller::kCpuacct));
}

TEST(CgroupMounts, WholeHierarchyBeforeParts_LaterBeforeEarlier) {
  const auto mounts = ParseCgroupMounts(
      "1 0 0:1 / /a rw - cgroup2 cgroup2 rw\n"
      "2 0 0:1 / /b rw - cgroup2 cgroup2 rw\n"
      "3 0 0:1 /docker/x /c rw - cgroup2 cgroup2 rw\n"
      "4 0 0:1 /../.. /d rw - cgroup2 cgroup2 rw\n");
  std::vector<std::string> points;
  for (const auto& m : mounts) points.push_back(m.mount_point);
  EXPECT_THAT(points, ElementsAre("/b", "/a", "/d", "/c"));
}

TEST(CgroupControllers, BothSpellings) {
  const ControllerSet set = ParseControllers("cpuset cpu io memory hugetlb pids rdma misc\n", ' ');
  for (const Controller c : {Controller::kCpuset, Controller::kCpu, Controller::kBlkio,
                             Controller::kMemory, Controller::kHugetlb, Controller::kPids}) {
    EXPECT_TRUE(set.Has(c));
  }
  EXPECT_FALSE(set.Has(Controller::kDevices));
  EXPECT_TRUE(ParseControllers("", ' ').empty());
}

TEST(CgroupPath, OnlyPlainPaths) {
  EXPECT_EQ(LN_ASSERT_OK(RelativePath("/a//b/")), "a/b");
  EXPECT_EQ(LN_ASSERT_OK(RelativePath("a..b")), "a..b");
  for (const std::string& path :
       {std::string("/"), std::string(""), std::string("/a/../b"), std::string("/./a"),
        std::string(".."), std::string("a\nb"), std::string("a\0b", 3)}) {
    LN_EXPECT_ERROR(RelativePath(path), Code::kInvalidArgument, "cgroup path");
  }
}

// --------------------------------------------------------------------------------------------
// conversions

TEST(CpuWeight, QuadraticFormula) {
  // Fixed points of the formula, and values that runc 1.4 gives.
  EXPECT_EQ(CpuWeight(2), 1U);
  EXPECT_EQ(CpuWeight(1024), 100U);
  EXPECT_EQ(CpuWeight(262144), 10000U);
  EXPECT_EQ(CpuWeight(0), 1U);
  EXPECT_EQ(CpuWeight(1), 1U);
  EXPECT_EQ(CpuWeight(UINT64_MAX), 10000U);
  EXPECT_EQ(CpuWeight(512), 59U);
  EXPECT_EQ(CpuWeight(102), 17U);
  EXPECT_EQ(CpuWeight(3), 2U);
  std::uint64_t last = 0;
  for (std::uint64_t shares = 2; shares <= 262144; shares += 97) {
    EXPECT_GE(CpuWeight(shares), last) << shares;
    last = CpuWeight(shares);
  }
}

// "file=value" of each write, "?" after a file that may be missing, steps of two joined by "&".
std::vector<std::string> Texts(const std::vector<ControlStep>& steps) {
  std::vector<std::string> out;
  for (const ControlStep& step : steps) {
    std::string text;
    for (const ControlWrite& w : step.writes)
      text += (text.empty() ? "" : "&") + w.file + (w.may_be_missing ? "?" : "") + "=" + w.value;
    out.push_back(text);
  }
  return out;
}

Result<std::string> NothingToRead(const std::string& file) { return NotFound(file); }

TEST(PlanV1, Everything) {
  oci::Resources r;
  r.cpu_shares = 512;
  r.cpu_period = 100000;
  r.cpu_quota = 50000;
  r.memory_limit = 1 << 20;
  r.memory_swap = 2 << 20;
  r.memory_reservation = 4096;
  r.cpuset_cpus = "0-1";
  r.cpuset_mems = "0";
  r.pids_limit = 10;
  EXPECT_THAT(Texts(LN_ASSERT_OK(PlanV1(r))),
              ElementsAre("cpuset.cpus=0-1", "cpuset.mems=0", "cpu.shares=512",
                          "cpu.cfs_period_us=100000&cpu.cfs_quota_us=50000",
                          "memory.limit_in_bytes=1048576&memory.memsw.limit_in_bytes=2097152",
                          "memory.soft_limit_in_bytes=4096", "pids.max=10"));
}

TEST(PlanV1, Unlimited) {
  oci::Resources r;
  r.cpu_quota = -1;
  r.memory_limit = -1;
  r.pids_limit = -1;
  EXPECT_THAT(
      Texts(LN_ASSERT_OK(PlanV1(r))),
      ElementsAre("cpu.cfs_quota_us=-1", "memory.limit_in_bytes=-1&memory.memsw.limit_in_bytes?=-1",
                  "pids.max=max"));
}

TEST(PlanV1, NoSwapWanted_NoSwapAccountingNeeded) {
  oci::Resources r;
  r.memory_limit = r.memory_swap = 4096;
  EXPECT_THAT(Texts(LN_ASSERT_OK(PlanV1(r))),
              ElementsAre("memory.limit_in_bytes=4096&memory.memsw.limit_in_bytes?=4096"));
}

TEST(PlanV1, NothingAsked_NothingWritten) { EXPECT_THAT(LN_ASSERT_OK(PlanV1({})), IsEmpty()); }

TEST(PlanV1, Errors) {
  oci::Resources r;
  r.unified["memory.high"] = "1";
  LN_EXPECT_ERROR(PlanV1(r), Code::kUnimplemented, "memory.high");
  r.unified.clear();
  r.memory_limit = 100;
  r.memory_swap = 50;
  LN_EXPECT_ERROR(PlanV1(r), Code::kInvalidArgument, "50");
}

TEST(PlanV2, Everything) {
  oci::Resources r;
  r.cpu_shares = 1024;
  r.cpu_period = 20000;
  r.cpu_quota = 10000;
  r.memory_limit = 1 << 20;
  r.memory_swap = 3 << 20;
  r.memory_reservation = 4096;
  r.cpuset_cpus = "0";
  r.pids_limit = 0;
  r.hugepage_limits = {{"2MB", 1U << 21}};
  r.unified = {{"io.max", "8:0 rbps=1\n8:16 wbps=2"}, {"memory.high", "123"}};
  EXPECT_THAT(
      Texts(LN_ASSERT_OK(PlanV2(r, NothingToRead))),
      ElementsAre("cpuset.cpus=0", "cpu.weight=100", "cpu.max=10000 20000",
                  "memory.swap.max=2097152", "memory.max=1048576", "memory.low=4096",
                  "pids.max=max", "hugetlb.2MB.rsvd.max?=2097152", "hugetlb.2MB.max=2097152",
                  "io.max=8:0 rbps=1", "io.max=8:16 wbps=2", "memory.high=123"));
}

TEST(PlanV2, Unlimited) {
  oci::Resources r;
  r.cpu_quota = -1;
  r.memory_limit = -1;
  EXPECT_THAT(Texts(LN_ASSERT_OK(PlanV2(r, NothingToRead))),
              ElementsAre("cpu.max=max", "memory.swap.max?=max", "memory.max=max"));
}

TEST(PlanV2, HalfOfAPair_OtherHalfIsKept) {
  const auto read = [](const std::string& file) -> Result<std::string> {
    if (file == "cpu.max") return std::string("30000 100000\n");
    if (file == "memory.max") return std::string("1000\n");
    return NotFound(file);
  };
  oci::Resources r;
  r.cpu_period = 50000;
  r.memory_swap = 1500;
  EXPECT_THAT(Texts(LN_ASSERT_OK(PlanV2(r, read))),
              ElementsAre("cpu.max=30000 50000", "memory.swap.max=500"));
  r.memory_swap = 900;
  LN_EXPECT_ERROR(PlanV2(r, read), Code::kInvalidArgument, "900");
  r.memory_swap = 900;
  LN_EXPECT_ERROR(PlanV2(r,
                         [](const std::string& f) -> Result<std::string> {
                           return f == "cpu.max" ? "max 1\n" : "max\n";
                         }),
                  Code::kFailedPrecondition, "limit of memory");
}

TEST(PlanV2, UnifiedErrors) {
  for (const char* file : {"cgroup.procs", "cgroup.kill", "../memory.max", "memory", "a/b.c"}) {
    oci::Resources r;
    r.unified[file] = "1";
    LN_EXPECT_ERROR(PlanV2(r, NothingToRead), Code::kInvalidArgument, file);
  }
  oci::Resources r;
  r.unified["nonsense.max"] = "1";
  LN_EXPECT_ERROR(PlanV2(r, NothingToRead), Code::kUnimplemented, "nonsense.max");
}

// -------------------------------------------------------------------------------------------
// device rules

oci::DeviceRule DeviceRule(bool allow, const char* type, std::optional<std::int64_t> major,
                           std::optional<std::int64_t> minor, const char* access) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = access};
}

struct Access {
  char type;
  std::uint32_t major, minor;
  const char* wanted;
};

// Runs the program as the kernel would: 1 allowed, 0 refused, -1 not a program.
int RunProgram(const std::vector<bpf_insn>& program, const Access& access) {
  bpf_cgroup_dev_ctx context{};
  std::uint32_t bits = 0;
  for (const char* c = access.wanted; *c != '\0'; ++c) {
    bits |= *c == 'm' ? BPF_DEVCG_ACC_MKNOD : *c == 'r' ? BPF_DEVCG_ACC_READ : BPF_DEVCG_ACC_WRITE;
  }
  context.access_type =
      (bits << 16) |
      static_cast<std::uint32_t>(access.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  context.major = access.major;
  context.minor = access.minor;
  std::uint64_t r[11] = {};
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    const bpf_insn& in = program[pc];
    std::uint64_t& dst = r[in.dst_reg];
    const auto imm = static_cast<std::uint64_t>(static_cast<std::int64_t>(in.imm));
    const auto jump = [&](bool yes) {
      if (yes) pc += static_cast<std::size_t>(in.off);
    };
    switch (in.code) {
      case BPF_LDX | BPF_MEM | BPF_W: {
        std::uint32_t word = 0;
        std::memcpy(&word, reinterpret_cast<const char*>(&context) + in.off, 4);
        dst = word;
        break;
      }
      case BPF_ALU64 | BPF_MOV | BPF_X:
        dst = r[in.src_reg];
        break;
      case BPF_ALU64 | BPF_MOV | BPF_K:
        dst = imm;
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        dst = static_cast<std::uint32_t>(dst) & static_cast<std::uint32_t>(imm);
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        dst = static_cast<std::uint32_t>(dst) >> in.imm;
        break;
      case BPF_JMP | BPF_JNE | BPF_K:
        jump(dst != imm);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jump(dst == imm);
        break;
      case BPF_JMP | BPF_EXIT:
        return static_cast<int>(r[0]);
      default:
        return -1;
    }
  }
  return -1;
}

std::vector<bpf_insn> Program(const std::vector<oci::DeviceRule>& rules) {
  auto normal = NormaliseDeviceRules(rules);
  EXPECT_TRUE(normal.has_value());
  return normal ? BuildDeviceProgram(*normal) : std::vector<bpf_insn>();
}

TEST(DeviceProgram, DefaultsOfAContainer) {
  const auto p = Program({DeviceRule(false, "a", {}, {}, "rwm"), DeviceRule(true, "c", {}, {}, "m"),
                          DeviceRule(true, "b", {}, {}, "m"), DeviceRule(true, "c", 1, 3, "rwm"),
                          DeviceRule(true, "c", 136, {}, "rwm")});
  EXPECT_EQ(RunProgram(p, {'c', 1, 3, "rw"}), 1);
  EXPECT_EQ(RunProgram(p, {'c', 1, 3, "rwm"}), 1);
  EXPECT_EQ(RunProgram(p, {'c', 136, 7, "rw"}), 1);
  EXPECT_EQ(RunProgram(p, {'c', 99, 1, "m"}), 1);
  EXPECT_EQ(RunProgram(p, {'b', 8, 0, "m"}), 1);
  EXPECT_EQ(RunProgram(p, {'c', 1, 1, "r"}), 0) << "/dev/mem";
  EXPECT_EQ(RunProgram(p, {'b', 8, 0, "r"}), 0);
  EXPECT_EQ(RunProgram(p, {'b', 1, 3, "r"}), 0) << "a block device of the same numbers";
}

TEST(DeviceProgram, LastRuleDecides_PerAccess) {
  const auto p =
      Program({DeviceRule(false, "a", {}, {}, "rwm"), DeviceRule(true, "c", 10, {}, "rwm"),
               DeviceRule(false, "c", 10, 200, "w"), DeviceRule(true, "b", 7, {}, "r"),
               DeviceRule(true, "b", 7, 1, "w")});
  EXPECT_EQ(RunProgram(p, {'c', 10, 200, "r"}), 1);
  EXPECT_EQ(RunProgram(p, {'c', 10, 200, "w"}), 0);
  EXPECT_EQ(RunProgram(p, {'c', 10, 200, "rw"}), 0);
  EXPECT_EQ(RunProgram(p, {'c', 10, 201, "rw"}), 1);
  EXPECT_EQ(RunProgram(p, {'b', 7, 1, "rw"}), 1) << "two rules together";
  EXPECT_EQ(RunProgram(p, {'b', 7, 2, "rw"}), 0);
}

TEST(DeviceProgram, Privileged) {
  const auto p =
      Program({DeviceRule(false, "c", 1, 3, "rwm"), DeviceRule(true, "a", {}, {}, "rwm")});
  EXPECT_EQ(RunProgram(p, {'b', 8, 0, "rwm"}), 1);
  EXPECT_EQ(RunProgram(p, {'c', 1, 3, "rwm"}), 1) << "the rule before is overridden";
  const auto but =
      Program({DeviceRule(true, "a", {}, {}, "rwm"), DeviceRule(false, "a", 8, {}, "w")});
  EXPECT_EQ(RunProgram(but, {'b', 8, 0, "w"}), 0);
  EXPECT_EQ(RunProgram(but, {'c', 8, 0, "w"}), 0);
  EXPECT_EQ(RunProgram(but, {'b', 8, 0, "r"}), 1);
}

TEST(DeviceProgram, NoRules_Refused) { EXPECT_EQ(RunProgram(Program({}), {'c', 1, 3, "r"}), 0); }

TEST(NormaliseDeviceRules, Errors) {
  LN_EXPECT_ERROR(NormaliseDeviceRules({DeviceRule(true, "x", {}, {}, "r")}),
                  Code::kInvalidArgument, "\"x\"");
  LN_EXPECT_ERROR(NormaliseDeviceRules({DeviceRule(true, "c", {}, {}, "rx")}),
                  Code::kInvalidArgument, "rx");
  LN_EXPECT_ERROR(NormaliseDeviceRules({DeviceRule(true, "c", -2, {}, "r")}),
                  Code::kInvalidArgument, "-2");
  LN_EXPECT_ERROR(NormaliseDeviceRules({DeviceRule(true, "c", 1, 1LL << 40, "r")}),
                  Code::kInvalidArgument, "minor");
}

TEST(NormaliseDeviceRules, TextForV1) {
  const auto rules = LN_ASSERT_OK(NormaliseDeviceRules(
      {DeviceRule(true, "c", 1, 3, "rwm"), DeviceRule(true, "b", -1, {}, "m")}));
  ASSERT_EQ(rules.rules.size(), 2U);
  EXPECT_EQ(FormatDeviceRule(rules.rules[0]), "c 1:3 rwm");
  EXPECT_EQ(FormatDeviceRule(rules.rules[1]), "b *:* m");
}

// --------------------------------------------------------------------------- managers over trees
// of files

Hierarchy Fake(const TempDir& dir, const std::string& name, const char* controllers) {
  Hierarchy out;
  out.controllers = ParseControllers(controllers, ' ');
  out.mount_point = dir / name;
  out.dir = *OpenDir(dir / name);
  return out;
}

class FakeV1 : public ::testing::Test {
 protected:
  FakeV1() {
    dir_.Write({{"cpu/p/c/cpu.shares", ""},
                {"cpu/p/c/cpu.cfs_period_us", ""},
                {"cpu/p/c/cpu.cfs_quota_us", ""},
                {"cpu/p/c/tasks", ""},
                {"memory/p/c/memory.limit_in_bytes", ""},
                {"memory/p/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"},
                {"memory/p/c/tasks", ""},
                {"devices/p/c/devices.list", "a *:* rwm\n"},
                {"devices/p/c/devices.allow", ""},
                {"devices/p/c/devices.deny", ""},
                {"devices/p/c/tasks", ""},
                {"freezer/p/c/freezer.state", "THAWED\n"},
                {"freezer/p/c/cgroup.procs", ""},
                {"freezer/p/c/tasks", ""},
                {"unified/p/c/cgroup.kill", ""},
                {"unified/p/c/cgroup.events", "populated 1\nfrozen 0\n"},
                {"unified/p/d/", ""}});
  }
  std::unique_ptr<CgroupManager> Manager(bool with_v2) {
    Hierarchies h;
    h.v1.push_back(Fake(dir_, "cpu", "cpu cpuacct"));
    h.v1.push_back(Fake(dir_, "memory", "memory"));
    h.v1.push_back(Fake(dir_, "devices", "devices"));
    h.v1.push_back(Fake(dir_, "freezer", "freezer"));
    if (with_v2) h.v2 = Fake(dir_, "unified", "");
    return std::make_unique<ManagerV1>(std::move(h));
  }
  TempDir dir_;
};

TEST_F(FakeV1, Layout) {
  EXPECT_EQ(Manager(false)->layout(), CgroupLayout::kV1);
  EXPECT_EQ(Manager(true)->layout(), CgroupLayout::kHybrid);
}

TEST_F(FakeV1, SetResources_WritesEachHierarchy) {
  oci::Resources r;
  r.cpu_shares = 77;
  r.cpu_quota = 5000;
  r.cpu_period = 10000;
  r.memory_limit = r.memory_swap = 1 << 20;
  LN_EXPECT_OK(Manager(false)->SetResources("/p/c", r));
  EXPECT_EQ(dir_.Read("cpu/p/c/cpu.shares"), "77");
  EXPECT_EQ(dir_.Read("cpu/p/c/cpu.cfs_quota_us"), "5000");
  EXPECT_EQ(dir_.Read("memory/p/c/memory.limit_in_bytes"), "1048576");
  EXPECT_EQ(dir_.Read("memory/p/c/memory.memsw.limit_in_bytes"), "<absent>");
}

TEST_F(FakeV1, SetResources_MissingController) {
  oci::Resources r;
  r.pids_limit = 5;
  LN_EXPECT_ERROR(Manager(false)->SetResources("/p/c", r), Code::kUnimplemented, "pids");
  r = {};
  r.memory_limit = 1 << 20;
  r.memory_swap = 2 << 20;
  LN_EXPECT_ERROR(Manager(false)->SetResources("/p/c", r), Code::kUnimplemented,
                  "memory.memsw.limit_in_bytes");
  LN_EXPECT_ERROR(Manager(false)->SetResources("/p/none", r), Code::kNotFound, "p/none");
}

TEST_F(FakeV1, Hugepages_ZeroNeedsNoController) {
  oci::Resources r;
  r.hugepage_limits = {{"2MB", 0}, {"1GB", 0}};
  LN_EXPECT_OK(Manager(false)->SetResources("/p/c", r));
  r.hugepage_limits[0].limit = 1;
  LN_EXPECT_ERROR(Manager(false)->SetResources("/p/c", r), Code::kUnimplemented, "hugetlb");
}

TEST_F(FakeV1, SetDevices_AllowAllWhereAllIsAllowed_WritesNothing) {
  LN_EXPECT_OK(Manager(false)->SetDevices("/p/c", {DeviceRule(true, "a", {}, {}, "rwm")}));
  EXPECT_EQ(dir_.Read("devices/p/c/devices.allow"), "");
  EXPECT_EQ(dir_.Read("devices/p/c/devices.deny"), "");
}

TEST_F(FakeV1, SetDevices_DenyAllThenAllow) {
  LN_EXPECT_OK(Manager(false)->SetDevices(
      "/p/c", {DeviceRule(false, "a", {}, {}, "rwm"), DeviceRule(true, "c", 1, 3, "rwm")}));
  EXPECT_EQ(dir_.Read("devices/p/c/devices.deny"), "a");
  EXPECT_EQ(dir_.Read("devices/p/c/devices.allow"), "c 1:3 rwm");
}

TEST_F(FakeV1, OomKills) {
  EXPECT_EQ(LN_ASSERT_OK(Manager(false)->OomKills("/p/c")), 3U);
  EXPECT_EQ(LN_ASSERT_OK(Manager(false)->OomKills("/p/none")), 0U);
}

TEST_F(FakeV1, Entry_WithV2NeedsNoFreezer) {
  const auto v1 = LN_ASSERT_OK(Manager(false)->OpenEntry("/p/c"));
  EXPECT_EQ(v1.v1_tasks.size(), 4U);
  EXPECT_FALSE(v1.v2_dir.valid());
  const auto hybrid = LN_ASSERT_OK(Manager(true)->OpenEntry("/p/c"));
  EXPECT_EQ(hybrid.v1_tasks.size(), 3U);
  EXPECT_TRUE(hybrid.v2_dir.valid());
  LN_EXPECT_ERROR(Manager(true)->OpenEntry("/p/none"), Code::kNotFound, "none");
}

TEST_F(FakeV1, Kill_Hybrid) {
  LN_EXPECT_OK(Manager(true)->Kill("/p/c"));
  EXPECT_EQ(dir_.Read("unified/p/c/cgroup.kill"), "1");
  LN_EXPECT_OK(Manager(true)->Kill("/p/none"));
}

TEST_F(FakeV1, Kill_V1_ThawsAgain) {
  LN_EXPECT_OK(Manager(false)->Kill("/p/c"));
  EXPECT_EQ(dir_.Read("freezer/p/c/freezer.state").substr(0, 6), "THAWED");
  LN_EXPECT_OK(Manager(false)->Kill("/p/none"));
}

TEST_F(FakeV1, Populated) {
  EXPECT_TRUE(LN_ASSERT_OK(Manager(true)->Populated("/p/c")));
  EXPECT_FALSE(LN_ASSERT_OK(Manager(true)->Populated("/p/none")));
  dir_.Write("cpu/p/c/sub/cgroup.procs", "1\n");
  EXPECT_TRUE(LN_ASSERT_OK(Manager(false)->Populated("/p")));
  EXPECT_FALSE(LN_ASSERT_OK(Manager(false)->Populated("/none")));
}

TEST_F(FakeV1, Children_OfAllHierarchies) {
  EXPECT_THAT(LN_ASSERT_OK(Manager(true)->Children("/p")), ElementsAre("c", "d"));
  EXPECT_THAT(LN_ASSERT_OK(Manager(false)->Children("/p")), ElementsAre("c"));
  EXPECT_THAT(LN_ASSERT_OK(Manager(false)->Children("/none")), IsEmpty());
}

TEST_F(FakeV1, Remove_AbsentIsSuccess) { LN_EXPECT_OK(Manager(true)->Remove("/nothing/here")); }

TEST_F(FakeV1, HierarchyRoot_Refused) {
  for (const char* path : {"/", "", "/p/.."}) {
    LN_EXPECT_ERROR(Manager(true)->Remove(path), Code::kInvalidArgument, "");
    LN_EXPECT_ERROR(Manager(true)->Kill(path), Code::kInvalidArgument, "");
    LN_EXPECT_ERROR(Manager(true)->Make(path), Code::kInvalidArgument, "");
  }
}

class FakeV2 : public ::testing::Test {
 protected:
  FakeV2() {
    dir_.Write(
        {{"p/c/cpu.weight", ""},
         {"p/c/cpu.max", "max 100000\n"},
         {"p/c/memory.max", "max\n"},
         {"p/c/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"},
         {"p/c/pids.max", ""},
         {"p/c/cgroup.kill", ""},
         {"p/c/cgroup.controllers", "cpu memory pids\n"},
         {"p/c/cgroup.events", "populated 0\nfrozen 0\n"},
         {"p/cgroup.subtree_control", ""},
         {"p/cgroup.controllers", "cpu memory pids\n"},
         {"cgroup.subtree_control", ""}});
  }
  std::unique_ptr<CgroupManager> Manager() {
    return std::make_unique<ManagerV2>(Fake(dir_, ".", "cpu memory pids"));
  }
  TempDir dir_;
};

TEST_F(FakeV2, SetResources) {
  oci::Resources r;
  r.cpu_shares = 1024;
  r.cpu_period = 50000;
  r.memory_limit = r.memory_swap = 4096;
  r.pids_limit = 12;
  LN_EXPECT_OK(Manager()->SetResources("/p/c", r));
  EXPECT_EQ(dir_.Read("p/c/cpu.weight"), "100");
  EXPECT_EQ(dir_.Read("p/c/cpu.max").substr(0, 9), "max 50000");
  EXPECT_EQ(dir_.Read("p/c/memory.max").substr(0, 4), "4096");
  EXPECT_EQ(dir_.Read("p/c/pids.max"), "12");
}

TEST_F(FakeV2, SetResources_MissingController) {
  oci::Resources r;
  r.cpuset_cpus = "0";
  LN_EXPECT_ERROR(Manager()->SetResources("/p/c", r), Code::kUnimplemented, "cpuset");
  r = {};
  r.unified["io.weight"] = "50";
  LN_EXPECT_ERROR(Manager()->SetResources("/p/c", r), Code::kUnimplemented, "io");
  r = {};
  r.hugepage_limits = {{"2MB", 0}};
  LN_EXPECT_OK(Manager()->SetResources("/p/c", r));
}

TEST_F(FakeV2, Make_HandsControllersDown) {
  dir_.Write("p/c/cgroup.controllers", "cpu\n");
  LN_EXPECT_OK(Manager()->Make("/p/c"));
  EXPECT_EQ(dir_.Read("p/cgroup.subtree_control"), "+cpu +memory +pids");
  EXPECT_EQ(dir_.Read("cgroup.subtree_control"), "")
      << "the parent could give: nothing to do above";
}

TEST_F(FakeV2, Make_NothingToHandDown_WritesNothing) {
  LN_EXPECT_OK(Manager()->Make("/p/c"));
  EXPECT_EQ(dir_.Read("p/cgroup.subtree_control"), "");
}

TEST_F(FakeV2, OomKills_NotOoms) { EXPECT_EQ(LN_ASSERT_OK(Manager()->OomKills("/p/c")), 1U); }

TEST_F(FakeV2, KillAndPopulated) {
  LN_EXPECT_OK(Manager()->Kill("/p/c"));
  EXPECT_EQ(dir_.Read("p/c/cgroup.kill"), "1");
  EXPECT_FALSE(LN_ASSERT_OK(Manager()->Populated("/p/c")));
  EXPECT_EQ(Manager()->layout(), CgroupLayout::kV2);
}

}  // namespace
}  // namespace linnet::runtime
