// version and info: what runs here, and whether it is well.
#include <cstdio>

#include "app.h"
#include "format.h"
#include "lookup.h"

#ifndef LINNET_VERSION
#error "LINNET_VERSION comes from the build"
#endif

namespace linnet::cli {
namespace {

Result<int> Version(const App& app) {
  auto client = app.Connect();
  Json json = {{"client", LINNET_VERSION}};
  if (!app.json()) std::printf("linnet   %s\n", LINNET_VERSION);
  if (!client) return std::move(client).error();
  cri::VersionRequest request;
  const auto v = LN_TRY((*client)->Call((*client)->runtime(), &cri::RuntimeService::Stub::Version,
                                        request, std::chrono::seconds(10)));
  json["daemon"] = {{"name", v.runtime_name()},
                    {"version", v.runtime_version()},
                    {"criVersion", v.runtime_api_version()}};
  json["address"] = (*client)->socket();
  if (app.json()) {
    PrintJson(json);
  } else {
    std::printf("%-8s %s (CRI %s) at %s\n",
                v.runtime_name() == "linnet" ? "linnetd" : v.runtime_name().c_str(),
                v.runtime_version().c_str(), v.runtime_api_version().c_str(),
                (*client)->socket().c_str());
  }
  return 0;
}

Result<int> Info(const App& app) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const auto info =
      LN_TRY(client->Call(client->linnet(), &ext::Linnet::Stub::Info, ext::InfoRequest()));
  cri::StatusRequest ask;
  const auto status =
      LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::Status, ask));
  Json json = {{"version", info.version()},  {"instance", info.instance()},
               {"root", info.root()},        {"state", info.state()},
               {"socket", client->socket()}, {"cgroupLayout", info.cgroup_layout()},
               {"network", info.network()},  {"networkSource", info.network_source()},
               {"pods", info.pods()},        {"containers", info.containers()},
               {"images", info.images()}};
  json["conditions"] = Json::array();
  for (const auto& c : status.status().conditions()) {
    json["conditions"].push_back({{"type", c.type()},
                                  {"status", c.status()},
                                  {"reason", c.reason()},
                                  {"message", c.message()}});
  }
  if (app.json()) {
    PrintJson(json);
    return 0;
  }
  std::printf("linnetd     %s%s%s\n", info.version().c_str(),
              info.instance().empty() ? "" : ", instance ", info.instance().c_str());
  std::printf("socket      %s\nroot        %s\nstate       %s\n", client->socket().c_str(),
              info.root().c_str(), info.state().c_str());
  std::printf("cgroups     %s\nnetwork     %s (%s)\n", info.cgroup_layout().c_str(),
              info.network().c_str(), info.network_source().c_str());
  std::printf("here        %llu pods, %llu containers, %llu images\n",
              static_cast<unsigned long long>(info.pods()),
              static_cast<unsigned long long>(info.containers()),
              static_cast<unsigned long long>(info.images()));
  for (const auto& c : status.status().conditions()) {
    std::printf("%-11s %s%s%s\n", c.type().c_str(), c.status() ? "yes" : "no",
                c.message().empty() ? "" : ": ", c.message().c_str());
  }
  return 0;
}

}  // namespace

void AddInfo(App& app) {
  CLI::App* version =
      app.root().add_subcommand("version", "versions of this program and the daemon");
  app.OnRun(version, [&app] { return Version(app); });
  CLI::App* info =
      app.root().add_subcommand("info", "where the daemon keeps what, and whether it is well");
  app.OnRun(info, [&app] { return Info(app); });
}

}  // namespace linnet::cli
