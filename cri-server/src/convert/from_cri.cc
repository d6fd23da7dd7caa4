#include "from_cri.h"

#include "signals.h"

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;

pods::StringMap MapFrom(const google::protobuf::Map<std::string, std::string>& map) {
  return {map.begin(), map.end()};
}

std::vector<std::string> ListFrom(const google::protobuf::RepeatedPtrField<std::string>& list) {
  return {list.begin(), list.end()};
}

std::optional<std::int64_t> MaybeInt(bool has, const v1::Int64Value& value) {
  return has ? std::optional(value.value()) : std::nullopt;
}

// An open enum of proto3: any number may arrive.
template <class To, class From>
Result<To> EnumFrom(From value, int last, const char* field) {
  const int number = static_cast<int>(value);
  if (number < 0 || number > last) {
    return InvalidArgument(std::string(field) + ": " + std::to_string(number) +
                           " is not a known value");
  }
  return static_cast<To>(number);
}

Result<pods::NsMode> ModeFrom(v1::NamespaceMode mode, const char* field) {
  return EnumFrom<pods::NsMode>(mode, v1::TARGET, field);
}

std::vector<oci::IdMapping> MappingsFrom(
    const google::protobuf::RepeatedPtrField<v1::IDMapping>& list) {
  std::vector<oci::IdMapping> out;
  for (const auto& m : list)
    out.push_back({.container_id = m.container_id(), .host_id = m.host_id(), .size = m.length()});
  return out;
}

Result<pods::NamespaceOptions> NamespacesFrom(const v1::NamespaceOption& o) {
  pods::NamespaceOptions out;
  out.network = LN_TRY(ModeFrom(o.network(), "namespace_options.network"));
  out.pid = LN_TRY(ModeFrom(o.pid(), "namespace_options.pid"));
  out.ipc = LN_TRY(ModeFrom(o.ipc(), "namespace_options.ipc"));
  out.target_id = o.target_id();
  if (o.has_userns_options()) {
    const v1::UserNamespace& u = o.userns_options();
    out.userns = pods::UserNamespaceOptions{
        .mode = LN_TRY(ModeFrom(u.mode(), "namespace_options.userns_options.mode")),
        .uids = MappingsFrom(u.uids()),
        .gids = MappingsFrom(u.gids()),
    };
  }
  return out;
}

Result<pods::SecurityProfile> ProfileFrom(const v1::SecurityProfile& p, const char* field) {
  return pods::SecurityProfile{.type = LN_TRY(EnumFrom<pods::ProfileType>(
                                   p.profile_type(), v1::SecurityProfile::Localhost, field)),
                               .localhost_ref = p.localhost_ref()};
}

// The field before `apparmor`, which some clients still fill.
std::optional<pods::SecurityProfile> AppArmorFromText(const std::string& text) {
  using enum pods::ProfileType;
  constexpr std::string_view kLocal = "localhost/";
  if (text.empty()) return std::nullopt;
  if (text == "runtime/default")
    return pods::SecurityProfile{.type = kRuntimeDefault, .localhost_ref = {}};
  if (text == "unconfined") return pods::SecurityProfile{.type = kUnconfined, .localhost_ref = {}};
  return pods::SecurityProfile{
      .type = kLocalhost,
      .localhost_ref = text.starts_with(kLocal) ? text.substr(kLocal.size()) : text};
}

pods::ImageSpec ImageFrom(const v1::ImageSpec& image) {
  return {.image = image.image(),
          .annotations = MapFrom(image.annotations()),
          .user_specified_image = image.user_specified_image(),
          .runtime_handler = image.runtime_handler()};
}

