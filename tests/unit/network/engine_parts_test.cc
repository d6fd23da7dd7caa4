// What the engine is made of, without a kernel.
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "engine/config_source.h"
#include "engine/default_network.h"
#include "engine/dir_watcher.h"
#include "engine/gate.h"
#include "engine/record_store.h"
#include "engine/retry_queue.h"

namespace linnet::network {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }

template <class F>
bool Eventually(F condition) {
  const Deadline end = In(std::chrono::seconds(10));
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(OperationGate, SameKey_OneAfterAnother) {
  OperationGate gate;
  {
    const auto first = LN_ASSERT_OK(gate.Enter("a", Deadline::max()));
    LN_EXPECT_OK(gate.Enter("b", In(milliseconds(0))));
    LN_EXPECT_ERROR(gate.Enter("a", In(milliseconds(1))), Code::kDeadlineExceeded,
                    "a is still under way");
    LN_EXPECT_ERROR(gate.EnterExclusive(In(milliseconds(1))), Code::kDeadlineExceeded,
                    "still under way");
    LN_EXPECT_OK(gate.Enter("b", In(milliseconds(0))));
  }
  LN_EXPECT_OK(gate.Enter("a", In(milliseconds(0))));
}

TEST(OperationGate, Exclusive_KeepsOthersOutAndIsNotStarved) {
  OperationGate gate;
  std::atomic<bool> entered = false;
  std::optional<OperationGate::Ticket> first(LN_ASSERT_OK(gate.Enter("a", Deadline::max())));
  std::thread exclusive([&] {
    const auto ticket = gate.EnterExclusive(Deadline::max());
    EXPECT_TRUE(ticket.has_value());
    entered = true;
  });
  // Once it waits, nobody new comes in.
  EXPECT_TRUE(Eventually([&] { return !gate.Enter("b", In(milliseconds(1))).has_value(); }));
  EXPECT_FALSE(entered);
  first.reset();
  exclusive.join();
  EXPECT_TRUE(entered);
  {
    const auto ticket = LN_ASSERT_OK(gate.EnterExclusive(Deadline::max()));
    LN_EXPECT_ERROR(gate.Enter("a", In(milliseconds(1))), Code::kDeadlineExceeded, "");
  }
  LN_EXPECT_OK(gate.Enter("a", In(milliseconds(0))));
}

class SelectTest : public ::testing::Test {
 protected:
  void Put(const std::string& name, const std::string& network) {
    LN_EXPECT_OK(ReplaceFile(
        dir_ / name, R"({"name":")" + network + R"(","type":"x","plugins":[{"type":"x"}]})"));
  }
  const Selection& Select() {
    selection_ = SelectNetwork(dir_.path(), selection_);
    return selection_;
  }
  std::string Ruling() const {
    return selection_.rules == Rules::kNothing   ? "nothing"
           : selection_.rules == Rules::kBuiltin ? "built-in"
                                                 : selection_.network->name;
  }
  testing::TempDir dir_;
  Selection selection_;
};

TEST_F(SelectTest, FirstByNameRules_WhateverItsEnding) {
  Select();
  EXPECT_EQ(Ruling(), "built-in");
  Put("20-b.conflist", "b");
  Put("10-a.txt", "a");
  Put("README", "a");
  Put(".conflist", "a");
  LN_EXPECT_OK(MakeDirs(dir_ / "05-dir.conf", 0755));
  Select();
  EXPECT_EQ(Ruling(), "b");
  Put("15-c.json", "c");
  Select();
  EXPECT_EQ(Ruling(), "c");
  Put("10-d.conf", "d");
  Select();
  EXPECT_EQ(Ruling(), "d");
  EXPECT_EQ(selection_.network->source, dir_ / "10-d.conf");
  EXPECT_EQ(selection_.error, "");
}

TEST_F(SelectTest, NoDirectory_IsTheBuiltIn) {
  const Selection selection = SelectNetwork(dir_ / "none", {});
  EXPECT_EQ(selection.rules, Rules::kBuiltin);
}

TEST_F(SelectTest, Broken_NeverMovesPodsToAnotherNetwork) {
  LN_EXPECT_OK(ReplaceFile(dir_ / "10-a.conflist", "{"));
  Select();
  EXPECT_EQ(Ruling(), "nothing") << "at start";
  EXPECT_THAT(selection_.error, HasSubstr("10-a.conflist: not JSON"));
  Put("20-b.conflist", "b");
  Select();
  EXPECT_EQ(Ruling(), "b");
  EXPECT_EQ(selection_.error, "");
  EXPECT_THAT(selection_.note, HasSubstr("10-a.conflist"));
  Put("10-a.conflist", "a");
  Select();
  EXPECT_EQ(Ruling(), "a");
  // The ruling file is torn: the next one does not take over.
  LN_EXPECT_OK(ReplaceFile(dir_ / "10-a.conflist", R"({"name":"a","plugins":[{"type":7}]})"));
  Select();
  EXPECT_EQ(Ruling(), "a");
  EXPECT_THAT(selection_.error, HasSubstr("10-a.conflist: $.plugins[0].type"));
  // Gone on purpose: it does.
  LN_EXPECT_OK(RemoveFile(dir_ / "10-a.conflist"));
  Select();
  EXPECT_EQ(Ruling(), "b");
  LN_EXPECT_OK(RemoveFile(dir_ / "20-b.conflist"));
  LN_EXPECT_OK(ReplaceFile(dir_ / "30-c.conflist", "{"));
  Select();
  EXPECT_EQ(Ruling(), "b") << "what ruled goes on";
  EXPECT_THAT(selection_.error, HasSubstr("30-c.conflist"));
  LN_EXPECT_OK(RemoveFile(dir_ / "30-c.conflist"));
  Select();
  EXPECT_EQ(Ruling(), "built-in");
  EXPECT_EQ(selection_.error, "");
}

TEST(DirWatcher, SeesFilesAndTheDirectoryItself) {
  const testing::TempDir dir;
  const std::string watched = dir / "a/b/net.d";
  std::atomic<int> changes = 0;
  auto watcher = LN_ASSERT_OK(DirWatcher::Create(watched, [&] { ++changes; }));
  const auto expect_change = [&](const char* what, auto act) {
    const int before = changes;
    act();
    EXPECT_TRUE(Eventually([&] { return changes > before; })) << what;
  };
  const auto settle = [&] {
    std::this_thread::sleep_for(milliseconds(60));
  };  // trailing events of the step before
  expect_change("made, with parents", [&] { LN_EXPECT_OK(MakeDirs(watched, 0755)); });
  settle();
  expect_change("file", [&] { LN_EXPECT_OK(ReplaceFile(watched + "/x.conf", "1")); });
  settle();
  expect_change("file removed", [&] { LN_EXPECT_OK(RemoveFile(watched + "/x.conf")); });
  settle();
  expect_change("folder in it", [&] { LN_EXPECT_OK(MakeDirs(watched + "/n", 0755)); });
  settle();
  expect_change("file in the folder",
                [&] { LN_EXPECT_OK(ReplaceFile(watched + "/n/y.conf", "1")); });
  settle();
  expect_change("removed", [&] { LN_EXPECT_OK(RemoveAll(dir / "a")); });
  settle();
  expect_change("made again", [&] { LN_EXPECT_OK(MakeDirs(watched, 0755)); });
  settle();
  expect_change("file again", [&] { LN_EXPECT_OK(ReplaceFile(watched + "/x.conf", "1")); });
  settle();
  // A parent is renamed: no event. Whoever comes by finds out.
  ASSERT_EQ(rename((dir / "a").c_str(), (dir / "z").c_str()), 0);
  expect_change("parent renamed", [&] { watcher->Verify(); });
  settle();
  LN_EXPECT_OK(MakeDirs(dir / "other", 0755));
  LN_EXPECT_OK(MakeDirs(dir / "a/b", 0755));
  settle();
  expect_change("link", [&] { ASSERT_EQ(symlink((dir / "other").c_str(), watched.c_str()), 0); });
  settle();
  expect_change("file behind the link",
                [&] { LN_EXPECT_OK(ReplaceFile(dir / "other/x.conf", "1")); });
  settle();
  const int quiet = changes;
  watcher->Verify();
  settle();
  EXPECT_EQ(changes, quiet) << "nothing happened";
}

TEST(DefaultNetwork, V4_FirstThatNoRouteOverlaps) {
  EXPECT_EQ(LN_ASSERT_OK(ChooseV4({})).str(), "10.83.0.0/16");
  const auto routes = ParseRouteTable(
      "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
      "eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
      "eth0\t0005530A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
      "linnet0\t0000540A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n",
      "linnet0");
  ASSERT_EQ(routes.size(), 1U) << "neither default routes nor our own";
  EXPECT_EQ(routes[0].str(), "10.83.5.0/24");
  EXPECT_EQ(LN_ASSERT_OK(ChooseV4(routes)).str(), "10.84.0.0/16");
  LN_EXPECT_ERROR(ChooseV4({*Cidr::Parse("10.0.0.0/8")}), Code::kResourceExhausted,
                  "network.subnets");
}

TEST(DefaultNetwork, V6_IsStableAndLocal) {
  const Cidr one = ChooseV6("machine", "linnet");
  EXPECT_EQ(one, ChooseV6("machine", "linnet"));
  EXPECT_NE(one, ChooseV6("other", "linnet"));
  EXPECT_NE(one, ChooseV6("machine", "linnet-ab2c"));
  EXPECT_EQ(one.prefix(), 64);
  EXPECT_EQ(one.address().bytes()[0], 0xfd);
  EXPECT_EQ(one.Network(), one);
}

TEST(DefaultNetwork, Subnets_PodCidrOverConfiguredOverChosen) {
  const testing::TempDir dir;
  DefaultNetworkOptions options{
      .name = "linnet", .bridge = "linnet0", .subnets = {}, .ipam_dir = dir.path()};
  const auto subnet = [&](DefaultNetwork& network) {
    auto conf = network.Get();
    return conf ? (*conf)->plugins[0].json["ipam"]["ranges"][0][0]["subnet"].get<std::string>()
                : conf.error().message();
  };
  std::string chosen;
  {
    DefaultNetwork network(options);
    EXPECT_EQ(network.Known(), nullptr);
    chosen = subnet(network);
    EXPECT_THAT(chosen, ::testing::MatchesRegex("10\\.[89][0-9]\\.0\\.0/16"));
    EXPECT_NE(network.Known(), nullptr);
  }
  EXPECT_THAT(ReadFile(dir / "linnet/subnets.json").value_or(""), HasSubstr(chosen));
  options.subnets = {"10.5.0.0/16"};
  {
    DefaultNetwork network(options);
    EXPECT_EQ(subnet(network), "10.5.0.0/16");
    LN_EXPECT_OK(network.SetPodCidr(" 10.6.1.0/24 , fd00:1::/64"));
    EXPECT_EQ(subnet(network), "10.6.1.0/24");
    LN_EXPECT_ERROR(network.SetPodCidr("10.6.1.0/24,10.7.0.0/24"), Code::kInvalidArgument,
                    "more than one subnet of a family");
    LN_EXPECT_ERROR(network.SetPodCidr("x"), Code::kInvalidArgument, "pod CIDR");
    LN_EXPECT_OK(network.SetPodCidr(""));
    EXPECT_EQ(subnet(network), "10.6.1.0/24");
  }
  {
    DefaultNetwork network(options);
    EXPECT_EQ(subnet(network), "10.6.1.0/24") << "remembered";
  }
  LN_EXPECT_OK(ReplaceFile(dir / "linnet/subnets.json", "torn"));
  DefaultNetwork network(options);
  EXPECT_EQ(subnet(network), "10.5.0.0/16");
  options.subnets = {"10.5.0.0/33"};
  DefaultNetwork wrong(options);
  EXPECT_THAT(subnet(wrong), HasSubstr("network.subnets"));
}

TEST(RecordStore, FindsByIdAlsoWhatIsTorn) {
  const testing::TempDir dir;
  const RecordStore store(dir / "cni/results");
  EXPECT_TRUE(LN_ASSERT_OK(store.Of("pod1")).empty());
  cni::Record record;
  record.network = "net";
  record.container_id = "pod1";
  record.ifname = "eth0";
  LN_EXPECT_OK(store.Write(record));
  record.container_id = "x-pod1-y";  // has "-pod1-" in its name
  LN_EXPECT_OK(store.Write(record));
  LN_EXPECT_OK(ReplaceFile(dir / "cni/results/other-pod1-eth0", ""));
  const auto files = LN_ASSERT_OK(store.Of("pod1"));
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "net-pod1-eth0");
  EXPECT_TRUE(files[0].record.has_value());
  EXPECT_EQ(files[1].name, "other-pod1-eth0");
  EXPECT_FALSE(files[1].record.has_value());
  EXPECT_EQ(LN_ASSERT_OK(store.All()).size(), 3U);
  LN_EXPECT_OK(store.Remove("net-pod1-eth0"));
  LN_EXPECT_OK(store.Remove("net-pod1-eth0"));
  struct stat st {};
  ASSERT_EQ(stat((dir / "cni/results").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700U);
}

TEST(RetryQueue, TriesUntilItSucceeds) {
  std::atomic<int> attempts = 0;
  RetryQueue queue(
      [&](const std::string& key) -> Result<void> {
        EXPECT_EQ(key, "pod1");
        return ++attempts < 3 ? Result<void>(Unavailable("attempt " + std::to_string(attempts)))
                              : Ok();
      },
      milliseconds(1));
  EXPECT_FALSE(queue.Contains("pod1"));
  queue.Add("pod1", "first");
  EXPECT_TRUE(Eventually([&] { return !queue.Contains("pod1"); }));
  EXPECT_EQ(attempts, 3);
}

TEST(RetryQueue, StopsWithWorkLeft) {
  RetryQueue queue([](const std::string&) -> Result<void> { return Unavailable("no"); },
                   std::chrono::hours(1));
  queue.Add("pod1", "why");
  EXPECT_EQ(queue.Failures().at("pod1"), "why");
  queue.Stop();
}

}  // namespace
}  // namespace linnet::network
