// Spec → config.json. What is absent in the Spec is absent in the text.
#include "linnet/base/json_view.h"
#include "linnet/oci/runtime_spec.h"

namespace linnet::oci {
namespace {

template <class T>
void Put(Json& json, const char* key, const std::optional<T>& value) {
  if (value) json[key] = *value;
}
void Put(Json& json, const char* key, const std::string& value) {
  if (!value.empty()) json[key] = value;
}
void Put(Json& json, const char* key, const std::vector<std::string>& value) {
  if (!value.empty()) json[key] = value;
}
void Put(Json& json, const char* key, const std::map<std::string, std::string>& value) {
  if (!value.empty()) json[key] = value;
}
void Put(Json& json, const char* key, Json value) {
  if (!value.empty()) json[key] = std::move(value);
}

template <class T, class Convert>
Json ListOf(const std::vector<T>& items, Convert convert) {
  Json out = Json::array();
  for (const T& item : items) out.push_back(convert(item));
  return out;
}

Json Mappings(const std::vector<IdMapping>& mappings) {
  return ListOf(mappings, [](const IdMapping& m) {
    return Json{{"containerID", m.container_id}, {"hostID", m.host_id}, {"size", m.size}};
  });
}

Json DumpProcess(const Process& p) {
  Json user = {{"uid", p.user.uid}, {"gid", p.user.gid}};
  Put(user, "umask", p.user.umask);
  if (!p.user.additional_gids.empty()) user["additionalGids"] = p.user.additional_gids;
  Json out = {{"user", std::move(user)}, {"cwd", p.cwd}};
  if (p.terminal) out["terminal"] = true;
  if (p.console_height != 0 || p.console_width != 0) {
    out["consoleSize"] = {{"height", p.console_height}, {"width", p.console_width}};
  }
  Put(out, "args", p.args);
  Put(out, "env", p.env);
  if (p.capabilities) {
    Json caps = Json::object();
    Put(caps, "bounding", p.capabilities->bounding);
    Put(caps, "effective", p.capabilities->effective);
    Put(caps, "inheritable", p.capabilities->inheritable);
    Put(caps, "permitted", p.capabilities->permitted);
    Put(caps, "ambient", p.capabilities->ambient);
    out["capabilities"] = std::move(caps);  // present and empty means: none at all
  }
  Put(out, "rlimits", ListOf(p.rlimits, [](const Rlimit& r) {
        return Json{{"type", r.type}, {"soft", r.soft}, {"hard", r.hard}};
      }));
  if (p.no_new_privileges) out["noNewPrivileges"] = true;
  Put(out, "apparmorProfile", p.apparmor_profile);
  Put(out, "selinuxLabel", p.selinux_label);
  Put(out, "oomScoreAdj", p.oom_score_adj);
  return out;
}

Json DumpMount(const Mount& m) {
  Json out = {{"destination", m.destination}};
  Put(out, "type", m.type);
  Put(out, "source", m.source);
  Put(out, "options", m.options);
  Put(out, "uidMappings", Mappings(m.uid_mappings));
  Put(out, "gidMappings", Mappings(m.gid_mappings));
  return out;
}

Json DumpDevice(const Device& d) {
  Json out = {{"path", d.path}, {"type", d.type}};
  if (d.type != "p") {
    out["major"] = d.major;
    out["minor"] = d.minor;
  }
  Put(out, "fileMode", d.file_mode);
  Put(out, "uid", d.uid);
  Put(out, "gid", d.gid);
  return out;
}

Json DumpResources(const Resources& r) {
  Json out = Json::object();
  Put(out, "devices", ListOf(r.devices, [](const DeviceRule& d) {
        Json rule = {{"allow", d.allow}, {"type", d.type}};
        Put(rule, "major", d.major);
        Put(rule, "minor", d.minor);
        Put(rule, "access", d.access);
        return rule;
      }));
  Json memory = Json::object();
  Put(memory, "limit", r.memory_limit);
  Put(memory, "reservation", r.memory_reservation);
  Put(memory, "swap", r.memory_swap);
  Put(out, "memory", std::move(memory));
  Json cpu = Json::object();
  Put(cpu, "shares", r.cpu_shares);
  Put(cpu, "quota", r.cpu_quota);
  Put(cpu, "period", r.cpu_period);
  Put(cpu, "cpus", r.cpuset_cpus);
  Put(cpu, "mems", r.cpuset_mems);
  Put(out, "cpu", std::move(cpu));
  if (r.pids_limit) out["pids"] = {{"limit", *r.pids_limit}};
  Put(out, "hugepageLimits", ListOf(r.hugepage_limits, [](const Resources::HugepageLimit& h) {
        return Json{{"pageSize", h.page_size}, {"limit", h.limit}};
      }));
  Put(out, "unified", r.unified);
  return out;
}

Json DumpSyscall(const SeccompSyscall& s) {
  Json out = {{"names", s.names}, {"action", s.action}};
  Put(out, "errnoRet", s.errno_ret);
  Put(out, "args", ListOf(s.args, [](const SeccompArg& a) {
        Json arg = {{"index", a.index}, {"value", a.value}, {"op", a.op}};
        if (a.value_two != 0) arg["valueTwo"] = a.value_two;
        return arg;
      }));
  return out;
}

Json DumpSeccomp(const Seccomp& s) {
  Json out = {{"defaultAction", s.default_action}};
  Put(out, "defaultErrnoRet", s.default_errno_ret);
  Put(out, "architectures", s.architectures);
  Put(out, "flags", s.flags);
  Put(out, "syscalls", ListOf(s.syscalls, DumpSyscall));
  return out;
}

Json DumpLinux(const Spec& s) {
  Json out = Json::object();
  Put(out, "namespaces", ListOf(s.namespaces, [](const Namespace& n) {
        Json ns = {{"type", n.type}};
        Put(ns, "path", n.path);
        return ns;
      }));
  Put(out, "uidMappings", Mappings(s.uid_mappings));
  Put(out, "gidMappings", Mappings(s.gid_mappings));
  Put(out, "devices", ListOf(s.devices, DumpDevice));
  Put(out, "cgroupsPath", s.cgroups_path);
  Put(out, "resources", DumpResources(s.resources));
  Put(out, "sysctl", s.sysctl);
  if (s.seccomp) out["seccomp"] = DumpSeccomp(*s.seccomp);
  Put(out, "rootfsPropagation", s.rootfs_propagation);
  Put(out, "maskedPaths", s.masked_paths);
  Put(out, "readonlyPaths", s.readonly_paths);
  return out;
}

}  // namespace

std::string Spec::Dump() const {
  Json out = {{"ociVersion", version}, {"process", DumpProcess(process)}};
  if (!root_path.empty()) {
    out["root"] = {{"path", root_path}};
    if (root_readonly) out["root"]["readonly"] = true;
  }
  Put(out, "hostname", hostname);
  Put(out, "domainname", domainname);
  Put(out, "mounts", ListOf(mounts, DumpMount));
  Put(out, "annotations", annotations);
  out["linux"] = DumpLinux(*this);
  return DumpJson(out);
}

}  // namespace linnet::oci
