#include "record.h"

#include "linnet/base/text.h"

#include "archive.h"

// The descriptions stand in the namespaces of their types: argument-dependent lookup finds them
// from the archive.
namespace linnet::oci {

template <class A>
void Fields(A& a, IdMapping& m) {
  a("container_id", m.container_id);
  a("host_id", m.host_id);
  a("size", m.size);
}

}  // namespace linnet::oci

namespace linnet::pods {

template <class A>
void Fields(A& a, UserNamespaceOptions& o) {
  a("mode", o.mode);
  a("uids", o.uids);
  a("gids", o.gids);
}
template <class A>
void Fields(A& a, NamespaceOptions& o) {
  a("network", o.network);
  a("pid", o.pid);
  a("ipc", o.ipc);
  a("target_id", o.target_id);
  a("userns", o.userns);
}
template <class A>
void Fields(A& a, SecurityProfile& p) {
  a("type", p.type);
  a("localhost_ref", p.localhost_ref);
}
template <class A>
void Fields(A& a, Resources::HugepageLimit& l) {
  a("page_size", l.page_size);
  a("limit", l.limit);
}
template <class A>
void Fields(A& a, Resources& r) {
  a("cpu_period", r.cpu_period);
  a("cpu_quota", r.cpu_quota);
  a("cpu_shares", r.cpu_shares);
  a("memory_limit_bytes", r.memory_limit_bytes);
  a("memory_swap_limit_bytes", r.memory_swap_limit_bytes);
  a("oom_score_adj", r.oom_score_adj);
  a("cpuset_cpus", r.cpuset_cpus);
  a("cpuset_mems", r.cpuset_mems);
  a("hugepage_limits", r.hugepage_limits);
  a("unified", r.unified);
}
template <class A>
void Fields(A& a, DnsConfig& d) {
  a("servers", d.servers);
  a("searches", d.searches);
  a("options", d.options);
}
template <class A>
void Fields(A& a, PodPort& p) {
  a("protocol", p.protocol);
  a("container_port", p.container_port);
  a("host_port", p.host_port);
  a("host_ip", p.host_ip);
}
template <class A>
void Fields(A& a, PodMetadata& m) {
  a("name", m.name);
  a("uid", m.uid);
  a("namespace", m.ns);
  a("attempt", m.attempt);
}
template <class A>
void Fields(A& a, PodConfig& c) {
  a("metadata", c.metadata);
  a("hostname", c.hostname);
  a("log_directory", c.log_directory);
  a("dns", c.dns);
  a("ports", c.ports);
  a("labels", c.labels);
  a("annotations", c.annotations);
  a("cgroup_parent", c.cgroup_parent);
  a("sysctls", c.sysctls);
  a("overhead", c.overhead);
  a("resources", c.resources);
  a("namespaces", c.namespaces);
  a("privileged", c.privileged);
  a("run_as_user", c.run_as_user);
  a("run_as_group", c.run_as_group);
  a("runtime_handler", c.runtime_handler);
}
template <class A>
void Fields(A& a, PodRecord& r) {
  a("version", r.version);
  a("id", r.id);
  a("stage", r.stage);
  a("created_at_ns", r.created_at_ns);
  a("boot_id", r.boot_id);
  a("config", r.config);
  a("ips", r.ips);
  a("netns_path", r.netns_path);
  a("cgroup_parent", r.cgroup_parent);
}

template <class A>
void Fields(A& a, ContainerMetadata& m) {
  a("name", m.name);
  a("attempt", m.attempt);
}
template <class A>
void Fields(A& a, ImageSpec& s) {
  a("image", s.image);
  a("annotations", s.annotations);
  a("user_specified_image", s.user_specified_image);
  a("runtime_handler", s.runtime_handler);
}
template <class A>
void Fields(A& a, Mount& m) {
  a("container_path", m.container_path);
  a("host_path", m.host_path);
  a("readonly", m.readonly);
  a("selinux_relabel", m.selinux_relabel);
  a("recursive_read_only", m.recursive_read_only);
  a("propagation", m.propagation);
  a("uid_mappings", m.uid_mappings);
  a("gid_mappings", m.gid_mappings);
  a("image", m.image);
  a("image_ref", m.image_ref);
  a("image_sub_path", m.image_sub_path);
  a("options", m.options);
}
template <class A>
void Fields(A& a, Device& d) {
  a("container_path", d.container_path);
  a("host_path", d.host_path);
  a("permissions", d.permissions);
}
template <class A>
void Fields(A& a, SecurityContext& s) {
  a("add_capabilities", s.add_capabilities);
  a("drop_capabilities", s.drop_capabilities);
  a("add_ambient_capabilities", s.add_ambient_capabilities);
  a("privileged", s.privileged);
  a("namespaces", s.namespaces);
  a("run_as_user", s.run_as_user);
  a("run_as_group", s.run_as_group);
  a("run_as_username", s.run_as_username);
  a("readonly_rootfs", s.readonly_rootfs);
  a("supplemental_groups", s.supplemental_groups);
  a("groups_policy", s.groups_policy);
  a("no_new_privs", s.no_new_privs);
  a("masked_paths", s.masked_paths);
  a("readonly_paths", s.readonly_paths);
  a("seccomp", s.seccomp);
  a("apparmor", s.apparmor);
  a("selinux_user", s.selinux_user);
  a("selinux_role", s.selinux_role);
  a("selinux_type", s.selinux_type);
  a("selinux_level", s.selinux_level);
}

// Values are bytes and JSON is UTF-8: base64 keeps them whole.
void Fields(JsonWriter& a, EnvVar& e) {
  a("key", e.key);
  std::string encoded = Base64Encode(e.value);
  a("base64", encoded);
}
void Fields(JsonReader& a, EnvVar& e) {
  a("key", e.key);
  std::string encoded;
  a("base64", encoded);
  auto decoded = Base64Decode(encoded);
  if (decoded) e.value = *std::move(decoded);
}

template <class A>
void Fields(A& a, ContainerConfig& c) {
  a("metadata", c.metadata);
  a("image", c.image);
  a("command", c.command);
  a("args", c.args);
  a("working_dir", c.working_dir);
  a("envs", c.envs);
  a("mounts", c.mounts);
  a("devices", c.devices);
  a("cdi_devices", c.cdi_devices);
  a("labels", c.labels);
  a("annotations", c.annotations);
  a("log_path", c.log_path);
  a("stdin", c.stdin_open);
  a("stdin_once", c.stdin_once);
  a("tty", c.tty);
  a("stop_signal", c.stop_signal);
  a("resources", c.resources);
  a("security", c.security);
}
template <class A>
void Fields(A& a, ContainerUser& u) {
  a("uid", u.uid);
  a("gid", u.gid);
  a("groups", u.groups);
}
template <class A>
void Fields(A& a, ContainerRecord& r) {
  a("version", r.version);
  a("id", r.id);
  a("pod_id", r.pod_id);
  a("created_at_ns", r.created_at_ns);
  a("image_name", r.image_name);
  a("image_ref", r.image_ref);
  a("image_id", r.image_id);
  a("log_path", r.log_path);
  a("stop_signal", r.stop_signal);
  a("user", r.user);
  a("config", r.config);
  a("start_failed", r.start_failed);
  a("finished_at_ns", r.finished_at_ns);
  a("exit_code", r.exit_code);
  a("reason", r.reason);
  a("message", r.message);
}

namespace {

template <class Record>
std::string Dump(const Record& record) {
  // The archive takes what it writes by reference because it reads by reference too; nothing is
  // changed here.
  return DumpJson(JsonWriter::Encode(
      const_cast<Record&>(record)));  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

template <class Record>
Result<Record> Parse(std::string_view text) {
  const Json json = LN_TRY(ParseJson(text));
  Record record;
  LN_TRY(JsonReader::Decode(JsonView(json), record));
  if (record.version != 1)
    return FailedPrecondition("record version " + std::to_string(record.version) + " is not known");
  if (record.id.empty()) return Error(Code::kDataLoss, "record has no id");
  return record;
}

}  // namespace

std::string DumpRecord(const PodRecord& record) { return Dump(record); }
std::string DumpRecord(const ContainerRecord& record) { return Dump(record); }
Result<PodRecord> ParsePodRecord(std::string_view text) { return Parse<PodRecord>(text); }
Result<ContainerRecord> ParseContainerRecord(std::string_view text) {
  return Parse<ContainerRecord>(text);
}

}  // namespace linnet::pods
