#include "lookup.h"

#include <algorithm>

#include "format.h"

namespace linnet::cli {
namespace {

constexpr std::size_t kShortestPrefix = 3;

bool IsPrefix(const std::string& id, const std::string& text) {
  return text.size() >= kShortestPrefix && id.starts_with(text);
}

Error Ambiguous(const std::string& name, const std::vector<cri::PodSandbox>& pods) {
  std::string all;
  for (const auto& pod : pods) {
    all += "\n  " + ShortId(pod.id()) + "  " + pod.metadata().namespace_() + "/" +
           pod.metadata().name();
  }
  return FailedPrecondition("\"" + name + "\" is more than one pod; give the id:" + all);
}

}  // namespace

Result<cri::PodSandbox> FindPod(Client& client, const std::string& name) {
  const auto list = LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ListPodSandbox,
                                       cri::ListPodSandboxRequest()));
  std::vector<cri::PodSandbox> named;
  std::vector<cri::PodSandbox> by_id;
  for (const auto& pod : list.items()) {
    if (pod.id() == name) return pod;
    if (pod.metadata().name() == name) named.push_back(pod);
    if (IsPrefix(pod.id(), name)) by_id.push_back(pod);
  }
  const auto& found = named.empty() ? by_id : named;
  if (found.empty()) return NotFound("no pod \"" + name + "\" (linnet ps -a lists all)");
  if (found.size() > 1) return Ambiguous(name, found);
  return found.front();
}

Result<std::vector<cri::Container>> ContainersOf(Client& client, const std::string& pod_id) {
  cri::ListContainersRequest request;
  request.mutable_filter()->set_pod_sandbox_id(pod_id);
  const auto list =
      LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ListContainers, request));
  return std::vector<cri::Container>(list.containers().begin(), list.containers().end());
}

Result<cri::Container> FindContainer(Client& client, const std::string& name) {
  const std::size_t slash = name.find('/');
  const std::string pod_name = name.substr(0, slash);
  const std::string wanted = slash == std::string::npos ? "" : name.substr(slash + 1);
  auto pod = FindPod(client, pod_name);
  if (!pod && wanted.empty() && pod.error().Is(Code::kNotFound)) {
    const auto list =
        LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ListContainers,
                           cri::ListContainersRequest()));
    std::vector<cri::Container> found;
    for (const auto& c : list.containers()) {
      if (IsPrefix(c.id(), name)) found.push_back(c);
    }
    if (found.size() == 1) return found.front();
    if (found.size() > 1)
      return FailedPrecondition("\"" + name +
                                "\" is the beginning of more than one container's id");
  }
  if (!pod) return std::move(pod).error();
  std::vector<cri::Container> all = LN_TRY(ContainersOf(client, pod->id()));
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.created_at() > b.created_at(); });
  std::vector<std::string> names;
  for (const auto& c : all) {
    if (!wanted.empty() && c.metadata().name() == wanted) return c;
    if (std::find(names.begin(), names.end(), c.metadata().name()) == names.end())
      names.push_back(c.metadata().name());
  }
  if (names.empty()) return NotFound("pod \"" + pod_name + "\" has no container");
  if (wanted.empty() && names.size() == 1) return all.front();
  std::string list;
  for (const auto& n : names) list += " " + pod_name + "/" + n;
  if (wanted.empty())
    return InvalidArgument("pod \"" + pod_name + "\" has several containers, name one:" + list);
  return NotFound("pod \"" + pod_name + "\" has no container \"" + wanted +
                  "\"; there are:" + list);
}

Result<cri::ContainerStatus> StatusOf(Client& client, const std::string& container_id) {
  cri::ContainerStatusRequest request;
  request.set_container_id(container_id);
  return LN_TRY(client.Call(client.runtime(), &cri::RuntimeService::Stub::ContainerStatus, request))
      .status();
}

Result<cri::PodSandboxStatus> PodStatusOf(Client& client, const std::string& pod_id) {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(pod_id);
  return LN_TRY(
             client.Call(client.runtime(), &cri::RuntimeService::Stub::PodSandboxStatus, request))
      .status();
}

}  // namespace linnet::cli
