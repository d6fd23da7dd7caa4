// run: a pod with one container. pod run: a pod with any number of them.
#include <cstdio>
#include <optional>

#include "linnet/base/file.h"
#include "linnet/base/ids.h"
#include "linnet/base/text.h"

#include "app.h"
#include "follow.h"
#include "format.h"
#include "lookup.h"
#include "names.h"
#include "parse.h"
#include "pull.h"

namespace linnet::cli {
namespace {

struct PodOptions {
  std::string name, hostname, network = "pod", pid = "container", ipc = "pod", runtime;
  std::vector<std::string> ports, dns, dns_search, labels, sysctls;
};

struct ContainerOptions {
  std::string image, name, entrypoint, workdir, user, memory, cpus, pull = "missing",
                                                                    seccomp = "default";
  std::vector<std::string> command, env, volumes, cap_add, cap_drop, devices;
  bool read_only = false, privileged = false, no_new_privileges = false;
};

struct RunOptions {
  PodOptions pod;
  ContainerOptions container;
  std::string into;  // an existing pod
  bool detach = false, remove = false;
};

void AddPodOptions(CLI::App* command, PodOptions& o) {
  command->add_option("-n,--name", o.name, "the pod's name (default: one is made up)")
      ->type_name("NAME");
  command
      ->add_option("-p,--publish", o.ports,
                   "host port to pod port: [ADDRESS:]HOST:POD[/tcp|udp] (repeatable)")
      ->type_name("PORT")
      ->expected(1)
      ->take_all();
  command->add_option("--hostname", o.hostname, "default: the pod's name");
  command->add_option("--network", o.network, "pod: its own; host: this machine's")
      ->check(CLI::IsMember({"pod", "host"}))
      ->capture_default_str();
  command
      ->add_option("--pid", o.pid, "container: processes of its own; pod: shared by the pod; host")
      ->check(CLI::IsMember({"container", "pod", "host"}))
      ->capture_default_str();
  command->add_option("--ipc", o.ipc, "pod or host")
      ->check(CLI::IsMember({"pod", "host"}))
      ->capture_default_str();
  command->add_option("--dns", o.dns, "name server (repeatable; default: this machine's)")
      ->type_name("ADDRESS")
      ->expected(1)
      ->take_all();
  command->add_option("--dns-search", o.dns_search, "search domain (repeatable)")
      ->type_name("DOMAIN")
      ->expected(1)
      ->take_all();
  command->add_option("-l,--label", o.labels, "KEY=VALUE (repeatable)")
      ->type_name("LABEL")
      ->expected(1)
      ->take_all();
  command->add_option("--sysctl", o.sysctls, "KEY=VALUE of the pod's namespaces (repeatable)")
      ->type_name("SYSCTL")
      ->expected(1)
      ->take_all();
  command->add_option("--runtime", o.runtime,
                      "runtime handler of the daemon's configuration (default: linnet itself)");
}

void AddContainerOptions(CLI::App* command, ContainerOptions& o) {
  command->add_option("-e,--env", o.env, "KEY=VALUE, or KEY to pass it on (repeatable)")
      ->type_name("ENV")
      ->expected(1)
      ->take_all();
  command
      ->add_option("-v,--volume", o.volumes,
                   "HOST-PATH:POD-PATH[:ro|rro|rslave|rshared] (repeatable)")
      ->type_name("MOUNT")
      ->expected(1)
      ->take_all();
  command->add_option("--entrypoint", o.entrypoint, "in place of the image's");
  command->add_option("-w,--workdir", o.workdir, "working directory");
  command->add_option("-u,--user", o.user, "UID[:GID] or a name of the image");
  command->add_option("-m,--memory", o.memory, "limit: 64m, 1g, bytes")->type_name("BYTES");
  command->add_option("--cpus", o.cpus, "limit: 0.5, 2")->type_name("NUMBER");
  command->add_option("--device", o.devices, "HOST-PATH[:POD-PATH[:rwm]] (repeatable)")
      ->type_name("DEVICE")
      ->expected(1)
      ->take_all();
  command->add_option("--cap-add", o.cap_add, "capability, or ALL (repeatable)")
      ->type_name("CAP")
      ->expected(1)
      ->take_all();
  command->add_option("--cap-drop", o.cap_drop, "capability, or ALL (repeatable)")
      ->type_name("CAP")
      ->expected(1)
      ->take_all();
  command->add_option("--seccomp", o.seccomp, "default, unconfined, or the path of a profile")
      ->capture_default_str();
  command->add_flag("--read-only", o.read_only, "the root file system cannot be written");
  command->add_flag("--privileged", o.privileged, "everything root may do on this machine");
  command->add_flag("--no-new-privileges", o.no_new_privileges, "set-uid programs gain nothing");
  command->add_option("--pull", o.pull, "missing, always or never")
      ->check(CLI::IsMember({"missing", "always", "never"}))
      ->capture_default_str();
}

cri::NamespaceMode PidMode(const std::string& mode) {
  if (mode == "host") return cri::NODE;
  return mode == "pod" ? cri::POD : cri::CONTAINER;
}

void SetNamespaces(const PodOptions& o, cri::NamespaceOption* ns) {
  ns->set_network(o.network == "host" ? cri::NODE : cri::POD);
  ns->set_pid(PidMode(o.pid));
  ns->set_ipc(o.ipc == "host" ? cri::NODE : cri::POD);
}

// Logs lie with the daemon's own data, so that several daemons do not meet.
Result<std::string> LogDirectory(Client& client, const std::string& pod_name) {
  const auto info =
      LN_TRY(client.Call(client.linnet(), &ext::Linnet::Stub::Info, ext::InfoRequest()));
  return JoinPath(JoinPath(info.root(), "logs"), pod_name + "-" + RandomHex(4));
}

Result<cri::PodSandboxConfig> BuildPod(Client& client, const PodOptions& o, bool privileged) {
  cri::PodSandboxConfig config;
  const std::string name = o.name.empty() ? RandomName() : o.name;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_namespace_(kNamespace);
  config.mutable_metadata()->set_uid(name);  // so that a name is taken once
  config.set_hostname(o.hostname.empty() && o.network == "pod" ? name : o.hostname);
  (*config.mutable_labels())[kManagedLabel] = kManagedValue;
  for (const std::string& label : o.labels) {
    auto [key, value] = LN_TRY_CTX(ParsePair(label), "--label");
    (*config.mutable_labels())[key] = value;
  }
  std::string ports;
  for (const std::string& text : o.ports) {
    const PortSpec port = LN_TRY_CTX(ParsePort(text), "--publish");
    if (o.network == "host")
      return InvalidArgument("--publish: with --network host every port is the host's already");
    auto* mapping = config.add_port_mappings();
    mapping->set_host_port(port.host);
    mapping->set_container_port(port.container);
    mapping->set_protocol(port.protocol == "udp"    ? cri::UDP
                          : port.protocol == "sctp" ? cri::SCTP
                                                    : cri::TCP);
    mapping->set_host_ip(port.address);
    ports += (ports.empty() ? "" : " ") + (port.address.empty() ? "" : port.address + ":") +
             std::to_string(port.host) + ":" + std::to_string(port.container) + "/" + port.protocol;
  }
  (*config.mutable_annotations())[kPortsAnnotation] = ports;
  config.set_log_directory(LN_TRY(LogDirectory(client, name)));
  (*config.mutable_annotations())[kLogsAnnotation] = config.log_directory();
  if (!o.dns.empty() || !o.dns_search.empty()) {
    for (const auto& server : o.dns) config.mutable_dns_config()->add_servers(server);
    for (const auto& domain : o.dns_search) config.mutable_dns_config()->add_searches(domain);
  }
  for (const std::string& sysctl : o.sysctls) {
    auto [key, value] = LN_TRY_CTX(ParsePair(sysctl), "--sysctl");
    (*config.mutable_linux()->mutable_sysctls())[key] = value;
  }
  auto* security = config.mutable_linux()->mutable_security_context();
  security->set_privileged(privileged);
  SetNamespaces(o, security->mutable_namespace_options());
  return config;
}

Result<void> SetUser(const std::string& user, cri::LinuxContainerSecurityContext* security) {
  if (user.empty()) return Ok();
  const std::size_t colon = user.find(':');
  auto uid = ParseNumber<std::uint32_t>(user.substr(0, colon));
  if (uid) {
    security->mutable_run_as_user()->set_value(*uid);
  } else {
    security->set_run_as_username(user.substr(0, colon));
  }
  if (colon != std::string::npos) {
    security->mutable_run_as_group()->set_value(
        LN_TRY_CTX(ParseNumber<std::uint32_t>(user.substr(colon + 1)), "--user: group"));
  }
  return Ok();
}

Result<void> SetSecurity(const ContainerOptions& o, const PodOptions& pod,
                         cri::LinuxContainerSecurityContext* security) {
  SetNamespaces(pod, security->mutable_namespace_options());
  security->set_privileged(o.privileged);
  security->set_readonly_rootfs(o.read_only);
  security->set_no_new_privs(o.no_new_privileges);
  for (const auto& cap : o.cap_add) security->mutable_capabilities()->add_add_capabilities(cap);
  for (const auto& cap : o.cap_drop) security->mutable_capabilities()->add_drop_capabilities(cap);
  auto* seccomp = security->mutable_seccomp();
  if (o.seccomp == "default") {
    seccomp->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  } else if (o.seccomp == "unconfined") {
    seccomp->set_profile_type(cri::SecurityProfile::Unconfined);
  } else {
    seccomp->set_profile_type(cri::SecurityProfile::Localhost);
    seccomp->set_localhost_ref(LN_TRY_CTX(RealPath(o.seccomp), "--seccomp"));
  }
  if (!o.privileged) {
    for (const char* path :
         {"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
          "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
          "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}) {
      security->add_masked_paths(path);
    }
    for (const char* path :
         {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
      security->add_readonly_paths(path);
  }
  return SetUser(o.user, security);
}

Result<cri::ContainerConfig> BuildContainer(const ContainerOptions& o, const PodOptions& pod,
                                            const std::string& name) {
  cri::ContainerConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_image()->set_image(o.image);
  config.mutable_image()->set_user_specified_image(o.image);
  config.set_log_path(name + ".log");
  config.set_working_dir(o.workdir);
  (*config.mutable_labels())[kManagedLabel] = kManagedValue;
  if (!o.entrypoint.empty()) config.add_command(o.entrypoint);
  for (const auto& word : o.command) config.add_args(word);
  for (const std::string& text : o.env) {
    auto entry = LN_TRY_CTX(ParseEnv(text), "--env");
    if (!entry) continue;  // passed on, and not set here
    auto* env = config.add_envs();
    env->set_key(entry->first);
    env->set_value(entry->second);
  }
  for (const std::string& text : o.volumes) {
    const VolumeSpec volume = LN_TRY_CTX(ParseVolume(text), "--volume");
    auto* mount = config.add_mounts();
    mount->set_host_path(volume.host);
    mount->set_container_path(volume.container);
    mount->set_readonly(volume.readonly);
    mount->set_recursive_read_only(volume.recursive);
    mount->set_propagation(volume.propagation == "rshared"  ? cri::PROPAGATION_BIDIRECTIONAL
                           : volume.propagation == "rslave" ? cri::PROPAGATION_HOST_TO_CONTAINER
                                                            : cri::PROPAGATION_PRIVATE);
  }
  for (const std::string& text : o.devices) {
    const std::vector<std::string> parts = Split(text, ':');
    auto* device = config.add_devices();
    device->set_host_path(parts[0]);
    device->set_container_path(parts.size() > 1 ? parts[1] : parts[0]);
    device->set_permissions(parts.size() > 2 ? parts[2] : "rwm");
  }
  auto* resources = config.mutable_linux()->mutable_resources();
  if (!o.memory.empty()) {
    resources->set_memory_limit_in_bytes(
        static_cast<std::int64_t>(LN_TRY_CTX(ParseBytes(o.memory), "--memory")));
  }
  if (!o.cpus.empty()) {
    resources->set_cpu_period(100'000);
    resources->set_cpu_quota(LN_TRY_CTX(ParseCpus(o.cpus), "--cpus"));
  }
  LN_TRY(SetSecurity(o, pod, config.mutable_linux()->mutable_security_context()));
  return config;
}

Result<std::string> CreateAndStart(Client& client, const std::string& pod_id,
                                   const cri::PodSandboxConfig& pod,
                                   const cri::ContainerConfig& config) {
  cri::CreateContainerRequest create;
  create.set_pod_sandbox_id(pod_id);
  *create.mutable_config() = config;
  *create.mutable_sandbox_config() = pod;
  const std::string id =
      LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::CreateContainer, create))
          .container_id();
  cri::StartContainerRequest start;
  start.set_container_id(id);
  LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::StartContainer, start));
  return id;
}

void RemovePodQuietly(Client& client, const std::string& pod_id, const std::string& log_directory) {
  cri::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(pod_id);
  auto removed =
      client.Call(client.runtime(), &cri::RuntimeService::Stub::RemovePodSandbox, request);
  if (!removed)
    std::fprintf(stderr, "linnet: pod %s not removed: %s\n", pod_id.c_str(),
                 removed.error().message().c_str());
  if (!log_directory.empty()) (void)RemoveAll(log_directory);  // a left-over log is no harm
}

// Waits in the foreground, the container's output on ours. ^C asks the container to stop, a second
// one kills it.
Result<int> Foreground(Client& client, const std::string& container_id) {
  const cri::ContainerStatus status = LN_TRY(StatusOf(client, container_id));
  return FollowToEnd(client, status);
}

Result<int> Run(const App& app, RunOptions o) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  LN_TRY(EnsureImage(*client, o.container.image, o.container.pull));
  cri::PodSandboxConfig pod;
  std::string pod_id;
  const bool own_pod = o.into.empty();
  if (own_pod) {
    pod = LN_TRY(BuildPod(*client, o.pod, o.container.privileged));
  } else {
    pod_id = LN_TRY(FindPod(*client, o.into)).id();
    const cri::PodSandboxStatus status = LN_TRY(PodStatusOf(*client, pod_id));
    *pod.mutable_metadata() = status.metadata();
    const auto& ns = status.linux().namespaces().options();
    o.pod.network = ns.network() == cri::NODE ? "host" : "pod";
    o.pod.ipc = ns.ipc() == cri::NODE ? "host" : "pod";
    o.pod.pid = ns.pid() == cri::NODE ? "host" : ns.pid() == cri::POD ? "pod" : "container";
  }
  const std::string name = !o.container.name.empty() ? o.container.name
                           : own_pod                 ? "main"
                                                     : RandomName();
  const cri::ContainerConfig container =
      LN_TRY(BuildContainer(o.container, o.pod, name));  // bad input changes nothing
  if (own_pod) {
    cri::RunPodSandboxRequest request;
    *request.mutable_config() = pod;
    request.set_runtime_handler(o.pod.runtime);
    pod_id =
        LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::RunPodSandbox, request))
            .pod_sandbox_id();
  }
  auto id = CreateAndStart(*client, pod_id, pod, container);
  if (!id) {
    if (own_pod) RemovePodQuietly(*client, pod_id, pod.log_directory());
    return std::move(id).error();
  }
  if (o.detach) {
    if (app.json()) {
      PrintJson({{"pod", pod_id}, {"name", pod.metadata().name()}, {"container", *id}});
    } else {
      std::printf("%s\n", pod.metadata().name().c_str());
    }
    return 0;
  }
  auto code = Foreground(*client, *id);
  if (o.remove && own_pod) RemovePodQuietly(*client, pod_id, pod.log_directory());
  return code;
}