Result<pods::Mount> MountFrom(const v1::Mount& m) {
  pods::Mount out;
  out.container_path = m.container_path();
  out.host_path = m.host_path();
  out.readonly = m.readonly();
  out.selinux_relabel = m.selinux_relabel();
  out.recursive_read_only = m.recursive_read_only();
  out.propagation = LN_TRY(EnumFrom<pods::Propagation>(
      m.propagation(), v1::PROPAGATION_BIDIRECTIONAL, "mounts.propagation"));
  out.uid_mappings = MappingsFrom(m.uidmappings());
  out.gid_mappings = MappingsFrom(m.gidmappings());
  // An image without a name is none (kubelet sends an empty message for volumes of the host).
  if (m.has_image() && !m.image().image().empty()) out.image = ImageFrom(m.image());
  out.image_sub_path = m.image_sub_path();
  out.options = ListFrom(m.mount_options());
  return out;
}

Result<pods::SecurityContext> SecurityFrom(const v1::LinuxContainerSecurityContext& s) {
  pods::SecurityContext out;
  out.add_capabilities = ListFrom(s.capabilities().add_capabilities());
  out.drop_capabilities = ListFrom(s.capabilities().drop_capabilities());
  out.add_ambient_capabilities = ListFrom(s.capabilities().add_ambient_capabilities());
  out.privileged = s.privileged();
  out.namespaces = LN_TRY(NamespacesFrom(s.namespace_options()));
  out.run_as_user = MaybeInt(s.has_run_as_user(), s.run_as_user());
  out.run_as_group = MaybeInt(s.has_run_as_group(), s.run_as_group());
  out.run_as_username = s.run_as_username();
  out.readonly_rootfs = s.readonly_rootfs();
  out.supplemental_groups.assign(s.supplemental_groups().begin(), s.supplemental_groups().end());
  out.groups_policy = LN_TRY(EnumFrom<pods::GroupsPolicy>(
      s.supplemental_groups_policy(), v1::Strict, "security_context.supplemental_groups_policy"));
  out.no_new_privs = s.no_new_privs();
  out.masked_paths = ListFrom(s.masked_paths());
  out.readonly_paths = ListFrom(s.readonly_paths());
  if (s.has_seccomp())
    out.seccomp = LN_TRY(ProfileFrom(s.seccomp(), "security_context.seccomp.profile_type"));
  if (s.has_apparmor()) {
    out.apparmor = LN_TRY(ProfileFrom(s.apparmor(), "security_context.apparmor.profile_type"));
  } else {
    out.apparmor = AppArmorFromText(s.apparmor_profile());
  }
  out.selinux_user = s.selinux_options().user();
  out.selinux_role = s.selinux_options().role();
  out.selinux_type = s.selinux_options().type();
  out.selinux_level = s.selinux_options().level();
  return out;
}

const char* ProtocolName(int protocol) {
  static constexpr const char* kNames[] = {"tcp", "udp", "sctp"};
  return kNames[protocol];
}

}  // namespace

pods::Resources ResourcesFrom(const v1::LinuxContainerResources& r) {
  pods::Resources out;
  out.cpu_period = r.cpu_period();
  out.cpu_quota = r.cpu_quota();
  out.cpu_shares = r.cpu_shares();
  out.memory_limit_bytes = r.memory_limit_in_bytes();
  out.memory_swap_limit_bytes = r.memory_swap_limit_in_bytes();
  out.oom_score_adj = r.oom_score_adj();
  out.cpuset_cpus = r.cpuset_cpus();
  out.cpuset_mems = r.cpuset_mems();
  for (const auto& h : r.hugepage_limits())
    out.hugepage_limits.push_back({.page_size = h.page_size(), .limit = h.limit()});
  out.unified = MapFrom(r.unified());
  return out;
}

