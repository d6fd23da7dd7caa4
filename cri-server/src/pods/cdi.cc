#include "cdi.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <yaml-cpp/yaml.h>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

namespace linnet::pods {
namespace {

constexpr std::size_t kMaxFileBytes = 4U << 20;
constexpr std::size_t kMaxYamlNodes = 200000;  // aliases are written out
constexpr int kMaxYamlDepth = 64;
constexpr std::string_view kAnnotationPrefix = "cdi.k8s.io/";

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Letters and digits, within them also `others`.
bool IsName(std::string_view text, std::string_view others, bool may_begin_with_digit) {
  if (text.empty() || !IsAlnum(text.front()) || !IsAlnum(text.back())) return false;
  if (IsDigit(text.front()) && !may_begin_with_digit) return false;
  return std::all_of(text.begin(), text.end(), [others](char c) {
    return IsAlnum(c) || others.find(c) != std::string_view::npos;
  });
}

bool IsKind(std::string_view kind) {
  const std::size_t slash = kind.find('/');
  return slash != std::string_view::npos && IsName(kind.substr(0, slash), "_-.", false) &&
         IsName(kind.substr(slash + 1), "_-", false);
}

Result<void> CheckQualifiedName(const std::string& name) {
  const std::size_t equals = name.find('=');
  if (equals != std::string::npos && IsKind(std::string_view(name).substr(0, equals)) &&
      IsName(std::string_view(name).substr(equals + 1), "_-.:", true))
    return Ok();
  return InvalidArgument("CDI device \"" + name + "\" is not of the form vendor.com/class=name");
}

// ---------------------------------------------------------------------------------------------
// files

struct SpecFile {
  std::string path;
  Json json;
};

Result<SpecFile> ReadSpec(const std::string& path) {
  const std::string text = LN_TRY(ReadFile(path, kMaxFileBytes));
  SpecFile out{.path = path, .json = {}};
  out.json = LN_TRY_CTX(path.ends_with(".yaml") ? YamlToJson(text) : ParseJson(text), path);
  const JsonView root(out.json);
  const std::string version = LN_TRY_CTX(root.Required<std::string>("cdiVersion"), path);
  const std::vector<std::string> numbers = Split(version, '.');
  const bool known = numbers.size() == 3 && (numbers[0] == "1" || numbers[0] == "0");
  if (!known) return FailedPrecondition(path + ": cdiVersion " + version + " is not known here");
  const std::string kind = LN_TRY_CTX(root.Required<std::string>("kind"), path);
  if (!IsKind(kind))
    return FailedPrecondition(path + ": kind \"" + kind + "\" is not of the form vendor.com/class");
  return out;
}

struct Found {
  const SpecFile* file = nullptr;
  const Json* device = nullptr;
};

// What is wrong with files matters only where a device is not found otherwise.
class Registry {
 public:
  explicit Registry(const std::vector<std::string>& directories) : directories_(directories) {
    for (const std::string& directory : directories) {
      std::vector<SpecFile>& files = priorities_.emplace_back();
      auto names = ListDir(directory);
      if (!names) {
        if (!names.error().Is(Code::kNotFound)) Note(names.error());
        continue;
      }
      std::sort(names->begin(), names->end());
      for (const std::string& name : *names) {
        if (!name.ends_with(".json") && !name.ends_with(".yaml")) continue;
        auto file = ReadSpec(JoinPath(directory, name));
        if (file)
          files.push_back(*std::move(file));
        else
          Note(file.error());
      }
    }
  }

  Result<Found> Find(const std::string& name) const {
    for (auto files = priorities_.rbegin(); files != priorities_.rend(); ++files) {
      Found found;
      for (const SpecFile& file : *files) {
        const Json* device = LN_TRY(DeviceIn(file, name));
        if (device == nullptr) continue;
        if (found.device != nullptr) {
          return FailedPrecondition("CDI device " + name + " is described in " + found.file->path +
                                    " and in " + file.path);
        }
        found = {&file, device};
      }
      if (found.device != nullptr) return found;
    }
    std::string text = "CDI device " + name + " is described by no file in";
    for (const std::string& directory : directories_) text += " " + directory;
    if (!problem_.empty()) text += "; not read: " + problem_;
    return NotFound(text);
  }

 private:
  void Note(const Error& error) {
    if (problem_.empty()) problem_ = error.message();
  }
  static Result<const Json*> DeviceIn(const SpecFile& file, const std::string& name) {
    const JsonView root(file.json);
    const std::string prefix = LN_TRY(root.Required<std::string>("kind")) + "=";
    if (!name.starts_with(prefix)) return nullptr;
    for (const JsonView& device : LN_TRY_CTX(root.Array("devices"), file.path)) {
      if (prefix + LN_TRY_CTX(device.Required<std::string>("name"), file.path) == name)
        return &device.raw();
    }
    return nullptr;
  }