struct PodRunOptions {
  PodOptions pod;
  std::vector<std::string> containers;
  std::string pull = "missing";
  bool privileged = false;
};

// "NAME=IMAGE [WORD…]"
Result<ContainerOptions> ParseContainer(const std::string& text, const std::string& pull) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return InvalidArgument("--container: \"" + text + "\" is not NAME=IMAGE [COMMAND…]");
  }
  ContainerOptions out;
  out.name = text.substr(0, equals);
  std::vector<std::string> words = SplitFields(text.substr(equals + 1));
  if (words.empty()) return InvalidArgument("--container: \"" + text + "\" names no image");
  out.image = words.front();
  out.command.assign(words.begin() + 1, words.end());
  out.pull = pull;
  return out;
}

Result<int> PodRun(const App& app, const PodRunOptions& o) {
  std::vector<ContainerOptions> containers;
  for (const std::string& text : o.containers) {
    containers.push_back(LN_TRY(ParseContainer(text, o.pull)));
    containers.back().privileged = o.privileged;
  }
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  for (const auto& c : containers) LN_TRY(EnsureImage(*client, c.image, c.pull));
  const cri::PodSandboxConfig pod = LN_TRY(BuildPod(*client, o.pod, o.privileged));
  std::vector<cri::ContainerConfig> configs;
  for (const auto& c : containers) configs.push_back(LN_TRY(BuildContainer(c, o.pod, c.name)));
  cri::RunPodSandboxRequest request;
  *request.mutable_config() = pod;
  request.set_runtime_handler(o.pod.runtime);
  const std::string pod_id =
      LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::RunPodSandbox, request))
          .pod_sandbox_id();
  Json started = Json::array();
  for (const auto& config : configs) {
    auto id = CreateAndStart(*client, pod_id, pod, config);
    if (!id) {
      RemovePodQuietly(*client, pod_id, pod.log_directory());
      return std::move(id).error().With("container " + config.metadata().name());
    }
    started.push_back(*id);
  }
  if (app.json()) {
    PrintJson({{"pod", pod_id}, {"name", pod.metadata().name()}, {"containers", started}});
  } else {
    std::printf("%s\n", pod.metadata().name().c_str());
  }
  return 0;
}

}  // namespace

