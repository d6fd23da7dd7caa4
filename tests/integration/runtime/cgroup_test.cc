// The cgroup manager against the kernel, whatever layout this machine has.
#include "cgroup/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"

#include "cgroup/device_rules.h"
#include "cgroup/hierarchy.h"
#include "cgroup/manager_v1.h"
#include "cgroup/manager_v2.h"
#include "cgroup/tree.h"

namespace linnet::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::Contains;
using ::testing::ElementsAre;

// What a container's child does before anything else.
bool Enter(const CgroupEntry& entry) {
  for (const UniqueFd& tasks : entry.v1_tasks) {
    if (::write(tasks.get(), "0", 1) != 1) return false;
  }
  if (!entry.v2_dir) return true;
  const int procs = ::openat(entry.v2_dir.get(), "cgroup.procs", O_WRONLY | O_CLOEXEC);
  return procs >= 0 && ::write(procs, "0", 1) == 1;
}

// A process in the cgroup that runs `body` and exits with its result; says when it is in.
class Member {
 public:
  Member(CgroupManager& manager, const std::string& path, const std::function<int()>& body) {
    auto entry = manager.OpenEntry(path);
    EXPECT_TRUE(entry.has_value()) << (entry ? "" : entry.error().message());
    if (!entry) return;
    int ready[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ready[0]);
      if (!Enter(*entry)) ::_exit(99);
      (void)!::write(ready[1], "x", 1);
      ::_exit(body());
    }
    ::close(ready[1]);
    char byte = 0;
    entered_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
    EXPECT_TRUE(entered_);
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  ~Member() {
    if (pid_ <= 0 || waited_) return;
    ::kill(pid_, SIGKILL);
    Wait();
  }
  pid_t pid() const { return pid_; }
  // As waitpid says.
  int Wait() {
    int status = -1;
    ::waitpid(pid_, &status, 0);
    waited_ = true;
    return status;
  }
  int ExitCode() {
    const int status = Wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  bool entered_ = false;
  bool waited_ = false;
};

int Sleep() {
  for (;;) ::pause();
}

class Cgroup : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    manager_ = LN_ASSERT_OK(CgroupManager::Create());
    found_ = LN_ASSERT_OK(OpenHierarchies());
  }
  void TearDown() override {
    if (!manager_) return;
    LN_EXPECT_OK(manager_->Kill(kTop));
    LN_EXPECT_OK(manager_->Remove(kTop));
    for (const Hierarchy& h : found_.v1)
      EXPECT_FALSE(Exists(h.mount_point + kTop)) << h.mount_point;
    if (found_.v2) {
      EXPECT_FALSE(Exists(found_.v2->mount_point + kTop));
    }
  }
  bool v2() const { return manager_->layout() == CgroupLayout::kV2; }
  // A file of the cgroup, in the v1 hierarchy of the controller or, where there is none, on v2.
  std::string Read(Controller controller, const std::string& path, const std::string& v1_file,
                   const std::string& v2_file) const {
    std::string file = found_.v2 ? found_.v2->mount_point + path + "/" + v2_file : "";
    for (const Hierarchy& h : found_.v1) {
      if (h.controllers.Has(controller)) file = h.mount_point + path + "/" + v1_file;
    }
    auto text = ReadFile(file);
    return text ? std::string(Trim(*text)) : text.error().message();
  }

  static constexpr const char* kTop = "/linnet-cgroup-test";
  const std::string pod_ = std::string(kTop) + "/pods/p1";
  const std::string container_ = pod_ + "/c1";
  std::unique_ptr<CgroupManager> manager_;
  Hierarchies found_;
};

TEST_F(Cgroup, Make_InEveryHierarchy_AndAgain) {
  LN_EXPECT_OK(manager_->Make(container_));
  LN_EXPECT_OK(manager_->Make(container_));
  Member member(*manager_, container_, Sleep);
  const auto own = LN_ASSERT_OK(ReadFile("/proc/" + std::to_string(member.pid()) + "/cgroup"));
  for (const std::string& line : Split(own, '\n')) {
    const std::string controllers = line.substr(0, line.rfind(':'));
    if (line.empty() || controllers.find("name=") != std::string::npos ||
        controllers.find("freezer") != std::string::npos)
      continue;
    if (v2() || !ParseControllers(controllers.substr(controllers.find(':') + 1), ',').empty() ||
        controllers == "0:") {
      EXPECT_TRUE(line.ends_with(":" + container_)) << line;
    }
  }
  EXPECT_TRUE(LN_ASSERT_OK(manager_->Populated(kTop)));
  EXPECT_THAT(LN_ASSERT_OK(manager_->Children(pod_)), ElementsAre("c1"));
}