  const std::vector<std::string>& directories_;
  std::vector<std::vector<SpecFile>> priorities_;
  std::string problem_;  // the first
};

// ---------------------------------------------------------------------------------------------
// edits

void SetEnv(std::vector<std::string>& env, const std::string& entry) {
  const std::string key = entry.substr(0, entry.find('=') + 1);
  const auto same = std::find_if(env.begin(), env.end(),
                                 [&](const std::string& e) { return e.starts_with(key); });
  if (same != env.end())
    *same = entry;
  else
    env.push_back(entry);
}

Result<void> AddDeviceNode(const JsonView& node, oci::Spec& spec) {
  oci::Device device;
  device.path = LN_TRY(node.Required<std::string>("path"));
  if (device.path.empty() || device.path.front() != '/') return node.Fail("path is not absolute");
  const std::string host_path = LN_TRY(node.Optional<std::string>("hostPath", device.path));
  device.type = LN_TRY(node.Optional<std::string>("type", ""));
  device.major = LN_TRY(node.Optional<std::int64_t>("major", 0));
  device.minor = LN_TRY(node.Optional<std::int64_t>("minor", 0));
  device.file_mode = LN_TRY(node.Maybe<std::uint32_t>("fileMode"));
  device.uid = LN_TRY(node.Maybe<std::uint32_t>("uid"));
  device.gid = LN_TRY(node.Maybe<std::uint32_t>("gid"));
  const std::string access = LN_TRY(node.Optional<std::string>("permissions", "rwm"));
  if (access.empty() || access.find_first_not_of("rwm") != std::string::npos)
    return node.Fail("permissions are not made of r, w and m");
  if (device.type.empty() || (device.major == 0 && device.type != "p")) {
    struct stat info = {};
    if (stat(host_path.c_str(), &info) != 0)
      return Error::FromErrno(errno, "CDI device node " + host_path);
    if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode))
      return FailedPrecondition("CDI device node " + host_path + " is not a device");
    const std::string type = S_ISBLK(info.st_mode) ? "b" : "c";
    if (!device.type.empty() && device.type != type && !(device.type == "u" && type == "c"))
      return FailedPrecondition("CDI device node " + host_path + " is not of type " + device.type);
    device.type = type;
    device.major = major(info.st_rdev);
    device.minor = minor(info.st_rdev);
    if (!device.file_mode) device.file_mode = info.st_mode & 07777;
  }
  if (device.type != "b" && device.type != "c" && device.type != "u" && device.type != "p")
    return node.Fail("type \"" + device.type + "\" is none of b, c, u, p");
  // Who is not root has to be able to use what it asked for.
  if (!device.uid && spec.process.user.uid > 0) device.uid = spec.process.user.uid;
  if (!device.gid && spec.process.user.gid > 0) device.gid = spec.process.user.gid;
  if (device.type != "p") {
    spec.resources.devices.push_back({.allow = true,
                                      .type = device.type == "u" ? "c" : device.type,
                                      .major = device.major,
                                      .minor = device.minor,
                                      .access = access});
  }
  std::erase_if(spec.devices, [&](const oci::Device& d) { return d.path == device.path; });
  spec.devices.push_back(std::move(device));
  return Ok();
}

Result<void> AddMount(const JsonView& view, oci::Spec& spec) {
  oci::Mount mount;
  mount.source = LN_TRY(view.Required<std::string>("hostPath"));
  mount.destination = CleanPath("/" + LN_TRY(view.Required<std::string>("containerPath")));
  mount.type = LN_TRY(view.Optional<std::string>("type", ""));
  mount.options = LN_TRY(view.Strings("options"));
  const auto has = [&mount](const char* option) {
    return std::find(mount.options.begin(), mount.options.end(), option) != mount.options.end();
  };
  if (mount.type.empty() || mount.type == "none") mount.type = "bind";
  if (mount.type == "bind") {
    mount.source = LN_TRY_CTX(RealPath(mount.source), "CDI mount");
    if (!has("bind") && !has("rbind")) mount.options.emplace_back("rbind");
  }
  std::erase_if(spec.mounts,
                [&](const oci::Mount& m) { return m.destination == mount.destination; });
  // Before what lies below it, which it would cover.
  const auto below = std::find_if(spec.mounts.begin(), spec.mounts.end(), [&](const oci::Mount& m) {
    return m.destination.starts_with(mount.destination + "/");
  });
  spec.mounts.insert(below, std::move(mount));
  return Ok();
}

Result<void> Refuse(const JsonView& edits, const char* key) {
  const auto value = LN_TRY(edits.Find(key));
  if (!value || value->raw().empty()) return Ok();
  return FailedPrecondition(value->path() + ": " + key +
                            " is not done by the built-in runtime; a runtime handler with another "
                            "OCI runtime may");
}

