#include "validate.h"

#include <algorithm>
#include <set>

#include "linnet/base/file.h"
#include "linnet/base/ip.h"

#include "bandwidth.h"

namespace linnet::pods {
namespace {

bool HasControl(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// Names go into records, CNI_ARGS, log lines and files that others parse.
Result<void> CheckName(const std::string& value, const char* field) {
  if (value.empty()) return InvalidArgument(std::string(field) + ": must not be empty");
  if (value.size() > 512) return InvalidArgument(std::string(field) + ": longer than 512 bytes");
  if (HasControl(value) || value.find_first_of("/;=") != std::string::npos) {
    return InvalidArgument(std::string(field) + ": \"" + value +
                           "\" holds a control character or one of / ; =");
  }
  return Ok();
}

Result<void> CheckPlainText(const std::string& value, const std::string& field) {
  if (HasControl(value)) return InvalidArgument(field + ": holds a control character");
  return Ok();
}

// Absolute, and without "..": a log directory of "/x/../../etc" is nobody's wish.
Result<void> CheckAbsolute(const std::string& path, const std::string& field) {
  if (path.empty() || path.front() != '/')
    return InvalidArgument(field + ": \"" + path + "\" is not an absolute path");
  if (path.find('\0') != std::string::npos) return InvalidArgument(field + ": holds a NUL byte");
  if (("/" + path + "/").find("/../") != std::string::npos)
    return InvalidArgument(field + ": \"" + path + "\" holds \"..\"");
  return Ok();
}

Result<void> CheckPort(const PodPort& port, std::size_t i) {
  const std::string field = "port_mappings[" + std::to_string(i) + "]";
  if (port.host_port == 0) return Ok();  // no mapping
  if (port.host_port < 0 || port.host_port > 65535) {
    return InvalidArgument(field + ".host_port: " + std::to_string(port.host_port) +
                           " is out of range (1–65535)");
  }
  if (port.container_port < 1 || port.container_port > 65535) {
    return InvalidArgument(field + ".container_port: " + std::to_string(port.container_port) +
                           " is out of range (1–65535)");
  }
  if (!port.host_ip.empty()) LN_TRY_CTX(IpAddress::Parse(port.host_ip), field + ".host_ip");
  return Ok();
}

Result<void> CheckMappings(const std::vector<oci::IdMapping>& mappings, const std::string& field) {
  if (mappings.size() != 1) {
    return InvalidArgument(field + ": exactly one mapping is supported, got " +
                           std::to_string(mappings.size()));
  }
  if (mappings[0].container_id != 0)
    return InvalidArgument(field + "[0].container_id: must be 0, so that root is mapped");
  if (mappings[0].size == 0) return InvalidArgument(field + "[0].length: must not be 0");
  return Ok();
}

Result<void> CheckUserNamespace(const NamespaceOptions& ns) {
  if (!ns.userns) return Ok();
  const std::string field = "namespace_options.userns_options";
  switch (ns.userns->mode) {
    case NsMode::kNode:
      if (!ns.userns->uids.empty() || !ns.userns->gids.empty()) {
        return InvalidArgument(field + ": mode NODE takes no mappings");
      }
      return Ok();
    case NsMode::kPod:
      LN_TRY(CheckMappings(ns.userns->uids, field + ".uids"));
      LN_TRY(CheckMappings(ns.userns->gids, field + ".gids"));
      if (ns.userns->uids[0].size != ns.userns->gids[0].size) {
        return InvalidArgument(field + ": uids and gids must have the same length");
      }
      return Ok();
    default:
      return InvalidArgument(field + ".mode: only POD and NODE are possible");
  }
}

bool PodHasUserNamespace(const NamespaceOptions& ns) {
  return ns.userns && ns.userns->mode == NsMode::kPod;
}

Result<void> CheckMount(const Mount& mount, std::size_t i) {
  const std::string field = "mounts[" + std::to_string(i) + "]";
  LN_TRY(CheckAbsolute("/" + mount.container_path, field + ".container_path"));
  if (CleanPath("/" + mount.container_path) == "/")
    return InvalidArgument(field + ".container_path: must not be the root");
  if (mount.image) {
    if (!mount.host_path.empty())
      return InvalidArgument(field + ": image and host_path exclude each other");
    if (!mount.readonly)
      return InvalidArgument(field + ".readonly: an image volume must be read-only");
  } else {
    LN_TRY(CheckAbsolute(mount.host_path, field + ".host_path"));
    if (!mount.image_sub_path.empty())
      return InvalidArgument(field + ".image_sub_path: needs image");
  }
  if (mount.recursive_read_only) {
    if (!mount.readonly) return InvalidArgument(field + ".recursive_read_only: needs readonly");
    if (mount.propagation != Propagation::kPrivate) {
      return InvalidArgument(field + ".recursive_read_only: needs propagation PRIVATE");
    }
  }
  return Ok();
}

Result<void> CheckId(const std::optional<std::int64_t>& id, const char* field) {
  if (id && (*id < 0 || *id > 0x7fffffff)) {
    return InvalidArgument(std::string(field) + ": " + std::to_string(*id) +
                           " is out of range (0–2147483647)");
  }
  return Ok();
}

}  // namespace

Result<void> ValidateResources(const Resources& r) {
  if (r.cpu_shares < 0) return InvalidArgument("resources.cpu_shares: must not be negative");
  if (r.cpu_period < 0) return InvalidArgument("resources.cpu_period: must not be negative");
  if (r.memory_limit_bytes < 0)
    return InvalidArgument("resources.memory_limit_in_bytes: must not be negative");
  if (r.oom_score_adj < -1000 || r.oom_score_adj > 1000) {
    return InvalidArgument("resources.oom_score_adj: " + std::to_string(r.oom_score_adj) +
                           " is out of range (-1000–1000)");
  }
  return Ok();
}

Result<void> ValidatePod(const PodConfig& config,
                         const std::vector<std::string>& runtime_handlers) {
  LN_TRY(CheckName(config.metadata.name, "metadata.name"));
  LN_TRY(CheckName(config.metadata.uid, "metadata.uid"));
  LN_TRY(CheckName(config.metadata.ns, "metadata.namespace"));
  if (!config.runtime_handler.empty() &&
      std::find(runtime_handlers.begin(), runtime_handlers.end(), config.runtime_handler) ==
          runtime_handlers.end()) {
    std::string known;
    for (const auto& h : runtime_handlers) known += (known.empty() ? "" : ", ") + h;
    return InvalidArgument("runtime_handler: \"" + config.runtime_handler +
                           "\" is not configured (there are: \"\", " + known + ")");
  }
  if (config.hostname.size() > 64) return InvalidArgument("hostname: longer than 64 bytes");
  LN_TRY(CheckPlainText(config.hostname, "hostname"));
  if (config.hostname.find('/') != std::string::npos)
    return InvalidArgument("hostname: must not hold \"/\"");
  if (!config.log_directory.empty()) LN_TRY(CheckAbsolute(config.log_directory, "log_directory"));
  if (config.dns) {
    for (const auto& s : config.dns->servers) LN_TRY(CheckPlainText(s, "dns_config.servers"));
    for (const auto& s : config.dns->searches) LN_TRY(CheckPlainText(s, "dns_config.searches"));
    for (const auto& s : config.dns->options) LN_TRY(CheckPlainText(s, "dns_config.options"));
  }
  for (std::size_t i = 0; i < config.ports.size(); ++i) LN_TRY(CheckPort(config.ports[i], i));
  LN_TRY(BandwidthOf(config.annotations));
  if (config.cgroup_parent.find('\0') != std::string::npos ||
      ("/" + config.cgroup_parent + "/").find("/../") != std::string::npos) {
    return InvalidArgument("linux.cgroup_parent: \"" + config.cgroup_parent + "\" holds \"..\"");
  }
  const NamespaceOptions& ns = config.namespaces;
  if (ns.network == NsMode::kContainer || ns.network == NsMode::kTarget) {
    return InvalidArgument("namespace_options.network: only POD and NODE are possible");
  }
  if (ns.ipc == NsMode::kContainer || ns.ipc == NsMode::kTarget) {
    return InvalidArgument("namespace_options.ipc: only POD and NODE are possible");
  }
  if (ns.pid == NsMode::kTarget)
    return InvalidArgument("namespace_options.pid: a pod has no TARGET");
  LN_TRY(CheckUserNamespace(ns));
  LN_TRY(CheckId(config.run_as_user, "security_context.run_as_user"));
  LN_TRY(CheckId(config.run_as_group, "security_context.run_as_group"));
  if (config.run_as_group && !config.run_as_user) {
    return InvalidArgument("security_context.run_as_group: needs run_as_user");
  }
  return Ok();
}

Result<void> ValidateContainer(const ContainerConfig& config, const PodConfig& pod) {
  LN_TRY(CheckName(config.metadata.name, "metadata.name"));
  if (config.image.image.empty()) return InvalidArgument("image.image: must not be empty");
  for (std::size_t i = 0; i < config.mounts.size(); ++i) LN_TRY(CheckMount(config.mounts[i], i));
  LN_TRY(ValidateResources(config.resources));
  if (!config.log_path.empty()) LN_TRY(CheckAbsolute("/" + config.log_path, "log_path"));
  for (const EnvVar& e : config.envs) {
    if (e.key.empty() || e.key.find('=') != std::string::npos ||
        e.key.find('\0') != std::string::npos) {
      return InvalidArgument("envs: \"" + e.key + "\" is not a name");
    }
    if (e.value.find('\0') != std::string::npos)
      return InvalidArgument("envs: the value of " + e.key + " holds a NUL byte");
  }
  const SecurityContext& s = config.security;
  LN_TRY(CheckId(s.run_as_user, "security_context.run_as_user"));
  LN_TRY(CheckId(s.run_as_group, "security_context.run_as_group"));
  if (s.run_as_group && !s.run_as_user && s.run_as_username.empty()) {
    return InvalidArgument("security_context.run_as_group: needs run_as_user or run_as_username");
  }
  for (const std::int64_t gid : s.supplemental_groups)
    LN_TRY(CheckId(gid, "security_context.supplemental_groups"));
  if (s.privileged && !pod.privileged) {
    return InvalidArgument("security_context.privileged: the pod is not privileged");
  }
  // Network and ipc are the pod's, whatever stands here: clients leave them out (critest), as other
  // runtimes allow.
  LN_TRY(CheckUserNamespace(s.namespaces));
  if (s.namespaces.userns &&
      PodHasUserNamespace(s.namespaces) != PodHasUserNamespace(pod.namespaces)) {
    return InvalidArgument("namespace_options.userns_options: differs from the pod's");
  }
  if (s.namespaces.pid == NsMode::kTarget && s.namespaces.target_id.empty()) {
    return InvalidArgument("namespace_options.target_id: needed with pid mode TARGET");
  }
  if (s.apparmor && s.apparmor->type == ProfileType::kLocalhost && !s.privileged &&
      !Exists("/sys/kernel/security/apparmor")) {
    return InvalidArgument("security_context.apparmor: profile \"" + s.apparmor->localhost_ref +
                           "\" was asked for, and this kernel has no AppArmor");
  }
  return Ok();
}

}  // namespace linnet::pods
