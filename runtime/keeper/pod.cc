// The pod's namespaces, its /dev/shm and its holder.
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cstdlib>

#include "keeper.h"

namespace linnet::runtime::keeper {
namespace {

bool FailPod(PodFailure& failure, Stage stage, int error, const char* what) {
  failure = {stage, error, what};
  return false;
}

// PID 1 of the pod's pid namespace: takes in orphans, which the kernel reaps by itself where
// SIGCHLD is ignored.
[[noreturn]] void RunHolder(Keeper& keeper, const Cgroup& cgroup, bool in_cgroup, int go) {
  for (std::uint32_t i = 0; i < cgroup.v1_count; ++i)
    (void)!write(cgroup.v1_tasks[i], "0", 1);  // else in the keeper's
  if (cgroup.v2_dir >= 0 && !in_cgroup) (void)WriteFileAt(cgroup.v2_dir, "cgroup.procs", "0", 1);
  char byte = 0;
  if (go >= 0 && read(go, &byte, 1) != 1) _exit(1);  // the keeper has written the maps
  prctl(PR_SET_NAME, "linnet-holder", 0, 0, 0);
  if (keeper.argv_size > sizeof "linnet-holder") {
    memset(keeper.argv_area, 0, keeper.argv_size);
    strcpy(keeper.argv_area, "linnet-holder");
  }
  setsid();
  (void)!chdir("/");
  (void)syscall(SYS_close_range, 0U, ~0U, 0U);
  signal(SIGCHLD, SIG_IGN);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  (void)syscall(SYS_capset, &header, none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  for (;;) pause();
}

// The maps of a user namespace, through the keeper's procfs.
int WriteMap(Keeper& keeper, pid_t pid, const char* file, const plan::IdMap* map,
             std::uint32_t count) {
  char text[4096];
  std::size_t size = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    Line<64> line;
    line.Add(map[i].container).Add(" ").Add(map[i].host).Add(" ").Add(map[i].size).Add("\n");
    if (size + line.size() >= sizeof text) return E2BIG;
    memcpy(text + size, line.text(), line.size());
    size += line.size();
  }
  Line<64> path;
  path.Add(pid).Add("/").Add(file);
  return WriteFileAt(keeper.proc_dir, path.text(), text, size);
}

plan::IdMap* CopyMap(PlanOf& plan, plan::List list) {
  auto* copy = static_cast<plan::IdMap*>(calloc(list.count, sizeof(plan::IdMap)));
  if (copy != nullptr)
    memcpy(copy, plan.reader().items<plan::IdMap>(list), list.count * sizeof(plan::IdMap));
  return copy;
}

int OpenNamespace(Keeper& keeper, pid_t pid, const char* name) {
  Line<64> path;
  path.Add(pid).Add("/ns/").Add(name);
  return openat(keeper.proc_dir, path.text(), O_RDONLY | O_CLOEXEC);
}

bool JoinNamespaceOf(Keeper& keeper, pid_t pid, const char* name, int type) {
  const int fd = OpenNamespace(keeper, pid, name);
  if (fd < 0) return false;
  const int done = setns(fd, type);
  const int err = errno;
  close(fd);
  errno = err;
  return done == 0;
}

// A child in new user, net, ipc and uts namespaces; the keeper takes the latter three over and
// keeps a descriptor of the first. Where the pod shares a pid namespace, the child goes on as its
// holder.
bool MakeUserNamespaces(Keeper& keeper, PlanOf& plan, const plan::PodPlan& wanted, Cgroup& cgroup,
                        PodFailure& failure) {
  Pod& pod = keeper.pod;
  pod.uid_count = wanted.uid_map.count;
  pod.gid_count = wanted.gid_map.count;
  pod.uid_map = CopyMap(plan, wanted.uid_map);
  pod.gid_map = CopyMap(plan, wanted.gid_map);
  int go[2];
  if (pod.uid_map == nullptr || pod.gid_map == nullptr || pipe2(go, O_CLOEXEC) != 0) {
    return FailPod(failure, Stage::kUserNamespace, ENOMEM, "");
  }
  const bool holder = (wanted.flags & plan::kPodHolder) != 0;
  CloneRequest request;
  request.new_namespaces = CLONE_NEWUSER | (holder ? CLONE_NEWPID : 0);
  if ((wanted.flags & plan::kPodNewNet) != 0) request.new_namespaces |= CLONE_NEWNET;
  if ((wanted.flags & plan::kPodNewIpc) != 0) request.new_namespaces |= CLONE_NEWIPC;
  if ((wanted.flags & plan::kPodNewUts) != 0) request.new_namespaces |= CLONE_NEWUTS;
  request.cgroup_dir = holder ? cgroup.v2_dir : -1;
  Stage stage = Stage::kUserNamespace;
  const pid_t pid = CloneChild(keeper, request, &stage);
  if (pid == 0) {
    close(go[1]);
    if (holder) RunHolder(keeper, cgroup, request.in_cgroup, go[0]);
    char byte = 0;
    (void)!read(go[0], &byte, 1);
    _exit(0);
  }
  close(go[0]);
  if (pid < 0) {
    const int err = errno;
    close(go[1]);
    return FailPod(failure, stage, err, "clone");
  }
  int err = WriteMap(keeper, pid, "gid_map", pod.gid_map, pod.gid_count);
  if (err == 0) err = WriteMap(keeper, pid, "uid_map", pod.uid_map, pod.uid_count);
  if (err != 0) {
    failure = {Stage::kUserNamespace, err, "mappings"};
  } else if ((pod.user_fd = OpenNamespace(keeper, pid, "user")) < 0 ||
             ((wanted.flags & plan::kPodNewNet) != 0 &&
              !JoinNamespaceOf(keeper, pid, "net", CLONE_NEWNET)) ||
             ((wanted.flags & plan::kPodNewIpc) != 0 &&
              !JoinNamespaceOf(keeper, pid, "ipc", CLONE_NEWIPC)) ||
             ((wanted.flags & plan::kPodNewUts) != 0 &&
              !JoinNamespaceOf(keeper, pid, "uts", CLONE_NEWUTS))) {
    err = errno;
    failure = {Stage::kNamespace, err, "join"};
  }
  (void)!write(go[1], "g", err == 0 ? 1 : 0);  // without the byte the child ends
  close(go[1]);
  if (holder && err == 0) {
    pod.holder = pid;
    pod.holder_pidfd = request.pidfd;
  } else {
    close(request.pidfd);
    (void)waitpid(pid, nullptr, 0);  // it has nothing to wait for
  }
  return err == 0;
}

bool StartHolder(Keeper& keeper, const Cgroup& cgroup, PodFailure& failure) {
  CloneRequest request;
  request.new_namespaces = CLONE_NEWPID;
  request.cgroup_dir = cgroup.v2_dir;
  Stage stage = Stage::kHolder;
  const pid_t pid = CloneChild(keeper, request, &stage);
  if (pid == 0) RunHolder(keeper, cgroup, request.in_cgroup, -1);
  if (pid < 0) return FailPod(failure, Stage::kHolder, errno, "clone");
  keeper.pod.holder = pid;
  keeper.pod.holder_pidfd = request.pidfd;
  return true;
}

bool SetNames(const PlanOf& plan, const plan::PodPlan& wanted, PodFailure& failure) {
  const char* host = plan.reader().text(wanted.hostname);
  const char* domain = plan.reader().text(wanted.domainname);
  if (*host != '\0' && sethostname(host, wanted.hostname.size) != 0)
    return FailPod(failure, Stage::kHostname, errno, host);
  if (*domain != '\0' && setdomainname(domain, wanted.domainname.size) != 0)
    return FailPod(failure, Stage::kHostname, errno, domain);
  return true;
}

bool SetSysctls(Keeper& keeper, const PlanOf& plan, const plan::PodPlan& wanted,
                PodFailure& failure) {
  if (wanted.sysctls.count == 0) return true;
  const auto* settings = plan.reader().items<plan::Setting>(wanted.sysctls);
  const int sys = openat(keeper.proc_dir, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (std::uint32_t i = 0; i < wanted.sysctls.count; ++i) {
    const char* name = plan.reader().text(settings[i].path);
    const char* value = plan.reader().text(settings[i].value);
    const int fd =
        OpenAt2(sys, name, O_WRONLY, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
    const bool done = fd >= 0 && write(fd, value, settings[i].value.size) >= 0;
    const int err = errno;
    if (fd >= 0) close(fd);
    if (!done) {
      close(sys);
      return FailPod(failure, Stage::kSysctl, err, name);
    }
  }
  close(sys);
  return true;
}

bool MountShm(Keeper& keeper, const plan::PodPlan& wanted, PodFailure& failure) {
  if (wanted.shm_size == 0) return true;
  Line<128> options;
  options.Add("mode=1777,size=").Add(static_cast<std::int64_t>(wanted.shm_size));
  options.Add(",uid=").Add(HostId(keeper.pod.uid_map, keeper.pod.uid_count, 0));
  options.Add(",gid=").Add(HostId(keeper.pod.gid_map, keeper.pod.gid_count, 0));
  if (mount("shm", kShmPath, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.text()) != 0) {
    return FailPod(failure, Stage::kShm, errno, "mount");
  }
  keeper.pod.has_shm = true;
  return true;
}

// The kernel lets a user namespace mount sysfs (and proc) only where a whole one is in sight
// already.
bool ShowSysfs(PodFailure& failure) {
  if (mount("sysfs", kSysPath, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0)
    return true;
  return FailPod(failure, Stage::kUserNamespace, errno, "mount sysfs");
}

bool JoinPodNamespaces(PlanOf& plan, const plan::PodPlan& wanted, PodFailure& failure) {
  if (const int netns = plan.Take(wanted.netns); netns >= 0) {
    const int done = setns(netns, CLONE_NEWNET);
    const int err = errno;
    close(netns);
    if (done != 0) return FailPod(failure, Stage::kNamespace, err, "join the network namespace");
  }
  const int fresh = ((wanted.flags & plan::kPodNewIpc) != 0 ? CLONE_NEWIPC : 0) |
                    ((wanted.flags & plan::kPodNewUts) != 0 ? CLONE_NEWUTS : 0);
  if (fresh != 0 && unshare(fresh) != 0)
    return FailPod(failure, Stage::kNamespace, errno, "new ipc and uts namespaces");
  return true;
}

}  // namespace

std::uint32_t HostId(const plan::IdMap* map, std::uint32_t count, std::uint32_t id) {
  if (map == nullptr) return id;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (id >= map[i].container && id - map[i].container < map[i].size)
      return map[i].host + (id - map[i].container);
  }
  return 65534;
}

bool SetUpPod(Keeper& keeper, PlanOf& plan, PodFailure& failure) {
  const plan::PodPlan& wanted = plan.reader().pod();
  keeper.pod.flags = wanted.flags;
  Cgroup cgroup;
  if (!TakeCgroup(cgroup, plan, wanted.cgroup)) return FailPod(failure, Stage::kCgroup, ENOMEM, "");
  const bool user = (wanted.flags & plan::kPodUser) != 0;
  bool done = user ? MakeUserNamespaces(keeper, plan, wanted, cgroup, failure)
                   : JoinPodNamespaces(plan, wanted, failure);
  done = done && SetNames(plan, wanted, failure) && SetSysctls(keeper, plan, wanted, failure) &&
         MountShm(keeper, wanted, failure);
  if (done && user) done = ShowSysfs(failure);
  if (done && !user && (wanted.flags & plan::kPodHolder) != 0)
    done = StartHolder(keeper, cgroup, failure);
  CloseCgroup(cgroup);
  keeper.pod.set_up = done;
  return done;
}

}  // namespace linnet::runtime::keeper
