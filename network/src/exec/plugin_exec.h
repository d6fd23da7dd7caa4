// Foreign plugins by the protocol of the specification: environment, standard input, standard
// output, exit code.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/result.h"

#include "exec/plugin_cgroup.h"

namespace linnet::network {

struct ExecOptions {
  std::vector<std::string> bin_dirs;  // searched in this order
  std::string delegate_dir;  // last in CNI_PATH: where plugins find our built-ins; may be empty
  std::vector<std::string> environment;  // "K=V", beside CNI_… and a few inherited ones
  std::string cgroup_root;               // see PluginCgroups
  std::chrono::milliseconds timeout{120'000};
};

struct Invocation {
  std::string command;  // "ADD"
  std::string type;
  std::string container_id, netns_path, ifname, args;  // empty for GC and STATUS
  std::string input;
  std::string group;  // pod whose cgroup it runs in; empty: the container id, else "engine"
  Deadline deadline = Deadline::max();
};

// Thread-safe.
class PluginExec {
 public:
  explicit PluginExec(ExecOptions options);
  // Path of the executable. Errors: kNotFound "failed to find plugin …"; kPermissionDenied anybody
  // may write to it.
  Result<std::string> Find(std::string_view type) const;
  // Runs it and returns what it printed. A failure that it reports is an Error with its code; other
  // errors: kDeadlineExceeded it was killed, with everything it started.
  Result<std::string> Run(const Invocation& invocation) const;
  const PluginCgroups& cgroups() const { return cgroups_; }

 private:
  const ExecOptions options_;
  const PluginCgroups cgroups_;
  std::string cni_path_;
  std::vector<std::string> inherited_;
};

}  // namespace linnet::network
