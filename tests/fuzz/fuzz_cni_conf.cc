// Network configurations: a list that is accepted is accepted again from the text that the cache
// keeps, with the same plugins, and each plugin's input is a JSON object.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "linnet/base/json_view.h"

#include "cni/conf.h"
#include "plugins/portmap_plan.h"

namespace {

using namespace linnet::network;  // NOLINT(google-build-using-namespace): a program of its own

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckInputs(const cni::NetworkConf& network) {
  for (const cni::PluginConf& plugin : network.plugins) {
    const auto input =
        cni::PluginInput(network, plugin, R"({"portMappings":[]})", R"({"cniVersion":"1.0.0"})");
    if (!input) continue;  // too long, too deep: said, not cut
    const auto json = linnet::ParseJson(*input);
    Require(json && json->is_object() && json->value("name", "") == network.name);
    (void)ParsePortmapConf(linnet::JsonView(*json, "$", linnet::KeyMatch::kIgnoreCase));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto parse : {cni::ParseConfList, cni::ParseConf}) {
    const auto network = parse(text);
    if (!network) continue;
    Require(!network->plugins.empty());
    const auto again = cni::ParseConfList(network->text);
    Require(again.has_value() && again->name == network->name &&
            again->version == network->version && again->plugins.size() == network->plugins.size());
    CheckInputs(*network);
  }
  return 0;
}
