#include "plan/plan.h"

#include <fcntl.h>

#include <random>

#include "linnet/base/file.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "keeper/failure.h"
#include "keeper/protocol.h"
#include "plan/writer.h"

namespace linnet::runtime::plan {
namespace {

using testing::HasSubstr;

// Aligned as in the keeper.
struct Buffer {
  explicit Buffer(const std::string& bytes) : words((bytes.size() + 7) / 8), size(bytes.size()) {
    if (size > 0) memcpy(words.data(), bytes.data(), size);
  }
  Reader reader() const { return {words.data(), size}; }
  unsigned char* bytes() { return reinterpret_cast<unsigned char*>(words.data()); }
  std::vector<std::uint64_t> words;
  std::size_t size;
};

constexpr std::uint32_t kFds = 6;

std::string ContainerBytes() {
  Writer w;
  ContainerPlan c;
  c.process.args = w.Texts({"sh", "-c", ""});
  c.process.env = w.Texts({"PATH=/bin"});
  c.process.cwd = w.Add("/work");
  c.process.groups = w.Items(std::vector<std::uint32_t>{1, 2, 3});
  c.process.rlimits = w.Items(std::vector<Rlimit>{{.resource = 7, .soft = 1, .hard = 2}});
  const FdIndex tree = w.AddFd(FdRef(0));
  c.lower = w.Items(std::vector<Directory>{{.tree = tree, .path = w.Add("a")}, {.tree = tree}});
  c.upper = {.tree = tree, .path = w.Add("upper")};
  c.work = {.tree = tree, .path = w.Add("work")};
  c.cgroup.v2_dir = w.AddFd(FdRef(0));
  c.cgroup.v1_tasks = w.Items(std::vector<FdIndex>{w.AddFd(FdRef(1)), w.AddFd(FdRef(2))});
  c.exit_dir = w.AddFd(FdRef(0));
  c.log_dir = w.AddFd(FdRef(0));
  c.log_path = w.Add("0.log");
  c.ops = w.Items(
      std::vector<Op>{{.kind = OpKind::kMount, .target = w.Add("/proc"), .type = w.Add("proc")},
                      {.kind = OpKind::kBind, .fd = tree, .target = w.Add("/data")}});
  auto bytes = w.Finish(c);
  EXPECT_TRUE(bytes) << bytes.error().message();
  EXPECT_EQ(w.fds().size(), kFds);
  return *std::move(bytes);
}

TEST(Plan, WrittenAndRead_IsTheSame) {
  const Buffer buffer(ContainerBytes());
  const Reader reader = buffer.reader();
  ASSERT_EQ(reader.Check(Kind::kContainer, kFds), nullptr);
  const ContainerPlan& c = reader.container();
  ASSERT_EQ(c.process.args.count, 3U);
  EXPECT_STREQ(reader.text(reader.items<Text>(c.process.args)[0]), "sh");
  EXPECT_STREQ(reader.text(reader.items<Text>(c.process.args)[2]), "");
  EXPECT_STREQ(reader.text(c.process.cwd), "/work");
  EXPECT_EQ(reader.items<std::uint32_t>(c.process.groups)[2], 3U);
  EXPECT_STREQ(reader.text(reader.items<Directory>(c.lower)[0].path), "a");
  EXPECT_FALSE(Reader::present(reader.items<Directory>(c.lower)[1].path));
  EXPECT_EQ(reader.items<Op>(c.ops)[1].kind, OpKind::kBind);
  EXPECT_EQ(c.cgroup.freezer_dir, kNoFd);
}

TEST(Plan, OtherKindVersionSize_AreRefused) {
  const std::string bytes = ContainerBytes();
  EXPECT_STREQ(Buffer(bytes).reader().Check(Kind::kExec, kFds), "plan of another kind");
  Buffer version(bytes);
  version.bytes()[4] = 99;
  EXPECT_STREQ(version.reader().Check(Kind::kContainer, kFds), "unknown version of the plan");
  EXPECT_STREQ(Buffer(bytes + "x").reader().Check(Kind::kContainer, kFds), "plan has a wrong size");
  EXPECT_STREQ(Buffer(bytes).reader().Check(Kind::kContainer, kFds - 1),
               "descriptor that was not passed");
  EXPECT_STREQ(Buffer("").reader().Check(Kind::kContainer, kFds), "plan has a wrong size");
}

TEST(Plan, EveryTruncation_IsRefused) {
  const std::string bytes = ContainerBytes();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    Buffer cut(bytes.substr(0, size));
    EXPECT_NE(cut.reader().Check(Kind::kContainer, kFds), nullptr) << size;
    // With a size that agrees, it still refers to what is not there, or its body is cut.
    if (size < sizeof(Header)) continue;
    const auto shorter = static_cast<std::uint32_t>(size);
    memcpy(cut.bytes() + offsetof(Header, size), &shorter, sizeof shorter);
    EXPECT_NE(cut.reader().Check(Kind::kContainer, kFds), nullptr) << size;
  }
}

// Whatever Check accepts can be read without leaving the buffer (run with the address sanitizer).
void ReadAllOf(const Reader& reader) {
  const ContainerPlan& c = reader.container();
  std::size_t sum = 0;
  const auto text = [&](Text t) { sum += strlen(reader.text(t)); };
  for (std::uint32_t i = 0; i < c.process.args.count; ++i)
    text(reader.items<Text>(c.process.args)[i]);
  for (std::uint32_t i = 0; i < c.process.env.count; ++i)
    text(reader.items<Text>(c.process.env)[i]);
  for (std::uint32_t i = 0; i < c.process.groups.count; ++i)
    sum += reader.items<std::uint32_t>(c.process.groups)[i];
  for (std::uint32_t i = 0; i < c.process.rlimits.count; ++i)
    sum += reader.items<Rlimit>(c.process.rlimits)[i].hard;
  for (std::uint32_t i = 0; i < c.lower.count; ++i) {
    EXPECT_LT(reader.items<Directory>(c.lower)[i].tree, kFds);
    text(reader.items<Directory>(c.lower)[i].path);
  }
  for (std::uint32_t i = 0; i < c.cgroup.v1_tasks.count; ++i)
    EXPECT_LT(reader.items<FdIndex>(c.cgroup.v1_tasks)[i], kFds);
  for (std::uint32_t i = 0; i < c.ops.count; ++i) {
    const Op& op = reader.items<Op>(c.ops)[i];
    text(op.target);
    text(op.data);
    if (op.kind == OpKind::kBind) {
      EXPECT_LT(op.fd, kFds);
    }
  }
  text(c.log_path);
  text(c.process.cwd);
  EXPECT_GE(sum, 0U);
}

TEST(Plan, ChangedBytes_AreRefusedOrHarmless) {
  const std::string bytes = ContainerBytes();
  std::mt19937 random(20260102);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    Buffer buffer(bytes);
    for (int changes = 1 + static_cast<int>(random() % 3); changes > 0; --changes) {
      const std::size_t at = random() % buffer.size;
      const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff, static_cast<unsigned char>(random())};
      buffer.bytes()[at] = values[random() % 6];
    }
    if (buffer.reader().Check(Kind::kContainer, kFds) != nullptr) continue;
    ++accepted;
    ReadAllOf(buffer.reader());
  }
  EXPECT_GT(accepted, 0);
}

