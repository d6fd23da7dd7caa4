// config.json → Spec. Member names are those of the OCI runtime specification 1.2 (config.md,
// config-linux.md).
#include <algorithm>
#include <array>

#include "linnet/oci/runtime_spec.h"

#include "json_document.h"

namespace linnet::oci {
namespace {

using std::string;
using Strings = std::vector<string>;

constexpr std::size_t kMaxBytes = 8U << 20;
constexpr std::array<std::string_view, 8> kNamespaceTypes = {"pid", "network", "mount",  "ipc",
                                                             "uts", "user",    "cgroup", "time"};

template <class T>
bool OneOf(std::string_view text, const T& allowed) {
  return std::ranges::find(allowed, text) != std::end(allowed);
}

Result<std::vector<IdMapping>> ParseMappings(const JsonView& v, std::string_view key) {
  std::vector<IdMapping> out;
  for (const JsonView& m : LN_TRY(v.Array(key))) {
    out.push_back({.container_id = LN_TRY(m.Required<std::uint32_t>("containerID")),
                   .host_id = LN_TRY(m.Required<std::uint32_t>("hostID")),
                   .size = LN_TRY(m.Required<std::uint32_t>("size"))});
  }
  return out;
}

Result<User> ParseUser(const JsonView& v) {
  User out{.uid = LN_TRY(v.Optional<std::uint32_t>("uid", 0)),
           .gid = LN_TRY(v.Optional<std::uint32_t>("gid", 0)),
           .umask = LN_TRY(v.Maybe<std::uint32_t>("umask"))};
  for (const JsonView& gid : LN_TRY(v.Array("additionalGids"))) {
    out.additional_gids.push_back(LN_TRY(gid.As<std::uint32_t>()));
  }
  return out;
}

Result<Capabilities> ParseCapabilities(const JsonView& v) {
  return Capabilities{.bounding = LN_TRY(v.Strings("bounding")),
                      .effective = LN_TRY(v.Strings("effective")),
                      .inheritable = LN_TRY(v.Strings("inheritable")),
                      .permitted = LN_TRY(v.Strings("permitted")),
                      .ambient = LN_TRY(v.Strings("ambient"))};
}

Result<std::vector<Rlimit>> ParseRlimits(const JsonView& process) {
  std::vector<Rlimit> out;
  for (const JsonView& v : LN_TRY(process.Array("rlimits"))) {
    Rlimit limit{.type = LN_TRY(v.Required<string>("type")),
                 .soft = LN_TRY(v.Required<std::uint64_t>("soft")),
                 .hard = LN_TRY(v.Required<std::uint64_t>("hard"))};
    if (!limit.type.starts_with("RLIMIT_"))
      return v.Fail("type \"" + limit.type + "\" is not RLIMIT_…");
    const bool twice =
        std::ranges::any_of(out, [&](const Rlimit& r) { return r.type == limit.type; });
    if (twice) return v.Fail(limit.type + " is given twice");
    out.push_back(std::move(limit));
  }
  return out;
}

Result<Process> ParseProcess(const JsonView& v) {
  Process out;
  out.terminal = LN_TRY(v.Optional<bool>("terminal", false));
  if (const auto size = LN_TRY(v.Find("consoleSize"))) {
    out.console_height = LN_TRY(size->Required<std::uint16_t>("height"));
    out.console_width = LN_TRY(size->Required<std::uint16_t>("width"));
  }
  if (const auto user = LN_TRY(v.Find("user"))) out.user = LN_TRY(ParseUser(*user));
  out.args = LN_TRY(v.Strings("args"));
  out.env = LN_TRY(v.Strings("env"));
  out.cwd = LN_TRY(v.Required<string>("cwd"));
  if (!out.cwd.starts_with('/')) return v.Fail("cwd \"" + out.cwd + "\" is not an absolute path");
  if (const auto caps = LN_TRY(v.Find("capabilities")))
    out.capabilities = LN_TRY(ParseCapabilities(*caps));
  out.rlimits = LN_TRY(ParseRlimits(v));
  out.no_new_privileges = LN_TRY(v.Optional<bool>("noNewPrivileges", false));
  out.apparmor_profile = LN_TRY(v.Optional<string>("apparmorProfile", ""));
  out.selinux_label = LN_TRY(v.Optional<string>("selinuxLabel", ""));
  out.oom_score_adj = LN_TRY(v.Maybe<int>("oomScoreAdj"));
  if (out.oom_score_adj && (*out.oom_score_adj < -1000 || *out.oom_score_adj > 1000)) {
    return v.Fail("oomScoreAdj is outside -1000…1000");
  }
  return out;
}

Result<std::vector<Mount>> ParseMounts(const JsonView& root) {
  std::vector<Mount> out;
  for (const JsonView& v : LN_TRY(root.Array("mounts"))) {
    Mount mount{.destination = LN_TRY(v.Required<string>("destination")),
                .type = LN_TRY(v.Optional<string>("type", "")),
                .source = LN_TRY(v.Optional<string>("source", "")),
                .options = LN_TRY(v.Strings("options")),
                .uid_mappings = LN_TRY(ParseMappings(v, "uidMappings")),
                .gid_mappings = LN_TRY(ParseMappings(v, "gidMappings"))};
    if (mount.destination.empty()) return v.Fail("destination is empty");
    out.push_back(std::move(mount));
  }
  return out;
}

Result<std::vector<Namespace>> ParseNamespaces(const JsonView& linux_part) {
  std::vector<Namespace> out;
  for (const JsonView& v : LN_TRY(linux_part.Array("namespaces"))) {
    Namespace ns{.type = LN_TRY(v.Required<string>("type")),
                 .path = LN_TRY(v.Optional<string>("path", ""))};
    if (!OneOf(ns.type, kNamespaceTypes))
      return v.Fail("namespace type \"" + ns.type + "\" is not known");
    const bool twice =
        std::ranges::any_of(out, [&](const Namespace& n) { return n.type == ns.type; });
    if (twice) return v.Fail("namespace \"" + ns.type + "\" is given twice");
    out.push_back(std::move(ns));
  }
  return out;
}

Result<std::vector<Device>> ParseDevices(const JsonView& linux_part) {
  std::vector<Device> out;
  for (const JsonView& v : LN_TRY(linux_part.Array("devices"))) {
    Device device{.path = LN_TRY(v.Required<string>("path")),
                  .type = LN_TRY(v.Required<string>("type")),
                  .major = LN_TRY(v.Optional<std::int64_t>("major", 0)),
                  .minor = LN_TRY(v.Optional<std::int64_t>("minor", 0)),
                  .file_mode = LN_TRY(v.Maybe<std::uint32_t>("fileMode")),
                  .uid = LN_TRY(v.Maybe<std::uint32_t>("uid")),
                  .gid = LN_TRY(v.Maybe<std::uint32_t>("gid"))};
    if (!OneOf(device.type, std::array{"c", "b", "u", "p"}))
      return v.Fail("device type \"" + device.type + "\" is not known");
    if (!device.path.starts_with('/'))
      return v.Fail("path \"" + device.path + "\" is not absolute");
    out.push_back(std::move(device));
  }
  return out;
}

Result<DeviceRule> ParseDeviceRule(const JsonView& v) {
  DeviceRule out;
  out.allow = LN_TRY(v.Required<bool>("allow"));
  out.type = LN_TRY(v.Optional<string>("type", "a"));
  out.access = LN_TRY(v.Optional<string>("access", "rwm"));
  // Absent or -1: every number.
  for (const auto& [key, number] : {std::pair{"major", &out.major}, {"minor", &out.minor}}) {
    *number = LN_TRY(v.Maybe<std::int64_t>(key));
    if (*number == -1) number->reset();
  }
  if (out.type.empty()) out.type = "a";
  if (out.type == "u") out.type = "c";
  if (!OneOf(out.type, std::array{"a", "b", "c"}))
    return v.Fail("device type \"" + out.type + "\" is not known");
  if (out.access.find_first_not_of("rwm") != string::npos)
    return v.Fail("access \"" + out.access + "\" is not of r, w, m");
  return out;
}

Result<Resources> ParseResources(const JsonView& v) {
  Resources out;
  for (const JsonView& rule : LN_TRY(v.Array("devices")))
    out.devices.push_back(LN_TRY(ParseDeviceRule(rule)));
  if (const auto memory = LN_TRY(v.Find("memory"))) {
    out.memory_limit = LN_TRY(memory->Maybe<std::int64_t>("limit"));
    out.memory_reservation = LN_TRY(memory->Maybe<std::int64_t>("reservation"));
    out.memory_swap = LN_TRY(memory->Maybe<std::int64_t>("swap"));
  }
  if (const auto cpu = LN_TRY(v.Find("cpu"))) {
    out.cpu_shares = LN_TRY(cpu->Maybe<std::uint64_t>("shares"));
    out.cpu_quota = LN_TRY(cpu->Maybe<std::int64_t>("quota"));
    out.cpu_period = LN_TRY(cpu->Maybe<std::uint64_t>("period"));
    out.cpuset_cpus = LN_TRY(cpu->Optional<string>("cpus", ""));
    out.cpuset_mems = LN_TRY(cpu->Optional<string>("mems", ""));
  }
  if (const auto pids = LN_TRY(v.Find("pids")))
    out.pids_limit = LN_TRY(pids->Maybe<std::int64_t>("limit"));
  for (const JsonView& limit : LN_TRY(v.Array("hugepageLimits"))) {
    out.hugepage_limits.push_back({.page_size = LN_TRY(limit.Required<string>("pageSize")),
                                   .limit = LN_TRY(limit.Required<std::uint64_t>("limit"))});
  }
  out.unified = LN_TRY(v.StringMap("unified"));
  return out;
}

Result<SeccompSyscall> ParseSyscall(const JsonView& v) {
  SeccompSyscall out{.names = LN_TRY(v.Strings("names")),
                     .action = LN_TRY(v.Required<string>("action")),
                     .errno_ret = LN_TRY(v.Maybe<std::uint32_t>("errnoRet"))};
  if (out.names.empty()) return v.Fail("names is empty");
  for (const JsonView& arg : LN_TRY(v.Array("args"))) {
    out.args.push_back({.index = LN_TRY(arg.Required<std::uint32_t>("index")),
                        .value = LN_TRY(arg.Required<std::uint64_t>("value")),
                        .value_two = LN_TRY(arg.Optional<std::uint64_t>("valueTwo", 0)),
                        .op = LN_TRY(arg.Required<string>("op"))});
    if (out.args.back().index > 5) return arg.Fail("a system call has arguments 0…5");
  }
  return out;
}

Result<Seccomp> ParseSeccomp(const JsonView& v) {
  Seccomp out{.default_action = LN_TRY(v.Required<string>("defaultAction")),
              .default_errno_ret = LN_TRY(v.Maybe<std::uint32_t>("defaultErrnoRet")),
              .architectures = LN_TRY(v.Strings("architectures")),
              .flags = LN_TRY(v.Strings("flags"))};
  for (const JsonView& call : LN_TRY(v.Array("syscalls")))
    out.syscalls.push_back(LN_TRY(ParseSyscall(call)));
  return out;
}

Result<void> ParseLinux(const JsonView& v, Spec* out) {
  out->namespaces = LN_TRY(ParseNamespaces(v));
  out->uid_mappings = LN_TRY(ParseMappings(v, "uidMappings"));
  out->gid_mappings = LN_TRY(ParseMappings(v, "gidMappings"));
  out->devices = LN_TRY(ParseDevices(v));
  out->cgroups_path = LN_TRY(v.Optional<string>("cgroupsPath", ""));
  if (const auto resources = LN_TRY(v.Find("resources")))
    out->resources = LN_TRY(ParseResources(*resources));
  out->sysctl = LN_TRY(v.StringMap("sysctl"));
  if (const auto seccomp = LN_TRY(v.Find("seccomp"))) out->seccomp = LN_TRY(ParseSeccomp(*seccomp));
  out->rootfs_propagation = LN_TRY(v.Optional<string>("rootfsPropagation", ""));
  if (!OneOf(out->rootfs_propagation, std::array{"", "private", "slave", "shared", "unbindable",
                                                 "rprivate", "rslave", "rshared", "runbindable"})) {
    return v.Fail("rootfsPropagation \"" + out->rootfs_propagation + "\" is not known");
  }
  out->masked_paths = LN_TRY(v.Strings("maskedPaths"));
  out->readonly_paths = LN_TRY(v.Strings("readonlyPaths"));
  return Ok();
}

}  // namespace

Result<Spec> Spec::Parse(std::string_view json) {
  const Json document = LN_TRY(ParseDocument(json, kMaxBytes));
  const JsonView v(document);
  Spec out;
  out.version = LN_TRY(v.Required<string>("ociVersion"));
  if (!out.version.starts_with("1."))
    return v.Fail("ociVersion \"" + out.version + "\" is not 1.x");
  if (const auto process = LN_TRY(v.Find("process"))) out.process = LN_TRY(ParseProcess(*process));
  if (const auto root = LN_TRY(v.Find("root"))) {
    out.root_path = LN_TRY(root->Required<string>("path"));
    out.root_readonly = LN_TRY(root->Optional<bool>("readonly", false));
  }
  out.hostname = LN_TRY(v.Optional<string>("hostname", ""));
  out.domainname = LN_TRY(v.Optional<string>("domainname", ""));
  out.mounts = LN_TRY(ParseMounts(v));
  out.annotations = LN_TRY(v.StringMap("annotations"));
  if (const auto linux_part = LN_TRY(v.Find("linux"))) LN_TRY(ParseLinux(*linux_part, &out));
  return out;
}

}  // namespace linnet::oci
