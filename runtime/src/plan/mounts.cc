#include "plan/mounts.h"

#include <linux/mount.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "linnet/base/file.h"

namespace linnet::runtime::plan {
namespace {

struct Attribute {
  std::string_view name;
  std::uint32_t set;
  std::uint32_t clear;
};
// Those that take something away from a mount, and their opposites.
constexpr Attribute kAttributes[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
};
// The kernel's default for a new mount; for a bind: leave it as the source has it.
constexpr std::string_view kNeutral[] = {"rw",         "suid",         "dev",      "exec",
                                         "diratime",   "symfollow",    "defaults", "atime",
                                         "norelatime", "nostrictatime"};

struct PropagationName {
  std::string_view name;
  Propagation value;
};
constexpr PropagationName kPropagations[] = {
    {"private", Propagation::kPrivate},       {"rprivate", Propagation::kRprivate},
    {"slave", Propagation::kSlave},           {"rslave", Propagation::kRslave},
    {"shared", Propagation::kShared},         {"rshared", Propagation::kRshared},
    {"unbindable", Propagation::kUnbindable}, {"runbindable", Propagation::kRunbindable},
};

std::optional<Propagation> FindPropagation(std::string_view name) {
  for (const PropagationName& p : kPropagations) {
    if (p.name == name) return p.value;
  }
  return std::nullopt;
}

const Attribute* FindAttribute(std::string_view name) {
  for (const Attribute& a : kAttributes) {
    if (a.name == name) return &a;
  }
  return nullptr;
}

bool IsNeutral(std::string_view name) {
  return std::find(std::begin(kNeutral), std::end(kNeutral), name) != std::end(kNeutral);
}

bool Has(const oci::Mount& mount, std::string_view option) {
  return std::find(mount.options.begin(), mount.options.end(), option) != mount.options.end();
}

OpKind KindOf(const oci::Mount& mount, const std::string& target) {
  if (mount.type == "bind" || Has(mount, "bind") || Has(mount, "rbind")) return OpKind::kBind;
  if (mount.type == "cgroup" || mount.type == "cgroup2") return OpKind::kCgroup;
  if (target == "/dev/shm" && mount.type == "tmpfs" && mount.source == "shm") return OpKind::kShm;
  return OpKind::kMount;
}

// One option; false: not a general one.
bool Apply(std::string_view option, ParsedMount& out) {
  if (const Attribute* a = FindAttribute(option); a != nullptr) {
    out.attr_set = (out.attr_set & ~a->clear) | a->set;
    out.attr_clear |= a->clear;
    return true;
  }
  if (const auto propagation = FindPropagation(option)) {
    out.propagation = *propagation;
    return true;
  }
  if (IsNeutral(option)) return true;
  if (option.size() > 1 && option.front() == 'r') {  // "rro", "rnosuid", …: all of the tree
    if (const Attribute* a = FindAttribute(option.substr(1)); a != nullptr) {
      out.rattr_set = (out.rattr_set & ~a->clear) | a->set;
      out.rattr_clear |= a->clear;
      return true;
    }
    if (IsNeutral(option.substr(1))) return true;
  }
  return false;
}

}  // namespace

Result<Propagation> ParsePropagation(const std::string& text, const std::string& field) {
  if (text.empty()) return Propagation::kUnset;
  if (const auto value = FindPropagation(text)) return *value;
  return InvalidArgument(field + ": unknown propagation \"" + text + "\"");
}

Result<ParsedMount> ParseMount(const oci::Mount& mount, const std::string& field) {
  ParsedMount out;
  if (mount.destination.empty() || mount.destination.front() != '/') {
    return InvalidArgument(field + ".destination: \"" + mount.destination +
                           "\" is not an absolute path");
  }
  out.target = CleanPath(mount.destination);
  if (out.target == "/")
    return InvalidArgument(field + ".destination: the root cannot be mounted over");
  out.kind = KindOf(mount, out.target);
  out.type = mount.type;
  out.source = mount.source;
  out.recursive = Has(mount, "rbind") || (out.kind == OpKind::kBind && !Has(mount, "bind"));
  out.idmap = !mount.uid_mappings.empty() || !mount.gid_mappings.empty() || Has(mount, "idmap") ||
              Has(mount, "ridmap");
  if (out.kind == OpKind::kBind && (out.source.empty() || out.source.front() != '/')) {
    return InvalidArgument(field + ".source: \"" + out.source + "\" is not an absolute path");
  }
  if (out.kind != OpKind::kBind && out.idmap) {
    return Error(Code::kUnimplemented, field + ": id mappings of a " + out.type + " mount");
  }
  if (out.kind == OpKind::kMount && out.type.empty())
    return InvalidArgument(field + ".type: must not be empty");

  for (const std::string& option : mount.options) {
    if (option == "bind" || option == "rbind" || option == "idmap" || option == "ridmap") continue;
    if (option == "tmpcopyup") return Error(Code::kUnimplemented, field + ".options: tmpcopyup");
    if (Apply(option, out)) continue;
    if (out.kind == OpKind::kBind)
      return InvalidArgument(field + ".options: unknown option \"" + option + "\"");
    if (!out.data.empty()) out.data += ',';
    out.data += option;
  }
  const bool spreads =
      out.propagation == Propagation::kShared || out.propagation == Propagation::kRshared ||
      out.propagation == Propagation::kSlave || out.propagation == Propagation::kRslave;
  // What is mounted later would arrive writable. Nobody asks for it but linnet itself, to show the
  // host's /sys in a user namespace, where nothing is mounted later that a container could write.
  if ((out.rattr_set & MOUNT_ATTR_RDONLY) != 0 && spreads && mount.source != "/sys") {
    return InvalidArgument(field + ": recursive read-only needs propagation private");
  }
  if (out.rattr_set != 0 && out.kind != OpKind::kBind) {  // nothing is below a new file system
    out.attr_set |= out.rattr_set;
    out.attr_clear |= out.rattr_clear;
    out.rattr_set = out.rattr_clear = 0;
  }
  return out;
}

}  // namespace linnet::runtime::plan
