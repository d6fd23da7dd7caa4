#include "spec_builder.h"

#include <algorithm>
#include <cerrno>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/runtime/security.h"

#include "cdi.h"
#include "pod_files.h"

namespace linnet::pods {
namespace {

constexpr const char* kDefaultPath =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool HasUserNamespace(const PodConfig& pod) {
  return pod.namespaces.userns && pod.namespaces.userns->mode == NsMode::kPod;
}

std::size_t PathDepth(const std::string& path) {
  const std::string clean = CleanPath("/" + path);
  return static_cast<std::size_t>(std::count(clean.begin(), clean.end(), '/'));
}

// ---------------------------------------------------------------------------------------------------
// mounts

// The optional fields of the mount that holds `path`, from /proc/self/mountinfo ("shared:5
// master:1").
Result<std::string> PropagationOf(const std::string& path) {
  const std::string table = LN_TRY(ReadFile("/proc/self/mountinfo"));
  std::string best;
  std::string fields;
  for (const std::string& line : Split(table, '\n')) {
    const std::vector<std::string> parts = SplitFields(line);
    if (parts.size() < 7) continue;
    const std::string& point = parts[4];
    const bool holds = path == point || point == "/" || path.starts_with(point + "/");
    if (!holds || point.size() < best.size()) continue;
    best = point;
    fields.clear();
    for (std::size_t i = 6; i < parts.size() && parts[i] != "-"; ++i) fields += parts[i] + " ";
  }
  return fields;
}

// A missing source becomes a directory, as users of other runtimes rely on.
Result<std::string> ResolveHostPath(const std::string& path, const std::string& field) {
  auto real = RealPath(path);
  if (real) return real;
  if (!real.error().Is(Code::kNotFound)) return std::move(real).error().With(field);
  LN_TRY_CTX(MakeDirs(path, 0755), field);
  return RealPath(path);
}

Result<oci::Mount> BindMount(const Mount& mount, std::size_t i) {
  const std::string field = "mounts[" + std::to_string(i) + "]";
  oci::Mount out;
  out.destination = CleanPath("/" + mount.container_path);
  out.type = "bind";
  out.source = LN_TRY(ResolveHostPath(mount.host_path, field + ".host_path"));
  out.uid_mappings = mount.uid_mappings;
  out.gid_mappings = mount.gid_mappings;
  out.options = {"rbind"};
  const std::string propagation = LN_TRY(PropagationOf(out.source));
  switch (mount.propagation) {
    case Propagation::kPrivate:
      out.options.emplace_back("rprivate");
      break;
    case Propagation::kHostToContainer:
      if (propagation.find("shared:") == std::string::npos &&
          propagation.find("master:") == std::string::npos) {
        return FailedPrecondition(
            field + ".propagation: HOST_TO_CONTAINER needs a source on a shared or slave mount, " +
            out.source + " is private");
      }
      out.options.emplace_back("rslave");
      break;
    case Propagation::kBidirectional:
      if (propagation.find("shared:") == std::string::npos) {
        return FailedPrecondition(field +
                                  ".propagation: BIDIRECTIONAL needs a source on a shared mount, " +
                                  out.source + " is not");
      }
      out.options.emplace_back("rshared");
      break;
  }
  if (mount.recursive_read_only) {
    out.options.emplace_back("rro");
  } else {
    out.options.emplace_back(mount.readonly ? "ro" : "rw");
  }
  for (const std::string& option : mount.options) out.options.push_back(option);
  return out;
}

oci::Mount FileMount(const std::string& source, const char* destination, bool readonly) {
  oci::Mount out;
  out.destination = destination;
  out.type = "bind";
  out.source = source;
  out.options = {"rbind", "rprivate", readonly ? "ro" : "rw"};
  return out;
}

bool IsUnder(const std::string& path, const char* top) {
  return path == top || path.starts_with(std::string(top) + "/");
}

Result<void> AddMounts(const SpecInput& in, oci::Spec& spec) {
  const SecurityContext& security = in.config.security;
  std::set<std::string> taken;
  for (const Mount& mount : in.config.mounts) taken.insert(CleanPath("/" + mount.container_path));

  for (oci::Mount& mount : runtime::DefaultMounts()) {
    if (taken.contains(mount.destination)) continue;
    if (mount.destination == "/dev/shm" && in.pod.namespaces.ipc == NsMode::kNode) {
      mount = FileMount("/dev/shm", "/dev/shm", false);
    }
    if (mount.destination == "/dev/mqueue" && in.pod.namespaces.ipc == NsMode::kNode &&
        HasUserNamespace(in.pod)) {
      mount = FileMount("/dev/mqueue", "/dev/mqueue", false);
    }
    // sysfs shows the namespace of whoever mounts it: with the node's network under a user
    // namespace it cannot be mounted.
    if (mount.destination == "/sys" && in.pod.namespaces.network == NsMode::kNode &&
        HasUserNamespace(in.pod)) {
      mount = FileMount("/sys", "/sys", true);
      mount.options = {"rbind", "rslave", "rro"};
    }
    if (security.privileged && IsUnder(mount.destination, "/sys")) std::erase(mount.options, "ro");
    spec.mounts.push_back(std::move(mount));
  }
  const bool readonly = security.readonly_rootfs;
  for (const auto& [file, destination] :
       {std::pair("resolv.conf", "/etc/resolv.conf"), std::pair("hosts", "/etc/hosts"),
        std::pair("hostname", "/etc/hostname")}) {
    if (!taken.contains(destination))
      spec.mounts.push_back(FileMount(JoinPath(in.pod_dir, file), destination, readonly));
  }

  std::vector<std::size_t> order(in.config.mounts.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return PathDepth(in.config.mounts[a].container_path) <
           PathDepth(in.config.mounts[b].container_path);
  });
  bool slave = false;
  bool shared = false;
  for (const std::size_t i : order) {
    const Mount& mount = in.config.mounts[i];
    if (mount.image) {
      return Error(Code::kUnimplemented,
                   "ImageVolumeMountFailed: mounts[" + std::to_string(i) +
                       "].image: image volumes are not supported by this version");
    }
    spec.mounts.push_back(LN_TRY(BindMount(mount, i)));
    slave = slave || mount.propagation == Propagation::kHostToContainer;
    shared = shared || mount.propagation == Propagation::kBidirectional;
  }
  if (shared) {
    spec.rootfs_propagation = "shared";
  } else if (slave) {
    spec.rootfs_propagation = "slave";
  }
  return Ok();
}

// -------------------------------------------------------------------------------------------------
// security

Result<std::optional<oci::Seccomp>> BuildSeccomp(const SecurityContext& security,
                                                 const oci::Capabilities& caps) {
  if (security.privileged || !security.seccomp) return std::optional<oci::Seccomp>();
  switch (security.seccomp->type) {
    case ProfileType::kUnconfined:
      return std::optional<oci::Seccomp>();
    case ProfileType::kRuntimeDefault:
      return std::optional<oci::Seccomp>(runtime::DefaultSeccompProfile(caps.bounding));
    case ProfileType::kLocalhost:
      break;
  }
  std::string path = security.seccomp->localhost_ref;
  if (path.starts_with("localhost/")) path = path.substr(10);
  if (path.empty() || path.front() != '/') {
    return InvalidArgument("security_context.seccomp.localhost_ref: \"" + path +
                           "\" is not an absolute path");
  }
  const std::string text = LN_TRY_CTX(ReadFile(path), "security_context.seccomp.localhost_ref");
  return std::optional<oci::Seccomp>(
      LN_TRY_CTX(runtime::ParseSeccompProfile(text, caps.bounding), path));
}

struct UserChoice {
  oci::User user;
  std::string home;
};

Result<UserChoice> ChooseUser(const SpecInput& in, const runtime::RootFs& rootfs) {
  const SecurityContext& s = in.config.security;
  std::string wanted = in.image.config.user;
  std::string source = "image USER";
  if (s.run_as_user) {
    wanted = std::to_string(*s.run_as_user);
    source = "security_context.run_as_user";
  } else if (!s.run_as_username.empty()) {
    wanted = s.run_as_username;
    source = "security_context.run_as_username";
  }
  const runtime::ResolvedUser resolved = LN_TRY_CTX(runtime::ResolveUser(rootfs, wanted), source);
  UserChoice out;
  out.home = resolved.home;
  out.user.uid = resolved.uid;
  out.user.gid = s.run_as_group ? static_cast<std::uint32_t>(*s.run_as_group) : resolved.gid;
  // The primary group is always among the supplementary ones: a process that drops it must not gain
  // what the group is denied.
  std::set<std::uint32_t> groups = {out.user.gid};
  for (const std::int64_t gid : s.supplemental_groups)
    groups.insert(static_cast<std::uint32_t>(gid));
  if (s.groups_policy == GroupsPolicy::kMerge)
    groups.insert(resolved.groups.begin(), resolved.groups.end());
  out.user.additional_gids.assign(groups.begin(), groups.end());
  return out;
}

// The container's namespaces as config.json shows them; the runtime goes by ContainerSpec and
// PodSpec.
void AddNamespaces(const SpecInput& in, oci::Spec& spec) {
  spec.namespaces.push_back({"mount", ""});
  const NamespaceOptions& ns = in.pod.namespaces;
  if (ns.network != NsMode::kNode) {
    spec.namespaces.push_back({"network", in.netns_path});
    spec.namespaces.push_back({"uts", ""});
  }
  if (ns.ipc != NsMode::kNode) spec.namespaces.push_back({"ipc", ""});
  if (in.config.security.namespaces.pid != NsMode::kNode) spec.namespaces.push_back({"pid", ""});
  if (HasUserNamespace(in.pod)) {
    spec.namespaces.push_back({"user", ""});
    spec.uid_mappings = ns.userns->uids;
    spec.gid_mappings = ns.userns->gids;
  }
  if (!in.config.security.privileged) spec.namespaces.push_back({"cgroup", ""});
}

Result<void> AddDevices(const SpecInput& in, oci::Spec& spec) {
  if (in.config.security.privileged) {
    LN_TRY(runtime::AddAllHostDevices(spec));
    spec.resources.devices.push_back({.allow = true});
    return Ok();
  }
  spec.resources.devices.insert(spec.resources.devices.begin(), {.allow = false});
  runtime::AddDefaultDevices(spec);
  for (std::size_t i = 0; i < in.config.devices.size(); ++i) {
    const Device& device = in.config.devices[i];
    LN_TRY_CTX(
        runtime::AddHostDevice(spec, device.host_path, device.container_path, device.permissions),
        "devices[" + std::to_string(i) + "]");
  }
  if (in.devices.ownership_from_user) {
    // Only those that were asked for: /dev/null and its like are everybody's.
    for (oci::Device& device : spec.devices) {
      const bool asked = std::any_of(
          in.config.devices.begin(), in.config.devices.end(), [&device](const Device& d) {
            const std::string path =
                CleanPath(d.container_path.empty() ? d.host_path : d.container_path);
            return device.path == path || device.path.starts_with(path + "/");
          });
      if (!asked) continue;
      if (spec.process.user.uid > 0) device.uid = spec.process.user.uid;
      if (spec.process.user.gid > 0) device.gid = spec.process.user.gid;
    }
  }
  return Ok();
}

}  // namespace

