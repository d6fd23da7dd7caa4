// Runtime, engine and image store that remember what was asked of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "linnet/network/engine.h"
#include "linnet/oci/image_store.h"
#include "linnet/runtime/runtime.h"

#include "manager.h"

namespace linnet::pods {

class FakeEngine final : public network::Engine {
 public:
  Result<network::PodNetns> TakeNetns(const PodId& pod) override {
    if (fail_take) return Unavailable("no namespace");
    netns.insert(pod.str());
    network::PodNetns out;
    out.path = "/run/netns/linnet-" + pod.str();
    return out;
  }
  Result<network::PodNetns> AdoptNetns(const PodId& pod, FdRef) override { return TakeNetns(pod); }
  Result<network::PodNetns> OpenNetns(const PodId& pod) override {
    if (!netns.contains(pod.str())) return NotFound("gone");
    network::PodNetns out;
    out.path = "/run/netns/linnet-" + pod.str();
    return out;
  }
  Result<void> ReleaseNetns(const PodId& pod) override {
    netns.erase(pod.str());
    return Ok();
  }
  Result<network::Attachment> Attach(const network::AttachRequest& request) override {
    if (fail_attach) return AlreadyExists("host port 80 is taken");
    attached.insert(request.pod.str());
    last_request_ports = request.ports;
    network::Attachment out;
    out.addresses.push_back(*Cidr::Parse("10.83.0.2/32"));
    return out;
  }
  Result<void> Detach(const PodId& pod) override {
    ++detaches;
    if (fail_detach) return Unavailable("netlink");
    attached.erase(pod.str());
    return Ok();
  }
  std::optional<network::Attachment> Find(const PodId&) const override { return std::nullopt; }
  Result<void> Check(const PodId&) override { return Ok(); }
  Result<void> Recover(const std::vector<PodId>& known) override {
    recovered_with = known.size();
    return Ok();
  }
  Result<std::vector<std::string>> CollectGarbage() override { return std::vector<std::string>(); }
  std::vector<network::PodCheck> CheckAll() override { return {}; }
  Result<network::NetworkView> View() override { return network::NetworkView(); }
  Result<std::vector<network::AddressView>> Addresses() override {
    return std::vector<network::AddressView>();
  }
  std::vector<network::Finding> Diagnose() override { return {}; }
  network::EngineStatus Status() override { return {.ready = true}; }
  Result<void> SetPodCidr(const std::string&) override { return Ok(); }

  bool fail_take = false, fail_attach = false, fail_detach = false;
  int detaches = 0;
  std::size_t recovered_with = 0;
  std::set<std::string> netns, attached;
  std::vector<network::PortMapping> last_request_ports;
};

class FakeImages final : public oci::ImageStore {
 public:
  explicit FakeImages(const std::string& root) {
    auto image = std::make_shared<oci::Image>(oci::Image{.id = oci::Digest::Sha256Of("config")});
    image->repo_tags = {"docker.io/library/busybox:latest"};
    image->config.cmd = {"sh"};
    image->layer_dirs = {root};
    image_ = std::move(image);
  }
  std::vector<std::shared_ptr<const oci::Image>> List() const override { return {image_}; }
  std::shared_ptr<const oci::Image> Find(std::string_view ref) const override {
    return ref == "busybox" || ref == image_->id.str() ? image_ : nullptr;
  }
  Result<std::shared_ptr<const oci::Image>> Pull(const oci::Reference&,
                                                 const oci::PullOptions&) override {
    return image_;
  }
  Result<std::shared_ptr<const oci::Image>> Import(FdRef, const ImportOptions&) override {
    return image_;
  }
  Result<void> Remove(std::string_view) override { return Ok(); }
  Result<std::shared_ptr<const void>> Hold(const oci::Digest&) override {
    auto count = held;
    ++*count;
    return std::shared_ptr<const void>(count.get(), [count](const void*) { --*count; });
  }
  Result<oci::FsUsage> Usage() const override { return oci::FsUsage{}; }
  std::shared_ptr<int> held = std::make_shared<int>(0);

