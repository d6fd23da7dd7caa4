#include "linnet/ipam/lease_store.h"

#include <fcntl.h>
#include <sys/file.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::ipam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LeaseStoreTest : public ::testing::Test {
 protected:
  static RangeSet Set(const std::string& subnet, const std::string& end = "") {
    auto range =
        Range::Make({.subnet = subnet, .range_start = "", .range_end = end, .gateway = ""});
    return *RangeSet::Make({*std::move(range)});
  }
  static Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(5); }
  static IpAddress Ip(const std::string& text) { return *IpAddress::Parse(text); }
  // Addresses as text, or the error's message.
  static std::vector<std::string> Get(LeaseStore& store, const std::string& id,
                                      const std::vector<RangeSet>& sets,
                                      const std::vector<IpAddress>& requested = {}) {
    auto leases = store.Acquire({id, "eth0"}, sets, requested, Soon());
    if (!leases) return {leases.error().message()};
    std::vector<std::string> out;
    for (const Lease& lease : *leases) out.push_back(lease.address.str());
    return out;
  }
  std::string Contents(const std::string& name) {
    return ReadFile(JoinPath(dir_, name)).value_or("<absent>");
  }
  void Put(const std::string& name, const std::string& text) {
    ASSERT_TRUE(MakeDirs(dir_, 0755));
    ASSERT_TRUE(ReplaceFile(JoinPath(dir_, name), text));
  }

  testing::TempDir root_;
  const std::string dir_ = root_ / "net";
};

