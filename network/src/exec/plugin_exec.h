// Foreign plugins by the protocol of the specification: environment, standard input, standard
// output, exit code.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "linnet/base/clock.h"
#include "linnet/base/mutex.h"
#include "linnet/base/result.h"

#include "exec/plugin_cgroup.h"

namespace linnet::network {

struct ExecOptions {
  std::vector<std::string> bin_dirs;  // searched in this order
  std::string delegate_dir;  // last in CNI_PATH: where plugins find our built-ins; may be empty
  std::vector<std::string> environment;  // "K=V", beside CNI_… and a few inherited ones
  std::string cgroup_root;               // see PluginCgroups
  std::chrono::milliseconds timeout{120'000};
  // How long a file that is still being written (ETXTBSY) is waited for.
  std::chrono::milliseconds busy{5'000};
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
  // Versions of the specification that it says it supports (VERSION); asked again when the file
  // changes. A plugin from before that command knows 0.1.0.
  Result<std::vector<std::string>> Versions(std::string_view type, Deadline deadline) const;
  const PluginCgroups& cgroups() const { return cgroups_; }

 private:
  struct Known {
    std::string identity;  // of the file
    std::vector<std::string> versions;
  };
  const ExecOptions options_;
  const PluginCgroups cgroups_;
  mutable Mutex mu_;
  mutable std::map<std::string, Known> known_ LN_GUARDED_BY(mu_);  // by path
  std::string cni_path_;
  std::vector<std::string> inherited_;
};

}  // namespace linnet::network