runtime::NamespaceMode ToRuntime(NsMode mode) {
  switch (mode) {
    case NsMode::kPod:
      return runtime::NamespaceMode::kPod;
    case NsMode::kContainer:
      return runtime::NamespaceMode::kContainer;
    case NsMode::kNode:
      return runtime::NamespaceMode::kNode;
    case NsMode::kTarget:
      return runtime::NamespaceMode::kTarget;
  }
  return runtime::NamespaceMode::kPod;
}

Result<std::vector<std::string>> BuildArgs(const ContainerConfig& config,
                                           const oci::ImageConfig& image) {
  // Kubernetes' rule: command replaces the entrypoint and drops the image's cmd; args replace only
  // the cmd.
  std::vector<std::string> out = config.command.empty() ? image.entrypoint : config.command;
  const std::vector<std::string>& rest =
      !config.args.empty() || !config.command.empty() ? config.args : image.cmd;
  out.insert(out.end(), rest.begin(), rest.end());
  if (out.empty()) {
    return InvalidArgument("command: neither the container nor image \"" + config.image.image +
                           "\" names a command");
  }
  for (const std::string& arg : out) {
    if (arg.find('\0') != std::string::npos)
      return InvalidArgument("command: an argument holds a NUL byte");
  }
  return out;
}