TEST(Plan, HostileLists_AreRefused) {
  const std::string bytes = ContainerBytes();
  const auto with_args = [&](List list) {
    Buffer buffer(bytes);
    const Reader reader = buffer.reader();
    auto& plan = const_cast<ContainerPlan&>(reader.container());
    plan.process.args = list;
    return std::string(buffer.reader().Check(Kind::kContainer, kFds));
  };
  EXPECT_EQ(with_args({.offset = 8, .count = 0xffffffff}), "list too long");
  EXPECT_EQ(with_args({.offset = 0xfffffff8, .count = 1}), "structure outside of the plan");
  EXPECT_EQ(with_args({.offset = 17, .count = 1}), "unaligned structure");
  EXPECT_EQ(with_args({.offset = 0, .count = 1}), "list without offset");
  EXPECT_EQ(with_args({.offset = static_cast<std::uint32_t>(bytes.size() / 8 * 8), .count = 60000}),
            "structure outside of the plan");
  EXPECT_EQ(with_args({}), "no program to execute");
}

TEST(PlanWriter, NulInAText_IsRefused) {
  Writer w;
  ExecPlan e;
  e.process.args = w.Texts({std::string("a\0b", 3)});
  const auto bytes = w.Finish(e);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code(), Code::kInvalidArgument);
}

