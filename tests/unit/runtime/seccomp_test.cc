#include "security/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/runtime/security.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::runtime {
namespace {

using testing::TempDir;

constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t Errno(std::uint32_t err) { return SECCOMP_RET_ERRNO | err; }
constexpr std::uint32_t kX32 = 0x40000000;

struct Call {
  std::uint32_t number = 0;
  std::vector<std::uint64_t> args;
  std::uint32_t arch = AUDIT_ARCH_X86_64;
};

// What the kernel would do: the instructions that seccomp programs are made of. UINT32_MAX: not a
// program the kernel takes.
std::uint32_t Simulate(const std::string& bytes, const Call& call) {
  std::vector<sock_filter> program(bytes.size() / sizeof(sock_filter));
  std::memcpy(program.data(), bytes.data(), bytes.size());
  seccomp_data data{};
  data.nr = static_cast<int>(call.number);
  data.arch = call.arch;
  for (std::size_t i = 0; i < call.args.size(); ++i) data.args[i] = call.args[i];
  std::uint32_t a = 0;
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& in = program[pc];
    const auto jump = [&](bool yes) { pc += yes ? in.jt : in.jf; };
    switch (in.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (in.k + 4 > sizeof data) return UINT32_MAX;
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + in.k, 4);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= in.k;
        break;
      case BPF_JMP | BPF_JA:
        pc += in.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jump(a == in.k);
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        jump(a > in.k);
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        jump(a >= in.k);
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        jump((a & in.k) != 0);
        break;
      case BPF_RET | BPF_K:
        return in.k;
      default:
        return UINT32_MAX;
    }
  }
  return UINT32_MAX;
}

oci::Seccomp Profile(std::string default_action, std::vector<oci::SeccompSyscall> calls) {
  oci::Seccomp out;
  out.default_action = std::move(default_action);
  out.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  out.syscalls = std::move(calls);
  return out;
}

oci::SeccompSyscall Rule(std::vector<std::string> names, std::string action = "SCMP_ACT_ALLOW",
                         std::vector<oci::SeccompArg> args = {}) {
  return {.names = std::move(names),
          .action = std::move(action),
          .errno_ret = {},
          .args = std::move(args)};
}

oci::SeccompArg Arg(std::uint32_t index, std::uint64_t value, const char* op,
                    std::uint64_t two = 0) {
  return {.index = index, .value = value, .value_two = two, .op = op};
}

class SeccompX86 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (seccomp_arch_native() != SCMP_ARCH_X86_64) GTEST_SKIP() << "numbers of x86_64";
  }
};

class DefaultProfile : public SeccompX86 {
 protected:
  static std::string Program(const std::vector<std::string>& caps) {
    auto program = CompileSeccomp(DefaultSeccompProfile(caps));
    EXPECT_TRUE(program.has_value()) << program.error().message();
    return program ? *program : "";
  }
};

TEST_F(DefaultProfile, OrdinaryCalls_Allowed) {
  const std::string p = Program({});
  for (const std::uint32_t nr :
       {SYS_read, SYS_write, SYS_openat, SYS_execve, SYS_futex, SYS_epoll_pwait2, SYS_openat2,
        SYS_ptrace, SYS_mknod, SYS_rseq, SYS_close_range, SYS_memfd_create, SYS_arch_prctl,
        SYS_modify_ldt}) {
    EXPECT_EQ(Simulate(p, {.number = nr, .args = {}}), kAllow) << nr;
  }
}

TEST_F(DefaultProfile, DangerousCalls_Eperm) {
  const std::string p = Program({});
  for (const std::uint32_t nr : {SYS_mount,           SYS_umount2,      SYS_unshare,
                                 SYS_setns,           SYS_bpf,          SYS_keyctl,
                                 SYS_add_key,         SYS_request_key,  SYS_userfaultfd,
                                 SYS_io_uring_setup,  SYS_kexec_load,   SYS_init_module,
                                 SYS_reboot,          SYS_swapon,       SYS_open_by_handle_at,
                                 SYS_perf_event_open, SYS_settimeofday, SYS_nfsservctl,
                                 SYS_syslog,          SYS_chroot,       SYS_fsopen,
                                 SYS_move_mount,      SYS_acct,         SYS_iopl,
                                 SYS_vhangup,         SYS_mbind}) {
    EXPECT_EQ(Simulate(p, {.number = nr, .args = {}}), Errno(EPERM)) << nr;
  }
}

