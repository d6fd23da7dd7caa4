#include <gtest/gtest.h>

#include "linnet/runtime/runtime.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

namespace linnet::runtime {
namespace {

constexpr char kWhole[] =
    "version=1\nid=abc\ncode=137\nsignal=9\noom_killed=1\nstarted_at=1767323045123456789\nfinished_"
    "at=1767323046123456789\nend\n";

TEST(ExitRecord, Whole_IsRead) {
  const testing::TempDir dir;
  dir.Write("exit", kWhole);
  const ContainerExit exit = LN_ASSERT_OK(ReadExitRecord(*ContainerId::Parse("abc"), dir.path()));
  EXPECT_EQ(exit.exit_code, 137);
  EXPECT_EQ(exit.signal, 9);
  EXPECT_TRUE(exit.oom_killed);
  EXPECT_EQ(exit.started_at_ns, 1767323045123456789);
  EXPECT_EQ(exit.finished_at_ns, 1767323046123456789);
}

TEST(ExitRecord, TornAnywhere_IsAsIfAbsent) {
  const testing::TempDir dir;
  const std::string whole = kWhole;
  LN_EXPECT_ERROR(ReadExitRecord(*ContainerId::Parse("abc"), dir.path()), Code::kNotFound, "");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    dir.Write("exit", whole.substr(0, size));
    LN_EXPECT_ERROR(ReadExitRecord(*ContainerId::Parse("abc"), dir.path()), Code::kNotFound, "");
  }
  for (const char* bad : {"version=2\nend\n", "id=abc\nversion=1\nend\n"}) {
    dir.Write("exit", bad);
    LN_EXPECT_ERROR(ReadExitRecord(*ContainerId::Parse("abc"), dir.path()), Code::kNotFound, "");
  }
}

TEST(ExitRecord, OfAnotherContainer_IsRefused) {
  const testing::TempDir dir;
  dir.Write("exit", kWhole);
  LN_EXPECT_ERROR(ReadExitRecord(*ContainerId::Parse("other"), dir.path()), Code::kNotFound,
                  "another container");
}

}  // namespace
}  // namespace linnet::runtime