TEST(PlanWriter, IncompletePlans_AreRefused) {
  Writer w;
  ContainerPlan c;
  c.process.args = w.Texts({"x"});
  EXPECT_THAT(w.Finish(c).error().message(), HasSubstr("either layers or a plain root"));
  Writer p;
  PodPlan pod;
  pod.flags = kPodUser;
  EXPECT_THAT(p.Finish(pod).error().message(), HasSubstr("without mappings"));
  Writer n;
  pod.flags = kPodNewNet;
  EXPECT_THAT(n.Finish(pod).error().message(), HasSubstr("without a user namespace"));
}

TEST(PlanWriter, TooLarge_IsRefused) {
  Writer w;
  ExecPlan e;
  e.process.args = w.Texts({std::string(kMaxSize, 'x')});
  EXPECT_THAT(w.Finish(e).error().message(), HasSubstr("4 MiB"));
}

TEST(PlanWriter, OwnedDescriptors_AreKept) {
  Writer w;
  EXPECT_EQ(w.AddFd(FdRef(-1)), kNoFd);
  EXPECT_EQ(w.AddFd(*Open("/dev/null", O_RDONLY)), 0U);
  EXPECT_GE(fcntl(w.fds()[0].get(), F_GETFD), 0);
}

}  // namespace
}  // namespace linnet::runtime::plan

namespace linnet::runtime::keeper {
namespace {

// The messages are an interface between versions of the program: sizes only grow.
TEST(Protocol, Sizes) {
  EXPECT_EQ(sizeof(MessageHeader), 16U);
  EXPECT_EQ(sizeof(SetupPod), 24U);
  EXPECT_EQ(sizeof(StartContainer), 160U);
  EXPECT_EQ(sizeof(Exec), 168U);
  EXPECT_EQ(sizeof(Signal), 160U);
  EXPECT_EQ(sizeof(HelloAnswer), 32U);
  EXPECT_EQ(sizeof(ContainerState), 192U);
  EXPECT_EQ(sizeof(ContainerExited), 184U);
  EXPECT_EQ(sizeof(ExecExited), 24U);
  EXPECT_EQ(sizeof(Failed), 520U);
  EXPECT_EQ(sizeof(StartContainer) % 8, 0U);
  EXPECT_EQ(sizeof(Exec) % 8, 0U);
  EXPECT_EQ(sizeof(SetupPod) % 8, 0U);
}

TEST(Failure, Texts) {
  Failed failed;
  failed.stage = Stage::kMount;
  failed.error = EACCES;
  strcpy(failed.detail, "proc /proc");
  EXPECT_EQ(ToError(failed).message(), "mount: proc /proc: Permission denied");
  EXPECT_EQ(ToError(failed).code(), Code::kPermissionDenied);
  failed.stage = Stage::kExec;
  failed.error = ENOENT;
  strcpy(failed.detail, "exec: \"x\": executable file not found in $PATH");
  EXPECT_EQ(ToError(failed).message(), "exec: \"x\": executable file not found in $PATH");
  memset(failed.detail, 'x', sizeof failed.detail);  // not terminated: a keeper that lies
  EXPECT_EQ(ToError(failed).message().size(), sizeof failed.detail);
}

}  // namespace
}  // namespace linnet::runtime::keeper
