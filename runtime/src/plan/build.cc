#include "plan/build.h"

#include <linux/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "linnet/base/file.h"

#include "plan/process.h"
#include "plan/sysctls.h"

namespace linnet::runtime::plan {
namespace {

constexpr std::size_t kMaxHostname = 64;  // __NEW_UTS_LEN

CgroupFds AddCgroup(const CgroupInput& input, Writer& writer) {
  CgroupFds out;
  out.v2_dir = writer.AddFd(input.v2_dir);
  out.freezer_dir = writer.AddFd(input.freezer_dir);
  out.oom_counter = writer.AddFd(input.oom_counter);
  std::vector<FdIndex> tasks;
  for (const FdRef fd : input.v1_tasks) tasks.push_back(writer.AddFd(fd));
  out.v1_tasks = writer.Items(tasks);
  return out;
}

Result<std::vector<IdMap>> AddMap(const std::vector<oci::IdMapping>& mappings, const char* field) {
  std::vector<IdMap> out;
  bool has_root = false;
  for (const oci::IdMapping& m : mappings) {
    const std::uint64_t end = std::uint64_t{1} << 32;
    if (m.size == 0 || std::uint64_t{m.host_id} + m.size > end ||
        std::uint64_t{m.container_id} + m.size > end) {
      return InvalidArgument(std::string(field) + ": empty, or beyond 32 bits");
    }
    has_root = has_root || m.container_id == 0;
    out.push_back({.container = m.container_id, .host = m.host_id, .size = m.size});
  }
  if (!has_root)
    return InvalidArgument(std::string(field) + ": id 0 of the container is not mapped");
  return out;
}

PidMode ToPidMode(NamespaceMode mode) {
  switch (mode) {
    case NamespaceMode::kPod:
      return PidMode::kPod;
    case NamespaceMode::kContainer:
      return PidMode::kContainer;
    case NamespaceMode::kNode:
      return PidMode::kNode;
    case NamespaceMode::kTarget:
      return PidMode::kTarget;
  }
  return PidMode::kPod;
}

bool HasNamespace(const oci::Spec& spec, std::string_view type) {
  return std::any_of(spec.namespaces.begin(), spec.namespaces.end(),
                     [&](const oci::Namespace& n) { return n.type == type; });
}

// ----------------------------------------------------------------------------------------------
// operations

void AddMounts(const ContainerInput& in, Writer& writer, std::vector<Op>& ops) {
  for (std::size_t i = 0; i < in.mounts.size(); ++i) {
    const ParsedMount& mount = in.mounts[i];
    Op op;
    op.kind = mount.kind;
    op.target = writer.Add(mount.target);
    op.attr_set = mount.attr_set;
    op.propagation = mount.propagation;
    switch (mount.kind) {
      case OpKind::kBind:
        op.fd = writer.AddFd(in.mount_trees[i]);
        op.attr_clear = mount.attr_clear;
        op.rattr_set = mount.rattr_set;
        op.rattr_clear = mount.rattr_clear;
        if (mount.idmap) op.flags |= kOpIdmap;
        break;
      case OpKind::kCgroup:
        op.data = writer.Add(in.v1_hierarchies);
        break;
      default:
        op.type = writer.Add(mount.type);
        op.source = writer.Add(mount.source);
        op.data = writer.Add(mount.data);
    }
    ops.push_back(op);
  }
}

Result<void> AddDevices(const ContainerInput& in, Writer& writer, std::vector<Op>& ops) {
  const std::vector<oci::Device>& devices = in.spec.spec.devices;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const oci::Device& device = devices[i];
    const std::string field = "linux.devices[" + std::to_string(i) + "]";
    if (device.path.empty() || device.path.front() != '/') {
      return InvalidArgument(field + ".path: \"" + device.path + "\" is not an absolute path");
    }
    std::uint32_t type = 0;
    if (device.type == "c" || device.type == "u") type = S_IFCHR;
    if (device.type == "b") type = S_IFBLK;
    if (device.type == "p") type = S_IFIFO;
    if (type == 0) return InvalidArgument(field + ".type: unknown type \"" + device.type + "\"");
    if (device.major < 0 || device.major > 0xfff || device.minor < 0 || device.minor > 0xfffff) {
      return InvalidArgument(field + ": device number out of range");
    }
    Op op;
    op.kind = OpKind::kDevice;
    op.target = writer.Add(CleanPath(device.path));
    op.mode = type | (device.file_mode.value_or(0666) & 07777);
    op.major = static_cast<std::uint32_t>(device.major);
    op.minor = static_cast<std::uint32_t>(device.minor);
    op.uid = device.uid.value_or(0);
    op.gid = device.gid.value_or(0);
    if (i < in.device_nodes.size()) op.fd = writer.AddFd(in.device_nodes[i]);
    ops.push_back(op);
  }
  return Ok();
}

void AddLinks(Writer& writer, std::vector<Op>& ops) {
  constexpr std::array<std::pair<const char*, const char*>, 5> kLinks = {
      {{"/dev/fd", "/proc/self/fd"},
       {"/dev/stdin", "/proc/self/fd/0"},
       {"/dev/stdout", "/proc/self/fd/1"},
       {"/dev/stderr", "/proc/self/fd/2"},
       {"/dev/ptmx", "pts/ptmx"}}};
  for (const auto& [path, text] : kLinks) {
    Op op;
    op.kind = OpKind::kSymlink;
    op.target = writer.Add(path);
    op.data = writer.Add(text);
    ops.push_back(op);
  }
}

Result<void> AddSysctls(const oci::Spec& spec, Writer& writer, std::vector<Op>& ops) {
  const OwnNamespaces own{.network = HasNamespace(spec, "network"),
                          .ipc = HasNamespace(spec, "ipc"),
                          .uts = HasNamespace(spec, "uts"),
                          .user = HasNamespace(spec, "user")};
  for (const auto& [key, value] : spec.sysctl) {
    Op op;
    op.kind = OpKind::kSysctl;
    op.target = writer.Add(LN_TRY_CTX(SysctlPath(key, own), "linux.sysctl"));
    op.data = writer.Add(value);
    ops.push_back(op);
  }
  return Ok();
}

Result<void> AddPaths(const std::vector<std::string>& paths, OpKind kind, const char* field,
                      Writer& writer, std::vector<Op>& ops) {
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (paths[i].empty() || paths[i].front() != '/') {
      return InvalidArgument(std::string(field) + "[" + std::to_string(i) + "]: \"" + paths[i] +
                             "\" is not an absolute path");
    }
    Op op;
    op.kind = kind;
    op.target = writer.Add(CleanPath(paths[i]));
    ops.push_back(op);
  }
  return Ok();
}

