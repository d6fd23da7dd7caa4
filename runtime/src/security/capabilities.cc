#include "security/capabilities.h"

#include <sys/prctl.h>

#include <algorithm>

#include "linnet/base/log.h"
#include "linnet/base/text.h"
#include "linnet/runtime/security.h"

namespace linnet::runtime {
namespace {

constexpr CapabilityMask Bit(unsigned capability) { return CapabilityMask{1} << capability; }

// What a container has that asks for nothing: 14 capabilities, the set that containerd and docker
// give.
constexpr CapabilityMask kDefault = 0xa80425fb;

bool IsAll(const std::string& name) { return ToUpper(name) == "ALL"; }
bool HasAll(const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), IsAll);
}

// The named capabilities, without "ALL".
Result<CapabilityMask> MaskOf(const std::vector<std::string>& names) {
  CapabilityMask out = 0;
  for (const std::string& name : names) {
    if (IsAll(name)) continue;
    const std::optional<unsigned> capability = FindCapability(name);
    if (!capability) return InvalidArgument("unknown capability \"" + name + "\"");
    out |= Bit(*capability);
  }
  return out;
}

std::vector<std::string> Names(CapabilityMask mask) {
  std::vector<std::string> out;
  for (unsigned i = 0; i < kCapabilityNames.size(); ++i) {
    if ((mask & Bit(i)) != 0) out.emplace_back(kCapabilityNames[i]);
  }
  return out;
}

}  // namespace

std::optional<unsigned> FindCapability(std::string_view name) {
  std::string wanted = ToUpper(name);
  if (!wanted.starts_with("CAP_")) wanted.insert(0, "CAP_");
  const auto* it = std::find(kCapabilityNames.begin(), kCapabilityNames.end(), wanted);
  if (it == kCapabilityNames.end()) return std::nullopt;
  return static_cast<unsigned>(it - kCapabilityNames.begin());
}

CapabilityMask BoundingSet() {
  CapabilityMask out = 0;
  for (unsigned i = 0; i < kCapabilityNames.size(); ++i) {
    if (::prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
      out |= Bit(i);  // -1: an older kernel's end of the list
  }
  return out;
}

Result<oci::Capabilities> ComputeCapabilities(const std::vector<std::string>& add,
                                              const std::vector<std::string>& drop,
                                              const std::vector<std::string>& add_ambient,
                                              bool privileged) {
  static const CapabilityMask available = BoundingSet();  // linnetd never drops from its own
  const CapabilityMask added = LN_TRY_CTX(MaskOf(add), "add_capabilities");
  const CapabilityMask dropped = LN_TRY_CTX(MaskOf(drop), "drop_capabilities");
  CapabilityMask ambient = LN_TRY_CTX(MaskOf(add_ambient), "add_ambient_capabilities");
  if (HasAll(add_ambient)) ambient = available;

  CapabilityMask mask = kDefault;
  if (HasAll(add)) mask = available;
  if (HasAll(drop)) mask = 0;
  mask = (mask | added | ambient) & ~dropped;
  ambient &= ~dropped;
  if (privileged) mask = available;
  if ((mask & ~available) != 0 && log::Enabled(log::Level::kDebug)) {
    // Asking for more than the daemon has is no error elsewhere either: the container gets what
    // there is.
    log::Debug("capabilities beyond the daemon's own left out",
               {{"names", Join(Names(mask & ~available), " ")}});
  }
  mask &= available;
  ambient &= available;

  oci::Capabilities out;
  out.bounding = out.effective = out.permitted = Names(mask);
  // Inheritable without ambient would let files with inheritable capabilities gain
  // (CVE-2022-24769).
  out.inheritable = out.ambient = Names(ambient);
  return out;
}

}  // namespace linnet::runtime