Result<void> ApplyEdits(const JsonView& holder, oci::Spec& spec) {
  const auto edits = LN_TRY(holder.Find("containerEdits"));
  if (!edits) return Ok();
  for (const char* key : {"hooks", "intelRdt", "netDevices"}) LN_TRY(Refuse(*edits, key));
  for (const std::string& entry : LN_TRY(edits->Strings("env"))) {
    if (entry.find('=') == std::string::npos || entry.find('\0') != std::string::npos)
      return edits->Fail("env: \"" + entry + "\" is not NAME=VALUE");
    SetEnv(spec.process.env, entry);
  }
  for (const JsonView& node : LN_TRY(edits->Array("deviceNodes")))
    LN_TRY(AddDeviceNode(node, spec));
  for (const JsonView& mount : LN_TRY(edits->Array("mounts"))) LN_TRY(AddMount(mount, spec));
  for (const JsonView& gid : LN_TRY(edits->Array("additionalGids"))) {
    const auto number = LN_TRY(gid.As<std::uint32_t>());
    auto& gids = spec.process.user.additional_gids;
    if (number != 0 && std::find(gids.begin(), gids.end(), number) == gids.end())
      gids.push_back(number);
  }
  return Ok();
}

// ---------------------------------------------------------------------------------------------
// YAML

// A scalar without quotes, as YAML 1.1's core types (what Kubernetes' tools read).
Json Plain(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const bool negative = text.front() == '-';
  std::string_view digits = std::string_view(text).substr(negative || text.front() == '+' ? 1 : 0);
  int base = 10;
  if (digits.starts_with("0x"))
    base = 16;
  else if (digits.starts_with("0o") || (digits.size() > 1 && digits.front() == '0'))
    base = 8;
  if (base == 16 || digits.starts_with("0o")) digits.remove_prefix(2);
  std::int64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto [at, error] = std::from_chars(digits.data(), end, number, base);
  if (!digits.empty() && IsAlnum(digits.front()) && error == std::errc() && at == end)
    return negative ? Json(-number) : Json(static_cast<std::uint64_t>(number));
  return text;  // fractions are of no use here: a version like 1.0 stays a text
}

class Converter {
 public:
  // NOLINTNEXTLINE(misc-no-recursion): the depth has a limit
  Result<Json> Convert(const YAML::Node& node, int depth) {
    if (depth > kMaxYamlDepth || ++nodes_ > kMaxYamlNodes)
      return InvalidArgument("YAML: too deep, or too much of it");
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        return Json();
      case YAML::NodeType::Scalar:
        return node.Tag() == "!" ? Json(node.Scalar()) : Plain(node.Scalar());
      case YAML::NodeType::Sequence: {
        Json out = Json::array();
        for (const YAML::Node& element : node) out.push_back(LN_TRY(Convert(element, depth + 1)));
        return out;
      }
      case YAML::NodeType::Map: {
        Json out = Json::object();
        for (const auto& entry : node) {
          if (!entry.first.IsScalar()) return InvalidArgument("YAML: a key is not a text");
          out[entry.first.Scalar()] = LN_TRY(Convert(entry.second, depth + 1));
        }
        return out;
      }
    }
    return Json();
  }

 private:
  std::size_t nodes_ = 0;
};

}  // namespace

Result<Json> YamlToJson(const std::string& text) {
  try {
    return Converter().Convert(YAML::Load(text), 0);
  } catch (const YAML::Exception& error) {
    return InvalidArgument(std::string("YAML: ") + error.what());
  }
}

Result<std::vector<std::string>> CdiDevicesOf(const ContainerConfig& config) {
  std::vector<std::string> out;
  const auto add = [&out](const std::string& name) -> Result<void> {
    LN_TRY(CheckQualifiedName(name));
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    return Ok();
  };
  for (const std::string& name : config.cdi_devices) LN_TRY_CTX(add(name), "CDI_devices");
  for (const auto& [key, value] : config.annotations) {
    if (!key.starts_with(kAnnotationPrefix)) continue;
    for (const std::string& name : Split(value, ','))
      LN_TRY_CTX(add(std::string(Trim(name))), "annotation " + key);
  }
  return out;
}

Result<void> InjectCdiDevices(oci::Spec& spec, const std::vector<std::string>& devices,
                              const std::vector<std::string>& directories) {
  if (devices.empty()) return Ok();
  const Registry registry(directories);
  std::vector<const SpecFile*> applied;  // what a file says about all its devices counts once
  for (const std::string& name : devices) {
    const Found found = LN_TRY(registry.Find(name));
    const std::string context = "CDI device " + name + ": " + found.file->path;
    if (std::find(applied.begin(), applied.end(), found.file) == applied.end()) {
      LN_TRY_CTX(ApplyEdits(JsonView(found.file->json), spec), context);
      applied.push_back(found.file);
    }
    LN_TRY_CTX(ApplyEdits(JsonView(*found.device), spec), context);
  }
  return Ok();
}

}  // namespace linnet::pods
