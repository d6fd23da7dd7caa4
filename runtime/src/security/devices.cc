#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "linnet/base/file.h"
#include "linnet/runtime/security.h"

namespace linnet::runtime {
namespace {

constexpr int kMaxDepth = 8;
constexpr std::size_t kMaxDevices = 4096;

// Below /dev, what is no device of the host's but of one namespace or mount.
constexpr std::array<std::string_view, 10> kSkipped = {
    "pts", "shm", "fd", "mqueue", "hugepages", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"};

oci::Device Node(std::string path, const struct stat& st) {
  oci::Device out;
  out.path = std::move(path);
  out.type = S_ISBLK(st.st_mode) ? "b" : "c";
  out.major = major(st.st_rdev);
  out.minor = minor(st.st_rdev);
  out.file_mode = st.st_mode & 07777;
  out.uid = st.st_uid;
  out.gid = st.st_gid;
  return out;
}

oci::DeviceRule Allow(const std::string& type, std::optional<std::int64_t> major,
                      std::optional<std::int64_t> minor, const std::string& access) {
  return {.allow = true, .type = type, .major = major, .minor = minor, .access = access};
}

// The later device wins where two have one path.
void Put(std::vector<oci::Device>& devices, oci::Device device) {
  const auto same = std::find_if(devices.begin(), devices.end(),
                                 [&](const oci::Device& d) { return d.path == device.path; });
  if (same != devices.end()) {
    *same = std::move(device);
  } else {
    devices.push_back(std::move(device));
  }
}

// Character and block devices below `path`; links are not followed, other file systems are.
Result<void> Walk(const std::string& path, const std::string& as, int depth,
                  std::vector<oci::Device>& out) {
  if (depth > kMaxDepth) return Ok();
  for (const std::string& name : LN_TRY(ListDir(path))) {
    if (std::find(kSkipped.begin(), kSkipped.end(), name) != kSkipped.end()) continue;
    const std::string child = JoinPath(path, name);
    struct stat st {};
    if (::lstat(child.c_str(), &st) != 0) {
      if (errno == ENOENT) continue;  // unplugged meanwhile
      return Error::FromErrno(errno, "stat " + child);
    }
    if (S_ISDIR(st.st_mode)) {
      LN_TRY(Walk(child, JoinPath(as, name), depth + 1, out));
    } else if ((S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) && st.st_rdev != 0) {
      if (out.size() >= kMaxDevices)
        return Error(Code::kResourceExhausted, "more than 4096 devices below " + path);
      out.push_back(Node(JoinPath(as, name), st));
    }
  }
  return Ok();
}

Result<std::string> CheckAccess(const std::string& permissions) {
  if (permissions.empty()) return std::string("rwm");
  for (std::size_t i = 0; i < permissions.size(); ++i) {
    const char c = permissions[i];
    if ((c != 'r' && c != 'w' && c != 'm') || permissions.find(c) != i) {
      return InvalidArgument("permissions \"" + permissions + "\" are not made of r, w and m");
    }
  }
  return permissions;
}

}  // namespace

void AddDefaultDevices(oci::Spec& spec) {
  struct Known {
    const char* path;
    int major, minor;
  };
  constexpr std::array<Known, 6> kDevices = {{{"/dev/null", 1, 3},
                                              {"/dev/zero", 1, 5},
                                              {"/dev/full", 1, 7},
                                              {"/dev/random", 1, 8},
                                              {"/dev/urandom", 1, 9},
                                              {"/dev/tty", 5, 0}}};
  std::vector<oci::DeviceRule>& rules = spec.resources.devices;
  // Making nodes is harmless where opening them is refused.
  rules.push_back(Allow("c", {}, {}, "m"));
  rules.push_back(Allow("b", {}, {}, "m"));
  for (const Known& known : kDevices) {
    Put(spec.devices, {.path = known.path,
                       .type = "c",
                       .major = known.major,
                       .minor = known.minor,
                       .file_mode = 0666,
                       .uid = 0,
                       .gid = 0});
    rules.push_back(Allow("c", known.major, known.minor, "rwm"));
  }
  rules.push_back(Allow("c", 136, {}, "rwm"));  // /dev/pts/*
  rules.push_back(Allow("c", 5, 2, "rwm"));     // ptmx
}

Result<void> AddHostDevice(oci::Spec& spec, const std::string& host_path,
                           const std::string& container_path, const std::string& permissions) {
  if (host_path.empty() || host_path.front() != '/') {
    return InvalidArgument("host_path \"" + host_path + "\" is not an absolute path");
  }
  if (!container_path.empty() && container_path.front() != '/') {
    return InvalidArgument("container_path \"" + container_path + "\" is not an absolute path");
  }
  const std::string access = LN_TRY(CheckAccess(permissions));
  const std::string as = CleanPath(container_path.empty() ? host_path : container_path);
  struct stat st {};
  if (::stat(host_path.c_str(), &st) != 0) return Error::FromErrno(errno, "device " + host_path);
  std::vector<oci::Device> found;
  if (S_ISDIR(st.st_mode)) {
    LN_TRY(Walk(host_path, as, 0, found));
  } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
    found.push_back(Node(as, st));
  } else {
    return InvalidArgument(host_path + " is not a device");
  }
  for (oci::Device& device : found) {
    spec.resources.devices.push_back(Allow(device.type, device.major, device.minor, access));
    Put(spec.devices, std::move(device));
  }
  return Ok();
}

Result<void> AddAllHostDevices(oci::Spec& spec) {
  std::vector<oci::Device> found;
  LN_TRY(Walk("/dev", "/dev", 0, found));
  for (oci::Device& device : found) Put(spec.devices, std::move(device));
  return Ok();
}

}  // namespace linnet::runtime
