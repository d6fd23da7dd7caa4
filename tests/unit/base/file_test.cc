#include "linnet/base/file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FileTest : public ::testing::Test {
 protected:
  mode_t ModeOf(const std::string& name) const {
    struct stat st {};
    return ::stat((dir_ / name).c_str(), &st) == 0 ? st.st_mode & 07777 : 0;
  }
  testing::TempDir dir_;
};

bool IsCloexec(FdRef fd) { return (::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0; }

TEST_F(FileTest, EveryDescriptorIsCloexec) {
  dir_.Write("a", "x");
  const UniqueFd dir = LN_ASSERT_OK(OpenDir(dir_.path()));
  EXPECT_TRUE(IsCloexec(dir));
  EXPECT_TRUE(IsCloexec(LN_ASSERT_OK(Open(dir_ / "a", O_RDONLY))));
  EXPECT_TRUE(IsCloexec(LN_ASSERT_OK(OpenAt(dir, "a", O_RDONLY))));
  EXPECT_TRUE(IsCloexec(LN_ASSERT_OK(OpenAt2(dir, "a", O_RDONLY, 0, RESOLVE_BENEATH))));
  const UniqueFd copy = LN_ASSERT_OK(Dup(dir));
  EXPECT_TRUE(IsCloexec(copy));
  EXPECT_GE(copy.get(), 3);
  EXPECT_TRUE(IsCloexec(LN_ASSERT_OK(SealedMemfd("m", "x", MemfdUse::kData))));
}

TEST_F(FileTest, Open_Errors_NameThePath) {
  LN_EXPECT_ERROR(Open(dir_ / "none", O_RDONLY), Code::kNotFound, "open " + (dir_ / "none"));
  dir_.Write("file");
  LN_EXPECT_ERROR(OpenDir(dir_ / "file"), Code::kFailedPrecondition, "Not a directory");
}

TEST_F(FileTest, OpenAt2_StaysBeneath) {
  dir_.Write("in/a", "inside");
  dir_.Write("b", "outside");
  ASSERT_EQ(::symlink("../b", (dir_ / "in/up").c_str()), 0);
  ASSERT_EQ(::symlink("/a", (dir_ / "in/root").c_str()), 0);
  const UniqueFd in = LN_ASSERT_OK(OpenDir(dir_ / "in"));
  EXPECT_FALSE(OpenAt2(in, "up", O_RDONLY, 0, RESOLVE_BENEATH).has_value());
  EXPECT_FALSE(OpenAt2(in, "up", O_RDONLY, 0, RESOLVE_IN_ROOT).has_value())
      << "../b is /b there, which is absent";
  const UniqueFd a = LN_ASSERT_OK(OpenAt2(in, "root", O_RDONLY, 0, RESOLVE_IN_ROOT));
  EXPECT_EQ(LN_ASSERT_OK(ReadAll(a)), "inside");
}

TEST_F(FileTest, ReadFile_WholeAndBounded) {
  const std::string big(100'000, 'x');
  dir_.Write({{"empty", ""}, {"small", "abc"}});
  dir_.Write("big", big);
  EXPECT_EQ(LN_ASSERT_OK(ReadFile(dir_ / "empty")), "");
  EXPECT_EQ(LN_ASSERT_OK(ReadFile(dir_ / "big")), big);
  EXPECT_EQ(LN_ASSERT_OK(ReadFile(dir_ / "small", 3)), "abc");
  LN_EXPECT_ERROR(ReadFile(dir_ / "small", 2), Code::kResourceExhausted, "larger than 2");
  LN_EXPECT_ERROR(ReadFile("/dev/zero", 1 << 20), Code::kResourceExhausted, "larger");
  LN_EXPECT_ERROR(ReadFile(dir_ / "none"), Code::kNotFound, "none");
  EXPECT_NE(LN_ASSERT_OK(ReadFile("/proc/self/status")).find("Name:"), std::string::npos)
      << "a file whose size is said to be 0";
}

TEST_F(FileTest, ReplaceFile_AllOrNothing) {
  const std::string path = dir_ / "f";
  LN_EXPECT_OK(ReplaceFile(path, "one", 0640));
  EXPECT_EQ(dir_.Read("f"), "one");
  EXPECT_EQ(ModeOf("f"), 0640U);
  const UniqueFd old = LN_ASSERT_OK(Open(path, O_RDONLY));
  LN_EXPECT_OK(ReplaceFile(path, "two"));
  EXPECT_EQ(dir_.Read("f"), "two");
  EXPECT_EQ(ModeOf("f"), 0600U);
  EXPECT_EQ(LN_ASSERT_OK(ReadAll(old)), "one") << "a reader of the old file keeps it";
  LN_EXPECT_ERROR(ReplaceFile(dir_ / "none/f", "x"), Code::kNotFound, "none");
  EXPECT_THAT(LN_ASSERT_OK(ListDir(dir_.path())), ElementsAre("f")) << "no temporary is left";
}

TEST_F(FileTest, ReplaceFile_OverADirectory_LeavesNothing) {
  dir_.Write("d/x");
  EXPECT_FALSE(ReplaceFile(dir_ / "d", "x").has_value());
  EXPECT_THAT(LN_ASSERT_OK(ListDir(dir_.path())), ElementsAre("d"));
}

TEST_F(FileTest, ReplaceFile_ReplacesALink_NotItsTarget) {
  dir_.Write("target", "keep");
  ASSERT_EQ(::symlink("target", (dir_ / "link").c_str()), 0);
  LN_EXPECT_OK(ReplaceFile(dir_ / "link", "new"));
  EXPECT_EQ(dir_.Read("target"), "keep");
  EXPECT_EQ(dir_.Read("link"), "new");
}

TEST_F(FileTest, ReplaceFile_ManyThreads_NeverTorn) {
  const std::string path = dir_ / "f";
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const std::string text(10'000, static_cast<char>('a' + t));
        for (int i = 0; i < 20; ++i) LN_EXPECT_OK(ReplaceFile(path, text));
      });
    }
  }
  const std::string text = dir_.Read("f");
  ASSERT_EQ(text.size(), 10'000U);
  EXPECT_EQ(text.find_first_not_of(text[0]), std::string::npos);
  EXPECT_THAT(LN_ASSERT_OK(ListDir(dir_.path())), ElementsAre("f"));
}