Result<List> AddOps(const ContainerInput& in, Writer& writer) {
  const oci::Spec& spec = in.spec.spec;
  std::vector<Op> ops;
  ops.reserve(in.mounts.size() + spec.devices.size() + spec.masked_paths.size() +
              spec.readonly_paths.size() + 8);
  AddMounts(in, writer, ops);
  // A /dev that comes from the host is taken as it is.
  const bool host_dev = std::any_of(in.mounts.begin(), in.mounts.end(), [](const ParsedMount& m) {
    return m.kind == OpKind::kBind && m.target == "/dev";
  });
  if (!host_dev) {
    LN_TRY(AddDevices(in, writer, ops));
    AddLinks(writer, ops);
  }
  LN_TRY(AddSysctls(spec, writer, ops));
  LN_TRY(AddPaths(spec.readonly_paths, OpKind::kReadonly, "linux.readonlyPaths", writer, ops));
  LN_TRY(AddPaths(spec.masked_paths, OpKind::kMask, "linux.maskedPaths", writer, ops));
  return writer.Items(ops);
}

// ----------------------------------------------------------------------------------------------------
// root

Directory AddDirectory(const TreePath& path, std::uint32_t flags, Writer& writer) {
  Directory out;
  if (!path.tree.valid()) return out;
  out.tree = writer.AddFd(path.tree);
  out.flags = flags;
  out.path = writer.Add(path.path);
  return out;
}

