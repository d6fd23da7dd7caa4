#include "linnet/base/spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

Deadline In(std::chrono::milliseconds time) { return steady_clock::now() + time; }

SpawnSpec Shell(const std::string& script) {
  SpawnSpec spec;
  spec.path = "/bin/sh";
  spec.argv = {"sh", "-c", script};
  spec.env = {"PATH=/usr/bin:/bin"};
  return spec;
}

std::set<int> OpenFds() {
  std::set<int> out;
  auto names = ListDir("/proc/self/fd");
  EXPECT_TRUE(names.has_value());
  for (const std::string& name : *names) {
    const auto fd = ParseNumber<int>(name);
    if (fd && ::fcntl(*fd, F_GETFD) >= 0) out.insert(*fd);
  }
  return out;
}

// As every program of linnet does. No descriptor is left behind by any test.
class SpawnTest : public ::testing::Test {
 protected:
  SpawnTest() { ::signal(SIGPIPE, SIG_IGN); }
  void SetUp() override { before_ = OpenFds(); }
  void TearDown() override { EXPECT_EQ(OpenFds(), before_); }
  std::set<int> before_;
};

TEST_F(SpawnTest, Run_OutputAndStatus) {
  const auto r = LN_ASSERT_OK(linnet::Run(Shell("echo out; echo err >&2; exit 3"), "", In(5s)));
  EXPECT_EQ(r.out, "out\n");
  EXPECT_EQ(r.err, "err\n");
  EXPECT_EQ(r.status.code, 3);
  EXPECT_EQ(r.status.signal, 0);
}

TEST_F(SpawnTest, Run_Input) {
  const std::string big(1 << 20, 'x');
  const auto r = LN_ASSERT_OK(linnet::Run(Shell("cat"), big, In(10s)));
  EXPECT_EQ(r.out, big);
}

TEST_F(SpawnTest, Run_ChildThatDoesNotRead) {
  const std::string big(1 << 20, 'x');
  const auto r = LN_ASSERT_OK(linnet::Run(Shell("exec <&-; echo done"), big, In(10s)));
  EXPECT_EQ(r.out, "done\n");
}

TEST_F(SpawnTest, Run_TooMuchOutput_IsReadAndDropped) {
  const auto r = LN_ASSERT_OK(linnet::Run(Shell("head -c 1000000 /dev/zero; echo end >&2"), "",
                                          In(10s), {.max_output_bytes = 1000, .drain = 100ms}));
  EXPECT_EQ(r.out.size(), 1000U);
  EXPECT_EQ(r.err, "end\n");
  EXPECT_EQ(r.status.code, 0);
}

TEST_F(SpawnTest, Run_Signalled) {
  const auto r = LN_ASSERT_OK(linnet::Run(Shell("kill -TERM $$"), "", In(5s)));
  EXPECT_EQ(r.status.signal, SIGTERM);
  EXPECT_EQ(r.status.code, 128 + SIGTERM);
}

