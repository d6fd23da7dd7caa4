// From specs to launch plans, without a kernel.
#include <linux/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "linnet/testing/result.h"

#include "host/sources.h"
#include "plan/build.h"
#include "plan/mounts.h"
#include "plan/sysctls.h"

namespace linnet::runtime::plan {
namespace {

oci::Mount MakeMount(const char* destination, const char* type, const char* source,
                     std::vector<std::string> options) {
  oci::Mount out;
  out.destination = destination;
  out.type = type;
  out.source = source;
  out.options = std::move(options);
  return out;
}

// -----------------------------------------------------------------------------------------------------------
// mounts

TEST(ParseMount, FileSystem_OptionsAreAttributesOrData) {
  const auto m = LN_ASSERT_OK(ParseMount(
      MakeMount("/dev/pts/", "devpts", "devpts", {"nosuid", "noexec", "ptmxmode=0666", "gid=5"}),
      "m"));
  EXPECT_EQ(m.kind, OpKind::kMount);
  EXPECT_EQ(m.target, "/dev/pts");
  EXPECT_EQ(m.attr_set, unsigned{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC});
  EXPECT_EQ(m.data, "ptmxmode=0666,gid=5");
}

TEST(ParseMount, Bind_KeepsWhatTheHostDenies) {
  const auto m = LN_ASSERT_OK(
      ParseMount(MakeMount("/data", "bind", "/srv", {"rbind", "rprivate", "rw", "exec"}), "m"));
  EXPECT_EQ(m.kind, OpKind::kBind);
  EXPECT_TRUE(m.recursive);
  EXPECT_EQ(m.attr_set, 0U);
  EXPECT_EQ(m.attr_clear, 0U);  // a read-only host mount stays read-only
  EXPECT_EQ(m.propagation, Propagation::kRprivate);
}

TEST(ParseMount, Bind_ReadOnlyIsOfTheTopOrOfAll) {
  const auto ro = LN_ASSERT_OK(ParseMount(MakeMount("/data", "bind", "/srv", {"bind", "ro"}), "m"));
  EXPECT_FALSE(ro.recursive);
  EXPECT_EQ(ro.attr_set, unsigned{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(ro.rattr_set, 0U);
  const auto rro = LN_ASSERT_OK(
      ParseMount(MakeMount("/data", "none", "/srv", {"rbind", "rro", "rnosuid"}), "m"));
  EXPECT_EQ(rro.kind, OpKind::kBind);
  EXPECT_EQ(rro.attr_set, 0U);
  EXPECT_EQ(rro.rattr_set, unsigned{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID});
}

TEST(ParseMount, Atime_LastOneWins) {
  const auto m =
      LN_ASSERT_OK(ParseMount(MakeMount("/d", "bind", "/s", {"noatime", "strictatime"}), "m"));
  EXPECT_EQ(m.attr_set, unsigned{MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(m.attr_clear, unsigned{MOUNT_ATTR__ATIME});
}

TEST(ParseMount, PodShm_OnlyTheConventionalOne) {
  EXPECT_EQ(ParseMount(MakeMount("/dev/shm", "tmpfs", "shm", {"nosuid", "size=65536k"}), "m")->kind,
            OpKind::kShm);
  EXPECT_EQ(ParseMount(MakeMount("/dev/shm", "tmpfs", "tmpfs", {}), "m")->kind, OpKind::kMount);
  EXPECT_EQ(ParseMount(MakeMount("/dev/shm", "bind", "/dev/shm", {"rbind"}), "m")->kind,
            OpKind::kBind);
}

TEST(ParseMount, Refusals_NameTheField) {
  LN_EXPECT_ERROR(ParseMount(MakeMount("data", "bind", "/s", {}), "mounts[1]"),
                  Code::kInvalidArgument, "mounts[1].destination");
  LN_EXPECT_ERROR(ParseMount(MakeMount("/a/..", "bind", "/s", {}), "mounts[1]"),
                  Code::kInvalidArgument, "root cannot");
  LN_EXPECT_ERROR(ParseMount(MakeMount("/d", "bind", "s", {}), "mounts[1]"), Code::kInvalidArgument,
                  "mounts[1].source");
  LN_EXPECT_ERROR(ParseMount(MakeMount("/d", "bind", "/s", {"bogus"}), "mounts[1]"),
                  Code::kInvalidArgument, "\"bogus\"");
  LN_EXPECT_ERROR(ParseMount(MakeMount("/d", "tmpfs", "t", {"tmpcopyup"}), "mounts[1]"),
                  Code::kUnimplemented, "tmpcopyup");
  LN_EXPECT_ERROR(
      ParseMount(MakeMount("/d", "bind", "/s", {"rbind", "rro", "rslave"}), "mounts[1]"),
      Code::kInvalidArgument, "recursive read-only");
  LN_EXPECT_ERROR(ParsePropagation("sideways", "linux.rootfsPropagation"), Code::kInvalidArgument,
                  "sideways");
}

// ----------------------------------------------------------------------------------------------------------
// sysctls

TEST(SysctlPath, DotsOrSlashes) {
  const OwnNamespaces all{.network = true, .ipc = true, .uts = true, .user = true};
  EXPECT_EQ(*SysctlPath("net.ipv4.ip_forward", all), "net/ipv4/ip_forward");
  EXPECT_EQ(*SysctlPath("net/ipv4/ip_forward", all), "net/ipv4/ip_forward");
  EXPECT_EQ(*SysctlPath("net.ipv4.conf.eth0/1.forwarding", all), "net/ipv4/conf/eth0.1/forwarding");
  EXPECT_EQ(*SysctlPath("kernel.shm_rmid_forced", all), "kernel/shm_rmid_forced");
  EXPECT_EQ(*SysctlPath("fs.mqueue.msg_max", all), "fs/mqueue/msg_max");
}

TEST(SysctlPath, WhatIsNotThePodsOwn_IsRefused) {
  const OwnNamespaces all{.network = true, .ipc = true, .uts = true, .user = true};
  for (const char* key : {"kernel.core_pattern", "vm.swappiness", "kernel.hostname", "net",
                          "net/../kernel/core_pattern", "net..ipv4", "net.ipv4.x=1", "net.ipv4.x y",
                          "/net/ipv4/x", "", "kernel.sem/../core_pattern"}) {
    LN_EXPECT_ERROR(SysctlPath(key, all), Code::kInvalidArgument, "sysctl");
  }
  LN_EXPECT_ERROR(SysctlPath("net.ipv4.ip_forward", {.ipc = true}), Code::kInvalidArgument,
                  "no network namespace");
  LN_EXPECT_ERROR(SysctlPath("kernel.msgmax", {.network = true}), Code::kInvalidArgument,
                  "no IPC namespace");
  LN_EXPECT_ERROR(SysctlPath("user.max_net_namespaces", {.network = true}), Code::kInvalidArgument,
                  "no user namespace");
}

// --------------------------------------------------------------------------------------------------------------
// pod

PodSpec MakePod() {
  return {.id = *PodId::Parse("pod"),
          .netns = FdRef(7),
          .uid_mappings = {},
          .gid_mappings = {},
          .hostname = "host",
          .sysctls = {},
          .cgroup_parent = {}};
}

struct BuiltPod {
  std::string bytes;
  std::size_t fds = 0;
  const PodPlan& plan() const { return Reader(bytes.data(), bytes.size()).pod(); }
  const char* text(Text t) const { return Reader(bytes.data(), bytes.size()).text(t); }
};

Result<BuiltPod> Build(const PodSpec& spec, const CgroupInput& cgroup = {}) {
  Writer writer;
  BuiltPod out;
  out.bytes = LN_TRY(BuildPod({.spec = spec, .cgroup = cgroup}, writer));
  out.fds = writer.fds().size();
  return out;
}

TEST(BuildPod, Default_SharesPidIpcAndNetwork) {
  PodSpec spec = MakePod();
  spec.sysctls = {{"net.ipv4.ip_forward", "1"}};
  const BuiltPod built = LN_ASSERT_OK(Build(spec, {.v2_dir = FdRef(8),
                                                   .freezer_dir = FdRef(-1),
                                                   .oom_counter = FdRef(-1),
                                                   .v1_tasks = {FdRef(9), FdRef(10)}}));
  EXPECT_EQ(built.plan().flags, unsigned{kPodNewIpc | kPodNewUts | kPodHolder});
  EXPECT_EQ(built.plan().netns, 0U);
  EXPECT_EQ(built.plan().cgroup.v2_dir, 1U);
  EXPECT_EQ(built.plan().cgroup.freezer_dir, kNoFd);
  EXPECT_EQ(built.plan().cgroup.v1_tasks.count, 2U);
  EXPECT_EQ(built.fds, 4U);
  EXPECT_STREQ(built.text(built.plan().hostname), "host");
  EXPECT_EQ(built.plan().shm_size, 64U << 20);
  ASSERT_EQ(built.plan().sysctls.count, 1U);
  const Reader reader(built.bytes.data(), built.bytes.size());
  EXPECT_STREQ(reader.text(reader.items<Setting>(built.plan().sysctls)->path),
               "net/ipv4/ip_forward");
}

TEST(BuildPod, NodeNamespaces_NothingIsMade) {
  PodSpec spec = MakePod();
  spec.network = spec.ipc = spec.pid = NamespaceMode::kNode;
  spec.netns = FdRef(-1);
  const BuiltPod built = LN_ASSERT_OK(Build(spec));
  EXPECT_EQ(built.plan().flags, 0U);
  EXPECT_EQ(built.plan().netns, kNoFd);
  EXPECT_EQ(built.plan().hostname.offset, 0U);
  EXPECT_EQ(built.plan().shm_size, 0U);
  spec.sysctls = {{"net.ipv4.ip_forward", "1"}};
  LN_EXPECT_ERROR(Build(spec), Code::kInvalidArgument, "net.ipv4.ip_forward");
}

TEST(BuildPod, UserNamespace_MakesItsNetworkInside) {
  PodSpec spec = MakePod();
  spec.netns = FdRef(-1);
  LN_EXPECT_ERROR(Build(spec), Code::kInvalidArgument, "netns");
  spec.uid_mappings = spec.gid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536}};
  const BuiltPod built = LN_ASSERT_OK(Build(spec));
  EXPECT_EQ(built.plan().flags & (kPodUser | kPodNewNet), unsigned{kPodUser | kPodNewNet});
  spec.uid_mappings[0].container_id = 1;
  LN_EXPECT_ERROR(Build(spec), Code::kInvalidArgument, "uid_mappings");
  spec.uid_mappings[0] = {.container_id = 0, .host_id = 0xffffff00, .size = 0x1000};
  LN_EXPECT_ERROR(Build(spec), Code::kInvalidArgument, "uid_mappings");
}

TEST(BuildPod, Hostname_TooLong) {
  PodSpec spec = MakePod();
  spec.hostname = std::string(65, 'a');
  LN_EXPECT_ERROR(Build(spec), Code::kInvalidArgument, "hostname");
}

// --------------------------------------------------------------------------------------------------------
// container

ContainerSpec MakeContainer() {
  ContainerSpec spec{.id = *ContainerId::Parse("c"),
                     .spec = {},
                     .rootfs = {},
                     .log = {},
                     .pid_target = {},
                     .directory = {}};
  spec.spec.process.args = {"/bin/sh", "-c", "true"};
  spec.spec.process.env = {"A=b"};
  return spec;
}

struct BuiltContainer {
  std::string bytes;
  std::vector<FdRef> fds;
  Reader reader() const { return {bytes.data(), bytes.size()}; }
  const ContainerPlan& plan() const { return reader().container(); }
  std::vector<Op> ops() const {
    const Op* first = reader().items<Op>(plan().ops);
    return {first, first + plan().ops.count};
  }
  std::vector<std::string> Targets(OpKind kind) const {
    std::vector<std::string> out;
    for (const Op& op : ops()) {
      if (op.kind == kind) out.emplace_back(reader().text(op.target));
    }
    return out;
  }
};

Result<BuiltContainer> Build(const ContainerSpec& spec) {
  const std::vector<ParsedMount> mounts = LN_TRY(ParseMounts(spec.spec));
  ContainerInput in{.spec = spec, .mounts = mounts, .v1_hierarchies = "cpu;memory"};
  for (std::size_t i = 0; i < mounts.size(); ++i)
    in.mount_trees.emplace_back(mounts[i].kind == OpKind::kBind ? 100 + static_cast<int>(i) : -1);
  in.lower = {{FdRef(50), "a/fs"}, {FdRef(50), "b/fs"}, {FdRef(51), ""}};
  in.upper = {FdRef(52), "upper"};
  in.work = {FdRef(52), "work"};
  in.exit_dir = FdRef(53);
  Writer writer;
  BuiltContainer out;
  out.bytes = LN_TRY(BuildContainer(in, writer));
  out.fds = writer.fds();
  return out;
}

TEST(BuildContainer, Root_LayersShareTheirTree) {
  const BuiltContainer built = LN_ASSERT_OK(Build(MakeContainer()));
  ASSERT_EQ(built.plan().lower.count, 3U);
  const auto* lower = built.reader().items<Directory>(built.plan().lower);
  EXPECT_EQ(lower[0].tree, lower[1].tree);
  EXPECT_NE(lower[0].tree, lower[2].tree);
  EXPECT_STREQ(built.reader().text(lower[1].path), "b/fs");
  EXPECT_EQ(built.plan().upper.tree, built.plan().work.tree);
  EXPECT_EQ(built.fds.size(), 4U);  // two trees, the writable one, the directory of the exit record
  EXPECT_EQ(lower[0].flags, 0U);
}

TEST(BuildContainer, UserNamespace_LayersAreMappedAndTheUpperIsNot) {
  ContainerSpec spec = MakeContainer();
  spec.spec.uid_mappings =
      spec.spec.gid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536}};
  const BuiltContainer built = LN_ASSERT_OK(Build(spec));
  EXPECT_EQ(built.reader().items<Directory>(built.plan().lower)->flags, unsigned{kDirectoryIdmap});
  EXPECT_EQ(built.plan().upper.flags, 0U);
}

TEST(BuildContainer, Ops_MountsThenDevicesThenLinksThenPaths) {
  ContainerSpec spec = MakeContainer();
  spec.spec.mounts = {MakeMount("/proc", "proc", "proc", {"nosuid"}),
                      MakeMount("/dev", "tmpfs", "tmpfs", {"mode=755"}),
                      MakeMount("/data", "bind", "/srv", {"rbind", "ro"}),
                      MakeMount("/sys/fs/cgroup", "cgroup", "cgroup", {"ro"})};
  spec.spec.devices = {{.path = "/dev/null",
                        .type = "c",
                        .major = 1,
                        .minor = 3,
                        .file_mode = 0666,
                        .uid = {},
                        .gid = {}}};
  spec.spec.readonly_paths = {"/proc/sys"};
  spec.spec.masked_paths = {"/proc/kcore"};
  const BuiltContainer built = LN_ASSERT_OK(Build(spec));
  const std::vector<Op> ops = built.ops();
  std::vector<OpKind> kinds;
  for (const Op& op : ops) kinds.push_back(op.kind);
  using enum OpKind;
  EXPECT_EQ(kinds, (std::vector<OpKind>{kMount, kMount, kBind, kCgroup, kDevice, kSymlink, kSymlink,
                                        kSymlink, kSymlink, kSymlink, kReadonly, kMask}));
  EXPECT_EQ(built.fds[ops[2].fd].get(), 102);
  EXPECT_EQ(ops[2].attr_set, unsigned{MOUNT_ATTR_RDONLY});
  EXPECT_STREQ(built.reader().text(ops[3].data), "cpu;memory");
  EXPECT_EQ(ops[4].mode, unsigned{S_IFCHR | 0666});
  EXPECT_EQ(ops[4].minor, 3U);
  EXPECT_EQ(built.Targets(kSymlink),
            (std::vector<std::string>{"/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr",
                                      "/dev/ptmx"}));
}

TEST(BuildContainer, HostDev_IsTakenAsItIs) {
  ContainerSpec spec = MakeContainer();
  spec.spec.mounts = {MakeMount("/dev", "bind", "/dev", {"rbind"})};
  spec.spec.devices = {{.path = "/dev/null",
                        .type = "c",
                        .major = 1,
                        .minor = 3,
                        .file_mode = {},
                        .uid = {},
                        .gid = {}}};
  const BuiltContainer built = LN_ASSERT_OK(Build(spec));
  EXPECT_EQ(built.ops().size(), 1U);
}

TEST(BuildContainer, Process_EverythingArrives) {
  ContainerSpec spec = MakeContainer();
  oci::Process& p = spec.spec.process;
  p.cwd = "/work";
  p.user = {.uid = 1000, .gid = 50, .umask = 027, .additional_gids = {50, 60}};
  p.rlimits = {{.type = "RLIMIT_NOFILE", .soft = 10, .hard = 20}};
  p.capabilities = oci::Capabilities{.bounding = {"CAP_KILL"},
                                     .effective = {"CAP_KILL"},
                                     .inheritable = {},
                                     .permitted = {"CAP_KILL"},
                                     .ambient = {}};
  p.no_new_privileges = true;
  p.oom_score_adj = -5;
  p.terminal = true;
  spec.stdin_open = true;
  spec.pid = NamespaceMode::kTarget;
  spec.pid_target = *ContainerId::Parse("other");
  spec.spec.root_readonly = true;
  spec.spec.namespaces = {{"cgroup", ""}};
  spec.spec.rootfs_propagation = "rslave";
  const BuiltContainer built = LN_ASSERT_OK(Build(spec));
  const ContainerPlan& plan = built.plan();
  EXPECT_EQ(plan.process.uid, 1000U);
  EXPECT_EQ(plan.process.umask, 027U);
  EXPECT_EQ(plan.process.groups.count, 2U);
  EXPECT_EQ(plan.process.bounding, 1U << 5);
  EXPECT_EQ(plan.process.inheritable, 0U);
  EXPECT_EQ(plan.process.oom_score_adj, -5);
  EXPECT_EQ(plan.process.flags,
            unsigned{kProcessTerminal | kProcessNoNewPrivileges | kProcessUmask |
                     kProcessOomScoreAdj | kProcessCapabilities | kProcessMakeCwd});
  EXPECT_EQ(built.reader().items<Rlimit>(plan.process.rlimits)->resource, unsigned{RLIMIT_NOFILE});
  EXPECT_STREQ(built.reader().text(plan.process.cwd), "/work");
  EXPECT_EQ(plan.flags,
            unsigned{kContainerRootReadonly | kContainerCgroupNamespace | kContainerStdinOpen});
  EXPECT_EQ(plan.pid, PidMode::kTarget);
  EXPECT_STREQ(built.reader().text(plan.pid_target), "other");
  EXPECT_EQ(plan.root_propagation, Propagation::kRslave);
}

TEST(BuildContainer, Refusals_NameTheField) {
  const auto refused = [](const auto& change, const char* part,
                          Code code = Code::kInvalidArgument) {
    ContainerSpec spec = MakeContainer();
    change(spec.spec);
    LN_EXPECT_ERROR(Build(spec), code, part);
    LN_EXPECT_ERROR(CheckContainerSpec(spec), code, part);
  };
  refused([](oci::Spec& s) { s.process.args.clear(); }, "process.args");
  refused([](oci::Spec& s) { s.process.cwd = "relative"; }, "process.cwd");
  refused([](oci::Spec& s) { s.process.rlimits = {{.type = "RLIMIT_FUN", .soft = 1, .hard = 1}}; },
          "process.rlimits[0].type");
  refused([](oci::Spec& s) { s.process.rlimits = {{.type = "RLIMIT_CPU", .soft = 2, .hard = 1}}; },
          "process.rlimits[0]");
  refused([](oci::Spec& s) { s.process.oom_score_adj = 1001; }, "process.oomScoreAdj");
  refused([](oci::Spec& s) { s.process.capabilities = oci::Capabilities{.bounding = {"CAP_X"}}; },
          "bounding: unknown capability \"CAP_X\"");
  refused(
      [](oci::Spec& s) { s.process.capabilities = oci::Capabilities{.effective = {"CAP_KILL"}}; },
      "capabilities.effective");
  refused([](oci::Spec& s) { s.process.capabilities = oci::Capabilities{.ambient = {"CAP_KILL"}}; },
          "capabilities.ambient");
  refused([](oci::Spec& s) { s.process.env = {std::string("A=\0b", 4)}; }, "NUL");
  refused([](oci::Spec& s) { s.masked_paths = {"proc/kcore"}; }, "linux.maskedPaths[0]");
  refused([](oci::Spec& s) { s.devices = {{.path = "/dev/x", .type = "z"}}; },
          "linux.devices[0].type");
  refused([](oci::Spec& s) { s.devices = {{.path = "/dev/x", .type = "c", .major = -1}}; },
          "linux.devices[0]");
  refused([](oci::Spec& s) { s.sysctl = {{"kernel.panic", "1"}}; }, "linux.sysctl");
  refused([](oci::Spec& s) { s.rootfs_propagation = "odd"; }, "linux.rootfsPropagation");
  refused(
      [](oci::Spec& s) {
        s.mounts = {MakeMount("/d", "bind", "/s", {"rbind"})};
        s.mounts[0].uid_mappings = {{.container_id = 0, .host_id = 5, .size = 1}};
      },
      "mounts[0]");
  refused(
      [](oci::Spec& s) {
        s.uid_mappings = s.gid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536}};
        s.mounts = {MakeMount("/d", "bind", "/s", {"rbind"})};
        s.mounts[0].uid_mappings = {{.container_id = 0, .host_id = 5, .size = 1}};
      },
      "mounts[0]", Code::kUnimplemented);
}

TEST(BuildExec, UsesTheContainersSeccomp) {
  Writer writer;
  oci::Process process;
  process.args = {"true"};
  const std::string bytes = LN_ASSERT_OK(BuildExec(process, writer));
  const Reader reader(bytes.data(), bytes.size());
  EXPECT_EQ(reader.exec().process.flags, unsigned{kProcessSeccompOfContainer});
}

TEST(CommonParent, DeepestThatHoldsAll) {
  EXPECT_EQ(CommonParent({"/a/b/c", "/a/b/d"}), "/a/b");
  EXPECT_EQ(CommonParent({"/a/b"}), "/a/b");
  EXPECT_EQ(CommonParent({"/a/b", "/a/bc"}), "/a");
  EXPECT_EQ(CommonParent({"/a", "/b"}), "/");
  EXPECT_EQ(CommonParent({"/a/b", "/a"}), "/a");
}

}  // namespace
}  // namespace linnet::runtime::plan
