// The OCI runtime specification (config.json, 1.2), Linux part, as data. Absent members are nullopt
// or empty.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/result.h"

namespace linnet::oci {

struct IdMapping {
  std::uint32_t container_id = 0;
  std::uint32_t host_id = 0;
  std::uint32_t size = 0;
};

struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::optional<std::uint32_t> umask;
  std::vector<std::uint32_t> additional_gids;
};

struct Rlimit {
  std::string type;  // "RLIMIT_NOFILE"
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

// Names with "CAP_".
struct Capabilities {
  std::vector<std::string> bounding, effective, inheritable, permitted, ambient;
};

struct Process {
  bool terminal = false;
  std::uint16_t console_height = 0, console_width = 0;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<int> oom_score_adj;
};

struct Mount {
  std::string destination;
  std::string type;  // "bind", "proc", "tmpfs", …
  std::string source;
  std::vector<std::string> options;  // "ro", "rbind", "rslave", "rro", "mode=755", …
  std::vector<IdMapping> uid_mappings, gid_mappings;
};

struct Namespace {
  std::string type;  // "pid" "network" "mount" "ipc" "uts" "user" "cgroup" "time"
  std::string path;  // empty: a new one
};

struct Device {
  std::string path;
  std::string type;  // "c" "b" "u" "p"
  std::int64_t major = 0, minor = 0;
  std::optional<std::uint32_t> file_mode, uid, gid;
};

struct DeviceRule {
  bool allow = false;
  std::string type = "a";                    // "a" "c" "b"
  std::optional<std::int64_t> major, minor;  // nullopt: all
  std::string access = "rwm";
};

struct Resources {
  std::vector<DeviceRule> devices;
  // Bytes; -1: unlimited.
  std::optional<std::int64_t> memory_limit, memory_reservation, memory_swap;
  std::optional<std::uint64_t> cpu_shares, cpu_period;
  std::optional<std::int64_t> cpu_quota;
  std::string cpuset_cpus, cpuset_mems;
  std::optional<std::int64_t> pids_limit;
  struct HugepageLimit {
    std::string page_size;  // "2MB"
    std::uint64_t limit = 0;
  };
  std::vector<HugepageLimit> hugepage_limits;
  std::map<std::string, std::string> unified;  // v2 file → value
};

struct SeccompArg {
  std::uint32_t index = 0;
  std::uint64_t value = 0, value_two = 0;
  std::string op;  // "SCMP_CMP_EQ", …
};
struct SeccompSyscall {
  std::vector<std::string> names;
  std::string action;  // "SCMP_ACT_ALLOW", …
  std::optional<std::uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};
struct Seccomp {
  std::string default_action;
  std::optional<std::uint32_t> default_errno_ret;
  std::vector<std::string> architectures;  // "SCMP_ARCH_X86_64", …; empty: native
  std::vector<std::string> flags;
  std::vector<SeccompSyscall> syscalls;
};

struct Spec {
  std::string version = "1.2.0";
  Process process;
  std::string root_path;
  bool root_readonly = false;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  std::map<std::string, std::string> annotations;
  // linux
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  std::map<std::string, std::string> sysctl;
  std::optional<Seccomp> seccomp;
  std::string rootfs_propagation;  // "" "private" "slave" "shared" "unbindable"
  std::vector<std::string> masked_paths, readonly_paths;

  // Unknown members are ignored; known ones are checked, errors carry the JSON path.
  static Result<Spec> Parse(std::string_view json);
  // config.json text that other tools read.
  std::string Dump() const;
};

}  // namespace linnet::oci