TEST_F(FileTest, WriteFileDurable) {
  LN_EXPECT_OK(WriteFileDurable(dir_ / "f", "x", 0644));
  EXPECT_EQ(dir_.Read("f"), "x");
  EXPECT_EQ(ModeOf("f"), 0644U);
}

TEST_F(FileTest, WriteControlFile_MakesNoFile) {
  LN_EXPECT_ERROR(WriteControlFile(dir_ / "none", "1"), Code::kNotFound, "none");
  dir_.Write("f", "");
  LN_EXPECT_OK(WriteControlFile(dir_ / "f", "1"));
  EXPECT_EQ(dir_.Read("f"), "1");
  const auto refused = WriteControlFile("/proc/self/oom_score_adj", "nonsense");
  LN_EXPECT_ERROR(refused, Code::kInvalidArgument,
                  "write \"nonsense\" to /proc/self/oom_score_adj");
}

TEST_F(FileTest, MakeDirs) {
  const mode_t old = ::umask(0077);
  LN_EXPECT_OK(MakeDirs(dir_ / "a/b/c", 0755));
  ::umask(old);
  EXPECT_EQ(ModeOf("a"), 0755U);
  EXPECT_EQ(ModeOf("a/b/c"), 0755U);
  LN_EXPECT_OK(MakeDirs(dir_ / "a/b", 0700));
  EXPECT_EQ(ModeOf("a/b"), 0755U) << "what is there stays as it is";
  dir_.Write("file");
  LN_EXPECT_ERROR(MakeDirs(dir_ / "file"), Code::kFailedPrecondition, "file");
  EXPECT_FALSE(MakeDirs(dir_ / "file/x").has_value());
  ASSERT_EQ(::symlink("nowhere", (dir_ / "dangling").c_str()), 0);
  EXPECT_FALSE(MakeDirs(dir_ / "dangling").has_value());
  ASSERT_EQ(::symlink("a", (dir_ / "link").c_str()), 0);
  LN_EXPECT_OK(MakeDirs(dir_ / "link/new"));
  EXPECT_EQ(ModeOf("a/new"), 0700U);
}