TEST_F(SpawnTest, Run_Deadline_KillsTheWholeGroup) {
  const testing::TempDir dir;
  const auto start = steady_clock::now();
  const auto r = linnet::Run(Shell("sh -c 'echo $$ >" + (dir / "pid") + "; exec sleep 60' & wait"),
                             "", In(300ms));
  LN_EXPECT_ERROR(r, Code::kDeadlineExceeded, "did not end in time");
  EXPECT_LT(steady_clock::now() - start, 5s);
  const auto pid = LN_ASSERT_OK(ParseNumber<pid_t>(Trim(dir.Read("pid"))));
  // The grandchild is somebody else's to reap: gone, or a zombie.
  const auto until = In(2s);
  std::string state;
  while (steady_clock::now() < until) {
    const auto stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
    state = stat ? stat->substr(stat->rfind(')') + 2, 1) : "gone";
    if (state == "gone" || state == "Z") break;
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_TRUE(state == "gone" || state == "Z") << state;
}

TEST_F(SpawnTest, Run_DeadlineInThePast) {
  LN_EXPECT_ERROR(linnet::Run(Shell("sleep 60"), "", steady_clock::now() - 1s),
                  Code::kDeadlineExceeded, "sh");
}

TEST_F(SpawnTest, Run_GrandchildHoldsThePipes_DrainIsBounded) {
  const auto start = steady_clock::now();
  const auto r = LN_ASSERT_OK(linnet::Run(Shell("sleep 3 & echo out"), "", In(20s),
                                          {.max_output_bytes = 1000, .drain = 50ms}));
  EXPECT_EQ(r.out, "out\n");
  EXPECT_LT(steady_clock::now() - start, 2s);
}

TEST_F(SpawnTest, Errors_NameTheStage) {
  SpawnSpec spec = Shell("true");
  spec.cwd = "/no/such/directory";
  LN_EXPECT_ERROR(Spawn(spec), Code::kNotFound, "start sh: chdir: No such file");
  spec = Shell("true");
  spec.path = "/no/such/program";
  LN_EXPECT_ERROR(Spawn(spec), Code::kNotFound, "start sh: execve: No such file");
  spec.path = "no-such-program";
  LN_EXPECT_ERROR(Spawn(spec), Code::kNotFound, "start sh: open no-such-program");
  spec.path = "/etc/passwd";
  LN_EXPECT_ERROR(Spawn(spec), Code::kPermissionDenied, "execve: Permission denied");
  const UniqueFd read_only = LN_ASSERT_OK(Open("/dev/null", O_RDONLY));
  spec = Shell("true");
  spec.cgroup_procs = {read_only};
  LN_EXPECT_ERROR(Spawn(spec), Code::kInternal, "enter cgroup");
}

TEST_F(SpawnTest, Descriptors_OnlyWhatIsMapped) {
  const testing::TempDir dir;
  dir.Write({{"a", "A"}, {"b", "B"}});
  const UniqueFd a = LN_ASSERT_OK(Open(dir / "a", O_RDONLY));
  const UniqueFd b = LN_ASSERT_OK(Open(dir / "b", O_RDONLY));
  // One that somebody forgot to make close-on-exec, below the highest target and above it.
  const UniqueFd leaked(::open("/dev/null", O_RDONLY));
  const UniqueFd leaked_high(::fcntl(leaked.get(), F_DUPFD, 40));
  auto out = std::array<int, 2>();
  ASSERT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
  const UniqueFd reader(out[0]);
  UniqueFd writer(out[1]);
  SpawnSpec spec = Shell("cat <&9; cat <&5; ls /proc/self/fd | tr '\\n' ' '");
  // Targets that are sources of others: an order that would clobber, did the sources stay where
  // they are.
  spec.fds = {{a, 9}, {b, 5}, {writer, 1}};
  Process process = LN_ASSERT_OK(Spawn(spec));
  writer.Reset();
  const std::string text = LN_ASSERT_OK(ReadAll(reader));
  EXPECT_EQ(LN_ASSERT_OK(process.Wait(In(5s))).code, 0);
  // 3 is ls's own.
  EXPECT_EQ(text, "AB0 1 2 3 5 9 ");
}

TEST_F(SpawnTest, Descriptors_Swapped) {
  const testing::TempDir dir;
  dir.Write({{"a", "A"}, {"b", "B"}});
  const UniqueFd a = LN_ASSERT_OK(Open(dir / "a", O_RDONLY));
  const UniqueFd b = LN_ASSERT_OK(Open(dir / "b", O_RDONLY));
  SpawnSpec spec = Shell("cat <&" + std::to_string(a.get()) + " <&" + std::to_string(b.get()));
  spec.argv[2] = "read x <&" + std::to_string(a.get()) + "; read y <&" + std::to_string(b.get()) +
                 "; echo $x$y";
  spec.fds = {{b, a.get()}, {a, b.get()}};
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).out, "BA\n");
}

TEST_F(SpawnTest, Environment_IsExactlyWhatIsGiven) {
  SpawnSpec spec;
  spec.path = "/usr/bin/env";
  spec.argv = {"env"};
  spec.env = {"A=1", "B=x y"};
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).out, "A=1\nB=x y\n");
}

TEST_F(SpawnTest, Signals_AreReset) {
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, &old), 0);
  const auto r =
      LN_ASSERT_OK(linnet::Run(Shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"), "", In(5s)));
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  for (const std::string& line : Split(Trim(r.out), '\n')) {
    EXPECT_TRUE(line.ends_with("0000000000000000"))
        << line << ": SIGPIPE is ignored here, SIGUSR1 was blocked";
  }
}

TEST_F(SpawnTest, Script_ByPathAndByDescriptor) {
  const testing::TempDir dir;
  dir.Write("script", "#!/bin/sh\necho script $1\n");
  ASSERT_EQ(::chmod((dir / "script").c_str(), 0755), 0);
  SpawnSpec spec;
  spec.path = dir / "script";
  spec.argv = {"name", "x"};
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).out, "script x\n");
  const UniqueFd exe = LN_ASSERT_OK(Open(dir / "script", O_PATH));
  spec.path.clear();
  spec.exe = exe;
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).out, "script x\n");
}

TEST_F(SpawnTest, Executable_ByDescriptor) {
  const UniqueFd exe = LN_ASSERT_OK(Open("/bin/sh", O_PATH));
  SpawnSpec spec = Shell("echo $0");
  spec.path.clear();
  spec.exe = exe;
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).out, "sh\n");
}

