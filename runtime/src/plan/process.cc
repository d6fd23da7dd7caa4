#include "plan/process.h"

#include <sys/resource.h>

#include <optional>
#include <string_view>

#include "security/capabilities.h"

namespace linnet::runtime::plan {
namespace {

struct LimitName {
  std::string_view name;
  std::uint32_t resource;
};
constexpr LimitName kLimits[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

Result<std::vector<Rlimit>> Limits(const std::vector<oci::Rlimit>& limits) {
  std::vector<Rlimit> out;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const oci::Rlimit& limit = limits[i];
    const std::string field = "process.rlimits[" + std::to_string(i) + "]";
    std::optional<std::uint32_t> resource;
    for (const LimitName& known : kLimits) {
      if (known.name == limit.type) resource = known.resource;
    }
    if (!resource) return InvalidArgument(field + ".type: unknown limit \"" + limit.type + "\"");
    if (limit.soft > limit.hard)
      return InvalidArgument(field + ": the soft limit exceeds the hard one");
    out.push_back({.resource = *resource, .soft = limit.soft, .hard = limit.hard});
  }
  return out;
}

Result<std::uint64_t> CapabilityBits(const std::vector<std::string>& names, const char* set) {
  std::uint64_t bits = 0;
  for (const std::string& name : names) {
    const std::optional<unsigned> number = FindCapability(name);
    if (!number)
      return InvalidArgument("process.capabilities." + std::string(set) +
                             ": unknown capability \"" + name + "\"");
    bits |= std::uint64_t{1} << *number;
  }
  return bits;
}

Result<void> AddCapabilities(const oci::Capabilities& from, Process& out) {
  out.flags |= kProcessCapabilities;
  out.bounding = LN_TRY(CapabilityBits(from.bounding, "bounding"));
  out.effective = LN_TRY(CapabilityBits(from.effective, "effective"));
  out.permitted = LN_TRY(CapabilityBits(from.permitted, "permitted"));
  out.inheritable = LN_TRY(CapabilityBits(from.inheritable, "inheritable"));
  out.ambient = LN_TRY(CapabilityBits(from.ambient, "ambient"));
  // capset and prctl would refuse these in the child; here the field can be named.
  if ((out.effective & ~out.permitted) != 0) {
    return InvalidArgument("process.capabilities.effective: holds what is not in permitted");
  }
  if ((out.ambient & ~(out.permitted & out.inheritable)) != 0) {
    return InvalidArgument(
        "process.capabilities.ambient: holds what is not in permitted and inheritable");
  }
  return Ok();
}

}  // namespace

Result<Process> BuildProcess(const oci::Process& process, Writer& writer) {
  Process out;
  if (process.args.empty()) return InvalidArgument("process.args: must not be empty");
  if (!process.cwd.empty() && process.cwd.front() != '/') {
    return InvalidArgument("process.cwd: \"" + process.cwd + "\" is not an absolute path");
  }
  out.args = writer.Texts(process.args);
  out.env = writer.Texts(process.env);
  out.cwd = writer.Add(process.cwd);
  out.uid = process.user.uid;
  out.gid = process.user.gid;
  out.groups = writer.Items(process.user.additional_gids);
  out.rlimits = writer.Items(LN_TRY(Limits(process.rlimits)));
  if (process.user.umask) {
    out.flags |= kProcessUmask;
    out.umask = *process.user.umask;
  }
  if (process.terminal) out.flags |= kProcessTerminal;
  if (process.console_height != 0 && process.console_width != 0) {
    out.flags |= kProcessConsoleSize;
    out.rows = process.console_height;
    out.columns = process.console_width;
  }
  if (process.no_new_privileges) out.flags |= kProcessNoNewPrivileges;
  if (process.oom_score_adj) {
    if (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000) {
      return InvalidArgument("process.oomScoreAdj: " + std::to_string(*process.oom_score_adj) +
                             " out of range (-1000…1000)");
    }
    out.flags |= kProcessOomScoreAdj;
    out.oom_score_adj = *process.oom_score_adj;
  }
  if (process.capabilities) LN_TRY(AddCapabilities(*process.capabilities, out));
  out.apparmor = writer.Add(process.apparmor_profile);
  out.selinux = writer.Add(process.selinux_label);
  return out;
}

}  // namespace linnet::runtime::plan
