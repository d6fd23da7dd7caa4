// Namespaces: made, pinned, pooled.
#include "netns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/network/counters.h"
#include "linnet/testing/result.h"

#include "netlink/link_messages.h"
#include "netlink/route_socket.h"

namespace linnet::network {
namespace {

constexpr const char* kDir = "/run/netns";

Result<NetnsId> PinnedId(const std::string& path) {
  const UniqueFd fd = LN_TRY(OpenPinned(path));
  return IdentityOf(fd);
}

class Netns : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("LINNET_ISOLATED") == nullptr)
      GTEST_SKIP() << "runs under contrib/lib/isolated only";
  }
};

TEST_F(Netns, VisitDoesNotMoveTheCaller) {
  const NetnsId own = LN_ASSERT_OK(OwnNetns());
  const UniqueFd made = LN_ASSERT_OK(NewNetns());
  EXPECT_NE(LN_ASSERT_OK(IdentityOf(made)), own);
  NetnsId inside;
  LN_EXPECT_OK(VisitNetns(made, [&]() -> Result<void> {
    inside = LN_TRY(OwnNetns());
    return Ok();
  }));
  EXPECT_EQ(inside, LN_ASSERT_OK(IdentityOf(made)));
  EXPECT_EQ(LN_ASSERT_OK(OwnNetns()), own);
  LN_EXPECT_ERROR(VisitNetns(made, [] { return Result<void>(NotFound("what the visit said")); }),
                  Code::kNotFound, "what the visit said");
}

TEST_F(Netns, CountersOfItsInterfaces) {
  const UniqueFd made = LN_ASSERT_OK(NewNetns());
  const auto lo_of = [](const std::vector<InterfaceCounters>& all) {
    for (const InterfaceCounters& c : all) {
      if (c.name == "lo") return c;
    }
    return InterfaceCounters{};
  };
  const InterfaceCounters before = lo_of(LN_ASSERT_OK(ReadCounters(made)));
  EXPECT_EQ(before.name, "lo");
  EXPECT_EQ(before.rx_bytes, 0U);
  LN_ASSERT_OK(VisitNetns(made, []() -> Result<void> {
    RouteSocket route = LN_TRY(RouteSocket::Open());
    RouteBatch batch;
    network::SetUp(batch, "lo", 1, true);
    LN_TRY(route.Run(batch));
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{.sin_family = AF_INET,
                   .sin_port = htons(9),
                   .sin_addr = {htonl(INADDR_LOOPBACK)},
                   .sin_zero = {}};
    const std::string data(1000, 'x');
    if (::sendto(socket.get(), data.data(), data.size(), 0, reinterpret_cast<sockaddr*>(&to),
                 sizeof(to)) < 0) {
      return Error::FromErrno(errno, "sendto");
    }
    return Ok();
  }));
  const InterfaceCounters after = lo_of(LN_ASSERT_OK(ReadCounters(made)));
  EXPECT_GE(after.tx_bytes, 1000U);
  EXPECT_EQ(after.rx_bytes, after.tx_bytes);
  EXPECT_GE(after.rx_packets, 1U);
  // Many at once; one that is none spoils nothing.
  const UniqueFd none = LN_ASSERT_OK(Open("/dev/null", O_RDONLY));
  const UniqueFd empty = LN_ASSERT_OK(NewNetns());
  const FdRef three[] = {made, none, empty};
  const auto all = ReadCounters(three);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(lo_of(LN_ASSERT_OK(all[0])).tx_bytes, after.tx_bytes);
  LN_EXPECT_ERROR(all[1], Code::kInvalidArgument, "enter the network namespace");
  EXPECT_EQ(lo_of(LN_ASSERT_OK(all[2])).tx_bytes, 0U);
}

TEST_F(Netns, PinsComeBackAndGo) {
  const UniqueFd made = LN_ASSERT_OK(NewNetns());
  const std::string path = PinPath(kDir, "ab3d", "pod-1");
  LN_EXPECT_OK(Pin(path, made));
  EXPECT_EQ(LN_ASSERT_OK(PinnedId(path)), LN_ASSERT_OK(IdentityOf(made)));
  // Another one takes its place.
  const UniqueFd other = LN_ASSERT_OK(NewNetns());
  LN_EXPECT_OK(Pin(path, other));
  EXPECT_EQ(LN_ASSERT_OK(PinnedId(path)), LN_ASSERT_OK(IdentityOf(other)));
  LN_EXPECT_OK(Unpin(path));
  LN_EXPECT_OK(Unpin(path));
  EXPECT_FALSE(Exists(path));
  EXPECT_EQ(LN_ASSERT_OK(ReadFile("/proc/self/mountinfo")).find(path), std::string::npos);
}

TEST_F(Netns, WhatIsNoNamespaceIsNotFound) {
  const std::string path = std::string(kDir) + "/file";
  LN_EXPECT_OK(ReplaceFile(path, "x"));
  LN_EXPECT_ERROR(OpenNetns(path), Code::kNotFound, "is not a network namespace");
  LN_EXPECT_ERROR(OpenNetns(std::string(kDir) + "/absent"), Code::kNotFound, "absent");
  LN_EXPECT_ERROR(OpenNetns("/proc/self/ns/mnt"), Code::kNotFound, "is not a network namespace");
  LN_EXPECT_OK(Unpin(path));
}

TEST_F(Netns, ListsTheInstancesOwnPins) {
  const UniqueFd made = LN_ASSERT_OK(NewNetns());
  const std::string paths[] = {PinPath(kDir, "", "p2"), PinPath(kDir, "", "p1"),
                               PinPath(kDir, "ab3d", "p3"), std::string(kDir) + "/cni-4711"};
  for (const std::string& path : paths) LN_EXPECT_OK(Pin(path, made));
  EXPECT_EQ(LN_ASSERT_OK(ListPins(kDir, "")), (std::vector<std::string>{"p1", "p2"}));
  EXPECT_EQ(LN_ASSERT_OK(ListPins(kDir, "ab3d")), std::vector<std::string>{"p3"});
  EXPECT_TRUE(LN_ASSERT_OK(ListPins("/run/no-such-directory", "")).empty());
  for (const std::string& path : paths) LN_EXPECT_OK(Unpin(path));
}

TEST_F(Netns, PoolHandsOutDifferentOnesAndRefills) {
  NetnsPool pool(3);
  const auto filled = [&] {
    for (int i = 0; i < 500 && pool.ready() < 3; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return pool.ready() == 3;
  };
  ASSERT_TRUE(filled());
  std::vector<UniqueFd> taken;
  for (int i = 0; i < 8; ++i) taken.push_back(LN_ASSERT_OK(pool.Take()).fd);
  for (std::size_t i = 1; i < taken.size(); ++i) {
    EXPECT_NE(LN_ASSERT_OK(IdentityOf(taken[i])), LN_ASSERT_OK(IdentityOf(taken[i - 1])));
  }
  EXPECT_TRUE(filled());
  const NetnsPool none(0);
}

}  // namespace
}  // namespace linnet::network
