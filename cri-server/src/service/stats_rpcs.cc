#include "stats_rpcs.h"

#include "convert/stats_to_cri.h"

namespace linnet::cri {

Result<void> StatsRpcs::Container(const v1::ContainerStatsRequest& request,
                                  v1::ContainerStatsResponse& response, const Call&) {
  ToCri(LN_TRY(pods_.GetContainerStats(request.container_id())), response.mutable_stats());
  return Ok();
}

Result<void> StatsRpcs::Containers(const v1::ListContainerStatsRequest& request,
                                   v1::ListContainerStatsResponse& response, const Call&) {
  pods::ContainerFilter filter;
  filter.id = request.filter().id();
  filter.pod_id = request.filter().pod_sandbox_id();
  for (const auto& [key, value] : request.filter().label_selector()) filter.labels[key] = value;
  for (const pods::ContainerStats& stats : pods_.ListContainerStats(filter))
    ToCri(stats, response.add_stats());
  return Ok();
}

Result<void> StatsRpcs::Pod(const v1::PodSandboxStatsRequest& request,
                            v1::PodSandboxStatsResponse& response, const Call&) {
  ToCri(LN_TRY(pods_.GetPodStats(request.pod_sandbox_id())), response.mutable_stats());
  return Ok();
}

Result<void> StatsRpcs::Pods(const v1::ListPodSandboxStatsRequest& request,
                             v1::ListPodSandboxStatsResponse& response, const Call&) {
  pods::PodFilter filter;
  filter.id = request.filter().id();
  for (const auto& [key, value] : request.filter().label_selector()) filter.labels[key] = value;
  for (const pods::PodStats& stats : pods_.ListPodStats(filter)) ToCri(stats, response.add_stats());
  return Ok();
}

}  // namespace linnet::cri
