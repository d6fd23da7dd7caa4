// Runtime on the real kernel.
#include <signal.h>
#include <sys/mount.h>
#include <sys/poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "linnet/base/text.h"

#include "cgroup/cgroup.h"
#include "runtime_fixture.h"

namespace linnet::runtime::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

milliseconds Since(steady_clock::time_point t) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - t);
}

TEST_F(RuntimeTest, Container_Ends_ExitIsKnownEverywhere) {
  const Started s = Run("echo to-out; echo to-err >&2; cat /etc/layer; exit 3");
  const ContainerExit exit = LN_ASSERT_OK(runtime_->WaitExit(s.pod, s.container, In(seconds(5))));
  EXPECT_EQ(exit.exit_code, 3);
  EXPECT_EQ(exit.signal, 0);
  EXPECT_FALSE(exit.oom_killed);
  EXPECT_GT(exit.finished_at_ns, exit.started_at_ns);
  const auto heard = heard_.WaitExit(s.container);
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->exit_code, 3);
  const ContainerExit record = LN_ASSERT_OK(ReadExitRecord(s.container, s.directory));
  EXPECT_EQ(record.exit_code, 3);
  EXPECT_EQ(record.finished_at_ns, exit.finished_at_ns);
  const std::string log = ReadLog(s);
  EXPECT_NE(log.find(" stdout F to-out\n"), std::string::npos) << log;
  EXPECT_NE(log.find(" stderr F to-err\n"), std::string::npos) << log;
  EXPECT_NE(log.find(" stdout F top\n"), std::string::npos) << log;
  const auto list = LN_ASSERT_OK(runtime_->ListContainers(s.pod));
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].state, ContainerState::kExited);
  LN_EXPECT_OK(runtime_->RemoveContainer(s.pod, s.container));
  LN_EXPECT_OK(runtime_->RemoveContainer(s.pod, s.container));
  EXPECT_TRUE(runtime_->ListContainers(s.pod)->empty());
  LN_EXPECT_OK(runtime_->RemovePod(s.pod, ""));
  LN_EXPECT_OK(runtime_->RemovePod(s.pod, ""));
  EXPECT_EQ(heard_.lost_count(), 0U);
}

TEST_F(RuntimeTest, Pod_HostnameSysctlsAndShm_AreItsOwn) {
  PodSpec pod = MakePod();
  pod.sysctls = {{"net.ipv4.ip_forward", "1"}, {"kernel/msgmax", "4096"}};
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  const ContainerSpec first = MakeContainer(pod.id, "echo shared > /dev/shm/file; sleep 100");
  LN_ASSERT_OK(runtime_->StartContainer(pod.id, first, In(seconds(5))));
  const Started s{pod.id, first.id, first.directory};
  const ExecOutput out =
      LN_ASSERT_OK(Exec(s, "hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"));
  EXPECT_EQ(out.out, "pod-host\n1\n4096\n");
  const ContainerSpec second = MakeContainer(pod.id, "cat /dev/shm/file");
  LN_ASSERT_OK(runtime_->StartContainer(pod.id, second, In(seconds(5))));
  LN_ASSERT_OK(runtime_->WaitExit(pod.id, second.id, In(seconds(5))));
  EXPECT_NE(ReadLog({pod.id, second.id, ""}).find("shared"), std::string::npos);
}

TEST_F(RuntimeTest, StartPod_Refused_LeavesNothing) {
  PodSpec pod = MakePod(NamespaceMode::kPod);
  pod.sysctls = {{"kernel.core_pattern", "core"}};
  LN_EXPECT_ERROR(runtime_->StartPod(pod, In(seconds(5))), Code::kInvalidArgument,
                  "kernel.core_pattern");
  EXPECT_TRUE(Keepers().empty());
  EXPECT_FALSE(CgroupsLeft());
  pod.sysctls = {{"net.ipv4.no_such_thing", "1"}};  // found out by the keeper
  LN_EXPECT_ERROR(runtime_->StartPod(pod, In(seconds(5))), Code::kNotFound, "no_such_thing");
  EXPECT_TRUE(Keepers().empty());
  EXPECT_FALSE(CgroupsLeft());
  EXPECT_EQ(heard_.lost_count(), 0U);
  pod.sysctls.clear();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  LN_EXPECT_ERROR(runtime_->StartPod(pod, In(seconds(5))), Code::kAlreadyExists, "");
}

TEST_F(RuntimeTest, StartContainer_Fails_SaysTheStageAndLeavesNothing) {
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  ContainerSpec missing = MakeContainer(pod.id, "");
  missing.spec.process.args = {"no-such-program"};
  LN_EXPECT_ERROR(runtime_->StartContainer(pod.id, missing, In(seconds(5))), Code::kNotFound,
                  "no-such-program");
  ContainerSpec mount = MakeContainer(pod.id, "true");
  mount.spec.mounts.push_back(
      {.destination = "/data", .type = "bind", .source = dir_ / "absent", .options = {"rbind"}});
  LN_EXPECT_ERROR(runtime_->StartContainer(pod.id, mount, In(seconds(5))), Code::kNotFound,
                  "mounts[7].source");
  auto manager = LN_ASSERT_OK(CgroupManager::Create());
  EXPECT_TRUE(manager->Children(std::string(kCgroupRoot) + "/pods/" + pod.id.str())->empty());
  EXPECT_TRUE(runtime_->ListContainers(pod.id)->empty());
  // The same container may be tried again.
  missing.spec.process.args = {"true"};
  LN_ASSERT_OK(runtime_->StartContainer(pod.id, missing, In(seconds(5))));
}