TEST_F(LeaseStoreTest, Acquire_WritesHostLocalsFiles) {
  LeaseStore store(dir_);
  EXPECT_THAT(Get(store, "pod1", {Set("10.1.0.0/24"), Set("fd00::/64")}),
              ElementsAre("10.1.0.2/24", "fd00::2/64"));
  EXPECT_EQ(Contents("10.1.0.2"), "pod1\r\neth0");
  EXPECT_EQ(Contents("fd00::2"), "pod1\r\neth0");
  EXPECT_EQ(Contents("last_reserved_ip.0"), "10.1.0.2");
  EXPECT_EQ(Contents("last_reserved_ip.1"), "fd00::2");
  EXPECT_TRUE(Exists(JoinPath(dir_, "lock")));
  struct stat st {};
  ASSERT_EQ(stat(JoinPath(dir_, "10.1.0.2").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
}

TEST_F(LeaseStoreTest, Acquire_GoesRound) {
  LeaseStore store(dir_);
  const std::vector<RangeSet> sets = {Set("10.1.0.0/29")};  // .2–.6
  EXPECT_THAT(Get(store, "a", sets), ElementsAre("10.1.0.2/29"));
  ASSERT_TRUE(store.Release({"a", "eth0"}, Soon()));
  EXPECT_THAT(Get(store, "b", sets), ElementsAre("10.1.0.3/29"))
      << "a freed address is the last to come back";
  for (const char* id : {"c", "d", "e"}) (void)Get(store, id, sets);
  EXPECT_THAT(Get(store, "f", sets), ElementsAre("10.1.0.2/29"));
}

TEST_F(LeaseStoreTest, Acquire_Repeated_GivesTheSame) {
  LeaseStore store(dir_);
  const std::vector<RangeSet> sets = {Set("10.1.0.0/24"), Set("fd00::/64")};
  const auto first = Get(store, "pod1", sets);
  EXPECT_EQ(Get(store, "pod1", sets), first);
  LeaseStore after_restart(dir_);
  EXPECT_EQ(Get(after_restart, "pod1", sets), first);
  EXPECT_THAT(*store.Acquire({"pod1", "net1"}, sets, {}, Soon()), ::testing::SizeIs(2));
  EXPECT_EQ(Contents("10.1.0.3"), "pod1\r\nnet1") << "another interface is another attachment";
}

TEST_F(LeaseStoreTest, Acquire_Full_NamesTheRange) {
  LeaseStore store(dir_);
  const std::vector<RangeSet> sets = {Set("fd00::/64"), Set("10.1.0.0/29", "10.1.0.3")};
  EXPECT_EQ(Get(store, "a", sets).size(), 2U);
  EXPECT_EQ(Get(store, "b", sets).size(), 2U);
  auto full = store.Acquire({"c", "eth0"}, sets, {}, Soon());
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code(), Code::kResourceExhausted);
  EXPECT_EQ(
      full.error().message(),
      "failed to allocate for range 1: no IP addresses available in range set: 10.1.0.1-10.1.0.3");
  EXPECT_EQ(Contents("fd00::4"), "<absent>") << "all or nothing";
}

TEST_F(LeaseStoreTest, TheDirectoryIsTheTruth_TheIndexAHint) {
  LeaseStore store(dir_);
  LeaseStore other(dir_);  // another process
  const std::vector<RangeSet> sets = {Set("10.1.0.0/29", "10.1.0.4")};
  EXPECT_THAT(Get(store, "a", sets), ElementsAre("10.1.0.2/29"));
  EXPECT_THAT(Get(other, "b", sets), ElementsAre("10.1.0.3/29"));
  EXPECT_THAT(Get(store, "c", sets), ElementsAre("10.1.0.4/29"));
  // What the other freed is known as taken here, and found all the same.
  ASSERT_TRUE(other.Release({"b", "eth0"}, Soon()));
  EXPECT_THAT(Get(store, "d", sets), ElementsAre("10.1.0.3/29"));
  // A key that only the directory knows.
  ASSERT_TRUE(other.Release({"d", "eth0"}, Soon()));
  EXPECT_EQ(Contents("10.1.0.3"), "<absent>");
}

TEST_F(LeaseStoreTest, Release_ReadsBeforeItUnlinks) {
  LeaseStore store(dir_);
  const std::vector<RangeSet> sets = {Set("10.1.0.0/24")};
  EXPECT_THAT(Get(store, "a", sets), ElementsAre("10.1.0.2/24"));
  Put("10.1.0.2", "somebody else\r\neth0");
  ASSERT_TRUE(store.Release({"a", "eth0"}, Soon()));
  EXPECT_EQ(Contents("10.1.0.2"), "somebody else\r\neth0");
}

TEST_F(LeaseStoreTest, Release_UnknownOrNoDirectory_Succeeds) {
  LeaseStore store(dir_);
  EXPECT_TRUE(store.Release({"a", "eth0"}, Soon()));
  EXPECT_FALSE(Exists(dir_)) << "nothing is made for a release";
  (void)Get(store, "b", {Set("10.1.0.0/24")});
  EXPECT_TRUE(store.Release({"a", "eth0"}, Soon()));
  EXPECT_EQ(Contents("10.1.0.2"), "b\r\neth0");
}

TEST_F(LeaseStoreTest, Release_OldFormatAndWhiteSpace_AreMatched) {
  Put("10.1.0.7", "a");
  Put("10.1.0.8", " a\r\neth0\n");
  LeaseStore store(dir_);
  EXPECT_TRUE(*store.Holds({"a", "eth0"}, Soon()));
  ASSERT_TRUE(store.Release({"a", "eth0"}, Soon()));
  EXPECT_EQ(Contents("10.1.0.7"), "<absent>");
  EXPECT_EQ(Contents("10.1.0.8"), "<absent>");
  EXPECT_FALSE(*store.Holds({"a", "eth0"}, Soon()));
}

TEST_F(LeaseStoreTest, EmptyFile_IsAWritersThatDied) {
  Put("10.1.0.2", "");
  LeaseStore store(dir_);
  EXPECT_THAT(Get(store, "a", {Set("10.1.0.0/24")}), ElementsAre("10.1.0.2/24"));
  EXPECT_EQ(Contents("10.1.0.2"), "a\r\neth0");
}

TEST_F(LeaseStoreTest, BrokenLastReserved_IsIgnored) {
  Put("last_reserved_ip.0", "rubbish");
  LeaseStore store(dir_);
  EXPECT_THAT(Get(store, "a", {Set("10.1.0.0/24")}), ElementsAre("10.1.0.2/24"));
}

TEST_F(LeaseStoreTest, Requested_IsGivenOrRefused) {
  LeaseStore store(dir_);
  const std::vector<RangeSet> sets = {Set("10.1.0.0/24"), Set("fd00::/64")};
  EXPECT_THAT(Get(store, "a", sets, {Ip("10.1.0.77")}), ElementsAre("10.1.0.77/24", "fd00::2/64"));
  EXPECT_THAT(
      Get(store, "b", sets, {Ip("10.1.0.77")}),
      ElementsAre(
          "requested IP address 10.1.0.77 is not available in range set 10.1.0.1-10.1.0.254"));
  EXPECT_THAT(Get(store, "b", sets, {Ip("10.1.0.1")}),
              ElementsAre("requested ip 10.1.0.1 is subnet's gateway"));
  EXPECT_THAT(Get(store, "b", sets, {Ip("192.0.2.1")}),
              ElementsAre("failed to allocate all requested IPs: 192.0.2.1"));
  EXPECT_FALSE(*store.Holds({"b", "eth0"}, Soon())) << "a refusal leaves nothing";
  EXPECT_THAT(Get(store, "a", sets, {Ip("10.1.0.77")}), ElementsAre("10.1.0.77/24", "fd00::2/64"))
      << "again: the same";
}

TEST_F(LeaseStoreTest, Sweep_KeepsWhatIsKept) {
  LeaseStore store(dir_);
  for (const char* id : {"a", "b", "c"}) (void)Get(store, id, {Set("10.1.0.0/24")});
  Put("10.1.0.9", "");
  auto swept = LN_ASSERT_OK(store.Sweep(
      [](const LeaseKey& key) { return key.container_id == "b" && key.ifname == "eth0"; }, Soon()));
  EXPECT_EQ(swept, 3U);
  EXPECT_FALSE(*store.Holds({"a", "eth0"}, Soon()));
  EXPECT_TRUE(*store.Holds({"b", "eth0"}, Soon()));
  EXPECT_TRUE(Exists(JoinPath(dir_, "last_reserved_ip.0")));
}

TEST_F(LeaseStoreTest, Free_CountsWhatIsLeft) {
  LeaseStore store(dir_);
  const RangeSet set = Set("10.1.0.0/29");
  EXPECT_EQ(*store.Free(set, Soon()), 5U);
  (void)Get(store, "a", {set});
  Put("10.1.0.1", "a gateway's file counts for nothing\r\neth0");
  EXPECT_EQ(*store.Free(set, Soon()), 4U);
}

TEST_F(LeaseStoreTest, LockHeldByAnother_EndsAtTheDeadline) {
  ASSERT_TRUE(MakeDirs(dir_, 0755));
  const UniqueFd lock = LN_ASSERT_OK(Open(JoinPath(dir_, "lock"), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(flock(lock.get(), LOCK_EX), 0);
  LeaseStore store(dir_);
  auto leases = store.Acquire({"a", "eth0"}, {Set("10.1.0.0/24")}, {},
                              std::chrono::steady_clock::now() + std::chrono::milliseconds(5));
  ASSERT_FALSE(leases.has_value());
  EXPECT_EQ(leases.error().code(), Code::kDeadlineExceeded);
}

TEST_F(LeaseStoreTest, ManyWriters_NeverShareAnAddress) {
  constexpr int kEach = 40;
  LeaseStore one(dir_);
  LeaseStore two(dir_);  // as another process would
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      LeaseStore& store = t % 2 == 0 ? one : two;
      for (int i = 0; i < kEach; ++i) {
        const std::string id = std::to_string(t) + "-" + std::to_string(i);
        EXPECT_EQ(Get(store, id, {Set("10.1.0.0/24")}).size(), 1U);
        if (i % 2 == 0) LN_EXPECT_OK(store.Release({id, "eth0"}, Soon()));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::size_t files = 0;
  std::set<std::string> owners;
  const std::vector<std::string> names = LN_ASSERT_OK(ListDir(dir_));
  for (const std::string& name : names) {
    if (!IpAddress::Parse(name)) continue;
    ++files;
    owners.insert(Contents(name));
  }
  EXPECT_EQ(files, 4U * kEach / 2);
  EXPECT_EQ(owners.size(), files);
}

TEST_F(LeaseStoreTest, DirectoryRemovedMeanwhile_IsMadeAgain) {
  LeaseStore store(dir_);
  (void)Get(store, "a", {Set("10.1.0.0/24")});
  ASSERT_TRUE(RemoveAll(dir_));
  EXPECT_TRUE(store.Release({"a", "eth0"}, Soon()));
  EXPECT_THAT(Get(store, "b", {Set("10.1.0.0/24")}), ::testing::SizeIs(1));
}

}  // namespace
}  // namespace linnet::ipam