TEST_F(FileTest, RemoveAll_WholeTree) {
  dir_.Write({{"t/a/b/c", "x"}, {"t/d/", ""}, {"t/e", ""}});
  LN_EXPECT_OK(RemoveAll(dir_ / "t"));
  EXPECT_FALSE(Exists(dir_ / "t"));
  LN_EXPECT_OK(RemoveAll(dir_ / "t"));
  LN_EXPECT_OK(RemoveAll(dir_ / "none/at/all"));
}

TEST_F(FileTest, RemoveAll_FollowsNoLink) {
  dir_.Write({{"keep/precious", "x"}, {"t/", ""}});
  ASSERT_EQ(::symlink((dir_ / "keep").c_str(), (dir_ / "t/link").c_str()), 0);
  LN_EXPECT_OK(RemoveAll(dir_ / "t"));
  EXPECT_EQ(dir_.Read("keep/precious"), "x");
  ASSERT_EQ(::symlink("keep", (dir_ / "link").c_str()), 0);
  LN_EXPECT_OK(RemoveAll(dir_ / "link"));
  EXPECT_EQ(dir_.Read("keep/precious"), "x");
}

// In a child with a mount namespace of its own: a volume that is still mounted in a directory to be
// removed.
TEST_F(FileTest, RemoveAll_SparesWhatIsMountedInTheTree) {
  dir_.Write({{"volume/precious", "x"}, {"t/mnt/", ""}, {"t/z", ""}});
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount((dir_ / "volume").c_str(), (dir_ / "t/mnt").c_str(), nullptr, MS_BIND, nullptr) !=
            0) {
      ::_exit(77);
    }
    const auto removed = RemoveAll(dir_ / "t");
    const bool right = !removed && removed.error().Is(Code::kFailedPrecondition) &&
                       Exists(dir_ / "volume/precious");
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  EXPECT_EQ(status, 0);
  EXPECT_EQ(dir_.Read("volume/precious"), "x");
  LN_EXPECT_OK(RemoveAll(dir_ / "t"));
}

TEST_F(FileTest, RemoveAll_DeepTree) {
  std::string path = dir_ / "t";
  UniqueFd at;
  LN_EXPECT_OK(MakeDirs(path));
  at = LN_ASSERT_OK(OpenDir(path));
  // Deeper than a path can name.
  for (int i = 0; i < 600; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "deep-down", 0700), 0);
    at = LN_ASSERT_OK(OpenAt(at, "deep-down", O_RDONLY | O_DIRECTORY));
  }
  LN_EXPECT_OK(RemoveAll(path));
  EXPECT_FALSE(Exists(path));
}

TEST_F(FileTest, RemoveFile) {
  dir_.Write("f");
  LN_EXPECT_OK(RemoveFile(dir_ / "f"));
  LN_EXPECT_OK(RemoveFile(dir_ / "f"));
  dir_.Write("d/");
  EXPECT_FALSE(RemoveFile(dir_ / "d").has_value());
}

TEST_F(FileTest, ListDir_Sorted) {
  dir_.Write({{"b", ""}, {"a", ""}, {"C", ""}, {".hidden", ""}, {"d/", ""}});
  EXPECT_THAT(LN_ASSERT_OK(ListDir(dir_.path())), ElementsAre(".hidden", "C", "a", "b", "d"));
  const UniqueFd dir = LN_ASSERT_OK(OpenDir(dir_.path()));
  EXPECT_EQ(LN_ASSERT_OK(ListDirAt(dir)).size(), 5U);
  EXPECT_EQ(LN_ASSERT_OK(ListDirAt(dir)).size(), 5U) << "again from the start";
  EXPECT_THAT(LN_ASSERT_OK(ListDir(dir_ / "d")), IsEmpty());
  LN_EXPECT_ERROR(ListDir(dir_ / "none"), Code::kNotFound, "none");
}

