#include <mutex>

#include "linnet/base/file.h"
#include "linnet/network/engine.h"

#include "driver.h"

namespace linnet::bench {
namespace {

class EngineDriver final : public Driver {
 public:
  explicit EngineDriver(std::unique_ptr<network::Engine> engine) : engine_(std::move(engine)) {}

  Result<UniqueFd> MakeNamespace(const std::string& id, std::string& path) override {
    network::PodNetns netns = LN_TRY(engine_->TakeNetns(LN_TRY(PodId::Parse(id))));
    path = netns.path;
    return std::move(netns.fd);
  }
  Result<std::string> Add(const PodSpec& pod) override {
    network::AttachRequest request{.pod = LN_TRY(PodId::Parse(pod.id)),
                                   .netns = pod.netns,
                                   .netns_path = pod.netns_path,
                                   .ports = {},
                                   .args = {{"IgnoreUnknown", "1"},
                                            {"K8S_POD_NAMESPACE", "default"},
                                            {"K8S_POD_NAME", pod.id},
                                            {"K8S_POD_INFRA_CONTAINER_ID", pod.id}},
                                   .cgroup_path = {},
                                   .ingress_bits_per_second = {},
                                   .egress_bits_per_second = {}};
    for (const HostPortSpec& port : pod.ports) {
      request.ports.push_back({.host_port = port.host_port,
                               .container_port = port.pod_port,
                               .protocol = "tcp",
                               .host_ip = {}});
    }
    const network::Attachment attachment = LN_TRY(engine_->Attach(request));
    if (attachment.addresses.empty()) return Internal("no address for " + pod.id);
    return attachment.addresses.front().address().str();
  }
  Result<void> Check(const PodSpec& pod) override {
    return engine_->Check(LN_TRY(PodId::Parse(pod.id)));
  }
  Result<void> Del(const PodSpec& pod) override {
    return engine_->Detach(LN_TRY(PodId::Parse(pod.id)));
  }
  void Settle() override { engine_.reset(); }  // waits for the links that it retired

 private:
  std::unique_ptr<network::Engine> engine_;
};

}  // namespace

Result<std::unique_ptr<Driver>> MakeEngineDriver(const DriverOptions& options) {
  network::EngineOptions engine;
  engine.conf_dir = JoinPath(options.work, "net.d");
  engine.bin_dirs = {options.plugins};
  engine.cache_dir = JoinPath(options.work, "cni");
  engine.ipam_dir = JoinPath(options.work, "networks");
  engine.state_dir = JoinPath(options.work, "state");
  engine.netns_dir = "/run/netns";
  engine.linnet_cni_path = options.linnet_cni;
  engine.pool_size = 0;
  LN_TRY(MakeDirs(engine.conf_dir, 0755));
  if (!options.config.empty())
    LN_TRY(ReplaceFile(JoinPath(engine.conf_dir, "10-bench.conflist"), options.config, 0644));
  auto made = LN_TRY(network::Engine::Create(engine));
  LN_TRY(made->Recover({}));
  return std::unique_ptr<Driver>(std::make_unique<EngineDriver>(std::move(made)));
}

}  // namespace linnet::bench