void AddRoot(const ContainerInput& in, Writer& writer, ContainerPlan& plan) {
  const std::uint32_t flags =
      in.spec.spec.uid_mappings.empty() ? 0 : static_cast<std::uint32_t>(kDirectoryIdmap);
  if (in.plain.tree.valid()) {
    plan.plain = AddDirectory(in.plain, flags, writer);
    return;
  }
  // Layers of one tree share its index.
  std::vector<std::pair<int, FdIndex>> trees;
  const auto index_of = [&](FdRef tree) {
    for (const auto& [fd, index] : trees) {
      if (fd == tree.get()) return index;
    }
    trees.emplace_back(tree.get(), writer.AddFd(tree));
    return trees.back().second;
  };
  const auto add = [&](const TreePath& path, std::uint32_t with) {
    return path.tree.valid() ? Directory{.tree = index_of(path.tree),
                                         .flags = with,
                                         .path = writer.Add(path.path)}
                             : Directory{};
  };
  std::vector<Directory> lower;
  lower.reserve(in.lower.size());
  for (const TreePath& layer : in.lower) lower.push_back(add(layer, flags));
  plan.lower = writer.Items(lower);
  // What is written has the ids of the host: whoever mounts the overlay (the host's root) could
  // make nothing in an upper directory that is mapped.
  plan.upper = add(in.upper, 0);
  plan.work = add(in.work, 0);
}

// The processes of a container see the ids of its pod's user namespace; a mount with other mappings
// needs one of its own.
Result<void> CheckMappings(const oci::Spec& spec) {
  const auto same = [](const std::vector<oci::IdMapping>& a, const std::vector<oci::IdMapping>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const oci::IdMapping& x, const oci::IdMapping& y) {
                        return x.container_id == y.container_id && x.host_id == y.host_id &&
                               x.size == y.size;
                      });
  };
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    const oci::Mount& mount = spec.mounts[i];
    if (mount.uid_mappings.empty() && mount.gid_mappings.empty()) continue;
    if (same(mount.uid_mappings, spec.uid_mappings) && same(mount.gid_mappings, spec.gid_mappings))
      continue;
    return Error(Code::kUnimplemented,
                 "mounts[" + std::to_string(i) + "]: id mappings that are not those of the pod");
  }
  return Ok();
}

}  // namespace

Result<std::string> BuildPod(const PodInput& input, Writer& writer) {
  const PodSpec& spec = input.spec;
  PodPlan plan;
  const bool user = !spec.uid_mappings.empty() || !spec.gid_mappings.empty();
  const OwnNamespaces own{.network = spec.network == NamespaceMode::kPod,
                          .ipc = spec.ipc == NamespaceMode::kPod,
                          .uts = spec.network == NamespaceMode::kPod,
                          .user = user};
  if (own.ipc) plan.flags |= kPodNewIpc;
  if (own.uts) plan.flags |= kPodNewUts;
  if (spec.pid == NamespaceMode::kPod) plan.flags |= kPodHolder;
  if (user) {
    plan.flags |= kPodUser;
    plan.uid_map = writer.Items(LN_TRY(AddMap(spec.uid_mappings, "uid_mappings")));
    plan.gid_map = writer.Items(LN_TRY(AddMap(spec.gid_mappings, "gid_mappings")));
  }
  if (own.network) {
    if (spec.netns.valid()) {
      plan.netns = writer.AddFd(spec.netns);
    } else if (user) {
      plan.flags |= kPodNewNet;
    } else {
      return InvalidArgument("netns: a pod network without a namespace");
    }
  }
  if (own.uts) {
    if (spec.hostname.size() > kMaxHostname)
      return InvalidArgument("hostname: longer than 64 characters");
    plan.hostname = writer.Add(spec.hostname);
  }
  std::vector<Setting> settings;
  for (const auto& [key, value] : spec.sysctls) {
    settings.push_back({writer.Add(LN_TRY(SysctlPath(key, own))), writer.Add(value)});
  }
  plan.sysctls = writer.Items(settings);
  plan.shm_size = own.ipc ? spec.shm_size_bytes : 0;
  if ((plan.flags & kPodHolder) != 0) plan.cgroup = AddCgroup(input.cgroup, writer);
  return writer.Finish(plan);
}

