#include "store/layer_info.h"

namespace linnet::oci {

std::string LayerName(const Digest& id) {
  return std::string(id.algorithm()) + "-" + std::string(id.hex());
}

Json DumpLayer(const LayerInfo& info) {
  Json out = {{"name", info.name}, {"bytes", info.disk_bytes}, {"inodes", info.inodes}};
  if (!info.diff_id.empty()) out["diff_id"] = info.diff_id;
  if (info.opaque_root) out["opaque"] = true;
  if (info.chained) out["chained"] = true;
  if (info.exact) out["exact"] = true;
  if (info.tar_bytes > 0) out["tar_bytes"] = info.tar_bytes;
  if (!info.moved.empty()) out["moved"] = info.moved;
  return out;
}

Result<LayerInfo> ParseLayer(const JsonView& v) {
  LayerInfo out;
  out.name = LN_TRY(v.Required<std::string>("name"));
  // It becomes a path: nothing but what LayerName makes.
  const std::size_t dash = out.name.find('-');
  if (dash == std::string::npos) return v.Fail("not the name of a layer");
  const Digest id =
      LN_TRY(Digest::Parse(out.name.substr(0, dash) + ":" + out.name.substr(dash + 1)));
  out.name = LayerName(id);
  const auto diff_id = LN_TRY(v.Optional<std::string>("diff_id", ""));
  if (!diff_id.empty()) out.diff_id = LN_TRY(Digest::Parse(diff_id)).str();
  out.disk_bytes = LN_TRY(v.Optional<std::uint64_t>("bytes", 0));
  out.inodes = LN_TRY(v.Optional<std::uint64_t>("inodes", 0));
  out.opaque_root = LN_TRY(v.Optional<bool>("opaque", false));
  out.chained = LN_TRY(v.Optional<bool>("chained", false));
  out.exact = LN_TRY(v.Optional<bool>("exact", false));
  out.tar_bytes = LN_TRY(v.Optional<std::uint64_t>("tar_bytes", 0));
  out.moved = LN_TRY(v.StringMap("moved"));
  return out;
}

}  // namespace linnet::oci