// -----------------------------------------------------------------------------------------------------------
// exec

TEST_F(RuntimeTest, ExecSync_CollectsOutputAndCode) {
  const Started s = Run("sleep 100");
  const ExecOutput out = LN_ASSERT_OK(Exec(s, "echo hello; echo oops >&2; exit 7"));
  EXPECT_EQ(out.out, "hello\n");
  EXPECT_EQ(out.err, "oops\n");
  EXPECT_EQ(out.exit_code, 7);
  oci::Process missing = ExecProcess("");
  missing.args = {"no-such-program"};
  LN_EXPECT_ERROR(runtime_->ExecSync(s.pod, s.container, missing, seconds(5)), Code::kNotFound,
                  "no-such-program");
  LN_EXPECT_ERROR(runtime_->ExecSync(s.pod, ContainerId::Generate(), missing, seconds(5)),
                  Code::kNotFound, "");
}

TEST_F(RuntimeTest, ExecSync_Timeout_KillsTheWholeTree) {
  const Started s = Run("sleep 100");
  const auto begin = steady_clock::now();
  LN_EXPECT_ERROR(Exec(s, "setsid sleep 4321 & sleep 4321", milliseconds(300)),
                  Code::kDeadlineExceeded, "300 ms");
  EXPECT_LT(Since(begin), seconds(2));
  for (int i = 0; i < 100 && CountProcesses("4321") > 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(CountProcesses("sleep 4321"), 0U);
  EXPECT_EQ(LN_ASSERT_OK(Exec(s, "echo alive")).out, "alive\n");
}

TEST_F(RuntimeTest, ExecSync_GrandchildKeepsThePipe_ReturnsSoon) {
  const Started s = Run("sleep 100");
  const auto begin = steady_clock::now();
  const ExecOutput out = LN_ASSERT_OK(Exec(s, "echo before; sleep 1000 & exit 4"));
  EXPECT_LT(Since(begin), seconds(1));
  EXPECT_EQ(out.out, "before\n");
  EXPECT_EQ(out.exit_code, 4);
  EXPECT_EQ(CountProcesses("sleep 1000"), 1U);  // it is the container's now
}

TEST_F(RuntimeTest, ExecSync_TooMuchOutput_IsCutAndTheProcessEnds) {
  const Started s = Run("sleep 100");
  const ExecOutput out = LN_ASSERT_OK(Exec(s, "yes | head -c 20000000; echo done >&2"));
  EXPECT_EQ(out.out.size(), 16U << 20);
  EXPECT_EQ(out.err, "done\n");
  EXPECT_EQ(out.exit_code, 0);
}

TEST_F(RuntimeTest, ExecSync_ContainerEnds_IsRefusedAfterwards) {
  const Started s = Run("exit 0");
  LN_ASSERT_OK(runtime_->WaitExit(s.pod, s.container, In(seconds(5))));
  LN_EXPECT_ERROR(Exec(s, "true"), Code::kFailedPrecondition, "not running");
}

TEST_F(RuntimeTest, ExecSync_ManyAtOnce_EachGetsItsOwn) {
  const Started s = Run("sleep 100");
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] {
      const auto out = Exec(s, "echo " + std::to_string(i) + "; exit " + std::to_string(i));
      ASSERT_TRUE(out) << out.error().message();
      EXPECT_EQ(out->out, std::to_string(i) + "\n");
      EXPECT_EQ(out->exit_code, i);
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST_F(RuntimeTest, Exec_WithTerminal_HandsItOver) {
  const Started s = Run("sleep 100");
  ExecSpec spec{.process = ExecProcess("test -t 0 && echo tty"), .on_terminal = {}};
  spec.process.terminal = true;
  UniqueFd master;
  spec.on_terminal = [&](UniqueFd fd) { master = std::move(fd); };
  const ExecResult result = LN_ASSERT_OK(runtime_->Exec(s.pod, s.container, spec));
  EXPECT_EQ(result.exit_code, 0);
  ASSERT_TRUE(master);
  char text[64] = {};
  ASSERT_GT(read(master.get(), text, sizeof text - 1), 0);
  EXPECT_STREQ(text, "tty\r\n");
}

TEST_F(RuntimeTest, Exec_WithStreams_UsesThem) {
  const Started s = Run("sleep 100");
  int in[2];
  int out[2];
  ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  UniqueFd in_read(in[0]), in_write(in[1]), out_read(out[0]), out_write(out[1]);
  ASSERT_EQ(write(in_write.get(), "abc", 3), 3);
  in_write.Reset();
  const ExecSpec spec{.process = ExecProcess("cat; exit 9"),
                      .stdin_fd = in_read,
                      .stdout_fd = out_write,
                      .on_terminal = {}};
  EXPECT_EQ(LN_ASSERT_OK(runtime_->Exec(s.pod, s.container, spec)).exit_code, 9);
  out_write.Reset();
  EXPECT_EQ(LN_ASSERT_OK(ReadAll(out_read)), "abc");
}

// --------------------------------------------------------------------------------------------------
// attach

// Writes nothing until its input says so, then 8 MiB.
constexpr const char* kBurst =
    "read go; yes 0123456789abcde | head -c 8388608; echo written >/tmp/done; sleep 1000";

// Reads to the end, at most `limit` bytes; "" and the error where it does not come.
std::string ReadAttached(FdRef out, std::size_t limit) {
  std::string all;
  std::vector<char> buffer(65536);
  while (all.size() < limit) {
    pollfd wait{.fd = out.get(), .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, 10000) != 1) break;
    const ssize_t size = read(out.get(), buffer.data(), buffer.size());
    if (size <= 0) break;
    all.append(buffer.data(), static_cast<std::size_t>(size));
  }
  return all;
}

TEST_F(RuntimeTest, Attach_ReaderWhoPausesAMomentLosesNothing) {
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(10))));
  ContainerSpec spec = MakeContainer(pod.id, kBurst);
  spec.stdin_open = true;
  LN_EXPECT_OK(runtime_->StartContainer(pod.id, spec, In(seconds(10))));
  const Attachment attached =
      LN_ASSERT_OK(runtime_->Attach(pod.id, spec.id, {.stdin_open = true, .stdout_open = true}));
  ASSERT_EQ(write(attached.input.get(), "go\n", 3), 3);
  std::this_thread::sleep_for(milliseconds(400));  // the pipe has been full for long
  const std::string got = ReadAttached(attached.out, 8U << 20);
  ASSERT_EQ(got.size(), 8U << 20);
  for (std::size_t at = 0; at < got.size(); at += 16)
    ASSERT_EQ(got.compare(at, 16, "0123456789abcde\n"), 0) << at;
}