TEST_F(Cgroup, Limits_GrowAndShrinkAndGo) {
  LN_EXPECT_OK(manager_->Make(container_));
  const auto memory = [&] {
    return Read(Controller::kMemory, container_, "memory.limit_in_bytes", "memory.max");
  };
  const auto quota = [&] {
    return Read(Controller::kCpu, container_, "cpu.cfs_quota_us", "cpu.max");
  };
  for (const std::int64_t mib : {64, 256, 32}) {
    oci::Resources r;
    r.memory_limit = r.memory_swap = mib << 20;
    r.cpu_quota = mib * 1000;
    r.cpu_period = 100000;
    r.cpu_shares = static_cast<std::uint64_t>(mib);
    LN_EXPECT_OK(manager_->SetResources(container_, r));
    EXPECT_EQ(memory(), std::to_string(mib << 20));
    EXPECT_TRUE(quota().starts_with(std::to_string(mib * 1000))) << quota();
  }
  oci::Resources unlimited;
  unlimited.memory_limit = -1;
  unlimited.cpu_quota = -1;
  unlimited.pids_limit = -1;
  LN_EXPECT_OK(manager_->SetResources(container_, unlimited));
  EXPECT_EQ(quota().substr(0, 3), v2() ? "max" : "-1");
  EXPECT_TRUE(memory() == "max" || memory().starts_with("92233720368547")) << memory();
  EXPECT_EQ(Read(Controller::kPids, container_, "pids.max", "pids.max"), "max");
}

TEST_F(Cgroup, Cpuset_InheritedAndSet) {
  LN_EXPECT_OK(manager_->Make(container_));
  if (!v2()) {
    EXPECT_NE(Read(Controller::kCpuset, container_, "cpuset.cpus", ""), "");
  }
  oci::Resources r;
  r.cpuset_cpus = "0";
  r.cpuset_mems = "0";
  LN_EXPECT_OK(manager_->SetResources(container_, r));
  EXPECT_EQ(Read(Controller::kCpuset, container_, "cpuset.cpus", "cpuset.cpus"), "0");
  r.cpuset_cpus = "99999";
  EXPECT_FALSE(manager_->SetResources(container_, r).has_value());
}

TEST_F(Cgroup, PidsLimit_StopsForks) {
  LN_EXPECT_OK(manager_->Make(container_));
  oci::Resources r;
  r.pids_limit = 1;
  LN_EXPECT_OK(manager_->SetResources(container_, r));
  Member member(*manager_, container_, [] { return ::fork() < 0 && errno == EAGAIN ? 0 : 1; });
  EXPECT_EQ(member.ExitCode(), 0);
}

TEST_F(Cgroup, MemoryLimit_OomKillIsCounted) {
  LN_EXPECT_OK(manager_->Make(container_));
  oci::Resources r;
  r.memory_limit = r.memory_swap = 16 << 20;
  LN_EXPECT_OK(manager_->SetResources(container_, r));
  EXPECT_EQ(LN_ASSERT_OK(manager_->OomKills(container_)), 0U);
  Member member(*manager_, container_, [] {
    constexpr std::size_t kSize = 64U << 20;
    void* p = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(p, 1, kSize);
    return 0;
  });
  EXPECT_EQ(member.ExitCode(), -SIGKILL);
  EXPECT_EQ(LN_ASSERT_OK(manager_->OomKills(container_)), 1U);
}

TEST_F(Cgroup, Hugepages) {
  LN_EXPECT_OK(manager_->Make(container_));
  oci::Resources r;
  r.hugepage_limits = {{"2MB", 4U << 20}};
  const auto set = manager_->SetResources(container_, r);
  if (!set && set.error().Is(Code::kUnimplemented)) GTEST_SKIP() << set.error().message();
  LN_EXPECT_OK(set);
  EXPECT_EQ(Read(Controller::kHugetlb, container_, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
            "4194304");
  r.hugepage_limits = {{"3MB", 1}};
  LN_EXPECT_ERROR(manager_->SetResources(container_, r), Code::kUnimplemented, "hugetlb.3MB");
}

// ------------------------------------------------------------------------------------------------
// devices

oci::DeviceRule Rule(bool allow, const char* type, std::optional<std::int64_t> major,
                     std::optional<std::int64_t> minor, const char* access) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = access};
}