TEST_F(SpawnTest, SessionsAndGroups) {
  SpawnSpec spec = Shell("sleep 60");
  spec.new_session = true;
  spec.new_process_group = true;
  Process process = LN_ASSERT_OK(Spawn(spec));
  EXPECT_EQ(::getsid(process.pid()), process.pid());
  EXPECT_EQ(::getpgid(process.pid()), process.pid());
  LN_EXPECT_OK(process.Signal(SIGKILL));
  EXPECT_EQ(LN_ASSERT_OK(process.Wait(In(5s))).signal, SIGKILL);
  spec.new_session = false;
  process = LN_ASSERT_OK(Spawn(spec));
  EXPECT_NE(::getsid(process.pid()), process.pid());
  EXPECT_EQ(::getpgid(process.pid()), process.pid());
}

TEST_F(SpawnTest, OomScore_IsSetWhereAllowed) {
  SpawnSpec spec = Shell("cat /proc/self/oom_score_adj");
  spec.oom_score_adj = 1000;
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).out, "1000\n");
  spec.oom_score_adj = -1000;  // refused without CAP_SYS_RESOURCE: no error
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).status.code, 0);
}

TEST_F(SpawnTest, CgroupProcs_AreWrittenByTheChild) {
  const testing::TempDir dir;
  dir.Write({{"a", ""}, {"b", ""}});
  const UniqueFd a = LN_ASSERT_OK(Open(dir / "a", O_WRONLY));
  const UniqueFd b = LN_ASSERT_OK(Open(dir / "b", O_WRONLY));
  SpawnSpec spec = Shell("true");
  spec.cgroup_procs = {a, b};
  EXPECT_EQ(LN_ASSERT_OK(linnet::Run(spec, "", In(5s))).status.code, 0);
  EXPECT_EQ(dir.Read("a"), "0");
  EXPECT_EQ(dir.Read("b"), "0");
}

TEST_F(SpawnTest, CgroupDir_ThatIsNone) {
  const testing::TempDir dir;
  const UniqueFd fd = LN_ASSERT_OK(OpenDir(dir.path()));
  SpawnSpec spec = Shell("true");
  spec.cgroup_dir = fd;
  EXPECT_FALSE(Spawn(spec).has_value());
}

TEST_F(SpawnTest, Wait_Deadline) {
  Process process = LN_ASSERT_OK(Spawn(Shell("sleep 60")));
  LN_EXPECT_ERROR(process.Wait(In(20ms)), Code::kDeadlineExceeded, "still runs");
  LN_EXPECT_ERROR(process.Wait(steady_clock::now() - 1s), Code::kDeadlineExceeded, "still runs");
  LN_EXPECT_OK(process.Signal(SIGTERM));
  EXPECT_EQ(LN_ASSERT_OK(process.Wait(Deadline::max())).signal, SIGTERM);
  LN_EXPECT_ERROR(process.Wait(In(1s)), Code::kNotFound, "no process");
  LN_EXPECT_ERROR(process.Signal(SIGTERM), Code::kNotFound, "no process");
}

TEST_F(SpawnTest, Destroyed_KillsAndReaps) {
  pid_t pid = -1;
  {
    const Process process = LN_ASSERT_OK(Spawn(Shell("sleep 60")));
    pid = process.pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1) << "not even a zombie";
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(SpawnTest, MoveAssigned_EndsTheOldOne) {
  Process process = LN_ASSERT_OK(Spawn(Shell("sleep 60")));
  const pid_t old = process.pid();
  process = LN_ASSERT_OK(Spawn(Shell("exit 5")));
  EXPECT_EQ(::kill(old, 0), -1);
  EXPECT_EQ(LN_ASSERT_OK(process.Wait(In(5s))).code, 5);
}

TEST_F(SpawnTest, Detach_LetsItRun) {
  UniqueFd pidfd;
  pid_t pid = -1;
  {
    Process process = LN_ASSERT_OK(Spawn(Shell("sleep 60")));
    pid = process.pid();
    pidfd = process.Detach();
  }
  EXPECT_EQ(::kill(pid, 0), 0);
  Process again(pid, std::move(pidfd));
}

TEST_F(SpawnTest, ManyThreads) {
  std::vector<std::jthread> threads;
  std::atomic<int> right = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const auto r =
            linnet::Run(Shell("cat; exit " + std::to_string(t)), std::to_string(i), In(20s));
        if (r && r->status.code == t && r->out == std::to_string(i)) ++right;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(right, 80);
}

}  // namespace
}  // namespace linnet