TEST_F(RuntimeTest, Attach_ReaderWhoStopsIsDroppedAndTheContainerGoesOn) {
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(10))));
  ContainerSpec spec = MakeContainer(pod.id, kBurst);
  spec.stdin_open = true;
  LN_EXPECT_OK(runtime_->StartContainer(pod.id, spec, In(seconds(10))));
  const Started s{.pod = pod.id, .container = spec.id, .directory = ""};
  const Attachment stuck =
      LN_ASSERT_OK(runtime_->Attach(pod.id, spec.id, {.stdin_open = true, .stdout_open = true}));
  ASSERT_EQ(write(stuck.input.get(), "go\n", 3), 3);
  const auto begin = steady_clock::now();
  pollfd told{.fd = stuck.control.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&told, 1, 10000), 1);
  char byte = 0;
  EXPECT_EQ(recv(stuck.control.get(), &byte, 1, 0), 1) << "it is told, not only hung up on";
  EXPECT_GT(Since(begin), milliseconds(700)) << "and not at once";
  bool done = false;
  while (!done && Since(begin) < seconds(10))
    done = LN_ASSERT_OK(Exec(s, "test -e /tmp/done")).exit_code == 0;
  EXPECT_TRUE(done);
}

TEST_F(RuntimeTest, Attach_LastWordsOfAnEndedContainerReachASlowReader) {
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(10))));
  // More than the attachment's pipe holds, less than that, the container's and what is between.
  ContainerSpec spec = MakeContainer(pod.id, "read go; yes 0123456789abcde | head -c 327680");
  spec.stdin_open = true;
  LN_EXPECT_OK(runtime_->StartContainer(pod.id, spec, In(seconds(10))));
  const Attachment attached =
      LN_ASSERT_OK(runtime_->Attach(pod.id, spec.id, {.stdin_open = true, .stdout_open = true}));
  ASSERT_EQ(write(attached.input.get(), "go\n", 3), 3);
  LN_ASSERT_OK(runtime_->WaitExit(pod.id, spec.id, In(seconds(10))));
  EXPECT_EQ(ReadAttached(attached.out, 1U << 20).size(), 327680U);
}

// --------------------------------------------------------------------------------------------------
// signals and ends