std::vector<std::string> BuildEnv(const ContainerConfig& config, const oci::ImageConfig& image,
                                  const std::string& hostname, const std::string& home) {
  std::vector<std::string> out;
  const auto set = [&out](const std::string& entry) {
    const std::string key = entry.substr(0, entry.find('=') + 1);
    const auto same = std::find_if(out.begin(), out.end(),
                                   [&](const std::string& e) { return e.starts_with(key); });
    if (same != out.end()) {
      *same = entry;
    } else {
      out.push_back(entry);
    }
  };
  const auto has = [&out](const char* key) {
    return std::any_of(out.begin(), out.end(),
                       [&](const std::string& e) { return e.starts_with(key); });
  };
  for (const std::string& entry : image.env) {
    if (entry.find('=') != std::string::npos && entry.find('\0') == std::string::npos) set(entry);
  }
  if (!hostname.empty()) set("HOSTNAME=" + hostname);
  if (config.tty) set("TERM=xterm");
  for (const EnvVar& e : config.envs) set(e.key + "=" + e.value);
  if (!has("PATH=")) out.insert(out.begin(), kDefaultPath);
  if (!has("HOME=")) out.push_back("HOME=" + (home.empty() ? std::string("/") : home));
  return out;
}

oci::Resources BuildResources(const Resources& r) {
  oci::Resources out;
  if (r.cpu_shares > 0) out.cpu_shares = static_cast<std::uint64_t>(r.cpu_shares);
  if (r.cpu_period > 0) out.cpu_period = static_cast<std::uint64_t>(r.cpu_period);
  if (r.cpu_quota != 0) out.cpu_quota = r.cpu_quota;
  if (r.memory_limit_bytes > 0) {
    out.memory_limit = r.memory_limit_bytes;
    // No swap unless asked for: memory + swap together get the memory limit.
    out.memory_swap =
        r.memory_swap_limit_bytes != 0 ? r.memory_swap_limit_bytes : r.memory_limit_bytes;
  } else if (r.memory_swap_limit_bytes > 0) {
    out.memory_swap = r.memory_swap_limit_bytes;
  }
  out.cpuset_cpus = r.cpuset_cpus;
  out.cpuset_mems = r.cpuset_mems;
  for (const auto& limit : r.hugepage_limits)
    out.hugepage_limits.push_back({limit.page_size, limit.limit});
  out.unified = r.unified;
  return out;
}

