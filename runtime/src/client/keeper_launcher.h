// Starting keepers, and finding those that outlived an earlier daemon.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "linnet/base/ids.h"
#include "linnet/base/result.h"
#include "linnet/base/spawn.h"
#include "linnet/base/unique_fd.h"

#include "cgroup/cgroup.h"

namespace linnet::runtime {

struct KeeperLauncherOptions {
  std::string keeper_path;
  std::string directory;  // of the sockets; made, 0700
  std::string cgroup;     // that keepers live in; made
};

// Thread-safe.
class KeeperLauncher {
 public:
  // Reads the executable once into a sealed memfd and makes the mount namespace that keepers start
  // from.
  static Result<std::unique_ptr<KeeperLauncher>> Create(const KeeperLauncherOptions& options,
                                                        CgroupManager& cgroups);

  struct Keeper {
    UniqueFd socket;  // the first connection
    UniqueFd pidfd;
    pid_t pid = -1;
  };
  // kAlreadyExists: a keeper of this pod listens.
  Result<Keeper> Start(const PodId& pod) const;
  // kNotFound: nobody listens (the stale socket stays). Does not block.
  Result<UniqueFd> Connect(const PodId& pod) const;
  // A keeper that does not answer: found by its command line and killed. True: there was one.
  bool KillByName(const PodId& pod) const;
  Result<void> RemoveSocket(const PodId& pod) const;
  // Names of the sockets that are there.
  Result<std::vector<PodId>> Pods() const;

 private:
  KeeperLauncher(UniqueFd image, UniqueFd directory, CgroupEntry cgroup);
  std::string SocketPath(const PodId& pod) const;
  SpawnSpec BaseSpec() const;
  Result<void> MakeRootNamespace();
  Result<UniqueFd> Listen(const PodId& pod) const;

  const UniqueFd image_;
  const UniqueFd directory_;
  const CgroupEntry cgroup_;
  UniqueFd root_namespace_;
};

}  // namespace linnet::runtime
