#include "to_cri.h"

#include <algorithm>

#include "linnet/base/text.h"

#include "signals.h"
#include "text.h"

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;

void MapTo(const pods::StringMap& from, google::protobuf::Map<std::string, std::string>* to) {
  for (const auto& [key, value] : from) (*to)[key] = value;
}

void MappingsTo(const std::vector<oci::IdMapping>& from,
                google::protobuf::RepeatedPtrField<v1::IDMapping>* to) {
  for (const oci::IdMapping& m : from) {
    v1::IDMapping* out = to->Add();
    out->set_container_id(m.container_id);
    out->set_host_id(m.host_id);
    out->set_length(m.size);
  }
}

void MetadataTo(const pods::PodMetadata& from, v1::PodSandboxMetadata* to) {
  to->set_name(from.name);
  to->set_uid(from.uid);
  to->set_namespace_(from.ns);
  to->set_attempt(from.attempt);
}

void NamespacesTo(const pods::NamespaceOptions& from, v1::NamespaceOption* to) {
  to->set_network(static_cast<v1::NamespaceMode>(from.network));
  to->set_pid(static_cast<v1::NamespaceMode>(from.pid));
  to->set_ipc(static_cast<v1::NamespaceMode>(from.ipc));
  to->set_target_id(from.target_id);
  if (from.userns) {
    v1::UserNamespace* users = to->mutable_userns_options();
    users->set_mode(static_cast<v1::NamespaceMode>(from.userns->mode));
    MappingsTo(from.userns->uids, users->mutable_uids());
    MappingsTo(from.userns->gids, users->mutable_gids());
  }
}

void ImageSpecTo(const pods::ImageSpec& from, v1::ImageSpec* to) {
  to->set_image(from.image);
  MapTo(from.annotations, to->mutable_annotations());
  to->set_user_specified_image(from.user_specified_image);
  to->set_runtime_handler(from.runtime_handler);
}

void MountTo(const pods::Mount& from, v1::Mount* to) {
  to->set_container_path(from.container_path);
  to->set_host_path(from.host_path);
  to->set_readonly(from.readonly);
  to->set_selinux_relabel(from.selinux_relabel);
  to->set_recursive_read_only(from.recursive_read_only);
  to->set_propagation(static_cast<v1::MountPropagation>(from.propagation));
  MappingsTo(from.uid_mappings, to->mutable_uidmappings());
  MappingsTo(from.gid_mappings, to->mutable_gidmappings());
  if (from.image) {
    ImageSpecTo(*from.image, to->mutable_image());
    to->mutable_image()->set_image_ref(from.image_ref);
  }
  to->set_image_sub_path(from.image_sub_path);
  for (const std::string& option : from.options) to->add_mount_options(option);
}

void ResourcesTo(const pods::Resources& from, v1::LinuxContainerResources* to) {
  to->set_cpu_period(from.cpu_period);
  to->set_cpu_quota(from.cpu_quota);
  to->set_cpu_shares(from.cpu_shares);
  to->set_memory_limit_in_bytes(from.memory_limit_bytes);
  to->set_memory_swap_limit_in_bytes(from.memory_swap_limit_bytes);
  to->set_oom_score_adj(from.oom_score_adj);
  to->set_cpuset_cpus(from.cpuset_cpus);
  to->set_cpuset_mems(from.cpuset_mems);
  for (const auto& limit : from.hugepage_limits) {
    v1::HugepageLimit* out = to->add_hugepage_limits();
    out->set_page_size(limit.page_size);
    out->set_limit(limit.limit);
  }
  MapTo(from.unified, to->mutable_unified());
}

}  // namespace

void ToCri(const pods::PodStatus& from, v1::PodSandbox* to) {
  to->set_id(from.id);
  MetadataTo(from.config.metadata, to->mutable_metadata());
  to->set_state(static_cast<v1::PodSandboxState>(from.state));
  to->set_created_at(from.created_at_ns);
  MapTo(from.config.labels, to->mutable_labels());
  MapTo(from.config.annotations, to->mutable_annotations());
  to->set_runtime_handler(from.config.runtime_handler);
}