Result<std::vector<ParsedMount>> ParseMounts(const oci::Spec& spec) {
  std::vector<ParsedMount> out;
  out.reserve(spec.mounts.size());
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    out.push_back(LN_TRY(ParseMount(spec.mounts[i], "mounts[" + std::to_string(i) + "]")));
    if (out.back().idmap && spec.uid_mappings.empty()) {
      return InvalidArgument("mounts[" + std::to_string(i) +
                             "]: id mappings need a pod with a user namespace");
    }
  }
  LN_TRY(CheckMappings(spec));
  return out;
}

Result<std::string> BuildContainer(const ContainerInput& in, Writer& writer) {
  const oci::Spec& spec = in.spec.spec;
  ContainerPlan plan;
  plan.process = LN_TRY(BuildProcess(spec.process, writer));
  plan.process.flags |= kProcessMakeCwd;
  plan.process.seccomp = writer.AddFd(in.seccomp);
  plan.process.seccomp_flags = in.seccomp_flags;
  if (spec.root_readonly) plan.flags |= kContainerRootReadonly;
  if (HasNamespace(spec, "cgroup")) plan.flags |= kContainerCgroupNamespace;
  if (in.spec.stdin_open) plan.flags |= kContainerStdinOpen;
  if (in.spec.stdin_once) plan.flags |= kContainerStdinOnce;
  plan.pid = ToPidMode(in.spec.pid);
  if (in.spec.pid == NamespaceMode::kTarget) {
    if (!in.spec.pid_target) return InvalidArgument("pid_target: missing");
    plan.pid_target = writer.Add(in.spec.pid_target->str());
  }
  plan.root_propagation =
      LN_TRY(ParsePropagation(spec.rootfs_propagation, "linux.rootfsPropagation"));
  AddRoot(in, writer, plan);
  plan.ops = LN_TRY(AddOps(in, writer));
  plan.cgroup = AddCgroup(in.cgroup, writer);
  plan.exit_dir = writer.AddFd(in.exit_dir);
  if (in.log_dir.valid()) {
    plan.log_dir = writer.AddFd(in.log_dir);
    plan.log_path = writer.Add(in.spec.log.path);
  }
  return writer.Finish(plan);
}

Result<std::string> BuildExec(const oci::Process& process, Writer& writer) {
  ExecPlan plan;
  plan.process = LN_TRY(BuildProcess(process, writer));
  plan.process.flags |= kProcessSeccompOfContainer;
  return writer.Finish(plan);
}

Result<void> CheckContainerSpec(const ContainerSpec& spec) {
  const FdRef placeholder(0);
  const std::vector<ParsedMount> mounts = LN_TRY(ParseMounts(spec.spec));
  ContainerInput input{.spec = spec,
                       .mounts = mounts,
                       .mount_trees = std::vector<FdRef>(mounts.size(), placeholder),
                       .device_nodes = {},
                       .lower = {},
                       .upper = {},
                       .work = {},
                       .plain = {.tree = placeholder, .path = {}},
                       .cgroup = {},
                       .v1_hierarchies = {}};
  Writer writer;
  LN_TRY(BuildContainer(input, writer));
  return Ok();
}

}  // namespace linnet::runtime::plan
