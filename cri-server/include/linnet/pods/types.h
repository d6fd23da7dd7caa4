// Pods and containers as plain data: what CRI's messages say, without protobuf.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "linnet/base/ip.h"
#include "linnet/oci/runtime_spec.h"

namespace linnet::pods {

using StringMap = std::map<std::string, std::string>;

enum class NsMode : std::uint8_t { kPod = 0, kContainer = 1, kNode = 2, kTarget = 3 };

struct UserNamespaceOptions {
  NsMode mode = NsMode::kNode;
  std::vector<oci::IdMapping> uids, gids;
};
struct NamespaceOptions {
  NsMode network = NsMode::kPod, pid = NsMode::kPod, ipc = NsMode::kPod;
  std::string target_id;
  std::optional<UserNamespaceOptions> userns;
};

enum class ProfileType : std::uint8_t { kRuntimeDefault = 0, kUnconfined = 1, kLocalhost = 2 };
struct SecurityProfile {
  ProfileType type = ProfileType::kRuntimeDefault;
  std::string localhost_ref;
};

// 0 and "" are "not given", as in CRI.
struct Resources {
  std::int64_t cpu_period = 0, cpu_quota = 0, cpu_shares = 0;
  std::int64_t memory_limit_bytes = 0, memory_swap_limit_bytes = 0;
  std::int64_t oom_score_adj = 0;
  std::string cpuset_cpus, cpuset_mems;
  struct HugepageLimit {
    std::string page_size;
    std::uint64_t limit = 0;
  };
  std::vector<HugepageLimit> hugepage_limits;
  StringMap unified;
};

enum class GroupsPolicy : std::uint8_t { kMerge = 0, kStrict = 1 };

struct DnsConfig {
  std::vector<std::string> servers, searches, options;
};

struct PodPort {
  std::string protocol = "tcp";  // "tcp" "udp" "sctp"
  std::int32_t container_port = 0, host_port = 0;
  std::string host_ip;
};

struct PodMetadata {
  std::string name, uid, ns;
  std::uint32_t attempt = 0;
};

struct PodConfig {
  PodMetadata metadata;
  std::string hostname;
  std::string log_directory;
  std::optional<DnsConfig> dns;
  std::vector<PodPort> ports;
  StringMap labels, annotations;
  std::string cgroup_parent;
  StringMap sysctls;
  Resources overhead, resources;
  NamespaceOptions namespaces;
  bool privileged = false;
  std::optional<std::int64_t> run_as_user, run_as_group;
  std::string runtime_handler;
};

enum class PodState : std::uint8_t { kReady = 0, kNotReady = 1 };

struct PodStatus {
  std::string id;
  PodState state = PodState::kNotReady;
  std::int64_t created_at_ns = 0;
  PodConfig config;
  std::vector<std::string> ips;  // primary first; empty with the node's network
  std::string netns_path;
  std::string cni_result_json;
};

// ------------------------------------------------------------------------------------------------
// containers

struct ContainerMetadata {
  std::string name;
  std::uint32_t attempt = 0;
};

struct ImageSpec {
  std::string image;
  StringMap annotations;
  std::string user_specified_image;
  std::string runtime_handler;
};

enum class Propagation : std::uint8_t { kPrivate = 0, kHostToContainer = 1, kBidirectional = 2 };

struct Mount {
  std::string container_path, host_path;
  bool readonly = false, selinux_relabel = false, recursive_read_only = false;
  Propagation propagation = Propagation::kPrivate;
  std::vector<oci::IdMapping> uid_mappings, gid_mappings;
  std::optional<ImageSpec> image;  // image volume: host_path is empty
  std::string image_ref;           // out: id of the image volume's image
  std::string image_sub_path;
  std::vector<std::string> options;
};

struct Device {
  std::string container_path, host_path, permissions;
};

struct SecurityContext {
  std::vector<std::string> add_capabilities, drop_capabilities, add_ambient_capabilities;
  bool privileged = false;
  NamespaceOptions namespaces;
  std::optional<std::int64_t> run_as_user, run_as_group;
  std::string run_as_username;
  bool readonly_rootfs = false;
  std::vector<std::int64_t> supplemental_groups;
  GroupsPolicy groups_policy = GroupsPolicy::kMerge;
  bool no_new_privs = false;
  std::vector<std::string> masked_paths, readonly_paths;
  std::optional<SecurityProfile> seccomp;   // absent: unconfined
  std::optional<SecurityProfile> apparmor;  // absent: none asked for
  std::string selinux_user, selinux_role, selinux_type, selinux_level;
};

struct EnvVar {
  std::string key, value;  // bytes
};

struct ContainerConfig {
  ContainerMetadata metadata;
  ImageSpec image;
  std::vector<std::string> command, args;
  std::string working_dir;
  std::vector<EnvVar> envs;
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<std::string> cdi_devices;
  StringMap labels, annotations;
  std::string log_path;
  bool stdin_open = false, stdin_once = false, tty = false;
  int stop_signal = 0;  // signal number of Linux; 0: the image's, else SIGTERM
  Resources resources;
  SecurityContext security;
};

enum class ContainerPhase : std::uint8_t { kCreated = 0, kRunning = 1, kExited = 2, kUnknown = 3 };

struct ContainerUser {
  std::int64_t uid = 0, gid = 0;
  std::vector<std::int64_t> groups;
};

struct ContainerStatus {
  std::string id, pod_id;
  ContainerPhase phase = ContainerPhase::kCreated;
  std::int64_t created_at_ns = 0, started_at_ns = 0, finished_at_ns = 0;
  std::int32_t exit_code = 0;
  std::string reason, message;
  std::string image_name;  // first tag, or what was asked for
  std::string image_ref;   // repo digest, else id
  std::string image_id;
  std::string log_path;  // absolute; empty where there is none
  int stop_signal = 15;
  int pid = 0;  // 0 where it does not run
  ContainerUser user;
  Resources resources;  // in force
  std::string runtime_spec_path;
  ContainerConfig config;
};

struct PodFilter {
  std::string id;  // whole, or a prefix
  std::optional<PodState> state;
  StringMap labels;
};
struct ContainerFilter {
  std::string id, pod_id;  // whole, or a prefix
  std::optional<ContainerPhase> state;
  StringMap labels;
};

}  // namespace linnet::pods
