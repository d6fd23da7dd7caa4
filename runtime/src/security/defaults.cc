#include "linnet/base/file.h"
#include "linnet/base/text.h"
#include "linnet/runtime/security.h"

namespace linnet::runtime {

std::vector<oci::Mount> DefaultMounts() {
  const auto mount = [](const char* destination, const char* type, const char* source,
                        std::vector<std::string> options) {
    oci::Mount out;
    out.destination = destination;
    out.type = type;
    out.source = source;
    out.options = std::move(options);
    return out;
  };
  return {
      mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      mount("/dev/pts", "devpts", "devpts",
            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      // The pod's own, which its containers share.
      mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
      mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
      mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
      mount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}),
  };
}

std::vector<std::string> DefaultMaskedPaths() {
  std::vector<std::string> out = {
      "/proc/acpi",
      "/proc/asound",
      "/proc/interrupts",
      "/proc/kcore",
      "/proc/keys",
      "/proc/latency_stats",
      "/proc/sched_debug",
      "/proc/scsi",
      "/proc/timer_list",
      "/proc/timer_stats",
      "/sys/devices/virtual/powercap",
      "/sys/firmware",
      "/sys/fs/selinux",
  };
  // One per CPU, where the machine has them (a side channel through temperatures).
  const std::string cpus = "/sys/devices/system/cpu";
  const auto names = ListDir(cpus);
  if (!names) return out;
  for (const std::string& name : *names) {
    if (!name.starts_with("cpu") || !ParseNumber<unsigned>(std::string_view(name).substr(3)))
      continue;
    std::string path = JoinPath(JoinPath(cpus, name), "thermal_throttle");
    if (Exists(path)) out.push_back(std::move(path));
  }
  return out;
}

std::vector<std::string> DefaultReadonlyPaths() {
  return {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
}

}  // namespace linnet::runtime
