// What the image store promises, tried at random moments: a kill -9, a power cut, a disk that
// fills, calls that race. After each, every visible image is whole, and nothing is left that no
// image owns.
//
// LINNET_PROOF_ROUNDS  how many moments are tried (default: 15; the promise was shown with 200)
// LINNET_PROOF_SEED    of the moments (default: 1)
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "linnet/base/file.h"
#include "linnet/base/spawn.h"
#include "linnet/base/text.h"
#include "linnet/oci/image_store.h"
#include "linnet/testing/result.h"
#include "linnet/testing/temp_dir.h"

#include "fake_registry.h"
#include "store/image_store_internal.h"
#include "tar_builder.h"

namespace linnet::oci {
namespace {

using linnet::testing::TempDir;
using testing::FakeRegistry;
using testing::MakeImage;
using testing::TarBuilder;

int FromEnvironment(const char* name, int otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody changes it here
  return text == nullptr ? otherwise : std::atoi(text);
}
int Rounds() { return std::max(1, FromEnvironment("LINNET_PROOF_ROUNDS", 15)); }

void Program(const std::vector<std::string>& argv) {
  const auto run =
      linnet::Run({.path = argv[0], .argv = argv, .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
                  "", std::chrono::steady_clock::now() + std::chrono::seconds(120));
  ASSERT_TRUE(run.has_value()) << argv[0] << ": " << run.error().message();
  ASSERT_EQ(run->status.code, 0) << argv[0] << ": " << run->err;
}

// ---- a file system in a file ----

class LoopDisk {
 public:
  LoopDisk(std::string image, std::string options)
      : image_(std::move(image)), options_(std::move(options)) {}
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;
  ~LoopDisk() { Unmount(); }

  void Make(std::uint64_t bytes, std::vector<std::string> mkfs) {
    const UniqueFd file = LN_ASSERT_OK(Open(image_, O_RDWR | O_CREAT | O_TRUNC, 0600));
    ASSERT_EQ(ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
    mkfs.push_back(image_);
    Program(mkfs);
  }
  void Mount() {
    ASSERT_TRUE(MakeDirs(path(), 0755).has_value());
    Program({"/usr/bin/mount", "-o", "loop" + (options_.empty() ? "" : "," + options_), image_,
             path()});
    mounted_ = true;
  }
  void Unmount() {
    if (!std::exchange(mounted_, false)) return;
    // Of killed processes something may be under way in the kernel yet.
    for (int i = 0; i < 100 && umount(path().c_str()) != 0; ++i) usleep(50'000);
  }
  std::string path() const { return image_ + ".mnt"; }
  const std::string& image() const { return image_; }
  std::uint64_t FreeBytes() const {
    struct statvfs st {};
    return statvfs(path().c_str(), &st) == 0 ? st.f_bavail * st.f_frsize : 0;
  }

 private:
  const std::string image_, options_;
  bool mounted_ = false;
};

// ---- what is pulled, imported and removed ----

constexpr int kApps = 4;
constexpr int kImports = 2;

std::string BaseData() { return std::string(2U << 20, 'b'); }
std::string FileData(int i, int file) {
  return std::string(1500, static_cast<char>('a' + (i + file) % 26));
}
std::string AppName(int i) { return "example.com/app:" + std::to_string(i); }
std::string ImportName(int i) { return "example.com/imported:" + std::to_string(i); }

std::string OwnTar(int i) {
  TarBuilder own;
  for (int f = 0; f < 60; ++f)
    own.Dir("d" + std::to_string(f % 7))
        .File("d" + std::to_string(f % 7) + "/f" + std::to_string(f), FileData(i, f));
  own.Symlink("link", "d0/f0").HardLink("hard", "d0/f0").Whiteout("gone");
  return own.Finish();
}

void FillRegistry(FakeRegistry& registry) {
  const std::string base = TarBuilder().File("base", BaseData()).Finish();
  for (int i = 0; i < kApps; ++i) registry.Put(AppName(i), MakeImage({base, OwnTar(i)}));
}

UniqueFd MemoryFile(std::string_view bytes) {
  UniqueFd fd(memfd_create("archive", MFD_CLOEXEC));
  LN_CHECK(fd.valid() && WriteAll(fd, bytes).has_value());
  LN_CHECK(lseek(fd.get(), 0, SEEK_SET) == 0);
  return fd;
}

std::unique_ptr<ImageStore> OpenStore(const std::string& root, FakeRegistry& registry) {
  auto store = OpenImageStore({.root = root}, registry.Client());
  EXPECT_TRUE(store.has_value()) << store.error().message();
  return store ? *std::move(store) : nullptr;
}

Result<void> Fetch(ImageStore& store, const std::string& name) {
  if (name.find("imported") == std::string::npos) {
    LN_TRY(store.Pull(*Reference::Parse(name), {}));
    return Ok();
  }
  const int i = name.back() - '0';
  ImageStore::ImportOptions options;
  options.name = name;
  LN_TRY(store.Import(MemoryFile(OwnTar(100 + i)), options));
  return Ok();
}

// Pulls, imports and removes for ever, and tells what is done on `tell`: "+NAME" when it is there,
// "-NAME" before it may go. Ends with _exit: 1 to 3 for what must not happen.
[[noreturn]] void Work(const std::string& root, FakeRegistry& registry, unsigned seed, int tell) {
  auto store = OpenImageStore({.root = root}, registry.Client());
  if (!store) _exit(1);
  std::minstd_rand random(seed + 1);
  const auto say = [tell](char what, const std::string& name) {
    const std::string line = what + name + "\n";
    if (write(tell, line.data(), line.size()) != static_cast<ssize_t>(line.size())) _exit(4);
  };
  for (;;) {
    const auto pick = random() % (kApps + kImports);
    const std::string name =
        pick < kApps ? AppName(static_cast<int>(pick)) : ImportName(static_cast<int>(pick - kApps));
    if (random() % 3 != 0) {
      if (!Fetch(**store, name)) _exit(2);
      say('+', name);
    } else {
      say('-', name);
      if (!(*store)->Remove(name)) _exit(3);
    }
  }
}

class Worker {
 public:
  Worker(const std::string& root, FakeRegistry& registry, unsigned seed) {
    std::array<int, 2> ends{};
    LN_CHECK(pipe2(ends.data(), O_CLOEXEC) == 0);
    hear_.Reset(ends[0]);
    const UniqueFd tell(ends[1]);
    LN_CHECK(fcntl(hear_.get(), F_SETFL, O_NONBLOCK) == 0);
    pid_ = fork();
    LN_CHECK(pid_ >= 0);
    if (pid_ == 0) Work(root, registry, seed, tell.get());
  }
  // What it has told so far, added to `there`; with kOnlyGone, only what may have gone is taken
  // out.
  enum class Hear { kAll, kOnlyGone };
  void Listen(std::set<std::string>& there, Hear hear) {
    std::array<char, 4096> buffer{};
    for (;;) {
      const ssize_t n = read(hear_.get(), buffer.data(), buffer.size());
      if (n <= 0) break;
      text_.append(buffer.data(), static_cast<std::size_t>(n));
    }
    for (std::size_t end = text_.find('\n'); end != std::string::npos; end = text_.find('\n')) {
      const std::string name = text_.substr(1, end - 1);
      ++told_;
      if (text_[0] == '-') there.erase(name);
      if (text_[0] == '+' && hear == Hear::kAll) there.insert(name);
      text_.erase(0, end + 1);
    }
  }
  // Until it has told that many things: under load, a moment by the clock alone would often be
  // before the first.
  void WaitFor(unsigned count, std::set<std::string>& there) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (told_ < count && std::chrono::steady_clock::now() < limit) {
      usleep(300);
      Listen(there, Hear::kAll);
    }
    ASSERT_GE(told_, count) << "the worker does nothing";
  }
  void Kill() {
    ASSERT_EQ(kill(pid_, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(pid_, &status, 0), pid_);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself: " << WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
  UniqueFd hear_;
  std::string text_;
  unsigned told_ = 0;
};

// ---- what must hold ----

void CheckOwnTree(const std::string& dir, int i) {
  for (int f = 0; f < 60; ++f) {
    ASSERT_EQ(ReadFile(dir + "/d" + std::to_string(f % 7) + "/f" + std::to_string(f)).value_or("?"),
              FileData(i, f))
        << dir << " " << f;
  }
  EXPECT_EQ(ReadLink(dir + "/link").value_or("?"), "d0/f0");
  EXPECT_EQ(ReadFile(dir + "/hard").value_or("?"), FileData(i, 0));
  struct stat st {};
  EXPECT_EQ(lstat((dir + "/gone").c_str(), &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
}

void CheckImage(const Image& image) {
  ASSERT_FALSE(image.layer_dirs.empty());
  std::string name;
  for (const std::string& tag : image.repo_tags) name = tag;
  ASSERT_FALSE(name.empty()) << image.id.str();
  const int i = name.back() - '0';
  if (name.find("imported") != std::string::npos) {
    ASSERT_EQ(image.layer_dirs.size(), 1U);
    CheckOwnTree(image.layer_dirs[0], 100 + i);
    return;
  }
  ASSERT_EQ(image.layer_dirs.size(), 2U);
  EXPECT_TRUE(ReadFile(image.layer_dirs[0] + "/base").value_or("?") == BaseData()) << name;
  CheckOwnTree(image.layer_dirs[1], i);
}

// Whole images and nothing else below `root`.
void CheckStore(const std::string& root, FakeRegistry& registry,
                const std::set<std::string>& there = {}) {
  const auto store = OpenStore(root, registry);
  ASSERT_NE(store, nullptr);
  WaitForRemovals(*store);
  std::set<std::string> layers;
  std::set<std::string> documents = {"index.json"};
  const auto images = store->List();
  for (const auto& image : images) {
    CheckImage(*image);
    for (const std::string& dir : image->layer_dirs) layers.insert(Basename(Dirname(dir)));
  }
  for (const std::string& name : there) EXPECT_NE(store->Find(name), nullptr) << name;
  const auto found = LN_ASSERT_OK(ListDir(root + "/layers"));
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()), layers);
  if (Exists(root + "/tmp")) {
    EXPECT_TRUE(LN_ASSERT_OK(ListDir(root + "/tmp")).empty());
  }
  // The index, of each image its config, and its manifest where it came with one.
  const auto in_images = LN_ASSERT_OK(ListDir(root + "/images"));
  EXPECT_LE(in_images.size(), 1 + 2 * images.size()) << Join(in_images, " ");
  for (const std::string& name : in_images) EXPECT_FALSE(name.ends_with(".tmp")) << name;
}

class ImageProof : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    FillRegistry(registry_);
  }
  // After a few steps, somewhere in the next ones.
  void WaitForAMoment(Worker& worker, std::set<std::string>& there) {
    worker.WaitFor(static_cast<unsigned>(random_() / 8) % 5, there);
    usleep(static_cast<useconds_t>(random_() / 8 % 15'000));
  }
  FakeRegistry registry_;
  TempDir t_;
  std::minstd_rand random_{static_cast<unsigned>(FromEnvironment("LINNET_PROOF_SEED", 1))};
};

TEST_F(ImageProof, KilledAtAnyMoment_OnlyWholeImagesAndNothingElse) {
  LoopDisk disk(t_ / "disk", "");
  disk.Make(200U << 20, {"/usr/sbin/mkfs.ext4", "-q", "-F"});
  disk.Mount();
  const std::string root = disk.path() + "/root";
  std::set<std::string> there;
  for (int round = 0; round < Rounds() && !HasFatalFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Worker worker(root, registry_, static_cast<unsigned>(random_()));
    WaitForAMoment(worker, there);
    worker.Kill();
    worker.Listen(there, Worker::Hear::kAll);
    CheckStore(root, registry_, there);
  }
}

// The image of the file system as the device has it at one moment, which is what survives a power
// cut: a clone of the file below the loop device, on a file system that clones at once (xfs).
// noauto_da_alloc: a rename over an old file does not bring the new one's data to the disk by
// itself; data=writeback: nor does anything but a sync.
class PowerCut : public ImageProof, public ::testing::WithParamInterface<const char*> {};

TEST_P(PowerCut, AtAnyMoment_WhatWasToldIsThereAndWhole) {
  if (!Exists("/usr/sbin/mkfs.xfs") && !Exists("/sbin/mkfs.xfs"))
    GTEST_SKIP() << "needs mkfs.xfs (package xfsprogs)";
  LoopDisk outer(t_ / "outer", "");
  outer.Make(700U << 20, {"/usr/sbin/mkfs.xfs", "-q", "-f"});
  outer.Mount();
  LoopDisk disk(outer.path() + "/disk", GetParam());
  disk.Make(128U << 20, {"/usr/sbin/mkfs.ext4", "-q", "-F"});
  disk.Mount();
  const std::string root = disk.path() + "/root";
  std::set<std::string> there;
  for (int round = 0; round < Rounds() && !HasFatalFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Worker worker(root, registry_, static_cast<unsigned>(random_()));
    WaitForAMoment(worker, there);
    worker.Listen(there, Worker::Hear::kAll);
    const std::string after = outer.path() + "/after";
    {
      const UniqueFd from = LN_ASSERT_OK(Open(disk.image(), O_RDONLY));
      const UniqueFd to = LN_ASSERT_OK(Open(after, O_RDWR | O_CREAT | O_TRUNC, 0600));
      ASSERT_EQ(ioctl(to.get(), FICLONE, from.get()), 0) << strerror(errno);
    }
    worker.Kill();
    std::set<std::string> certain = there;
    worker.Listen(certain, Worker::Hear::kOnlyGone);
    LoopDisk survivor(after, "");
    survivor.Mount();
    CheckStore(survivor.path() + "/root", registry_, certain);
    // What the living disk has: as after a mere kill. "there" forgets what was told since.
    there.clear();
    CheckStore(root, registry_);
  }
}
INSTANTIATE_TEST_SUITE_P(MountOptions, PowerCut,
                         ::testing::Values("noauto_da_alloc,commit=1",
                                           "noauto_da_alloc,data=writeback"),
                         [](const auto& param) {
                           return param.index == 0 ? "Ordered" : "Writeback";
                         });

TEST_F(ImageProof, DiskFillsAtAnyMoment_ClearErrorAndNothingLost) {
  LoopDisk disk(t_ / "disk", "");
  disk.Make(48U << 20, {"/usr/sbin/mkfs.ext4", "-q", "-F", "-m", "0"});
  disk.Mount();
  const std::string root = disk.path() + "/root";
  const auto store = OpenStore(root, registry_);
  LN_EXPECT_OK(Fetch(*store, AppName(0)));
  int failures = 0;
  for (int round = 0; round < Rounds() && !HasFatalFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    // From no room at all to enough.
    const std::uint64_t room = random_() % 1'200'000;
    const std::string ballast = disk.path() + "/ballast";
    {
      ASSERT_EQ(syncfs(LN_ASSERT_OK(OpenDir(disk.path())).get()), 0);
      const UniqueFd fd = LN_ASSERT_OK(Open(ballast, O_WRONLY | O_CREAT | O_EXCL, 0600));
      const std::uint64_t free_bytes = disk.FreeBytes();
      const std::uint64_t take = free_bytes > room ? free_bytes - room : 0;
      if (take > 0) {
        // Nearly full, a file system may not give all that it says.
        (void)fallocate(fd.get(), 0, 0, static_cast<off_t>(take));
      }
    }
    const std::string name = round % 2 == 0 ? AppName(1) : ImportName(1);
    const auto done = Fetch(*store, name);
    if (!done) {
      ++failures;
      EXPECT_TRUE(done.error().Is(Code::kResourceExhausted)) << done.error().message();
      EXPECT_NE(done.error().message().find("No space left"), std::string::npos)
          << done.error().message();
      EXPECT_EQ(store->Find(name), nullptr);
    }
    ASSERT_NE(store->Find(AppName(0)), nullptr);
    CheckImage(*store->Find(AppName(0)));
    ASSERT_EQ(unlink(ballast.c_str()), 0);
    ASSERT_EQ(syncfs(LN_ASSERT_OK(OpenDir(disk.path())).get()), 0);
    WaitForRemovals(*store);
    LN_EXPECT_OK(Fetch(*store, name));
    ASSERT_NE(store->Find(name), nullptr);
    CheckImage(*store->Find(name));
    LN_EXPECT_OK(store->Remove(name));
    WaitForRemovals(*store);
    EXPECT_EQ(LN_ASSERT_OK(ListDir(root + "/layers")).size(), 2U);
  }
  EXPECT_GT(failures, 0) << "the disk was never full";
}

TEST_F(ImageProof, PullsImportsAndRemovalsRace_EachAnswerIsTrueAndNothingIsLeft) {
  const std::string root = t_ / "root";
  const auto store = OpenStore(root, registry_);
  std::atomic<int> errors{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      for (int i = 0; i < 2 * Rounds(); ++i) {
        const auto pick = random() % (kApps + kImports);
        const std::string name = pick < kApps ? AppName(static_cast<int>(pick))
                                              : ImportName(static_cast<int>(pick - kApps));
        const bool fetch = random() % 2 == 0;
        const auto done = fetch ? Fetch(*store, name) : store->Remove(name);
        if (!done) {
          ++errors;
          ADD_FAILURE() << name << ": " << done.error().message();
        }
        for (const auto& image : store->List()) {
          // Held, so that it stays while it is looked at; gone meanwhile is no error.
          const auto hold = store->Hold(image->id);
          if (hold && i % 8 == 0) CheckImage(*image);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(errors, 0);
  for (const auto& image : store->List()) LN_EXPECT_OK(store->Remove(image->id.str()));
  WaitForRemovals(*store);
  EXPECT_TRUE(LN_ASSERT_OK(ListDir(root + "/layers")).empty());
  EXPECT_EQ(LN_ASSERT_OK(ListDir(root + "/images")).size(), 1U);
}

}  // namespace
}  // namespace linnet::oci
