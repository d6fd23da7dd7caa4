#include "format.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "linnet/base/clock.h"

namespace linnet::cli {
namespace {

Json Labels(const google::protobuf::Map<std::string, std::string>& labels) {
  Json out = Json::object();
  for (const auto& [key, value] : labels) out[key] = value;
  return out;
}

Json Time(std::int64_t wall_nanos) {
  return wall_nanos > 0 ? Json(FormatRfc3339Nano(wall_nanos)) : Json();
}

}  // namespace

void Table::Print() const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 3, ' ');
    }
    std::printf("%s\n", line.c_str());
  }
}

void PrintJson(const Json& json) { std::printf("%s\n", DumpJson(json, 2).c_str()); }

std::string Age(std::int64_t wall_nanos) {
  if (wall_nanos <= 0) return "-";
  const std::int64_t seconds =
      std::max<std::int64_t>(0, (SystemClock().WallNanos() - wall_nanos) / 1'000'000'000);
  if (seconds < 120) return std::to_string(seconds) + "s";
  if (seconds < 120 * 60) return std::to_string(seconds / 60) + "m";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + "h";
  return std::to_string(seconds / 86400) + "d";
}

std::string ShortId(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return std::string(id.substr(0, 12));
}

std::string StateName(cri::ContainerState state) {
  switch (state) {
    case cri::CONTAINER_CREATED:
      return "created";
    case cri::CONTAINER_RUNNING:
      return "running";
    case cri::CONTAINER_EXITED:
      return "exited";
    default:
      return "unknown";
  }
}

std::string StateName(cri::PodSandboxState state) {
  return state == cri::SANDBOX_READY ? "ready" : "notready";
}

Json ToJson(const cri::PodSandboxStatus& pod) {
  Json out;
  out["id"] = pod.id();
  out["name"] = pod.metadata().name();
  out["namespace"] = pod.metadata().namespace_();
  out["uid"] = pod.metadata().uid();
  out["attempt"] = pod.metadata().attempt();
  out["state"] = StateName(pod.state());
  out["createdAt"] = Time(pod.created_at());
  out["addresses"] = Json::array();
  if (!pod.network().ip().empty()) out["addresses"].push_back(pod.network().ip());
  for (const auto& ip : pod.network().additional_ips()) out["addresses"].push_back(ip.ip());
  out["labels"] = Labels(pod.labels());
  out["annotations"] = Labels(pod.annotations());
  return out;
}

Json ToJson(const cri::ContainerStatus& c) {
  Json out;
  out["id"] = c.id();
  out["name"] = c.metadata().name();
  out["attempt"] = c.metadata().attempt();
  out["state"] = StateName(c.state());
  out["image"] = c.image().image();
  out["imageId"] = c.image_id();
  out["imageRef"] = c.image_ref();
  out["createdAt"] = Time(c.created_at());
  out["startedAt"] = Time(c.started_at());
  out["finishedAt"] = Time(c.finished_at());
  out["exitCode"] = c.state() == cri::CONTAINER_EXITED ? Json(c.exit_code()) : Json();
  out["reason"] = c.reason();
  out["message"] = c.message();
  out["logPath"] = c.log_path();
  out["labels"] = Labels(c.labels());
  out["mounts"] = Json::array();
  for (const auto& m : c.mounts()) {
    out["mounts"].push_back({{"hostPath", m.host_path()},
                             {"containerPath", m.container_path()},
                             {"readonly", m.readonly()}});
  }
  return out;
}

Json ToJson(const cri::Image& image) {
  Json out;
  out["id"] = image.id();
  out["tags"] = Json::array();
  for (const auto& tag : image.repo_tags()) out["tags"].push_back(tag);
  out["digests"] = Json::array();
  for (const auto& digest : image.repo_digests()) out["digests"].push_back(digest);
  out["sizeBytes"] = image.size();
  out["pinned"] = image.pinned();
  return out;
}

}  // namespace linnet::cli
