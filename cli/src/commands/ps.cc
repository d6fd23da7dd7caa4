// ps: pods and their containers.
#include <algorithm>

#include "app.h"
#include "format.h"
#include "lookup.h"

namespace linnet::cli {
namespace {

struct PsOptions {
  bool all = false, quiet = false;
};

std::string Addresses(const cri::PodSandboxStatus& pod) {
  std::string out = pod.network().ip();
  for (const auto& ip : pod.network().additional_ips()) out += "," + ip.ip();
  if (!out.empty()) return out;
  return pod.linux().namespaces().options().network() == cri::NODE ? "host" : "-";
}

std::string ContainerState(const cri::ContainerStatus& c) {
  if (c.state() != cri::CONTAINER_EXITED) return StateName(c.state());
  return "exited (" +
         (c.reason() == "OOMKilled" ? std::string("OOM") : std::to_string(c.exit_code())) + ")";
}

Result<int> Ps(const App& app, const PsOptions& o) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  const auto pods = LN_TRY(client->Call(
      client->runtime(), &cri::RuntimeService::Stub::ListPodSandbox, cri::ListPodSandboxRequest()));
  Json json = Json::array();
  Table table({"POD", "CONTAINER", "IMAGE", "STATE", "AGE", "ADDRESS", "PORTS", "ID"});
  for (const auto& item : pods.items()) {
    auto status = PodStatusOf(*client, item.id());
    if (!status && status.error().Is(Code::kNotFound)) continue;  // removed meanwhile
    if (!status) return std::move(status).error();
    const cri::PodSandboxStatus& pod = *status;
    Json entry = ToJson(pod);
    entry["containers"] = Json::array();
    const auto ports = pod.annotations().find(kPortsAnnotation);
    const std::string port_text =
        ports == pod.annotations().end() || ports->second.empty() ? "-" : ports->second;
    std::size_t shown = 0;
    for (const auto& c : LN_TRY(ContainersOf(*client, pod.id()))) {
      auto container = StatusOf(*client, c.id());
      if (!container && container.error().Is(Code::kNotFound)) continue;
      if (!container) return std::move(container).error();
      entry["containers"].push_back(ToJson(*container));
      const bool live = container->state() == cri::CONTAINER_RUNNING ||
                        container->state() == cri::CONTAINER_CREATED;
      if (!live && !o.all) continue;
      ++shown;
      const std::int64_t since =
          container->started_at() > 0 ? container->started_at() : container->created_at();
      table.Add({pod.metadata().name(), container->metadata().name(), container->image().image(),
                 ContainerState(*container), Age(since), Addresses(pod), port_text,
                 ShortId(container->id())});
    }
    if (shown == 0 &&
        (o.all || (pod.state() == cri::SANDBOX_READY && entry["containers"].empty()))) {
      table.Add({pod.metadata().name(), "-", "-", StateName(pod.state()), Age(pod.created_at()),
                 Addresses(pod), port_text, ShortId(pod.id())});
      ++shown;
    }
    if (shown == 0) continue;
    if (o.quiet) std::printf("%s\n", pod.metadata().name().c_str());
    json.push_back(std::move(entry));
  }
  if (o.quiet) return 0;
  if (app.json()) {
    PrintJson(json);
  } else {
    table.Print();
  }
  return 0;
}

}  // namespace

void AddPs(App& app) {
  auto options = std::make_shared<PsOptions>();
  CLI::App* ps = app.root().add_subcommand("ps", "list pods and their containers");
  ps->add_flag("-a,--all", options->all, "those that ended, too");
  ps->add_flag("-q,--quiet", options->quiet, "names of pods only");
  app.OnRun(ps, [&app, options] { return Ps(app, *options); });
}

}  // namespace linnet::cli
