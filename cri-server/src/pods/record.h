// What the disk remembers of a pod and of a container.
//
//   <root>/pods/<pod>/pod.json                             written before the first kernel object,
//   and at each state <root>/pods/<pod>/{hosts,hostname,resolv.conf}         bind-mounted into the
//   containers <root>/pods/<pod>/containers/<id>/container.json       written when the container
//   has been created <root>/pods/<pod>/containers/<id>/{config.json,upper,work} …/<id>/ exit
//   record, written by the keeper (runtime::ReadExitRecord)
//
// Records are replaced atomically, without fsync: a torn or empty one is a dead pod, undone by
// owner.
#pragma once

#include <cstdint>
#include <string>

#include "linnet/base/result.h"
#include "linnet/pods/types.h"

namespace linnet::pods {

//   kCreating ──▶ kReady ──▶ kNotReady ──▶ kRemoving ──▶ (no record)
//       └──────────────────────▲ (undone: no record)
//
// kNotReady is written before the first act of a stop: recovery stops such a pod again, which costs
// nothing where all is gone already.
enum class PodStage : std::uint8_t { kCreating = 0, kReady = 1, kNotReady = 2, kRemoving = 3 };

struct PodRecord {
  int version = 1;
  std::string id;
  PodStage stage = PodStage::kCreating;
  std::int64_t created_at_ns = 0;
  std::string boot_id;  // of the kernel that ran it
  PodConfig config;
  std::vector<std::string> ips;
  std::string netns_path;
  std::string cgroup_parent;  // as given by the client; empty: ours
};

struct ContainerRecord {
  int version = 1;
  std::string id, pod_id;
  std::int64_t created_at_ns = 0;
  std::string image_name, image_ref, image_id;
  std::string log_path;
  int stop_signal = 15;
  ContainerUser user;
  ContainerConfig config;
  // A start that failed: the container is EXITED although no process ever ran.
  bool start_failed = false;
  std::int64_t finished_at_ns = 0;
  std::int32_t exit_code = 0;
  std::string reason, message;
};

std::string DumpRecord(const PodRecord& record);
std::string DumpRecord(const ContainerRecord& record);
Result<PodRecord> ParsePodRecord(std::string_view text);
Result<ContainerRecord> ParseContainerRecord(std::string_view text);

}  // namespace linnet::pods
