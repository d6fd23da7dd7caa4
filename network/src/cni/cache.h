// Attachment records in libcni's cache format: <cache_dir>/results/<network>-<container
// id>-<interface>.
//
// One key is added, which other readers ignore: "linnet": {"instance": "…", "foreign": ["…"]}. Only
// records that carry it with our instance are ours to undo.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/json_view.h"

#include "cni/args.h"
#include "cni/conf.h"
#include "cni/result.h"

namespace linnet::network::cni {

struct RecordMark {
  std::string instance;
  std::vector<std::string> foreign;  // plugin types that were executed, not called
};

struct Record {
  std::string container_id, ifname, network;
  std::string netns;   // path
  std::string config;  // the list's text
  Args args;
  Json capability_args = Json::object();
  std::string result;  // JSON text as the configuration's version demands; empty: an intent
  std::optional<RecordMark> mark;  // absent: written by another runtime
};

std::string RecordName(std::string_view network, std::string_view container_id,
                       std::string_view ifname);
std::string DumpRecord(const Record& record);
// Errors: kDataLoss not such a record (empty, torn, another kind).
Result<Record> ParseRecord(std::string_view text);

}  // namespace linnet::network::cni
