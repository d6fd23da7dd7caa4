#include <seccomp.h>
#include <sys/utsname.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "linnet/base/json_view.h"
#include "linnet/base/text.h"
#include "linnet/runtime/security.h"

#include "security/seccomp_names.h"

namespace linnet::runtime {
namespace {

constexpr JsonLimits kLimits = {.max_bytes = 1U << 20, .max_depth = 16};

struct KernelVersion {
  int major = 0, minor = 0;
  auto operator<=>(const KernelVersion&) const = default;
};

// "6.1.0-13-amd64", "4.8"
Result<KernelVersion> ParseKernelVersion(std::string_view text) {
  const std::vector<std::string> parts =
      Split(text.substr(0, text.find_first_not_of("0123456789.")), '.');
  if (parts.size() < 2)
    return InvalidArgument("\"" + std::string(text) + "\" is not a kernel version");
  KernelVersion out;
  out.major = LN_TRY(ParseNumber<int>(parts[0]));
  out.minor = LN_TRY(ParseNumber<int>(parts[1]));
  return out;
}

Result<KernelVersion> RunningKernel() {
  utsname name{};
  if (::uname(&name) != 0) return Error::FromErrno(errno, "uname");
  return ParseKernelVersion(name.release);
}

// What docker's "includes" and "excludes" are compared with.
struct Here {
  std::string go_arch;
  const std::vector<std::string>* capabilities = nullptr;
  bool HasArch(const std::vector<std::string>& names) const {
    return std::find(names.begin(), names.end(), go_arch) != names.end();
  }
  bool HasCapability(const std::string& name) const {
    return std::find(capabilities->begin(), capabilities->end(), name) != capabilities->end();
  }
};

struct Filter {
  std::vector<std::string> arches, caps;
  std::optional<KernelVersion> min_kernel;
};

Result<Filter> ParseFilter(const JsonView& call, std::string_view key) {
  Filter out;
  const std::optional<JsonView> view = LN_TRY(call.Find(key));
  if (!view) return out;
  out.arches = LN_TRY(view->Strings("arches"));
  out.caps = LN_TRY(view->Strings("caps"));
  const std::string kernel = LN_TRY(view->Optional<std::string>("minKernel", ""));
  if (!kernel.empty())
    out.min_kernel = LN_TRY_CTX(ParseKernelVersion(kernel), view->path() + ".minKernel");
  return out;
}

// Whether the entry counts here: all that "includes" names holds, and nothing that "excludes"
// names.
Result<bool> Applies(const JsonView& call, const Here& here) {
  const Filter includes = LN_TRY(ParseFilter(call, "includes"));
  const Filter excludes = LN_TRY(ParseFilter(call, "excludes"));
  const auto has_cap = [&](const std::string& cap) { return here.HasCapability(cap); };
  if (!includes.arches.empty() && !here.HasArch(includes.arches)) return false;
  if (here.HasArch(excludes.arches)) return false;
  if (!std::all_of(includes.caps.begin(), includes.caps.end(), has_cap)) return false;
  if (std::any_of(excludes.caps.begin(), excludes.caps.end(), has_cap)) return false;
  if (includes.min_kernel || excludes.min_kernel) {
    const KernelVersion running = LN_TRY(RunningKernel());
    if (includes.min_kernel && running < *includes.min_kernel) return false;
    if (excludes.min_kernel && running >= *excludes.min_kernel) return false;
  }
  return true;
}

Result<std::string> ParseAction(const JsonView& view, std::string_view key) {
  std::string out = LN_TRY(view.Required<std::string>(key));
  if (!FindSeccompAction(out)) return view.Fail("unknown " + std::string(key) + " \"" + out + "\"");
  return out;
}

Result<oci::SeccompArg> ParseArg(const JsonView& view) {
  oci::SeccompArg out;
  out.index = LN_TRY(view.Required<std::uint32_t>("index"));
  if (out.index > 5) return view.Fail("index " + std::to_string(out.index) + " out of range (0…5)");
  out.value = LN_TRY(view.Optional<std::uint64_t>("value", 0));
  out.value_two = LN_TRY(view.Optional<std::uint64_t>("valueTwo", 0));
  out.op = LN_TRY(view.Required<std::string>("op"));
  if (!FindSeccompOperator(out.op)) return view.Fail("unknown op \"" + out.op + "\"");
  return out;
}

Result<oci::SeccompSyscall> ParseSyscall(const JsonView& view) {
  oci::SeccompSyscall out;
  out.names = LN_TRY(view.Strings("names"));
  const std::string name = LN_TRY(view.Optional<std::string>("name", ""));  // docker's old spelling
  if (!name.empty() && !out.names.empty())
    return view.Fail("\"name\" and \"names\" exclude each other");
  if (!name.empty()) out.names.push_back(name);
  if (out.names.empty()) return view.Fail("no names");
  out.action = LN_TRY(ParseAction(view, "action"));
  out.errno_ret = LN_TRY(view.Maybe<std::uint32_t>("errnoRet"));
  for (const JsonView& arg : LN_TRY(view.Array("args"))) out.args.push_back(LN_TRY(ParseArg(arg)));
  return out;
}

Result<std::vector<std::string>> ParseArchitectures(const JsonView& root) {
  std::vector<std::string> out = LN_TRY(root.Strings("architectures"));
  const std::vector<JsonView> map = LN_TRY(root.Array("archMap"));
  if (!out.empty() && !map.empty())
    return root.Fail("\"architectures\" and \"archMap\" exclude each other");
  const std::string native = NativeSeccompArch();
  for (const JsonView& entry : map) {
    const std::string arch = LN_TRY(entry.Required<std::string>("architecture"));
    if (arch != native) continue;
    out.push_back(arch);
    for (std::string& sub : LN_TRY(entry.Strings("subArchitectures")))
      out.push_back(std::move(sub));
    break;
  }
  for (const std::string& arch : out) {
    if (!KnownSeccompArch(arch)) return root.Fail("unknown architecture \"" + arch + "\"");
  }
  return out;
}

}  // namespace

Result<oci::Seccomp> ParseSeccompProfile(std::string_view json,
                                         const std::vector<std::string>& capabilities) {
  const Json document = LN_TRY_CTX(ParseJson(json, kLimits), "seccomp profile");
  // Go reads keys without regard to case, and profiles were written for Go.
  const JsonView root(document, "$", KeyMatch::kIgnoreCase);
  if (!root.is_object()) return root.Fail("a seccomp profile is an object");
  const Here here{.go_arch = NativeGoArch(), .capabilities = &capabilities};
  oci::Seccomp out;
  out.default_action = LN_TRY(ParseAction(root, "defaultAction"));
  out.default_errno_ret = LN_TRY(root.Maybe<std::uint32_t>("defaultErrnoRet"));
  if (!LN_TRY(root.Optional<std::string>("listenerPath", "")).empty()) {
    return Error(Code::kUnimplemented, "$.listenerPath: seccomp notification is not supported");
  }
  out.flags = LN_TRY(root.Strings("flags"));
  out.architectures = LN_TRY(ParseArchitectures(root));
  for (const JsonView& entry : LN_TRY(root.Array("syscalls"))) {
    if (!LN_TRY(Applies(entry, here))) continue;
    out.syscalls.push_back(LN_TRY(ParseSyscall(entry)));
  }
  return out;
}

}  // namespace linnet::runtime
