#include "stats_to_cri.h"

#include <algorithm>

namespace linnet::cri {
namespace {

namespace v1 = ::runtime::v1;
using runtime::CgroupUsage;
using Number = std::optional<std::uint64_t>;

void MapTo(const pods::StringMap& from, google::protobuf::Map<std::string, std::string>* to) {
  for (const auto& [key, value] : from) (*to)[key] = value;
}

Number Left(const Number& limit, std::uint64_t used) {
  return limit ? Number(*limit - std::min(*limit, used)) : std::nullopt;
}

void LineTo(const runtime::Pressure::Line& from, v1::PsiData* to) {
  to->set_total(from.total_us);
  to->set_avg10(from.avg10);
  to->set_avg60(from.avg60);
  to->set_avg300(from.avg300);
}

template <class Message>
void PressureTo(const std::optional<runtime::Pressure>& from, Message* to) {
  if (!from) return;
  LineTo(from->some, to->mutable_psi()->mutable_some());
  LineTo(from->full, to->mutable_psi()->mutable_full());
}

void CpuTo(const CgroupUsage& from, const Number& nano_cores, std::int64_t time, v1::CpuUsage* to) {
  to->set_timestamp(time);
  if (from.cpu_ns) to->mutable_usage_core_nano_seconds()->set_value(*from.cpu_ns);
  if (nano_cores) to->mutable_usage_nano_cores()->set_value(*nano_cores);
  PressureTo(from.cpu_pressure, to);
}

void MemoryTo(const CgroupUsage& from, std::int64_t time, v1::MemoryUsage* to) {
  to->set_timestamp(time);
  PressureTo(from.memory_pressure, to);
  if (!from.memory) return;
  const CgroupUsage::Memory& memory = *from.memory;
  to->mutable_working_set_bytes()->set_value(memory.working_set_bytes);
  to->mutable_usage_bytes()->set_value(memory.usage_bytes);
  to->mutable_rss_bytes()->set_value(memory.rss_bytes);
  to->mutable_page_faults()->set_value(memory.page_faults);
  to->mutable_major_page_faults()->set_value(memory.major_page_faults);
  const Number left = Left(memory.limit_bytes, memory.working_set_bytes);
  if (left) to->mutable_available_bytes()->set_value(*left);
}

void SwapTo(const CgroupUsage& from, std::int64_t time, v1::SwapUsage* to) {
  to->set_timestamp(time);
  to->mutable_swap_usage_bytes()->set_value(*from.swap_bytes);
  const Number left = Left(from.swap_limit_bytes, *from.swap_bytes);
  if (left) to->mutable_swap_available_bytes()->set_value(*left);
}

void IoTo(const CgroupUsage& from, std::int64_t time, v1::IoUsage* to) {
  to->set_timestamp(time);
  PressureTo(from.io_pressure, to);
}

void LayerTo(const pods::LayerUsage& from, v1::FilesystemUsage* to) {
  to->set_timestamp(from.taken_at_ns);
  to->mutable_fs_id()->set_mountpoint(from.mountpoint);
  to->mutable_used_bytes()->set_value(from.used_bytes);
  to->mutable_inodes_used()->set_value(from.inodes_used);
}

void InterfaceTo(const network::InterfaceCounters& from, v1::NetworkInterfaceUsage* to) {
  to->set_name(from.name);
  to->mutable_rx_bytes()->set_value(from.rx_bytes);
  to->mutable_rx_errors()->set_value(from.rx_errors);
  to->mutable_tx_bytes()->set_value(from.tx_bytes);
  to->mutable_tx_errors()->set_value(from.tx_errors);
}

}  // namespace

void ToCri(const pods::ContainerStats& from, v1::ContainerStats* to) {
  v1::ContainerAttributes* attributes = to->mutable_attributes();
  attributes->set_id(from.id);
  attributes->mutable_metadata()->set_name(from.metadata.name);
  attributes->mutable_metadata()->set_attempt(from.metadata.attempt);
  MapTo(from.labels, attributes->mutable_labels());
  MapTo(from.annotations, attributes->mutable_annotations());
  CpuTo(from.usage, from.nano_cores, from.taken_at_ns, to->mutable_cpu());
  MemoryTo(from.usage, from.taken_at_ns, to->mutable_memory());
  if (from.usage.swap_bytes) SwapTo(from.usage, from.taken_at_ns, to->mutable_swap());
  if (from.layer) LayerTo(*from.layer, to->mutable_writable_layer());
  IoTo(from.usage, from.taken_at_ns, to->mutable_io());
}

void ToCri(const pods::PodStats& from, v1::PodSandboxStats* to) {
  v1::PodSandboxAttributes* attributes = to->mutable_attributes();
  attributes->set_id(from.id);
  attributes->mutable_metadata()->set_name(from.metadata.name);
  attributes->mutable_metadata()->set_uid(from.metadata.uid);
  attributes->mutable_metadata()->set_namespace_(from.metadata.ns);
  attributes->mutable_metadata()->set_attempt(from.metadata.attempt);
  MapTo(from.labels, attributes->mutable_labels());
  MapTo(from.annotations, attributes->mutable_annotations());
  v1::LinuxPodSandboxStats* out = to->mutable_linux();
  CpuTo(from.usage, from.nano_cores, from.taken_at_ns, out->mutable_cpu());
  MemoryTo(from.usage, from.taken_at_ns, out->mutable_memory());
  IoTo(from.usage, from.taken_at_ns, out->mutable_io());
  out->mutable_process()->set_timestamp(from.taken_at_ns);
  if (from.usage.pids) out->mutable_process()->mutable_process_count()->set_value(*from.usage.pids);
  if (from.network_taken_at_ns != 0 && !from.interfaces.empty()) {
    // Clients count on a default interface wherever there is a network: the first one, if none is
    // called eth0.
    v1::NetworkUsage* network = out->mutable_network();
    network->set_timestamp(from.network_taken_at_ns);
    InterfaceTo(from.interfaces.front(), network->mutable_default_interface());
    for (std::size_t i = 1; i < from.interfaces.size(); ++i)
      InterfaceTo(from.interfaces[i], network->add_interfaces());
  }
  for (const pods::ContainerStats& container : from.containers)
    ToCri(container, out->add_containers());
}

}  // namespace linnet::cri