TEST_F(DefaultProfile, Capabilities_OpenTheirCalls) {
  EXPECT_EQ(Simulate(Program({"CAP_SYS_CHROOT"}), {.number = SYS_chroot, .args = {}}), kAllow);
  EXPECT_EQ(Simulate(Program({"CAP_SYS_TIME"}), {.number = SYS_clock_settime, .args = {}}), kAllow);
  EXPECT_EQ(Simulate(Program({"CAP_BPF"}), {.number = SYS_bpf, .args = {}}), kAllow);
  EXPECT_EQ(Simulate(Program({"CAP_SYS_NICE"}), {.number = SYS_mbind, .args = {}}), kAllow);
  const std::string admin = Program({"CAP_SYS_ADMIN"});
  for (const std::uint32_t nr :
       {SYS_mount, SYS_unshare, SYS_setns, SYS_clone3, SYS_bpf, SYS_fsmount}) {
    EXPECT_EQ(Simulate(admin, {.number = nr, .args = {}}), kAllow) << nr;
  }
  EXPECT_EQ(Simulate(admin, {.number = SYS_clone, .args = {CLONE_NEWNS}}), kAllow);
}

TEST_F(DefaultProfile, Clone_OnlyWithoutNamespaces) {
  const std::string p = Program({});
  EXPECT_EQ(Simulate(p, {.number = SYS_clone, .args = {SIGCHLD}}), kAllow);
  EXPECT_EQ(Simulate(p, {.number = SYS_clone,
                         .args = {CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES}}),
            kAllow);
  for (const std::uint64_t flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                   CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET}) {
    EXPECT_EQ(Simulate(p, {.number = SYS_clone, .args = {flag | SIGCHLD}}), Errno(EPERM))
        << std::hex << flag;
  }
  // The flags of clone3 cannot be seen: libc falls back to clone.
  EXPECT_EQ(Simulate(p, {.number = SYS_clone3, .args = {}}), Errno(ENOSYS));
}

TEST_F(DefaultProfile, Socket_WithoutAlgAndVsock) {
  const std::string p = Program({});
  for (const std::uint64_t family :
       {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 37, 39, 41, 44, 45}) {
    EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {family}}), kAllow) << family;
  }
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_ALG}}), Errno(EPERM));
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_VSOCK}}), Errno(EPERM));
}

TEST_F(DefaultProfile, Personality_OnlyKnownOnes) {
  const std::string p = Program({});
  for (const std::uint64_t persona : {0x0U, 0x8U, 0x20000U, 0x20008U, 0xffffffffU}) {
    EXPECT_EQ(Simulate(p, {.number = SYS_personality, .args = {persona}}), kAllow)
        << std::hex << persona;
  }
  EXPECT_EQ(Simulate(p, {.number = SYS_personality, .args = {0x0040000}}),
            Errno(EPERM));  // ADDR_NO_RANDOMIZE
}

TEST_F(DefaultProfile, CallsNewerThanLibseccomp_DecidedByNumber) {
  const std::string p = Program({});
  for (std::uint32_t nr = 451; nr <= 466; ++nr)
    EXPECT_EQ(Simulate(p, {.number = nr, .args = {}}), kAllow) << nr;
  EXPECT_EQ(Simulate(p, {.number = 335, .args = {}}), kAllow) << "uretprobe";
  EXPECT_EQ(Simulate(p, {.number = 450, .args = {}}), Errno(EPERM))
      << "set_mempolicy_home_node needs CAP_SYS_NICE";
  EXPECT_EQ(Simulate(Program({"CAP_SYS_NICE"}), {.number = 450, .args = {}}), kAllow);
  // On x86_64 only.
  EXPECT_EQ(Simulate(p, {.number = 451, .args = {}, .arch = AUDIT_ARCH_I386}), kAllow);
  EXPECT_EQ(Simulate(p, {.number = 451 | kX32, .args = {}}), kAllow);
}

