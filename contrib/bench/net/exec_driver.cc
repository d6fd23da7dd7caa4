#include <map>
#include <mutex>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/spawn.h"

#include "driver.h"

namespace linnet::bench {
namespace {

using std::chrono_literals::operator""s;

class ExecDriver final : public Driver {
 public:
  ExecDriver(std::string plugins, Json config)
      : plugins_(std::move(plugins)), config_(std::move(config)) {}

  Result<std::string> Add(const PodSpec& pod) override {
    Json prev;
    for (const Json& plugin : config_["plugins"]) {
      const std::string out = LN_TRY(Call("ADD", plugin, pod, prev));
      prev = LN_TRY(ParseJson(out));
    }
    const std::string address = prev["ips"][0]["address"].get<std::string>();
    const std::lock_guard lock(mu_);
    results_[pod.id] = std::move(prev);
    return address.substr(0, address.find('/'));
  }
  Result<void> Check(const PodSpec& pod) override {
    const Json prev = ResultOf(pod.id);
    for (const Json& plugin : config_["plugins"]) LN_TRY(Call("CHECK", plugin, pod, prev));
    return Ok();
  }
  Result<void> Del(const PodSpec& pod) override {
    const Json prev = ResultOf(pod.id);
    const Json& list = config_["plugins"];
    for (auto plugin = list.rbegin(); plugin != list.rend(); ++plugin)
      LN_TRY(Call("DEL", *plugin, pod, prev));
    return Ok();
  }

 private:
  Json ResultOf(const std::string& id) {
    const std::lock_guard lock(mu_);
    const auto found = results_.find(id);
    return found == results_.end() ? Json() : found->second;
  }

  Result<std::string> Call(const std::string& command, const Json& plugin, const PodSpec& pod,
                           const Json& prev) const {
    Json conf = plugin;
    conf["name"] = config_["name"];
    conf["cniVersion"] = config_["cniVersion"];
    if (!prev.is_null()) conf["prevResult"] = prev;
    if (conf.contains("capabilities") && conf["capabilities"].contains("portMappings")) {
      for (const HostPortSpec& port : pod.ports) {
        conf["runtimeConfig"]["portMappings"].push_back(
            {{"hostPort", port.host_port}, {"containerPort", port.pod_port}, {"protocol", "tcp"}});
      }
    }
    SpawnSpec spec;
    const std::string type = conf["type"].get<std::string>();
    spec.path = JoinPath(plugins_, type);
    spec.argv = {spec.path};
    spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_COMMAND=" + command,
                "CNI_CONTAINERID=" + pod.id,
                "CNI_NETNS=" + pod.netns_path,
                "CNI_IFNAME=eth0",
                "CNI_ARGS=",
                "CNI_PATH=" + plugins_};
    const RunResult run =
        LN_TRY(Run(spec, DumpJson(conf), std::chrono::steady_clock::now() + 120s));
    if (run.status.code != 0)
      return Internal(type + " " + command + ": exit " + std::to_string(run.status.code) + ": " +
                      run.out + run.err);
    return run.out;
  }

  const std::string plugins_;
  const Json config_;
  std::mutex mu_;
  std::map<std::string, Json> results_;
};

}  // namespace

Result<std::unique_ptr<Driver>> MakeExecDriver(const DriverOptions& options) {
  Json config = LN_TRY(ParseJson(options.config));
  return std::unique_ptr<Driver>(std::make_unique<ExecDriver>(options.plugins, std::move(config)));
}

}  // namespace linnet::bench
