#include "cni/cache.h"

#include "linnet/base/text.h"

#include "cni/raw_json.h"

namespace linnet::network::cni {
namespace {

constexpr std::string_view kKind = "cniCacheV1";

Result<Record> ParseChecked(std::string_view text) {
  const Json document = LN_TRY(ParseJson(text));
  const JsonView view(document);
  if (LN_TRY(view.Optional<std::string>("kind", "")) != kKind)
    return view.Fail("kind is not \"cniCacheV1\"");
  Record out;
  out.container_id = LN_TRY(view.Required<std::string>("containerId"));
  out.ifname = LN_TRY(view.Required<std::string>("ifName"));
  out.network = LN_TRY(view.Required<std::string>("networkName"));
  out.netns = LN_TRY(view.Optional<std::string>("netns", ""));
  const auto config = LN_TRY(view.Optional<std::string>("config", ""));
  out.config = LN_TRY(Base64Decode(config));
  for (const JsonView& pair : LN_TRY(view.Array("cniArgs"))) {
    const std::vector<JsonView> both = LN_TRY(pair.Elements());
    if (both.size() != 2) return pair.Fail("a pair is expected");
    std::string key = LN_TRY(both[0].As<std::string>());
    out.args.emplace_back(std::move(key), LN_TRY(both[1].As<std::string>()));
  }
  if (const auto capabilities = LN_TRY(view.Find("capabilityArgs")))
    out.capability_args = capabilities->raw();
  if (const auto mark = LN_TRY(view.Find("linnet"))) {
    out.mark.emplace();
    out.mark->instance = LN_TRY(mark->Optional<std::string>("instance", ""));
    out.mark->foreign = LN_TRY(mark->Strings("foreign"));
  }
  for (const RawMember& member : LN_TRY(RawMembers(text))) {
    if (member.key == "result" && member.value != "null") out.result = member.value;
  }
  return out;
}

}  // namespace

std::string RecordName(std::string_view network, std::string_view container_id,
                       std::string_view ifname) {
  std::string out(network);
  out.append("-").append(container_id).append("-").append(ifname);
  return out;
}

std::string DumpRecord(const Record& record) {
  Json out = {{"kind", std::string(kKind)},
              {"containerId", record.container_id},
              {"config", Base64Encode(record.config)},
              {"ifName", record.ifname},
              {"networkName", record.network}};
  if (!record.netns.empty()) out["netns"] = record.netns;
  for (const auto& [key, value] : record.args) out["cniArgs"].push_back(Json::array({key, value}));
  if (!record.capability_args.empty()) out["capabilityArgs"] = record.capability_args;
  if (record.mark) {
    out["linnet"] = {{"instance", record.mark->instance}};
    if (!record.mark->foreign.empty()) out["linnet"]["foreign"] = record.mark->foreign;
  }
  std::string text = DumpJson(out);
  if (record.result.empty()) return text;
  text.pop_back();
  return text + ",\"result\":" + record.result + "}";
}

Result<Record> ParseRecord(std::string_view text) {
  auto record = ParseChecked(text);
  if (!record) return Error(Code::kDataLoss, record.error().message()).With("attachment record");
  return record;
}

}  // namespace linnet::network::cni