TEST_F(DefaultProfile, CallsOfTheFuture_Enosys) {
  const std::string p = Program({});
  for (const std::uint32_t nr : {467U, 469U, 500U, 100000U}) {
    EXPECT_EQ(Simulate(p, {.number = nr, .args = {}}), Errno(ENOSYS)) << nr;
    EXPECT_EQ(Simulate(p, {.number = nr, .args = {}, .arch = AUDIT_ARCH_I386}), Errno(ENOSYS))
        << nr;
  }
  // x32's own calls end at 547.
  EXPECT_EQ(Simulate(p, {.number = 600 | kX32, .args = {}}), Errno(ENOSYS));
}

TEST_F(DefaultProfile, ThirtyTwoBit) {
  const std::string p = Program({});
  EXPECT_EQ(Simulate(p, {.number = 3, .args = {}, .arch = AUDIT_ARCH_I386}), kAllow) << "read";
  EXPECT_EQ(Simulate(p, {.number = 21, .args = {}, .arch = AUDIT_ARCH_I386}), Errno(EPERM))
      << "mount";
  EXPECT_EQ(Simulate(p, {.number = 310, .args = {}, .arch = AUDIT_ARCH_I386}), Errno(EPERM))
      << "unshare";
  EXPECT_EQ(Simulate(p, {.number = 102, .args = {}, .arch = AUDIT_ARCH_I386}), kAllow)
      << "socketcall";
  EXPECT_EQ(Simulate(p, {.number = 165 | kX32, .args = {}}), Errno(EPERM)) << "x32 mount";
  EXPECT_EQ(Simulate(p, {.number = 0 | kX32, .args = {}}), kAllow) << "x32 read";
}

TEST_F(DefaultProfile, ForeignArchitecture_Killed) {
  EXPECT_EQ(Simulate(Program({}), {.number = 0, .args = {}, .arch = AUDIT_ARCH_AARCH64}),
            SECCOMP_RET_KILL_THREAD);
}

TEST_F(DefaultProfile, Size_FitsTheKernel) {
  EXPECT_LT(Program({"CAP_SYS_ADMIN"}).size() / sizeof(sock_filter), 4096U);
}

TEST_F(SeccompX86, SameArgumentTwice_EitherIsEnough) {
  const auto p = LN_ASSERT_OK(CompileSeccomp(Profile(
      "SCMP_ACT_ERRNO", {Rule({"socket"}, "SCMP_ACT_ALLOW",
                              {Arg(0, AF_UNIX, "SCMP_CMP_EQ"), Arg(0, AF_INET, "SCMP_CMP_EQ")})})));
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_UNIX}}), kAllow);
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_INET}}), kAllow);
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_INET6}}), Errno(EPERM));
}

TEST_F(SeccompX86, DifferentArguments_AllMustHold) {
  const auto p = LN_ASSERT_OK(CompileSeccomp(
      Profile("SCMP_ACT_ERRNO",
              {Rule({"socket"}, "SCMP_ACT_ALLOW",
                    {Arg(0, AF_INET, "SCMP_CMP_EQ"), Arg(1, SOCK_STREAM, "SCMP_CMP_EQ")})})));
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_INET, SOCK_STREAM}}), kAllow);
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_INET, SOCK_RAW}}), Errno(EPERM));
  EXPECT_EQ(Simulate(p, {.number = SYS_socket, .args = {AF_INET6, SOCK_STREAM}}), Errno(EPERM));
}

TEST_F(SeccompX86, Operators) {
  struct Case {
    const char* op;
    std::uint64_t value, two, yes, no;
  };
  for (const Case& c : std::vector<Case>{{"SCMP_CMP_NE", 5, 0, 6, 5},
                                         {"SCMP_CMP_LT", 5, 0, 4, 5},
                                         {"SCMP_CMP_LE", 5, 0, 5, 6},
                                         {"SCMP_CMP_EQ", 1ULL << 40, 0, 1ULL << 40, 0},
                                         {"SCMP_CMP_GE", 5, 0, 5, 4},
                                         {"SCMP_CMP_GT", 5, 0, 1ULL << 33, 5},
                                         {"SCMP_CMP_MASKED_EQ", 0xf0, 0x30, 0x3f, 0x4f}}) {
    const auto p = LN_ASSERT_OK(CompileSeccomp(Profile(
        "SCMP_ACT_ERRNO", {Rule({"lseek"}, "SCMP_ACT_ALLOW", {Arg(1, c.value, c.op, c.two)})})));
    EXPECT_EQ(Simulate(p, {.number = SYS_lseek, .args = {0, c.yes}}), kAllow) << c.op;
    EXPECT_EQ(Simulate(p, {.number = SYS_lseek, .args = {0, c.no}}), Errno(EPERM)) << c.op;
  }
}