 private:
  std::shared_ptr<const oci::Image> image_;
};

// Containers "run" until they are killed, or until Finish().
class FakeRuntime final : public runtime::Runtime {
 public:
  explicit FakeRuntime(runtime::RuntimeEvents events) : events_(std::move(events)) {}
  Result<void> StartPod(const runtime::PodSpec& spec, Deadline) override {
    if (fail_start_pod) return Internal("clone: Resource temporarily unavailable");
    std::lock_guard lock(mu_);
    pods.insert(spec.id.str());
    return Ok();
  }
  Result<UniqueFd> PodNetns(const PodId&) override { return UniqueFd(); }
  Result<std::vector<runtime::ContainerInfo>> AdoptPod(const PodId& pod, Deadline) override {
    if (!adoptable.contains(pod.str())) return NotFound("no keeper");
    std::lock_guard lock(mu_);
    pods.insert(pod.str());
    return adoptable.at(pod.str());
  }
  Result<void> RemovePod(const PodId& pod, const std::string&) override {
    std::lock_guard lock(mu_);
    pods.erase(pod.str());
    return Ok();
  }
  Result<void> Sweep(const std::vector<PodId>& known) override {
    swept_with = known.size();
    return Ok();
  }
  Result<void> CheckContainer(const PodId&, const runtime::ContainerSpec&) override { return Ok(); }
  Result<runtime::StartedContainer> StartContainer(const PodId& pod,
                                                   const runtime::ContainerSpec& spec,
                                                   Deadline) override {
    if (fail_start) return NotFound("execve /nope: No such file or directory");
    std::lock_guard lock(mu_);
    last_spec_resources = spec.spec.resources;
    running_.emplace(spec.id.str(), pod.str());
    return runtime::StartedContainer{.pid = 4711, .started_at_ns = 1000};
  }
  Result<void> Signal(const PodId& pod, const ContainerId& id, int signal) override {
    {
      std::lock_guard lock(mu_);
      signals.push_back(signal);
      if (signal != 9 && ignore_signals) return Ok();
    }
    Finish(pod, id, 128 + signal);
    return Ok();
  }
  Result<runtime::ContainerExit> WaitExit(const PodId&, const ContainerId& id,
                                          Deadline deadline) override {
    std::unique_lock lock(mu_);
    if (!changed_.wait_until(lock, deadline, [&] { return exits_.contains(id.str()); })) {
      return Error(Code::kDeadlineExceeded, "still running");
    }
    return exits_.at(id.str());
  }
  Result<void> RemoveContainer(const PodId&, const ContainerId&) override { return Ok(); }
  Result<void> ReopenLog(const PodId&, const ContainerId&) override { return Ok(); }
  Result<runtime::ExecResult> Exec(const PodId&, const ContainerId&,
                                   const runtime::ExecSpec&) override {
    return runtime::ExecResult{};
  }
  Result<runtime::ExecOutput> ExecSync(const PodId&, const ContainerId&,
                                       const oci::Process& process,
                                       std::chrono::milliseconds) override {
    return runtime::ExecOutput{.exit_code = 0, .out = process.args.at(0), .err = ""};
  }
  Result<std::unique_ptr<runtime::ExecSession>> StartExec(const PodId&, const ContainerId&,
                                                          const runtime::ExecSpec&) override {
    return Error(Code::kUnimplemented, "fake");
  }
  Result<runtime::Attachment> Attach(const PodId&, const ContainerId&,
                                     const runtime::AttachSpec&) override {
    return Error(Code::kUnimplemented, "fake");
  }
  Result<void> UpdateResources(const PodId&, const ContainerId&,
                               const oci::Resources& resources) override {
    if (fail_update) {
      fail_update = false;
      return Error(Code::kFailedPrecondition, "memory.max: Device or resource busy");
    }
    last_update = resources;
    return Ok();
  }
  Result<std::vector<runtime::ContainerInfo>> ListContainers(const PodId&) override {
    return std::vector<runtime::ContainerInfo>();
  }
  Result<runtime::CgroupUsage> ContainerUsage(const PodId&, const ContainerId& id) override {
    std::lock_guard lock(mu_);
    if (vanished.contains(id.str())) return NotFound("no such cgroup");
    return usage;
  }
  Result<runtime::CgroupUsage> PodUsage(const PodId& pod, const std::string&) override {
    std::lock_guard lock(mu_);
    if (vanished.contains(pod.str())) return NotFound("no such cgroup");
    return usage;
  }
  Features features() const override { return {}; }

  void Finish(const PodId& pod, const ContainerId& id, int code) {
    runtime::ContainerExit exit{
        .id = id, .exit_code = code, .started_at_ns = 1000, .finished_at_ns = 2000};
    {
      std::lock_guard lock(mu_);
      if (running_.erase(id.str()) == 0) return;
      exits_.emplace(id.str(), exit);
    }
    changed_.notify_all();
    events_.on_exit(pod, exit);
  }
  void LoseKeeper(const PodId& pod) { events_.on_keeper_lost(pod); }
  std::size_t running() {
    std::lock_guard lock(mu_);
    return running_.size();
  }

  runtime::CgroupUsage usage;      // of every container and pod
  std::set<std::string> vanished;  // whose cgroups are gone
  bool fail_update = false;        // the next one
  std::optional<oci::Resources> last_update;
  oci::Resources last_spec_resources;  // of the last container started
  bool fail_start_pod = false, fail_start = false, ignore_signals = false;
  std::set<std::string> pods;
  std::map<std::string, std::vector<runtime::ContainerInfo>> adoptable;
  std::vector<int> signals;
  std::size_t swept_with = 0;

 private:
  runtime::RuntimeEvents events_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::map<std::string, std::string> running_;
  std::map<std::string, runtime::ContainerExit> exits_;
};

}  // namespace linnet::pods