TEST_F(FileTest, Links) {
  const std::string target(1000, 'x');
  ASSERT_EQ(::symlink(target.c_str(), (dir_ / "long").c_str()), 0);
  EXPECT_EQ(LN_ASSERT_OK(ReadLink(dir_ / "long")), target);
  LN_EXPECT_ERROR(ReadLink(dir_ / "none"), Code::kNotFound, "none");
  dir_.Write("a/f");
  ASSERT_EQ(::symlink("a", (dir_ / "b").c_str()), 0);
  EXPECT_TRUE(LN_ASSERT_OK(RealPath(dir_ / "b/../b/f")).ends_with("/a/f"));
  LN_EXPECT_ERROR(RealPath(dir_ / "b/none"), Code::kNotFound, "none");
}

TEST(SealedMemfd, CannotBeChanged) {
  const UniqueFd fd = LN_ASSERT_OK(SealedMemfd("test", "contents", MemfdUse::kData));
  EXPECT_EQ(LN_ASSERT_OK(ReadAll(fd)), "contents");
  EXPECT_EQ(::write(fd.get(), "x", 1), -1);
  EXPECT_EQ(::ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
  EXPECT_EQ(::open(FdPath(fd).c_str(), O_WRONLY | O_CLOEXEC) >= 0 &&
                ::mmap(nullptr, 1, PROT_WRITE, MAP_SHARED, fd.get(), 0) != MAP_FAILED,
            false);
}

TEST(SealedMemfd, ExecutableRuns) {
  const std::string program = LN_ASSERT_OK(ReadFile("/bin/true"));
  const UniqueFd fd = LN_ASSERT_OK(SealedMemfd("true", program, MemfdUse::kExecutable));
  const pid_t pid = ::fork();
  if (pid == 0) {
    char name[] = "true";
    char* argv[] = {name, nullptr};
    ::fexecve(fd.get(), argv, argv + 1);
    ::_exit(1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(Paths, JoinPath) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "/b"), "a/b");
  EXPECT_EQ(JoinPath("/", "b"), "/b");
  EXPECT_EQ(JoinPath("/a//", "//b/c"), "/a/b/c");
  EXPECT_EQ(JoinPath("a", ""), "a");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(JoinPath("/", ""), "/");
}

TEST(Paths, DirnameAndBasename) {
  struct Case {
    const char *path, *dir, *base;
  };
  for (const Case& c : std::initializer_list<Case>{{"/a/b", "/a", "b"},
                                                   {"/a", "/", "a"},
                                                   {"a", ".", "a"},
                                                   {"a/b/", "a", "b"},
                                                   {"/", "/", "/"},
                                                   {"//a", "/", "a"},
                                                   {"a//b", "a", "b"}}) {
    EXPECT_EQ(Dirname(c.path), c.dir) << c.path;
    EXPECT_EQ(Basename(c.path), c.base) << c.path;
  }
}

TEST(Paths, CleanPath) {
  for (const auto& [path, clean] :
       std::initializer_list<std::pair<const char*, const char*>>{{"/a//b/./c/", "/a/b/c"},
                                                                  {"/a/../b", "/b"},
                                                                  {"/../../a", "/a"},
                                                                  {"a/../..", ".."},
                                                                  {"a/..", "."},
                                                                  {"", "."},
                                                                  {"/", "/"},
                                                                  {"../a/../b", "../b"},
                                                                  {"./a", "a"},
                                                                  {"/..", "/"},
                                                                  {"a/./b/..", "a"},
                                                                  {"...", "..."}}) {
    EXPECT_EQ(CleanPath(path), clean) << path;
  }
}

}  // namespace
}  // namespace linnet