TEST_F(SeccompX86, ActionsAndErrnos) {
  std::vector<oci::SeccompSyscall> rules = {
      Rule({"read"}, "SCMP_ACT_KILL"),         Rule({"write"}, "SCMP_ACT_KILL_PROCESS"),
      Rule({"open"}, "SCMP_ACT_TRAP"),         Rule({"close"}, "SCMP_ACT_ERRNO"),
      Rule({"stat"}, "SCMP_ACT_TRACE"),        Rule({"poll"}, "SCMP_ACT_LOG"),
      Rule({"lseek"}, "SCMP_ACT_KILL_THREAD"), Rule({"fstat"}, "SCMP_ACT_ALLOW")};
  rules[3].errno_ret = 42;
  const auto p = LN_ASSERT_OK(CompileSeccomp(Profile("SCMP_ACT_ALLOW", rules)));
  EXPECT_EQ(Simulate(p, {.number = SYS_read, .args = {}}), SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(Simulate(p, {.number = SYS_write, .args = {}}), SECCOMP_RET_KILL_PROCESS);
  EXPECT_EQ(Simulate(p, {.number = SYS_open, .args = {}}), SECCOMP_RET_TRAP);
  EXPECT_EQ(Simulate(p, {.number = SYS_close, .args = {}}), Errno(42));
  EXPECT_EQ(Simulate(p, {.number = SYS_stat, .args = {}}), SECCOMP_RET_TRACE | EPERM);
  EXPECT_EQ(Simulate(p, {.number = SYS_poll, .args = {}}), SECCOMP_RET_LOG);
  EXPECT_EQ(Simulate(p, {.number = SYS_lseek, .args = {}}), SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(Simulate(p, {.number = SYS_fstat, .args = {}}), kAllow)
      << "a rule that repeats the default changes nothing";
  EXPECT_EQ(Simulate(p, {.number = 5000, .args = {}}), kAllow)
      << "a profile that allows by default allows new calls too";
}

TEST_F(SeccompX86, DefaultErrno) {
  oci::Seccomp profile = Profile("SCMP_ACT_ERRNO", {Rule({"read", "mseal"})});
  profile.default_errno_ret = 38;
  auto p = LN_ASSERT_OK(CompileSeccomp(profile));
  EXPECT_EQ(Simulate(p, {.number = SYS_write, .args = {}}), Errno(38));
  EXPECT_EQ(Simulate(p, {.number = 462, .args = {}}), kAllow);
  profile.default_errno_ret = 5;
  p = LN_ASSERT_OK(CompileSeccomp(profile));
  EXPECT_EQ(Simulate(p, {.number = SYS_write, .args = {}}), Errno(5));
  EXPECT_EQ(Simulate(p, {.number = 463, .args = {}}), Errno(ENOSYS))
      << "beyond mseal, the newest that is named";
}

TEST_F(SeccompX86, UnknownNames_Skipped) {
  const auto p = LN_ASSERT_OK(
      CompileSeccomp(Profile("SCMP_ACT_ERRNO", {Rule({"read", "no_such_call", "write"})})));
  EXPECT_EQ(Simulate(p, {.number = SYS_write, .args = {}}), kAllow);
}

TEST_F(SeccompX86, NewCallWithConditions_LeftToTheDefault) {
  if (seccomp_syscall_resolve_name("mseal") != __NR_SCMP_ERROR)
    GTEST_SKIP() << "this libseccomp knows mseal";
  const auto p = LN_ASSERT_OK(CompileSeccomp(
      Profile("SCMP_ACT_ERRNO", {Rule({"mseal"}, "SCMP_ACT_ALLOW", {Arg(0, 1, "SCMP_CMP_EQ")})})));
  EXPECT_EQ(Simulate(p, {.number = 462, .args = {1}}), Errno(EPERM));
}

TEST_F(SeccompX86, OnlyOurArchitecture_OthersKilled) {
  oci::Seccomp profile = Profile("SCMP_ACT_ERRNO", {Rule({"read"})});
  profile.architectures.clear();
  const auto p = LN_ASSERT_OK(CompileSeccomp(profile));
  EXPECT_EQ(Simulate(p, {.number = SYS_read, .args = {}}), kAllow);
  EXPECT_EQ(Simulate(p, {.number = 3, .args = {}, .arch = AUDIT_ARCH_I386}),
            SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(Simulate(p, {.number = 0 | kX32, .args = {}}), SECCOMP_RET_KILL_THREAD);
}

TEST(CompileSeccomp, BadProfiles) {
  LN_EXPECT_ERROR(CompileSeccomp(Profile("SCMP_ACT_MAYBE", {})), Code::kInvalidArgument,
                  "SCMP_ACT_MAYBE");
  LN_EXPECT_ERROR(CompileSeccomp(Profile("SCMP_ACT_ERRNO", {Rule({"read"}, "ALLOW")})),
                  Code::kInvalidArgument, "ALLOW");
  LN_EXPECT_ERROR(CompileSeccomp(Profile("SCMP_ACT_ERRNO", {Rule({"read"}, "SCMP_ACT_NOTIFY")})),
                  Code::kUnimplemented, "NOTIFY");
  LN_EXPECT_ERROR(CompileSeccomp(Profile("SCMP_ACT_ERRNO", {Rule({"read"}, "SCMP_ACT_ALLOW",
                                                                 {Arg(6, 0, "SCMP_CMP_EQ")})})),
                  Code::kInvalidArgument, "index 6");
  LN_EXPECT_ERROR(CompileSeccomp(Profile("SCMP_ACT_ERRNO", {Rule({"read"}, "SCMP_ACT_ALLOW",
                                                                 {Arg(0, 0, "SCMP_CMP_XX")})})),
                  Code::kInvalidArgument, "SCMP_CMP_XX");
  oci::Seccomp profile = Profile("SCMP_ACT_ERRNO", {});
  profile.architectures = {"SCMP_ARCH_Z80"};
  LN_EXPECT_ERROR(CompileSeccomp(profile), Code::kInvalidArgument, "SCMP_ARCH_Z80");
  profile.architectures = {"SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_S390X"};
  LN_EXPECT_OK(CompileSeccomp(profile));
  profile.default_errno_ret = 70000;
  LN_EXPECT_ERROR(CompileSeccomp(profile), Code::kInvalidArgument, "70000");
}

TEST(SeccompFilterFlags, KnownAndUnknown) {
  oci::Seccomp profile;
  EXPECT_EQ(*SeccompFilterFlags(profile), 0U);
  profile.flags = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                   "SECCOMP_FILTER_FLAG_TSYNC"};
  EXPECT_EQ(*SeccompFilterFlags(profile),
            static_cast<std::uint32_t>(SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW));
  profile.flags = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  LN_EXPECT_ERROR(SeccompFilterFlags(profile), Code::kInvalidArgument, "WAIT_KILLABLE");
}

// -------------------------------------------------------------------------------------------------
// cache

TEST(SeccompCache, SameProfile_CompiledOnce) {
  SeccompCache cache;
  const auto a = LN_ASSERT_OK(cache.Get(DefaultSeccompProfile({})));
  const auto b = LN_ASSERT_OK(cache.Get(DefaultSeccompProfile({})));
  EXPECT_EQ(a, b);
  EXPECT_EQ(cache.compiled(), 1U);
  const auto c = LN_ASSERT_OK(cache.Get(DefaultSeccompProfile({"CAP_SYS_CHROOT"})));
  EXPECT_NE(a, c);
  EXPECT_EQ(cache.compiled(), 2U);
}

TEST(SeccompCache, EveryMemberCounts) {
  SeccompCache cache;
  oci::Seccomp profile =
      Profile("SCMP_ACT_ERRNO", {Rule({"read"}, "SCMP_ACT_ALLOW", {Arg(0, 1, "SCMP_CMP_EQ")})});
  std::vector<oci::Seccomp> all(8, profile);
  all[1].default_errno_ret = 2;
  all[2].architectures.pop_back();
  all[3].syscalls[0].names = {"write"};
  all[4].syscalls[0].args[0].value = 2;
  all[5].syscalls[0].args[0].index = 1;
  all[6].syscalls[0].args[0].op = "SCMP_CMP_NE";
  all[7].syscalls[0].action = "SCMP_ACT_LOG";
  for (const oci::Seccomp& p : all) LN_EXPECT_OK(cache.Get(p));
  EXPECT_EQ(cache.compiled(), all.size());
}

TEST(SeccompCache, Directory_OutlivesTheProcess) {
  const TempDir dir;
  const std::string where = dir / "cache";
  SeccompCache first(where);
  const auto a = LN_ASSERT_OK(first.Get(DefaultSeccompProfile({})));
  SeccompCache second(where);
  const auto b = LN_ASSERT_OK(second.Get(DefaultSeccompProfile({})));
  EXPECT_EQ(a, b);
  EXPECT_EQ(second.compiled(), 0U);
}

TEST(SeccompCache, DamagedFile_CompiledAgainAndReplaced) {
  const TempDir dir;
  SeccompCache first(dir.path());
  const auto a = LN_ASSERT_OK(first.Get(DefaultSeccompProfile({})));
  const auto names = LN_ASSERT_OK(ListDir(dir.path()));
  ASSERT_EQ(names.size(), 1U);
  const std::string good = dir.Read(names[0]);
  std::string flipped = good;
  flipped[200] = static_cast<char>(flipped[200] ^ 1);
  for (const std::string& bad :
       {std::string(), good.substr(0, good.size() / 2), flipped, std::string("x")}) {
    dir.Write(names[0], bad);
    SeccompCache cache(dir.path());
    const auto b = LN_ASSERT_OK(cache.Get(DefaultSeccompProfile({})));
    EXPECT_EQ(a, b);
    EXPECT_EQ(cache.compiled(), 1U);
    EXPECT_EQ(dir.Read(names[0]), good);
  }
}

TEST(SeccompCache, UnusableDirectory_IsNoError) {
  SeccompCache cache("/proc/no/such/place");
  LN_EXPECT_OK(cache.Get(DefaultSeccompProfile({})));
}

TEST(SeccompCache, BadProfile_ErrorEachTime) {
  SeccompCache cache;
  LN_EXPECT_ERROR(cache.Get(Profile("SCMP_ACT_X", {})), Code::kInvalidArgument, "SCMP_ACT_X");
  LN_EXPECT_ERROR(cache.Get(Profile("SCMP_ACT_X", {})), Code::kInvalidArgument, "SCMP_ACT_X");
}

TEST(SeccompCache, ManyThreads_OneCompiles) {
  SeccompCache cache;
  std::vector<std::string> programs(8);
  {
    std::vector<std::jthread> threads;
    for (std::string& out : programs) {
      threads.emplace_back([&] {
        auto program = cache.Get(DefaultSeccompProfile({}));
        if (program) out = *program;
      });
    }
  }
  EXPECT_EQ(cache.compiled(), 1U);
  EXPECT_FALSE(programs[0].empty());
  for (const std::string& p : programs) EXPECT_EQ(p, programs[0]);
}

TEST(SeccompCache, ManyProfiles_OldOnesForgotten) {
  SeccompCache cache;
  const auto profile = [](std::uint64_t i) {
    return Profile("SCMP_ACT_ERRNO",
                   {Rule({"read"}, "SCMP_ACT_ALLOW", {Arg(0, i, "SCMP_CMP_EQ")})});
  };
  for (std::uint64_t i = 0; i < 70; ++i) LN_EXPECT_OK(cache.Get(profile(i)));
  EXPECT_EQ(cache.compiled(), 70U);
  LN_EXPECT_OK(cache.Get(profile(69)));
  EXPECT_EQ(cache.compiled(), 70U);
  LN_EXPECT_OK(cache.Get(profile(0)));
  EXPECT_EQ(cache.compiled(), 71U);
}

// -------------------------------------------------------------------------------------------
// profile files

TEST(ParseSeccompProfile, Docker_IncludesAndExcludes) {
  const auto profile = LN_ASSERT_OK(ParseSeccompProfile(R"({
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
    "syscalls": [
      {"names": ["always"], "action": "SCMP_ACT_ALLOW"},
      {"name": "single", "action": "SCMP_ACT_ALLOW"},
      {"names": ["needs_admin"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["needs_chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
      {"names": ["not_with_chroot"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
      {"names": ["here"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64", "riscv64"]}},
      {"names": ["elsewhere"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
      {"names": ["not_here"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "arm64", "riscv64"]}},
      {"names": ["since_4_8"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
      {"names": ["since_99"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
      {"names": ["until_4_8"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
      {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "comment": "text",
       "args": [{"index": 0, "value": 2114060288, "valueTwo": 18446744073709551615, "op": "SCMP_CMP_MASKED_EQ"}]}
    ]})",
                                                        {"CAP_SYS_CHROOT"}));
  std::vector<std::string> names;
  for (const auto& call : profile.syscalls) names.push_back(call.names.at(0));
  EXPECT_THAT(names, ::testing::ElementsAre("always", "single", "needs_chroot", "here", "since_4_8",
                                            "clone"));
  const oci::SeccompSyscall& clone = profile.syscalls.back();
  EXPECT_EQ(clone.errno_ret, 38U);
  ASSERT_EQ(clone.args.size(), 1U);
  EXPECT_EQ(clone.args[0].value, 2114060288U);
  EXPECT_EQ(clone.args[0].value_two, UINT64_MAX);
  EXPECT_EQ(profile.default_errno_ret, 1U);
  if (seccomp_arch_native() == SCMP_ARCH_X86_64) {
    EXPECT_THAT(profile.architectures,
                ::testing::ElementsAre("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"));
  }
}

TEST(ParseSeccompProfile, Oci_AndKeysInAnyCase) {
  const auto profile = LN_ASSERT_OK(ParseSeccompProfile(
      R"({"DefaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
          "syscalls": [{"names": ["a", "b"], "action": "SCMP_ACT_KILL_PROCESS"}], "unknown": {}})",
      {}));
  EXPECT_EQ(profile.default_action, "SCMP_ACT_ALLOW");
  EXPECT_THAT(profile.flags, ::testing::ElementsAre("SECCOMP_FILTER_FLAG_LOG"));
  EXPECT_THAT(profile.syscalls.at(0).names, ::testing::ElementsAre("a", "b"));
}

TEST(ParseSeccompProfile, Errors_SayWhere) {
  const auto parse = [](const char* text) { return ParseSeccompProfile(text, {}); };
  LN_EXPECT_ERROR(parse("{"), Code::kInvalidArgument, "");
  LN_EXPECT_ERROR(parse("[]"), Code::kInvalidArgument, "object");
  LN_EXPECT_ERROR(parse("{}"), Code::kInvalidArgument, "defaultAction");
  LN_EXPECT_ERROR(parse(R"({"defaultAction":"ALLOW"})"), Code::kInvalidArgument, "ALLOW");
  LN_EXPECT_ERROR(parse(R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["Z80"]})"),
                  Code::kInvalidArgument, "Z80");
  LN_EXPECT_ERROR(parse(R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                            "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]})"),
                  Code::kInvalidArgument, "archMap");
  LN_EXPECT_ERROR(
      parse(R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ALLOW"}]})"),
      Code::kInvalidArgument, "$.syscalls[0]");
  LN_EXPECT_ERROR(
      parse(
          R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"name":"b","action":"SCMP_ACT_ALLOW"}]})"),
      Code::kInvalidArgument, "exclude each other");
  LN_EXPECT_ERROR(
      parse(
          R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW",
                            "args":[{"index":9,"op":"SCMP_CMP_EQ"}]}]})"),
      Code::kInvalidArgument, "index 9");
  LN_EXPECT_ERROR(
      parse(
          R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW",
                            "args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]}]})"),
      Code::kInvalidArgument, "value");
  LN_EXPECT_ERROR(parse(R"({"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"})"),
                  Code::kUnimplemented, "listenerPath");
  LN_EXPECT_ERROR(ParseSeccompProfile(std::string(2U << 20, ' '), {}), Code::kInvalidArgument, "");
}

}  // namespace
}  // namespace linnet::runtime
