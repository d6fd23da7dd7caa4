#include "linnet/base/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <gtest/gtest.h>

namespace linnet {
namespace {

int OpenNull() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesAtTheEnd) {
  const int fd = OpenNull();
  {
    const UniqueFd owner(fd);
    EXPECT_TRUE(owner.valid());
    EXPECT_EQ(owner.get(), fd);
    EXPECT_TRUE(IsOpen(fd));
  }
  EXPECT_FALSE(IsOpen(fd));
}

TEST(UniqueFd, MovesOwnership) {
  UniqueFd a(OpenNull());
  const int fd = a.get();
  UniqueFd b(std::move(a));
  EXPECT_FALSE(a.valid());  // NOLINT(bugprone-use-after-move): what is tested
  UniqueFd c(OpenNull());
  const int old = c.get();
  c = std::move(b);
  EXPECT_FALSE(IsOpen(old));
  EXPECT_EQ(c.get(), fd);
  UniqueFd& same = c;
  c = std::move(same);
  EXPECT_TRUE(IsOpen(fd));
}

TEST(UniqueFd, Release_GivesItAway) {
  UniqueFd a(OpenNull());
  const int fd = a.Release();
  EXPECT_FALSE(a);
  EXPECT_TRUE(IsOpen(fd));
  ::close(fd);
}

TEST(UniqueFd, Reset_KeepsErrno) {
  UniqueFd a(OpenNull());
  errno = EDOM;
  a.Reset();
  EXPECT_EQ(errno, EDOM);
  EXPECT_FALSE(a);
}

TEST(FdRef, Lends) {
  const UniqueFd a(OpenNull());
  const FdRef ref = a;
  EXPECT_EQ(ref.get(), a.get());
  EXPECT_FALSE(FdRef(-1).valid());
  EXPECT_EQ(FdRef::Cwd().get(), AT_FDCWD);
}

}  // namespace
}  // namespace linnet