const std::vector<oci::DeviceRule> kOnlyNull = {
    Rule(false, "a", {}, {}, "rwm"), Rule(true, "c", {}, {}, "m"), Rule(true, "c", 1, 3, "rwm"),
    Rule(true, "c", 1, 5, "r")};

// A bit for each: null readable and writable, zero readable, zero not writable, full not readable,
// a char node can be made, a block node cannot.
int TryDevices() {
  int out = 0;
  const auto opens = [](const char* path, int flags) {
    return ::open(path, flags | O_CLOEXEC) >= 0;
  };
  const auto refused = [](const char* path, int flags) {
    return ::open(path, flags | O_CLOEXEC) < 0 && errno == EPERM;
  };
  if (opens("/dev/null", O_RDWR)) out |= 1;
  if (opens("/dev/zero", O_RDONLY)) out |= 2;
  if (refused("/dev/zero", O_RDWR)) out |= 4;
  if (refused("/dev/full", O_RDONLY)) out |= 8;
  const std::string node = "/tmp/linnet-cgroup-node." + std::to_string(::getpid());
  if (::mknod(node.c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) out |= 16;
  (void)::unlink(node.c_str());
  if (::mknod(node.c_str(), S_IFBLK | 0600, makedev(7, 0)) != 0 && errno == EPERM) out |= 32;
  (void)::unlink(node.c_str());
  return out;
}

TEST_F(Cgroup, Devices_RulesAreEffective) {
  LN_EXPECT_OK(manager_->Make(container_));
  LN_EXPECT_OK(manager_->SetDevices(container_, kOnlyNull));
  Member member(*manager_, container_, TryDevices);
  EXPECT_EQ(member.ExitCode(), 63);
}

TEST_F(Cgroup, Devices_Privileged) {
  LN_EXPECT_OK(manager_->Make(container_));
  LN_EXPECT_OK(manager_->SetDevices(container_, {Rule(true, "a", {}, {}, "rwm")}));
  Member member(*manager_, container_,
                [] { return ::open("/dev/full", O_RDWR | O_CLOEXEC) >= 0 ? 0 : 1; });
  EXPECT_EQ(member.ExitCode(), 0);
}

TEST_F(Cgroup, Devices_SetTwice_TheSecondCounts) {
  LN_EXPECT_OK(manager_->Make(container_));
  LN_EXPECT_OK(manager_->SetDevices(container_, {Rule(false, "a", {}, {}, "rwm")}));
  LN_EXPECT_OK(manager_->SetDevices(container_, kOnlyNull));
  LN_EXPECT_OK(manager_->SetDevices(container_, kOnlyNull));
  Member member(*manager_, container_, TryDevices);
  EXPECT_EQ(member.ExitCode(), 63);
}

// The device program works in the v2 tree of a hybrid too: what pure v2 does is tested here as
// well.
TEST_F(Cgroup, DeviceProgram_IsEffective) {
  if (!found_.v2) GTEST_SKIP() << "no v2 tree";
  ManagerV2 on_v2(std::move(*found_.v2));
  found_ = LN_ASSERT_OK(OpenHierarchies());
  LN_EXPECT_OK(on_v2.Make(container_));
  LN_EXPECT_OK(on_v2.SetDevices(container_, {Rule(false, "a", {}, {}, "rwm")}));
  {
    Member member(on_v2, container_, [] {
      return ::open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 && errno == EPERM ? 0 : 1;
    });
    EXPECT_EQ(member.ExitCode(), 0);
  }
  LN_EXPECT_OK(on_v2.SetDevices(container_, kOnlyNull));
  LN_EXPECT_OK(on_v2.SetDevices(container_, kOnlyNull));
  Member member(on_v2, container_, TryDevices);
  EXPECT_EQ(member.ExitCode(), 63);
}

// --------------------------------------------------------------------------------------- kill and
// removal

// Forks without end, each child living for a moment.
int ForkStorm() {
  ::signal(SIGCHLD, SIG_IGN);
  for (;;) {
    if (::fork() == 0) {
      ::usleep(20000);
      if (::fork() == 0) ::usleep(20000);
      ::_exit(0);
    }
    ::usleep(500);
  }
}

void ExpectGoneSoon(CgroupManager& manager, const std::string& path) {
  const auto until = steady_clock::now() + milliseconds(2000);
  while (steady_clock::now() < until) {
    const auto populated = manager.Populated(path);
    ASSERT_TRUE(populated.has_value());
    if (!*populated) return;
    std::this_thread::sleep_for(milliseconds(1));
  }
  FAIL() << path << " still has processes";
}

TEST_F(Cgroup, Kill_WholeTree) {
  LN_EXPECT_OK(manager_->Make(container_));
  LN_EXPECT_OK(manager_->Make(pod_ + "/c2"));
  Member a(*manager_, container_, ForkStorm);
  Member b(*manager_, pod_ + "/c2", Sleep);
  std::this_thread::sleep_for(milliseconds(50));
  LN_EXPECT_OK(manager_->Kill(pod_));
  EXPECT_EQ(a.ExitCode(), -SIGKILL);
  EXPECT_EQ(b.ExitCode(), -SIGKILL);
  ExpectGoneSoon(*manager_, pod_);
}

TEST_F(Cgroup, Kill_WithoutV2Tree_ByFreezer) {
  if (found_.v1.empty()) GTEST_SKIP() << "no v1 hierarchy";
  Hierarchies only_v1 = LN_ASSERT_OK(OpenHierarchies());
  only_v1.v2.reset();
  ManagerV1 v1(std::move(only_v1));
  EXPECT_EQ(v1.layout(), CgroupLayout::kV1);
  LN_EXPECT_OK(v1.Make(container_));
  Member a(v1, container_, ForkStorm);
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_TRUE(LN_ASSERT_OK(v1.Populated(kTop)));
  LN_EXPECT_OK(v1.Kill(kTop));
  EXPECT_EQ(a.ExitCode(), -SIGKILL);
  ExpectGoneSoon(v1, kTop);
  LN_EXPECT_OK(v1.Remove(kTop));
}

TEST_F(Cgroup, Kill_WithoutFreezer_BySignals) {
  LN_EXPECT_OK(manager_->Make(container_));
  Member a(*manager_, container_, Sleep);
  Member b(*manager_, container_, Sleep);
  const FdRef root = v2() ? found_.v2->dir.ref() : found_.v1.front().dir.ref();
  LN_EXPECT_OK(KillByFreezer(root, LN_ASSERT_OK(RelativePath(kTop)), false));
  EXPECT_EQ(a.ExitCode(), -SIGKILL);
  EXPECT_EQ(b.ExitCode(), -SIGKILL);
}

TEST_F(Cgroup, Kill_Absent_IsSuccess) {
  LN_EXPECT_OK(manager_->Kill("/linnet-cgroup-test/nothing"));
}

TEST_F(Cgroup, Remove_WhileTheKilledStillEnd_IsPrompt) {
  std::vector<double> milliseconds_taken;
  for (int i = 0; i < 20; ++i) {
    LN_EXPECT_OK(manager_->Make(container_));
    std::vector<std::unique_ptr<Member>> members;
    for (int k = 0; k < 8; ++k) {
      members.push_back(std::make_unique<Member>(*manager_, container_, [] {
        // Memory to be freed at the end takes a while.
        constexpr std::size_t kSize = 8U << 20;
        void* p =
            ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        std::memset(p, 1, kSize);
        return Sleep();
      }));
    }
    const auto start = steady_clock::now();
    LN_EXPECT_OK(manager_->Kill(pod_));
    LN_EXPECT_OK(manager_->Remove(pod_));
    milliseconds_taken.push_back(
        std::chrono::duration<double, std::milli>(steady_clock::now() - start).count());
    EXPECT_FALSE(LN_ASSERT_OK(manager_->Populated(pod_)));
  }
  std::sort(milliseconds_taken.begin(), milliseconds_taken.end());
  RecordProperty("kill_and_remove_p50_us", static_cast<int>(milliseconds_taken[10] * 1000));
  std::printf("kill + remove of 8 processes: p50 %.2f ms, max %.2f ms\n", milliseconds_taken[10],
              milliseconds_taken.back());
  EXPECT_LT(milliseconds_taken[10], 200);
}

TEST_F(Cgroup, Remove_NestedAndAbsent) {
  LN_EXPECT_OK(manager_->Make(container_ + "/a/b/c"));
  LN_EXPECT_OK(manager_->Remove(pod_));
  LN_EXPECT_OK(manager_->Remove(pod_));
  EXPECT_THAT(LN_ASSERT_OK(manager_->Children(std::string(kTop) + "/pods")), ElementsAre());
}

// kubelet on v1 makes and removes its pods' cgroups in the v1 hierarchies only.
TEST_F(Cgroup, Remove_ParentGoneFromV1_LeavesNothingInV2) {
  if (manager_->layout() != CgroupLayout::kHybrid) GTEST_SKIP() << "not a hybrid";
  const std::string parent = std::string(kTop) + "/kubepods/pod1";
  LN_EXPECT_OK(manager_->Make(parent + "/c1"));
  LN_EXPECT_OK(manager_->Make(parent + "/c2"));
  LN_EXPECT_OK(manager_->Remove(parent + "/c1"));
  EXPECT_TRUE(Exists(found_.v2->mount_point + parent)) << "still on v1, and another one in it";
  for (const Hierarchy& h : found_.v1) {
    LN_EXPECT_OK(RemoveTree({h.dir}, FdRef(-1),
                            LN_ASSERT_OK(RelativePath(std::string(kTop) + "/kubepods"))));
  }
  LN_EXPECT_OK(manager_->Remove(parent + "/c2"));
  EXPECT_FALSE(Exists(found_.v2->mount_point + parent));
  EXPECT_FALSE(Exists(found_.v2->mount_point + std::string(kTop) + "/kubepods"));
}

TEST_F(Cgroup, MakeAndRemove_ManyThreads) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const std::string path = std::string(kTop) + "/a/b/c" + std::to_string(t);
        LN_EXPECT_OK(manager_->Make(path));
        LN_EXPECT_OK(manager_->Remove(path));
      }
    });
  }
}