void AddRun(App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* run = app.root().add_subcommand("run", "start a pod with one container");
  run->footer(
      "Without -d the container's output comes here, and its exit code is this command's.\n\n"
      "  linnet run -d --name web -p 8080:80 nginx\n"
      "  linnet run --rm alpine cat /etc/os-release\n"
      "  linnet run -d --pod web --container-name side alpine sleep 600");
  app.TakesCommand(run);
  AddPodOptions(run, options->pod);
  AddContainerOptions(run, options->container);
  run->add_flag("-d,--detach", options->detach, "print the pod's name and return");
  run->add_flag("--rm", options->remove, "remove the pod when the container ends (not with -d)");
  run->add_option("--pod", options->into, "put the container into this pod, which runs already")
      ->type_name("POD");
  run->add_option("--container-name", options->container.name, "default: main");
  run->add_option("image", options->container.image, "image, pulled if it is not here")
      ->required()
      ->type_name("IMAGE");
  app.OnRun(run, [&app, options]() -> Result<int> {
    options->container.command = app.command_words();
    if (options->remove && options->detach)
      return InvalidArgument("--rm and --detach exclude each other");
    return Run(app, *options);
  });

  CLI::App* pod = app.root().add_subcommand("pod", "pods with several containers");
  pod->require_subcommand(1);
  auto pod_options = std::make_shared<PodRunOptions>();
  CLI::App* pod_run = pod->add_subcommand("run", "start a pod, with any number of containers");
  pod_run->footer(
      "  linnet pod run --name shop -p 8080:80 --container web=nginx --container 'log=alpine tail "
      "-f /dev/null'");
  AddPodOptions(pod_run, pod_options->pod);
  pod_run->add_option("--container", pod_options->containers, "NAME=IMAGE [COMMAND…] (repeatable)")
      ->type_name("CONTAINER")
      ->expected(1)
      ->take_all();
  pod_run->add_option("--pull", pod_options->pull, "missing, always or never")
      ->check(CLI::IsMember({"missing", "always", "never"}))
      ->capture_default_str();
  pod_run->add_flag("--privileged", pod_options->privileged,
                    "everything root may do on this machine");
  app.OnRun(pod_run, [&app, pod_options] { return PodRun(app, *pod_options); });
}

}  // namespace linnet::cli