void ToCri(const pods::PodStatus& from, v1::PodSandboxStatus* to) {
  to->set_id(from.id);
  MetadataTo(from.config.metadata, to->mutable_metadata());
  to->set_state(static_cast<v1::PodSandboxState>(from.state));
  to->set_created_at(from.created_at_ns);
  v1::PodSandboxNetworkStatus* network = to->mutable_network();
  for (std::size_t i = 0; i < from.ips.size(); ++i) {
    if (i == 0) {
      network->set_ip(from.ips[i]);
    } else {
      network->add_additional_ips()->set_ip(from.ips[i]);
    }
  }
  NamespacesTo(from.config.namespaces,
               to->mutable_linux()->mutable_namespaces()->mutable_options());
  MapTo(from.config.labels, to->mutable_labels());
  MapTo(from.config.annotations, to->mutable_annotations());
  to->set_runtime_handler(from.config.runtime_handler);
}

void ToCri(const pods::ContainerStatus& from, v1::Container* to) {
  to->set_id(from.id);
  to->set_pod_sandbox_id(from.pod_id);
  to->mutable_metadata()->set_name(from.config.metadata.name);
  to->mutable_metadata()->set_attempt(from.config.metadata.attempt);
  ImageSpecTo(from.config.image, to->mutable_image());
  to->set_image_ref(from.image_ref);
  to->set_image_id(from.image_id);
  to->set_state(static_cast<v1::ContainerState>(from.phase));
  to->set_created_at(from.created_at_ns);
  MapTo(from.config.labels, to->mutable_labels());
  MapTo(from.config.annotations, to->mutable_annotations());
}

void ToCri(const pods::ContainerStatus& from, v1::ContainerStatus* to) {
  to->set_id(from.id);
  to->mutable_metadata()->set_name(from.config.metadata.name);
  to->mutable_metadata()->set_attempt(from.config.metadata.attempt);
  to->set_state(static_cast<v1::ContainerState>(from.phase));
  to->set_created_at(from.created_at_ns);
  to->set_started_at(from.started_at_ns);
  to->set_finished_at(from.finished_at_ns);
  to->set_exit_code(from.exit_code);
  ImageSpecTo(from.config.image, to->mutable_image());
  to->mutable_image()->set_image(from.image_name);
  to->set_image_ref(from.image_ref);
  to->set_image_id(from.image_id);
  to->set_reason(from.reason);
  to->set_message(Utf8(from.message));
  MapTo(from.config.labels, to->mutable_labels());
  MapTo(from.config.annotations, to->mutable_annotations());
  for (const pods::Mount& mount : from.config.mounts) MountTo(mount, to->add_mounts());
  to->set_log_path(from.log_path);
  ResourcesTo(from.resources, to->mutable_resources()->mutable_linux());
  v1::LinuxContainerUser* user = to->mutable_user()->mutable_linux();
  user->set_uid(from.user.uid);
  user->set_gid(from.user.gid);
  for (const std::int64_t group : from.user.groups) user->add_supplemental_groups(group);
  to->set_stop_signal(SignalOf(from.stop_signal));
}

void ToCri(const oci::Image& from, v1::Image* to) {
  to->set_id(from.id.str());
  for (const std::string& tag : from.repo_tags) to->add_repo_tags(tag);
  for (const std::string& digest : from.repo_digests) to->add_repo_digests(digest);
  to->set_size(std::max<std::uint64_t>(from.size_bytes, 1));  // clients refuse 0
  to->mutable_spec()->set_image(from.id.str());
  // "1003:group" has uid 1003, "name:group" the name; no user: neither.
  const std::string user = from.config.user.substr(0, from.config.user.find(':'));
  if (auto uid = ParseNumber<std::int64_t>(user)) {
    to->mutable_uid()->set_value(*uid);
  } else {
    to->set_username(Utf8(user));
  }
  to->set_pinned(from.pinned);
}

void ToCri(const oci::FsUsage& from, std::int64_t now_ns, v1::FilesystemUsage* to) {
  to->set_timestamp(now_ns);
  to->mutable_fs_id()->set_mountpoint(from.mountpoint);
  to->mutable_used_bytes()->set_value(from.used_bytes);
  to->mutable_inodes_used()->set_value(from.inodes_used);
}

}  // namespace linnet::cri
