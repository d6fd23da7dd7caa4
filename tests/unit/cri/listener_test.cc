#include "daemon/listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "daemon/lock.h"

namespace linnet::cri {
namespace {

UniqueFd Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fd.Reset();
  return fd;
}

TEST(Listener, NewSocket_HasItsModeAndTakesConnections) {
  const testing::TempDir dir;
  const std::string path = dir / "run/linnet.sock";
  const ListenSocket socket = LN_ASSERT_OK(OpenSocket(path));
  EXPECT_FALSE(socket.activated);
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777U, 0660U);
  const UniqueFd early = Connect(path);  // before anybody accepts
  ASSERT_TRUE(early);
  std::promise<void> accepted;
  const auto acceptor = LN_ASSERT_OK(Acceptor::Start(socket.fd, [&](UniqueFd fd) {
    if (fd) accepted.set_value();
  }));
  EXPECT_EQ(accepted.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(Listener, StaleSocket_IsReplaced) {
  const testing::TempDir dir;
  const std::string path = dir / "linnet.sock";
  { const ListenSocket gone = LN_ASSERT_OK(OpenSocket(path)); }
  ASSERT_TRUE(Exists(path));
  ASSERT_FALSE(Connect(path));
  const ListenSocket socket = LN_ASSERT_OK(OpenSocket(path));
  EXPECT_TRUE(Connect(path));
}

TEST(Listener, LiveSocket_IsLeftAlone) {
  const testing::TempDir dir;
  const ListenSocket socket = LN_ASSERT_OK(OpenSocket(dir / "linnet.sock"));
  LN_EXPECT_ERROR(OpenSocket(dir / "linnet.sock"), Code::kAlreadyExists, "listens");
  EXPECT_TRUE(Connect(dir / "linnet.sock"));
}

TEST(Listener, OtherFile_IsLeftAlone) {
  const testing::TempDir dir;
  dir.Write("linnet.sock", "precious");
  LN_EXPECT_ERROR(OpenSocket(dir / "linnet.sock"), Code::kAlreadyExists, "not a socket");
  EXPECT_EQ(dir.Read("linnet.sock"), "precious");
}

TEST(Listener, PathTooLong_IsRefused) {
  const testing::TempDir dir;
  LN_EXPECT_ERROR(OpenSocket(dir / std::string(120, 'x')), Code::kInvalidArgument, "longer than");
}

TEST(Lock, SecondHolder_IsRefusedWithThePidOfTheFirst) {
  const testing::TempDir dir;
  {
    const UniqueFd first = LN_ASSERT_OK(LockDirectory(dir / "state", 0711));
    LN_EXPECT_ERROR(LockDirectory(dir / "state", 0711), Code::kAlreadyExists,
                    "pid " + std::to_string(::getpid()));
  }
  const UniqueFd again = LN_ASSERT_OK(LockDirectory(dir / "state", 0711));
  EXPECT_TRUE(again);
}

// Between clone and execve a child has copies of all descriptors, the lock's too.
TEST(Lock, ChildOfADeadHolder_IsWaitedFor) {
  const testing::TempDir dir;
  UniqueFd first = LN_ASSERT_OK(LockDirectory(dir / "state", 0711));
  dir.Write("state/linnetd.lock",
            "999999999\n");  // its holder is no more (this is another file: take that one's lock)
  UniqueFd copy = LN_ASSERT_OK(Open(dir / "state/linnetd.lock", O_RDWR));
  ASSERT_EQ(::flock(copy.get(), LOCK_EX | LOCK_NB), 0);
  std::thread child([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    copy.Reset();
  });
  const auto again = LockDirectory(dir / "state", 0711);
  child.join();
  EXPECT_TRUE(again) << (again ? "" : again.error().message());
}

}  // namespace
}  // namespace linnet::cri