TEST_F(RuntimeTest, Signal_Term_IsDelivered) {
  const Started s = Run("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done");
  for (int i = 0; i < 200 && ReadLog(s).find("ready") == std::string::npos; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  LN_EXPECT_OK(runtime_->Signal(s.pod, s.container, SIGTERM));
  EXPECT_EQ(LN_ASSERT_OK(runtime_->WaitExit(s.pod, s.container, In(seconds(5)))).exit_code, 42);
  LN_EXPECT_OK(runtime_->Signal(s.pod, s.container, SIGTERM));  // gone already
  LN_EXPECT_OK(runtime_->Signal(s.pod, ContainerId::Generate(), SIGTERM));
}

TEST_F(RuntimeTest, Signal_Kill_EndsEverything) {
  const Started s = Run("trap '' TERM; setsid sleep 5678 & sleep 5678");
  LN_EXPECT_ERROR(runtime_->WaitExit(s.pod, s.container, In(milliseconds(20))),
                  Code::kDeadlineExceeded, "");
  LN_EXPECT_OK(runtime_->Signal(s.pod, s.container, SIGKILL));
  const ContainerExit exit = LN_ASSERT_OK(runtime_->WaitExit(s.pod, s.container, In(seconds(5))));
  EXPECT_EQ(exit.exit_code, 137);
  EXPECT_EQ(exit.signal, SIGKILL);
  EXPECT_EQ(CountProcesses("sleep 5678"), 0U);
}

class PidModeTest : public RuntimeTest, public ::testing::WithParamInterface<NamespaceMode> {};

// A grandchild that ignores what can be ignored and holds the log's pipe open.
TEST_P(PidModeTest, StubbornGrandchild_ExitAndRemovalArePrompt) {
  const Started s =
      Run("(trap '' TERM HUP INT; while :; do sleep 7777; done) & sleep 0.1; exit 5", GetParam());
  const auto begin = steady_clock::now();
  EXPECT_EQ(LN_ASSERT_OK(runtime_->WaitExit(s.pod, s.container, In(seconds(5)))).exit_code, 5);
  EXPECT_LT(Since(begin), milliseconds(500));
  const auto removal = steady_clock::now();
  LN_EXPECT_OK(runtime_->RemoveContainer(s.pod, s.container));
  LN_EXPECT_OK(runtime_->RemovePod(s.pod, ""));
  EXPECT_LT(Since(removal), milliseconds(300));
  EXPECT_EQ(CountProcesses("sleep 7777"), 0U);
}
TEST_P(PidModeTest, RemovePod_RunningStubbornContainer_IsPrompt) {
  const Started s = Run(
      "trap '' TERM; (trap '' TERM; while :; do sleep 7778; done) & while :; do sleep 7778; done",
      GetParam());
  const auto removal = steady_clock::now();
  LN_EXPECT_OK(runtime_->RemovePod(s.pod, ""));
  EXPECT_LT(Since(removal), milliseconds(300));
  EXPECT_EQ(CountProcesses("sleep 7778"), 0U);
}
INSTANTIATE_TEST_SUITE_P(Modes, PidModeTest,
                         ::testing::Values(NamespaceMode::kPod, NamespaceMode::kContainer,
                                           NamespaceMode::kNode));

TEST_F(RuntimeTest, PidTarget_SeesTheOther) {
  const Started s = Run("sleep 6543");
  ContainerSpec debug = MakeContainer(s.pod, "ps");
  debug.pid = NamespaceMode::kTarget;
  debug.pid_target = s.container;
  LN_ASSERT_OK(runtime_->StartContainer(s.pod, debug, In(seconds(5))));
  LN_ASSERT_OK(runtime_->WaitExit(s.pod, debug.id, In(seconds(5))));
  EXPECT_NE(ReadLog({s.pod, debug.id, ""}).find("sleep 6543"), std::string::npos);
}

TEST_F(RuntimeTest, MemoryLimit_Exceeded_IsReportedAsOom) {
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  ContainerSpec container = MakeContainer(pod.id, "tail /dev/zero");
  container.spec.resources.memory_limit = 16 << 20;
  auto started = runtime_->StartContainer(pod.id, container, In(seconds(5)));
  if (!started && started.error().Is(Code::kUnimplemented))
    GTEST_SKIP() << started.error().message();
  LN_ASSERT_OK(std::move(started));
  const ContainerExit exit =
      LN_ASSERT_OK(runtime_->WaitExit(pod.id, container.id, In(seconds(20))));
  EXPECT_TRUE(exit.oom_killed);
  EXPECT_EQ(exit.exit_code, 137);
}

TEST_F(RuntimeTest, UpdateResources_ChangesTheLimit) {
  const Started s = Run("sleep 100");
  oci::Resources resources;
  resources.pids_limit = 3;
  auto updated = runtime_->UpdateResources(s.pod, s.container, resources);
  if (!updated && updated.error().Is(Code::kUnimplemented))
    GTEST_SKIP() << updated.error().message();
  LN_EXPECT_OK(std::move(updated));
  const auto out = Exec(s, "sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait");
  // Without room for even its own process, the exec fails as a whole.
  if (out) {
    EXPECT_NE(out->err.find("can't fork"), std::string::npos) << out->err;
  }
}

TEST_F(RuntimeTest, Usage_OfContainerAndPod) {
  // 32 MiB of a tmpfs that the container's own group pays for, a busy loop for some time, and three
  // processes.
  const Started s =
      Run("dd if=/dev/zero of=/dev/shm/fill bs=1M count=32 2>/dev/null; sleep 1000 & sleep 1000 & "
          "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; wait");
  const auto usage_when = [&](const std::function<bool(const CgroupUsage&)>& good) {
    CgroupUsage usage;
    for (int i = 0; i < 200; ++i) {
      auto now = runtime_->ContainerUsage(s.pod, s.container);
      EXPECT_TRUE(now) << (now ? "" : now.error().message());
      if (now) usage = *std::move(now);
      if (good(usage)) break;
      std::this_thread::sleep_for(milliseconds(50));
    }
    return usage;
  };
  const CgroupUsage usage = usage_when([](const CgroupUsage& u) {
    return u.cpu_ns > 1'000'000U && u.memory && u.memory->usage_bytes > (32U << 20) && u.pids == 3U;
  });
  ASSERT_TRUE(usage.cpu_ns && usage.memory && usage.pids);
  EXPECT_GT(*usage.cpu_ns, 1'000'000U);
  EXPECT_GT(usage.memory->usage_bytes, 32U << 20);
  EXPECT_GE(usage.memory->working_set_bytes, 32U << 20) << "shared memory cannot be given up";
  EXPECT_LE(usage.memory->working_set_bytes, usage.memory->usage_bytes);
  EXPECT_GT(usage.memory->page_faults, 0U);
  EXPECT_EQ(*usage.pids, 3U);
  EXPECT_FALSE(usage.memory->limit_bytes);
  oci::Resources limit;
  limit.memory_limit = 64 << 20;
  LN_EXPECT_OK(runtime_->UpdateResources(s.pod, s.container, limit));
  EXPECT_EQ(LN_ASSERT_OK(runtime_->ContainerUsage(s.pod, s.container)).memory->limit_bytes,
            64U << 20);
  const CgroupUsage pod = LN_ASSERT_OK(runtime_->PodUsage(s.pod, ""));
  ASSERT_TRUE(pod.cpu_ns && pod.memory && pod.pids);
  EXPECT_GE(*pod.cpu_ns, *usage.cpu_ns);
  EXPECT_GE(pod.memory->usage_bytes, 32U << 20);
  EXPECT_GE(*pod.pids, 3U);
  LN_EXPECT_OK(runtime_->RemoveContainer(s.pod, s.container));
  LN_EXPECT_ERROR(runtime_->ContainerUsage(s.pod, s.container), Code::kNotFound, "");
}

TEST_F(RuntimeTest, ReopenLog_NewFileGetsTheRest) {
  const Started s = Run("while :; do echo line; sleep 0.01; done");
  const std::string path = dir_ / ("logs/" + s.container.str() + ".log");
  for (int i = 0; i < 200 && ReadLog(s).size() < 10; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  ASSERT_EQ(rename(path.c_str(), (path + ".1").c_str()), 0);
  LN_EXPECT_OK(runtime_->ReopenLog(s.pod, s.container));
  ASSERT_TRUE(Exists(path));
  const std::string old = *ReadFile(path + ".1");
  for (int i = 0; i < 200 && ReadLog(s).size() < 10; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_GT(ReadLog(s).size(), 10U);
  EXPECT_EQ(*ReadFile(path + ".1"), old);
  LN_EXPECT_OK(runtime_->Signal(s.pod, s.container, SIGKILL));
  LN_ASSERT_OK(runtime_->WaitExit(s.pod, s.container, In(seconds(5))));
  LN_EXPECT_ERROR(runtime_->ReopenLog(s.pod, s.container), Code::kFailedPrecondition,
                  "not running");
}

// -----------------------------------------------------------------------------------------------------------
// mounts

TEST_F(RuntimeTest, Volumes_ReadOnlyAndPropagation) {
  dir_.Write({{"volume/file", "data\n"}, {"shared/", ""}});
  ASSERT_EQ(mount((dir_ / "shared").c_str(), (dir_ / "shared").c_str(), nullptr, MS_BIND, nullptr),
            0);
  ASSERT_EQ(mount(nullptr, (dir_ / "shared").c_str(), nullptr, MS_SHARED, nullptr), 0);
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  ContainerSpec c = MakeContainer(pod.id, "sleep 100");
  const auto add = [&](const char* destination, const std::string& source,
                       std::vector<std::string> options) {
    c.spec.mounts.push_back({.destination = destination,
                             .type = "bind",
                             .source = source,
                             .options = std::move(options)});
  };
  add("/ro", dir_ / "volume", {"rbind", "rprivate", "ro"});
  add("/rro", dir_ / "volume", {"rbind", "rprivate", "rro"});
  add("/rw", dir_ / "volume", {"rbind", "rprivate", "rw"});
  add("/slave", dir_ / "shared", {"rbind", "rslave"});
  add("/both", dir_ / "shared", {"rbind", "rshared"});
  add("/etc/one-file", dir_ / "volume/file", {"rbind", "rprivate", "ro"});
  c.spec.rootfs_propagation = "shared";
  c.spec.process.capabilities = *ComputeCapabilities({"SYS_ADMIN"}, {}, {}, false);
  c.spec.seccomp.reset();
  LN_EXPECT_OK(runtime_->CheckContainer(pod.id, c));
  LN_ASSERT_OK(runtime_->StartContainer(pod.id, c, In(seconds(5))));
  const Started s{pod.id, c.id, c.directory};
  EXPECT_EQ(LN_ASSERT_OK(Exec(s, "cat /ro/file /rro/file /etc/one-file")).out,
            "data\ndata\ndata\n");
  EXPECT_NE(LN_ASSERT_OK(Exec(s, "touch /ro/x")).err.find("Read-only"), std::string::npos);
  EXPECT_NE(LN_ASSERT_OK(Exec(s, "touch /rro/x")).err.find("Read-only"), std::string::npos);
  EXPECT_EQ(LN_ASSERT_OK(Exec(s, "touch /rw/x && ls /rw")).out, "file\nx\n");
  // From the host into the container …
  dir_.Write("shared/inner/");
  ASSERT_EQ(mount("tmpfs", (dir_ / "shared/inner").c_str(), "tmpfs", 0, nullptr), 0);
  dir_.Write("shared/inner/later", "");
  EXPECT_EQ(LN_ASSERT_OK(Exec(s, "ls /slave/inner")).out, "later\n");
  // … and back.
  oci::Process process =
      ExecProcess("mkdir /both/up && mount -t tmpfs tmpfs /both/up && touch /both/up/from-inside");
  process.capabilities = c.spec.process.capabilities;
  const ExecOutput up = LN_ASSERT_OK(runtime_->ExecSync(pod.id, c.id, process, seconds(5)));
  EXPECT_EQ(up.exit_code, 0) << up.err;
  EXPECT_TRUE(Exists(dir_ / "shared/up/from-inside"));
  LN_EXPECT_OK(runtime_->RemovePod(pod.id, ""));
  EXPECT_EQ(umount2((dir_ / "shared/up").c_str(), MNT_DETACH), 0);
  EXPECT_EQ(umount2((dir_ / "shared/inner").c_str(), MNT_DETACH), 0);
  EXPECT_EQ(umount2((dir_ / "shared").c_str(), MNT_DETACH), 0);
}

TEST_F(RuntimeTest, Volume_SourceBecameALink_IsNotFollowed) {
  dir_.Write({{"volume/file", "data\n"}, {"secret/file", "secret\n"}});
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  ContainerSpec c = MakeContainer(pod.id, "cat /data/file");
  c.spec.mounts.push_back(
      {.destination = "/data", .type = "bind", .source = dir_ / "volume", .options = {"rbind"}});
  ASSERT_EQ(rename((dir_ / "volume").c_str(), (dir_ / "moved").c_str()), 0);
  ASSERT_EQ(symlink("secret", (dir_ / "volume").c_str()), 0);
  LN_EXPECT_ERROR(runtime_->StartContainer(pod.id, c, In(seconds(5))), Code::kInvalidArgument,
                  "mounts[7].source");
}

TEST_F(RuntimeTest, HundredsOfVolumesAndAPlanLargerThanAMessage) {
  dir_.Write("volume/file", "data\n");
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  ContainerSpec c = MakeContainer(pod.id, "ls -d /volumes/*/file | wc -l");
  for (int i = 0; i < 300; ++i) {
    c.spec.mounts.push_back({.destination = "/volumes/" + std::to_string(i),
                             .type = "bind",
                             .source = dir_ / "volume",
                             .options = {"rbind"}});
  }
  LN_ASSERT_OK(runtime_->StartContainer(pod.id, c, In(seconds(20))));
  EXPECT_EQ(LN_ASSERT_OK(runtime_->WaitExit(pod.id, c.id, In(seconds(10)))).exit_code, 0);
  EXPECT_NE(ReadLog({pod.id, c.id, ""}).find(" F 300\n"), std::string::npos);
}

TEST_F(RuntimeTest, UserNamespace_PodAndContainer) {
  if (!runtime_->features().user_namespaces) GTEST_SKIP() << "no user namespaces";
  PodSpec pod = MakePod();
  pod.netns = FdRef(-1);
  pod.uid_mappings = pod.gid_mappings = {{.container_id = 0, .host_id = 200000, .size = 65536}};
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  const UniqueFd netns = LN_ASSERT_OK(runtime_->PodNetns(pod.id));
  EXPECT_TRUE(netns.valid());
  ContainerSpec c = MakeContainer(pod.id, "touch /made && sleep 100");
  c.spec.uid_mappings = c.spec.gid_mappings = pod.uid_mappings;
  dir_.Write("volume/file", "data\n");
  ASSERT_EQ(chown((dir_ / "volume").c_str(), 0, 0), 0);
  c.spec.mounts.push_back({.destination = "/data",
                           .type = "bind",
                           .source = dir_ / "volume",
                           .options = {"rbind"},
                           .uid_mappings = pod.uid_mappings,
                           .gid_mappings = pod.gid_mappings});
  LN_EXPECT_OK(runtime_->CheckContainer(pod.id, c));
  LN_ASSERT_OK(runtime_->StartContainer(pod.id, c, In(seconds(5))));
  const Started s{pod.id, c.id, c.directory};
  const ExecOutput out = LN_ASSERT_OK(Exec(
      s, "id -u; stat -c %u /made /etc/layer /data; cat /proc/self/uid_map; echo x > /dev/null"));
  EXPECT_EQ(out.err, "");
  EXPECT_TRUE(out.out.starts_with("0\n0\n0\n0\n")) << out.out;
  EXPECT_NE(out.out.find("200000"), std::string::npos) << out.out;
  EXPECT_EQ(LN_ASSERT_OK(Exec(s, "touch /data/mine")).exit_code, 0);
  struct stat made {};
  ASSERT_EQ(stat((dir_ / "volume/mine").c_str(), &made), 0);
  EXPECT_EQ(made.st_uid, 0U);  // the volume is mapped, not chowned
}

// ----------------------------------------------------------------------------------------------------------
// check

TEST_F(RuntimeTest, CheckContainer_RefusesWithTheField) {
  const PodSpec pod = MakePod();
  LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
  ContainerSpec c = MakeContainer(pod.id, "true");
  LN_EXPECT_OK(runtime_->CheckContainer(pod.id, c));
  c.spec.process.capabilities->effective.emplace_back("CAP_NONSENSE");
  LN_EXPECT_ERROR(runtime_->CheckContainer(pod.id, c), Code::kInvalidArgument,
                  "process.capabilities.effective");
  c = MakeContainer(pod.id, "true");
  c.spec.seccomp->default_action = "SCMP_ACT_NONSENSE";
  LN_EXPECT_ERROR(runtime_->CheckContainer(pod.id, c), Code::kInvalidArgument, "linux.seccomp");
  c = MakeContainer(pod.id, "true");
  c.spec.resources.unified = {{"memory.high", "1"}};
  if (runtime_->features().cgroup_layout != "v2") {
    LN_EXPECT_ERROR(runtime_->CheckContainer(pod.id, c), Code::kUnimplemented,
                    "linux.resources.unified");
  }
  c = MakeContainer(pod.id, "true");
  c.spec.process.apparmor_profile = "some";
  if (!runtime_->features().apparmor) {
    LN_EXPECT_ERROR(runtime_->CheckContainer(pod.id, c), Code::kUnimplemented,
                    "process.apparmorProfile");
  }
  LN_EXPECT_ERROR(runtime_->CheckContainer(PodId::Generate(), c), Code::kNotFound, "does not run");
}

// ---------------------------------------------------------------------------------------------
// daemon and keeper die

TEST_F(RuntimeTest, Daemon_Restarts_AdoptsWhatRunsAndHearsWhatEnded) {
  const Started running = Run("sleep 1000");
  const Started ended = Run("sleep 0.2; exit 11");
  StopRuntime();
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_EQ(LN_ASSERT_OK(ReadExitRecord(ended.container, ended.directory)).exit_code, 11);
  StartRuntime();
  const auto list = LN_ASSERT_OK(runtime_->AdoptPod(running.pod, In(seconds(5))));
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].id, running.container);
  EXPECT_EQ(list[0].state, ContainerState::kRunning);
  EXPECT_GT(list[0].pid, 0);
  EXPECT_GT(list[0].started_at_ns, 0);
  const auto other = LN_ASSERT_OK(runtime_->AdoptPod(ended.pod, In(seconds(5))));
  ASSERT_EQ(other.size(), 1U);
  ASSERT_TRUE(other[0].exit);
  EXPECT_EQ(other[0].exit->exit_code, 11);
  EXPECT_EQ(LN_ASSERT_OK(Exec(running, "echo again")).out, "again\n");
  // New containers, exits and removals work as before.
  const ContainerSpec more = MakeContainer(running.pod, "exit 12");
  LN_ASSERT_OK(runtime_->StartContainer(running.pod, more, In(seconds(5))));
  EXPECT_EQ(LN_ASSERT_OK(runtime_->WaitExit(running.pod, more.id, In(seconds(5)))).exit_code, 12);
  LN_EXPECT_OK(runtime_->RemoveContainer(running.pod, running.container));
  LN_EXPECT_OK(runtime_->Sweep({running.pod}));
  EXPECT_EQ(Keepers().size(), 1U);
  LN_EXPECT_OK(runtime_->RemovePod(running.pod, ""));
  EXPECT_EQ(heard_.lost_count(), 0U);
}

TEST_F(RuntimeTest, Daemon_KilledDuringExecSync_TheTreeGoes) {
  const Started s = Run("sleep 1000");
  StopRuntime();
  const pid_t daemon = fork();  // nobody else runs in this process now
  ASSERT_GE(daemon, 0);
  if (daemon == 0) {
    StartRuntime();
    if (runtime_->AdoptPod(s.pod, In(seconds(5)))) (void)Exec(s, "sleep 8642", seconds(60));
    _exit(1);
  }
  for (int i = 0; i < 1000 && CountProcesses("sleep 8642") == 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_GT(CountProcesses("sleep 8642"), 0U);
  ASSERT_EQ(kill(daemon, SIGKILL), 0);
  ASSERT_EQ(waitpid(daemon, nullptr, 0), daemon);
  for (int i = 0; i < 1000 && CountProcesses("sleep 8642") > 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(CountProcesses("sleep 8642"), 0U);
  StartRuntime();
  LN_ASSERT_OK(runtime_->AdoptPod(s.pod, In(seconds(5))));
  EXPECT_EQ(LN_ASSERT_OK(Exec(s, "echo alive")).out, "alive\n");
}

TEST_F(RuntimeTest, Adopt_NoKeeper_IsNotFoundAndNothingIsLeft) {
  LN_EXPECT_ERROR(runtime_->AdoptPod(PodId::Generate(), In(seconds(1))), Code::kNotFound, "");
  const Started s = Run("sleep 9753", NamespaceMode::kPod);
  StopRuntime();
  for (const pid_t keeper : Keepers()) (void)kill(keeper, SIGKILL);
  StartRuntime();
  LN_EXPECT_ERROR(runtime_->AdoptPod(s.pod, In(seconds(1))), Code::kNotFound, "");
  EXPECT_EQ(CountProcesses("sleep 9753"), 0U);
  EXPECT_FALSE(CgroupsLeft());
}

TEST_F(RuntimeTest, Keeper_Killed_PodIsLostAndRemovable) {
  const Started s = Run("sleep 2468", NamespaceMode::kPod);
  std::thread waiter([&] {
    LN_EXPECT_ERROR(runtime_->WaitExit(s.pod, s.container, In(seconds(10))), Code::kNotFound,
                    "lost");
  });
  for (const pid_t pid : Keepers()) {
    if (ReadFile("/proc/" + std::to_string(pid) + "/cmdline")->find("linnet-keeper") == 0) {
      ASSERT_EQ(kill(pid, SIGKILL), 0);
    }
  }
  EXPECT_TRUE(heard_.WaitLost(s.pod));
  waiter.join();
  for (int i = 0; i < 100 && CountProcesses("sleep 2468") > 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(CountProcesses("sleep 2468"), 0U);
  LN_EXPECT_ERROR(Exec(s, "true"), Code::kUnavailable, "gone");
  LN_EXPECT_OK(runtime_->Signal(s.pod, s.container, SIGTERM));
  LN_EXPECT_OK(runtime_->RemoveContainer(s.pod, s.container));
  LN_EXPECT_OK(runtime_->RemovePod(s.pod, ""));
  EXPECT_TRUE(Keepers().empty());
  EXPECT_FALSE(CgroupsLeft());
}

TEST_F(RuntimeTest, Keeper_Wedged_PodIsRemovedAllTheSame) {
  const Started s = Run("sleep 1000");
  for (const pid_t pid : Keepers()) ASSERT_EQ(kill(pid, SIGSTOP), 0);
  StopRuntime();
  StartRuntime();
  LN_EXPECT_ERROR(runtime_->AdoptPod(s.pod, In(milliseconds(200))), Code::kNotFound, "");
  for (int i = 0; i < 100 && !Keepers().empty(); ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(Keepers().empty());
  EXPECT_FALSE(CgroupsLeft());
}

TEST_F(RuntimeTest, Sweep_EndsWhatNobodyKnows) {
  const Started kept = Run("sleep 1000");
  const Started left = Run("sleep 1357", NamespaceMode::kPod);
  StopRuntime();
  StartRuntime();
  LN_ASSERT_OK(runtime_->AdoptPod(kept.pod, In(seconds(5))));
  LN_EXPECT_OK(runtime_->Sweep({kept.pod}));
  EXPECT_EQ(CountProcesses("sleep 1357"), 0U);
  EXPECT_EQ(Keepers().size(), 1U);
  EXPECT_EQ(LN_ASSERT_OK(Exec(kept, "echo here")).out, "here\n");
}

// --------------------------------------------------------------------------------------------- the
// client's cgroups

TEST_F(RuntimeTest, CgroupParentOfTheClient_OnlyOwnChildrenGo) {
  auto manager = LN_ASSERT_OK(CgroupManager::Create());
  const std::string parent = "/client-parent";
  LN_EXPECT_OK(manager->Make(parent + "/other"));
  std::vector<Started> pods;
  for (int i = 0; i < 2; ++i) {
    PodSpec pod = MakePod(NamespaceMode::kPod);
    pod.cgroup_parent = parent;
    LN_EXPECT_OK(runtime_->StartPod(pod, In(seconds(5))));
    ContainerSpec c = MakeContainer(pod.id, "sleep 1000");
    c.pid = NamespaceMode::kPod;
    c.spec.cgroups_path = parent + "/" + c.id.str();
    LN_ASSERT_OK(runtime_->StartContainer(pod.id, c, In(seconds(5))));
    pods.push_back({pod.id, c.id, c.directory});
  }
  EXPECT_EQ(manager->Children(parent)->size(), 5U);
  // Without the keeper and by another daemon: only the names help.
  StopRuntime();
  for (const pid_t pid : Keepers()) {
    if (CountProcesses(pods[0].pod.str()) > 0 &&
        ReadFile("/proc/" + std::to_string(pid) + "/cmdline")->find(pods[0].pod.str()) !=
            std::string::npos) {
      ASSERT_EQ(kill(pid, SIGKILL), 0);
    }
  }
  StartRuntime();
  LN_EXPECT_OK(runtime_->RemovePod(pods[0].pod, parent));
  EXPECT_EQ(manager->Children(parent)->size(), 3U);
  LN_ASSERT_OK(runtime_->AdoptPod(pods[1].pod, In(seconds(5))));
  EXPECT_EQ(LN_ASSERT_OK(Exec(pods[1], "echo here")).out, "here\n");
  LN_EXPECT_OK(runtime_->RemoveContainer(pods[1].pod, pods[1].container));
  EXPECT_EQ(manager->Children(parent)->size(), 2U);
  LN_EXPECT_OK(runtime_->RemovePod(pods[1].pod, parent));
  EXPECT_EQ(*manager->Children(parent), std::vector<std::string>{"other"});
  LN_EXPECT_OK(manager->Remove(parent));
}

// ------------------------------------------------------------------------------------------------------------
// churn

TEST_F(RuntimeTest, FiftyPods_NothingLeaks) {
  Run("true");
  LN_EXPECT_OK(runtime_->Sweep({}));
  const std::size_t fds = OpenFds();
  std::vector<std::thread> threads;
  std::vector<Started> pods;
  for (int i = 0; i < 50; ++i)
    pods.push_back(Run(i % 2 == 0 ? "sleep 1000" : "exit 1",
                       i % 3 == 0 ? NamespaceMode::kPod : NamespaceMode::kContainer));
  EXPECT_EQ(Keepers().size(), 50U + 17U);  // and holders
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = static_cast<std::size_t>(t); i < pods.size(); i += 4) {
        LN_EXPECT_OK(runtime_->RemoveContainer(pods[i].pod, pods[i].container));
        LN_EXPECT_OK(runtime_->RemovePod(pods[i].pod, ""));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_TRUE(Keepers().empty());
  EXPECT_FALSE(CgroupsLeft());
  EXPECT_EQ(OpenFds(), fds + 50);  // the test's own network namespaces
  EXPECT_EQ(heard_.lost_count(), 0U);
}

}  // namespace
}  // namespace linnet::runtime::test