Resources MergeResources(Resources out, const Resources& update) {
  const auto take = [](auto& to, const auto& from) {
    if (from != std::remove_cvref_t<decltype(from)>{}) to = from;
  };
  take(out.cpu_period, update.cpu_period);
  take(out.cpu_quota, update.cpu_quota);
  take(out.cpu_shares, update.cpu_shares);
  take(out.memory_limit_bytes, update.memory_limit_bytes);
  take(out.memory_swap_limit_bytes, update.memory_swap_limit_bytes);
  take(out.oom_score_adj, update.oom_score_adj);
  take(out.cpuset_cpus, update.cpuset_cpus);
  take(out.cpuset_mems, update.cpuset_mems);
  if (!update.hugepage_limits.empty()) out.hugepage_limits = update.hugepage_limits;
  for (const auto& [file, value] : update.unified) out.unified[file] = value;
  return out;
}

Result<BuiltSpec> BuildContainerSpec(const SpecInput& in) {
  const ContainerConfig& config = in.config;
  const SecurityContext& security = config.security;
  BuiltSpec out{.spec = {.id = in.id,
                         .spec = {},
                         .rootfs = {},
                         .log = {},
                         .pid_target = in.pid_target,
                         .directory = in.container_dir},
                .user = {},
                .stop_signal = 15};
  runtime::ContainerSpec& container = out.spec;
  container.rootfs.lower_dirs = in.image.layer_dirs;
  container.rootfs.upper_dir = JoinPath(in.container_dir, "upper");
  container.rootfs.work_dir = JoinPath(in.container_dir, "work");
  if (!config.log_path.empty() && !in.pod.log_directory.empty())
    container.log = {in.pod.log_directory, config.log_path};
  container.stdin_open = config.stdin_open;
  container.stdin_once = config.stdin_once;
  container.pid = ToRuntime(security.namespaces.pid);
  container.privileged = security.privileged;

  oci::Spec& spec = container.spec;
  spec.root_path = "rootfs";
  spec.root_readonly = security.readonly_rootfs;
  spec.hostname = PodHostname(in.pod);
  spec.annotations =
      {};  // none crosses from pods or images: they are data, not control (SECURITY.md A2)
  const std::string parent = in.pod.cgroup_parent.empty()
                                 ? JoinPath(JoinPath(in.cgroup_root, "pods"), in.pod_id)
                                 : in.pod.cgroup_parent;
  spec.cgroups_path = JoinPath(parent, in.id.str());
  AddNamespaces(in, spec);

  spec.process.terminal = config.tty;
  spec.process.args = LN_TRY(BuildArgs(config, in.image.config));
  UserChoice user = LN_TRY(ChooseUser(in, container.rootfs));
  spec.process.user = user.user;
  spec.process.env = BuildEnv(config, in.image.config, spec.hostname, user.home);
  spec.process.cwd = !config.working_dir.empty()            ? config.working_dir
                     : !in.image.config.working_dir.empty() ? in.image.config.working_dir
                                                            : "/";
  if (spec.process.cwd.front() != '/') {
    return InvalidArgument("working_dir: \"" + spec.process.cwd + "\" is not an absolute path");
  }
  oci::Capabilities caps =
      LN_TRY(runtime::ComputeCapabilities(security.add_capabilities, security.drop_capabilities,
                                          security.add_ambient_capabilities, security.privileged));
  spec.seccomp = LN_TRY(BuildSeccomp(security, caps));
  spec.process.capabilities = std::move(caps);
  spec.process.no_new_privileges = security.no_new_privs;
  spec.process.oom_score_adj = static_cast<int>(config.resources.oom_score_adj);

  spec.resources = BuildResources(config.resources);
  LN_TRY(AddDevices(in, spec));
  LN_TRY(AddMounts(in, spec));
  const auto cdi_devices = LN_TRY(CdiDevicesOf(config));
  LN_TRY(InjectCdiDevices(spec, cdi_devices, in.devices.cdi_dirs));
  if (!security.privileged) {
    spec.masked_paths = security.masked_paths;
    spec.readonly_paths = security.readonly_paths;
  }

  if (config.stop_signal != 0) {
    out.stop_signal = config.stop_signal;
  } else if (!in.image.config.stop_signal.empty()) {
    out.stop_signal =
        LN_TRY_CTX(runtime::ParseSignal(in.image.config.stop_signal), "image StopSignal");
  }
  out.user.uid = user.user.uid;
  out.user.gid = user.user.gid;
  const auto& groups = spec.process.user.additional_gids;
  out.user.groups.assign(groups.begin(), groups.end());
  return out;
}

}  // namespace linnet::pods
