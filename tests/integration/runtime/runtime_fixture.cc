#include "runtime_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "linnet/base/text.h"

#include "cgroup/cgroup.h"

namespace linnet::runtime::test {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

UniqueFd NewNetns() {
  UniqueFd out;
  std::thread([&out] {
    if (unshare(CLONE_NEWNET) == 0)
      out = UniqueFd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  return out;
}

std::string KeeperPath() {
  const char* bin = std::getenv(
      "LINNET_BIN_DIR");  // NOLINT(concurrency-mt-unsafe): nobody writes the environment
  return std::string(bin != nullptr ? bin : "bin") + "/linnet-keeper";
}

std::string CommandLine(const std::string& pid) {
  auto text = ReadFile("/proc/" + pid + "/cmdline");
  if (!text) return {};
  std::replace(text->begin(), text->end(), '\0', ' ');
  return *std::move(text);
}

std::vector<std::string> Pids() {
  std::vector<std::string> out = *ListDir("/proc");
  std::erase_if(out, [](const std::string& name) { return !ParseNumber<int>(name).has_value(); });
  return out;
}

}  // namespace

void Heard::Exit(const PodId& /*pod*/, const ContainerExit& exit) {
  MutexLock lock(mu_);
  exits_.push_back(exit);
  changed_.NotifyAll();
}

void Heard::Lost(const PodId& pod) {
  MutexLock lock(mu_);
  lost_.push_back(pod);
  changed_.NotifyAll();
}

std::optional<ContainerExit> Heard::WaitExit(const ContainerId& id) {
  const Deadline until = In(kPatience);
  MutexLock lock(mu_);
  for (;;) {
    for (const ContainerExit& exit : exits_) {
      if (exit.id == id) return exit;
    }
    if (changed_.WaitUntil(mu_, until) == std::cv_status::timeout) return std::nullopt;
  }
}

bool Heard::WaitLost(const PodId& pod) {
  const Deadline until = In(kPatience);
  MutexLock lock(mu_);
  while (std::find(lost_.begin(), lost_.end(), pod) == lost_.end()) {
    if (changed_.WaitUntil(mu_, until) == std::cv_status::timeout) return false;
  }
  return true;
}

std::size_t Heard::lost_count() {
  MutexLock lock(mu_);
  return lost_.size();
}

Deadline In(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

// ---------------------------------------------------------------------------------------------------------
// set-up

void RuntimeTest::SetUp() {
  dir_.Write("base/fs/bin/busybox", *ReadFile("/bin/busybox"));
  ASSERT_EQ(chmod((dir_ / "base/fs/bin/busybox").c_str(), 0755), 0);
  for (const char* applet :
       {"sh",    "cat",   "echo", "sleep",  "ls",       "id",    "true",     "ps",  "kill",
        "mount", "touch", "head", "grep",   "readlink", "stat",  "hostname", "seq", "yes",
        "mkdir", "rm",    "tail", "setsid", "dd",       "pgrep", "wc",       "trap"}) {
    ASSERT_EQ(symlink("busybox", (dir_ / ("base/fs/bin/" + std::string(applet))).c_str()), 0);
  }
  dir_.Write({{"base/fs/etc/passwd", "root:x:0:0::/:/bin/sh\n"},
              {"base/fs/etc/layer", "base\n"},
              {"base/fs/tmp/", ""}});
  dir_.Write({{"top/fs/etc/layer", "top\n"}, {"logs/", ""}, {"state/", ""}, {"pods/", ""}});
  fds_before_ = OpenFds();
  StartRuntime();
}

void RuntimeTest::StartRuntime() {
  RuntimeOptions options;
  options.state_dir = dir_ / "state";
  options.keeper_path = KeeperPath();
  options.cgroup_root = kCgroupRoot;
  runtime_ = LN_ASSERT_OK(Runtime::Create(
      options, {.on_exit = [this](const PodId& p, const ContainerExit& e) { heard_.Exit(p, e); },
                .on_keeper_lost = [this](const PodId& p) { heard_.Lost(p); }}));
}

void RuntimeTest::TearDown() {
  if (runtime_) LN_EXPECT_OK(runtime_->Sweep({}));
  for (const auto& [id, fd] : netns_) LN_EXPECT_OK(runtime_->RemovePod(*PodId::Parse(id), ""));
  EXPECT_TRUE(Keepers().empty());
  EXPECT_FALSE(CgroupsLeft());
  EXPECT_TRUE(ListDir(dir_ / "state/keepers")->empty());
  EXPECT_TRUE(ListDir(dir_ / "state/cgroups")->empty());
  runtime_.reset();
  netns_.clear();
  EXPECT_EQ(OpenFds(), fds_before_);
}

PodSpec RuntimeTest::MakePod(NamespaceMode pid) {
  PodSpec spec{.id = PodId::Generate(),
               .uid_mappings = {},
               .gid_mappings = {},
               .hostname = "pod-host",
               .sysctls = {},
               .cgroup_parent = {}};
  spec.pid = pid;
  UniqueFd netns = NewNetns();
  spec.netns = netns;
  netns_.emplace(spec.id.str(), std::move(netns));
  return spec;
}

ContainerSpec RuntimeTest::MakeContainer(const PodId& pod, const std::string& script) {
  ContainerSpec out{.id = ContainerId::Generate(),
                    .spec = {},
                    .rootfs = {},
                    .log = {},
                    .pid = NamespaceMode::kContainer,
                    .pid_target = {},
                    .directory = {}};
  out.directory = dir_ / ("pods/" + pod.str() + "/containers/" + out.id.str());
  EXPECT_TRUE(MakeDirs(out.directory, 0700).has_value());
  out.rootfs = {.lower_dirs = {dir_ / "base/fs", dir_ / "top/fs"},
                .upper_dir = out.directory + "/upper",
                .work_dir = out.directory + "/work",
                .plain_dir = {}};
  out.log = {.directory = dir_ / "logs", .path = out.id.str() + ".log"};
  oci::Spec& spec = out.spec;
  spec.process.args = {"sh", "-c", script};
  spec.process.env = {"PATH=/bin"};
  spec.process.capabilities = *ComputeCapabilities({}, {}, {}, false);
  spec.process.oom_score_adj = 500;
  spec.mounts = DefaultMounts();
  spec.masked_paths = DefaultMaskedPaths();
  spec.readonly_paths = DefaultReadonlyPaths();
  spec.seccomp = DefaultSeccompProfile(spec.process.capabilities->bounding);
  for (const char* type : {"mount", "network", "uts", "ipc", "pid", "cgroup"})
    spec.namespaces.push_back({type, ""});
  spec.resources.devices.push_back({.allow = false});
  AddDefaultDevices(spec);
  return out;
}

RuntimeTest::Started RuntimeTest::Run(const std::string& script, NamespaceMode pid) {
  const PodSpec pod = MakePod(pid);
  EXPECT_TRUE(runtime_->StartPod(pod, In(kPatience)));
  ContainerSpec container = MakeContainer(pod.id, script);
  container.pid = pid;
  LN_EXPECT_OK(runtime_->CheckContainer(pod.id, container));
  LN_EXPECT_OK(runtime_->StartContainer(pod.id, container, In(kPatience)));
  return {pod.id, container.id, container.directory};
}

oci::Process RuntimeTest::ExecProcess(const std::string& script) {
  oci::Process process;
  process.args = {"sh", "-c", script};
  process.env = {"PATH=/bin"};
  process.capabilities = *ComputeCapabilities({}, {}, {}, false);
  return process;
}

std::string RuntimeTest::ReadLog(const Started& s) {
  return dir_.Read("logs/" + s.container.str() + ".log");
}

// -------------------------------------------------------------------------------------------------------
// counting

std::vector<pid_t> RuntimeTest::Keepers() {
  std::vector<pid_t> out;
  for (const std::string& pid : Pids()) {
    if (CommandLine(pid).starts_with("linnet-")) out.push_back(*ParseNumber<pid_t>(pid));
  }
  return out;
}

std::size_t RuntimeTest::CountProcesses(const std::string& text) {
  const std::vector<std::string> pids = Pids();
  return static_cast<std::size_t>(std::count_if(
      pids.begin(), pids.end(),
      [&](const std::string& pid) { return CommandLine(pid).find(text) != std::string::npos; }));
}

bool RuntimeTest::CgroupsLeft() {
  auto manager = CgroupManager::Create();
  return !(*manager)->Children(std::string(kCgroupRoot) + "/pods")->empty();
}

std::size_t RuntimeTest::OpenFds() { return ListDir("/proc/self/fd")->size(); }

}  // namespace linnet::runtime::test
