// stop and rm: whole pods, or one container of a pod.
#include <cstdio>

#include "linnet/base/file.h"

#include "app.h"
#include "lookup.h"
#include "parse.h"

namespace linnet::cli {
namespace {

struct RemoveOptions {
  std::vector<std::string> names;
  std::string timeout = "10";
  bool force = false, all = false;
};

Result<void> StopContainers(Client& client, const std::string& pod_id, std::int64_t timeout) {
  for (const auto& c : LN_TRY(ContainersOf(client, pod_id))) {
    cri::StopContainerRequest stop;
    stop.set_container_id(c.id());
    stop.set_timeout(timeout);
    LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::StopContainer, stop,
                       std::chrono::seconds(timeout + 60)));
  }
  return Ok();
}

Result<void> StopPod(Client& client, const cri::PodSandbox& pod, std::int64_t timeout) {
  LN_TRY(StopContainers(client, pod.id(), timeout));
  cri::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(pod.id());
  LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::StopPodSandbox, stop));
  return Ok();
}

Result<void> RemovePod(Client& client, const cri::PodSandbox& pod, const RemoveOptions& o) {
  bool running = false;
  for (const auto& c : LN_TRY(ContainersOf(client, pod.id())))
    running = running || c.state() == cri::CONTAINER_RUNNING;
  if (running && !o.force) {
    return FailedPrecondition("pod \"" + pod.metadata().name() + "\" is running (linnet stop " +
                              pod.metadata().name() + " first, or rm --force)");
  }
  cri::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(pod.id());
  LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::RemovePodSandbox, request));
  const auto logs = pod.annotations().find(kLogsAnnotation);
  const auto label = pod.labels().find(kManagedLabel);
  if (logs == pod.annotations().end() || label == pod.labels().end() ||
      label->second != kManagedValue)
    return Ok();
  return RemoveAll(logs->second);  // made by `linnet run` for this pod alone
}

// One name. "POD/CONTAINER" is that container, anything else a pod.
Result<void> One(Client& client, const std::string& name, const RemoveOptions& o, bool remove) {
  const std::int64_t timeout = LN_TRY_CTX(ParseSeconds(o.timeout), "--time");
  if (name.find('/') == std::string::npos) {
    auto pod = FindPod(client, name);
    if (!pod && remove && o.force && pod.error().Is(Code::kNotFound)) return Ok();
    if (!pod) return std::move(pod).error();
    return remove ? RemovePod(client, *pod, o) : StopPod(client, *pod, timeout);
  }
  const cri::Container container = LN_TRY(FindContainer(client, name));
  if (!remove) {
    cri::StopContainerRequest stop;
    stop.set_container_id(container.id());
    stop.set_timeout(timeout);
    LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::StopContainer, stop,
                       std::chrono::seconds(timeout + 60)));
    return Ok();
  }
  if (container.state() == cri::CONTAINER_RUNNING && !o.force) {
    return FailedPrecondition("container \"" + name +
                              "\" is running (stop it first, or rm --force)");
  }
  cri::RemoveContainerRequest request;
  request.set_container_id(container.id());
  LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::RemoveContainer, request));
  return Ok();
}

Result<int> Each(const App& app, RemoveOptions o, bool remove) {
  const std::unique_ptr<Client> client = LN_TRY(app.Connect());
  if (o.all) {
    const auto pods =
        LN_TRY(client->Call(client->runtime(), &cri::RuntimeService::Stub::ListPodSandbox,
                            cri::ListPodSandboxRequest()));
    for (const auto& pod : pods.items()) o.names.push_back(pod.id());
  }
  int code = 0;
  for (const std::string& name : o.names) {
    auto done = One(*client, name, o, remove);
    if (done) {
      std::printf("%s\n", name.c_str());
    } else {
      std::fprintf(stderr, "linnet: %s\n", done.error().message().c_str());
      code = 1;
    }
  }
  return code;
}

void AddNames(CLI::App* command, RemoveOptions& o) {
  command->add_flag("-a,--all", o.all, "every pod");
  command->add_option("pods", o.names, "POD, its id, or POD/CONTAINER")->type_name("NAME");
}

Result<void> CheckNames(const RemoveOptions& o) {
  if (o.names.empty() && !o.all) return InvalidArgument("name a pod (or --all)");
  return Ok();
}

}  // namespace

void AddRemove(App& app) {
  auto stop_options = std::make_shared<RemoveOptions>();
  CLI::App* stop = app.root().add_subcommand("stop", "stop pods or containers");
  stop->add_option("-t,--time", stop_options->timeout,
                   "how long a container may take before it is killed")
      ->type_name("TIME")
      ->capture_default_str();
  AddNames(stop, *stop_options);
  app.OnRun(stop, [&app, stop_options]() -> Result<int> {
    LN_TRY(CheckNames(*stop_options));
    return Each(app, *stop_options, false);
  });

  auto rm_options = std::make_shared<RemoveOptions>();
  CLI::App* rm = app.root().add_subcommand("rm", "remove pods or containers, with their logs");
  rm->add_flag("-f,--force", rm_options->force, "even if it runs; no error if it is not there");
  AddNames(rm, *rm_options);
  app.OnRun(rm, [&app, rm_options]() -> Result<int> {
    LN_TRY(CheckNames(*rm_options));
    return Each(app, *rm_options, true);
  });
}

}  // namespace linnet::cli