Result<pods::PodConfig> PodConfigFrom(const v1::PodSandboxConfig& c,
                                      const std::string& runtime_handler) {
  pods::PodConfig out;
  out.metadata = {.name = c.metadata().name(),
                  .uid = c.metadata().uid(),
                  .ns = c.metadata().namespace_(),
                  .attempt = c.metadata().attempt()};
  out.hostname = c.hostname();
  out.log_directory = c.log_directory();
  if (c.has_dns_config()) {
    out.dns = pods::DnsConfig{.servers = ListFrom(c.dns_config().servers()),
                              .searches = ListFrom(c.dns_config().searches()),
                              .options = ListFrom(c.dns_config().options())};
  }
  for (const auto& p : c.port_mappings()) {
    const int protocol = LN_TRY(EnumFrom<int>(p.protocol(), v1::SCTP, "port_mappings.protocol"));
    out.ports.push_back({.protocol = ProtocolName(protocol),
                         .container_port = p.container_port(),
                         .host_port = p.host_port(),
                         .host_ip = p.host_ip()});
  }
  out.labels = MapFrom(c.labels());
  out.annotations = MapFrom(c.annotations());
  out.cgroup_parent = c.linux().cgroup_parent();
  out.sysctls = MapFrom(c.linux().sysctls());
  out.overhead = ResourcesFrom(c.linux().overhead());
  out.resources = ResourcesFrom(c.linux().resources());
  const v1::LinuxSandboxSecurityContext& s = c.linux().security_context();
  out.namespaces = LN_TRY(NamespacesFrom(s.namespace_options()));
  out.privileged = s.privileged();
  out.run_as_user = MaybeInt(s.has_run_as_user(), s.run_as_user());
  out.run_as_group = MaybeInt(s.has_run_as_group(), s.run_as_group());
  out.runtime_handler = runtime_handler;
  return out;
}

Result<pods::ContainerConfig> ContainerConfigFrom(const v1::ContainerConfig& c) {
  pods::ContainerConfig out;
  out.metadata = {.name = c.metadata().name(), .attempt = c.metadata().attempt()};
  out.image = ImageFrom(c.image());
  out.command = ListFrom(c.command());
  out.args = ListFrom(c.args());
  out.working_dir = c.working_dir();
  for (const auto& e : c.envs()) out.envs.push_back({.key = e.key(), .value = e.value()});
  for (const auto& m : c.mounts()) out.mounts.push_back(LN_TRY(MountFrom(m)));
  for (const auto& d : c.devices()) {
    out.devices.push_back({.container_path = d.container_path(),
                           .host_path = d.host_path(),
                           .permissions = d.permissions()});
  }
  for (const auto& d : c.cdi_devices()) out.cdi_devices.push_back(d.name());
  out.labels = MapFrom(c.labels());
  out.annotations = MapFrom(c.annotations());
  out.log_path = c.log_path();
  out.stdin_open = c.stdin();
  out.stdin_once = c.stdin_once();
  out.tty = c.tty();
  out.stop_signal = LN_TRY(SignalNumber(c.stop_signal()));
  out.resources = ResourcesFrom(c.linux().resources());
  out.security = LN_TRY(SecurityFrom(c.linux().security_context()));
  return out;
}

Result<pods::PodFilter> PodFilterFrom(const v1::PodSandboxFilter& f) {
  pods::PodFilter out;
  out.id = f.id();
  if (f.has_state())
    out.state =
        LN_TRY(EnumFrom<pods::PodState>(f.state().state(), v1::SANDBOX_NOTREADY, "filter.state"));
  out.labels = MapFrom(f.label_selector());
  return out;
}

Result<pods::ContainerFilter> ContainerFilterFrom(const v1::ContainerFilter& f) {
  pods::ContainerFilter out;
  out.id = f.id();
  out.pod_id = f.pod_sandbox_id();
  if (f.has_state()) {
    out.state = LN_TRY(
        EnumFrom<pods::ContainerPhase>(f.state().state(), v1::CONTAINER_UNKNOWN, "filter.state"));
  }
  out.labels = MapFrom(f.label_selector());
  return out;
}

oci::RegistryAuth AuthFrom(const v1::AuthConfig& a) {
  return {.username = a.username(),
          .password = a.password(),
          .auth = a.auth(),
          .identity_token = a.identity_token(),
          .registry_token = a.registry_token(),
          .server_address = a.server_address()};
}

}  // namespace linnet::cri