TEST_F(Cgroup, Remove_Live_GivesUpInTime) {
  LN_EXPECT_OK(manager_->Make(container_));
  Member member(*manager_, container_, Sleep);
  std::vector<FdRef> roots;
  for (const Hierarchy& h : found_.v1) roots.push_back(h.dir);
  const FdRef v2_root = found_.v2 ? found_.v2->dir.ref() : FdRef(-1);
  const auto start = steady_clock::now();
  LN_EXPECT_ERROR(
      RemoveTree(roots, v2_root, LN_ASSERT_OK(RelativePath(container_)), milliseconds(50)),
      Code::kFailedPrecondition, "still has processes");
  EXPECT_LT(steady_clock::now() - start, milliseconds(500));
  EXPECT_TRUE(LN_ASSERT_OK(manager_->Populated(container_))) << "the process was left alone";
}

TEST_F(Cgroup, Costs) {
  std::vector<std::pair<const char*, std::function<void(const std::string&)>>> steps = {
      {"make", [&](const std::string& p) { LN_EXPECT_OK(manager_->Make(p)); }},
      {"resources",
       [&](const std::string& p) {
         oci::Resources r;
         r.memory_limit = r.memory_swap = 64 << 20;
         r.cpu_shares = 100;
         r.cpu_quota = 50000;
         r.cpu_period = 100000;
         LN_EXPECT_OK(manager_->SetResources(p, r));
       }},
      {"devices", [&](const std::string& p) { LN_EXPECT_OK(manager_->SetDevices(p, kOnlyNull)); }},
      {"entry", [&](const std::string& p) { LN_EXPECT_OK(manager_->OpenEntry(p)); }},
      {"usage", [&](const std::string& p) { LN_EXPECT_OK(manager_->ReadUsage(p)); }},
      {"kill", [&](const std::string& p) { LN_EXPECT_OK(manager_->Kill(p)); }},
      {"remove", [&](const std::string& p) { LN_EXPECT_OK(manager_->Remove(p)); }},
  };
  LN_EXPECT_OK(manager_->Make(pod_));
  std::vector<std::vector<double>> taken(steps.size());
  for (int i = 0; i < 50; ++i) {
    const std::string path = pod_ + "/n" + std::to_string(i);
    for (std::size_t k = 0; k < steps.size(); ++k) {
      const auto start = steady_clock::now();
      steps[k].second(path);
      taken[k].push_back(
          std::chrono::duration<double, std::micro>(steady_clock::now() - start).count());
    }
  }
  for (std::size_t k = 0; k < steps.size(); ++k) {
    std::sort(taken[k].begin(), taken[k].end());
    std::printf("%-10s p50 %7.1f us   p95 %7.1f us\n", steps[k].first, taken[k][25], taken[k][47]);
    EXPECT_LT(taken[k][25], 20000) << steps[k].first;
  }
}

}  // namespace
}  // namespace linnet::runtime
