// What commands print.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/json_view.h"

#include "client.h"

namespace linnet::cli {

// Columns as wide as they need to be; the last one may be long.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // To standard output.
  void Print() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

void PrintJson(const Json& json);

// "12s", "5m", "3h", "9d" since then.
std::string Age(std::int64_t wall_nanos);
std::string ShortId(std::string_view id);           // 12 digits, without "sha256:"
std::string StateName(cri::ContainerState state);   // "created" "running" "exited" "unknown"
std::string StateName(cri::PodSandboxState state);  // "ready" "notready"

Json ToJson(const cri::PodSandboxStatus& pod);
Json ToJson(const cri::ContainerStatus& container);
Json ToJson(const cri::Image& image);

}  // namespace linnet::cli
