// inspect: everything about a pod, a container or an image.
#include <cstdio>

#include "linnet/base/text.h"

#include "app.h"
#include "format.h"
#include "lookup.h"

namespace linnet::cli {
namespace {

struct InspectOptions {
  std::string name, format;
};

// The verbose part of a status, with what is JSON as JSON.
Json Info(const google::protobuf::Map<std::string, std::string>& info) {
  Json out = Json::object();
  for (const auto& [key, value] : info) {
    auto parsed = ParseJson(value);
    out[key] = parsed ? *std::move(parsed) : Json(value);
  }
  return out;
}

Result<Json> InspectPod(Client& client, const std::string& id) {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(id);
  request.set_verbose(true);
  const auto response =
      LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::PodSandboxStatus, request));
  Json out = ToJson(response.status());
  out["kind"] = "pod";
  out["info"] = Info(response.info());
  out["containers"] = Json::array();
  for (const auto& c : LN_TRY(ContainersOf(client, id))) {
    cri::ContainerStatusRequest ask;
    ask.set_container_id(c.id());
    ask.set_verbose(true);
    const auto status =
        LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ContainerStatus, ask));
    Json container = ToJson(status.status());
    container["info"] = Info(status.info());
    out["containers"].push_back(std::move(container));
  }
  return out;
}

Result<Json> InspectContainer(Client& client, const std::string& name) {
  const cri::Container c = LN_TRY(FindContainer(client, name));
  cri::ContainerStatusRequest ask;
  ask.set_container_id(c.id());
  ask.set_verbose(true);
  const auto status =
      LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ContainerStatus, ask));
  Json out = ToJson(status.status());
  out["kind"] = "container";
  out["pod"] = c.pod_sandbox_id();
  out["info"] = Info(status.info());
  return out;
}

Result<Json> InspectImage(Client& client, const std::string& name) {
  cri::ImageStatusRequest ask;
  ask.mutable_image()->set_image(name);
  ask.set_verbose(true);
  const auto status =
      LN_TRY(client.Call(client.images(), &cri::ImageService::Stub::ImageStatus, ask));
  if (!status.has_image()) return NotFound("no pod, container or image \"" + name + "\"");
  Json out = ToJson(status.image());
  out["kind"] = "image";
  out["info"] = Info(status.info());
  return out;
}

Result<Json> Inspect(Client& client, const std::string& name) {
  if (name.find('/') == std::string::npos) {
    auto pod = FindPod(client, name);
    if (pod) return InspectPod(client, pod->id());
    if (!pod.error().Is(Code::kNotFound)) return std::move(pod).error();
  }
  auto container = InspectContainer(client, name);
  if (container || !container.error().Is(Code::kNotFound)) return container;
  return InspectImage(client, name);
}

// "addresses", "containers.0.exitCode": members by name, elements by number; a pod's only container
// is looked into too.
Result<Json> Member(const Json& document, const std::string& path) {
  const Json* at = &document;
  for (const std::string& step : Split(path, '.')) {
    if (at->is_object() && !at->contains(step) && at->contains("containers") &&
        (*at)["containers"].size() == 1) {
      at = &(*at)["containers"].front();
    }
    if (at->is_object() && at->contains(step)) {
      at = &(*at)[step];
      continue;
    }
    auto index = ParseNumber<std::size_t>(step);
    if (!at->is_array() || !index || *index >= at->size()) {
      return NotFound("--format: there is no \"" + step +
                      "\" (linnet inspect without --format shows everything)");
    }
    at = &(*at)[*index];
  }
  return *at;
}

void PrintPlain(const Json& value) {
  if (value.is_array()) {
    for (const Json& item : value) PrintPlain(item);
  } else if (value.is_string()) {
    std::printf("%s\n", value.get_ref<const std::string&>().c_str());
  } else if (value.is_object()) {
    PrintJson(value);
  } else {
    std::printf("%s\n", DumpJson(value).c_str());
  }
}

}  // namespace

void AddInspect(App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* inspect = app.root().add_subcommand(
      "inspect", "show everything about a pod, container or image, as JSON");
  inspect->footer(
      "  linnet inspect web\n  linnet inspect web --format addresses\n  linnet inspect web "
      "--format exitCode");
  inspect
      ->add_option("--format", options->format,
                   "only this member: addresses, state, exitCode, info.pid, …")
      ->type_name("PATH");
  inspect->add_option("name", options->name, "POD, POD/CONTAINER, an id, or an image")
      ->required()
      ->type_name("NAME");
  app.OnRun(inspect, [&app, options]() -> Result<int> {
    const std::unique_ptr<Client> client = LN_TRY(app.Connect());
    const Json document = LN_TRY(Inspect(*client, options->name));
    if (options->format.empty()) {
      PrintJson(document);
    } else {
      PrintPlain(LN_TRY(Member(document, options->format)));
    }
    return 0;
  });
}

}  // namespace linnet::cli
