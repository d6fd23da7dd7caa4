#include <cstring>

#include "plan/plan.h"

namespace linnet::runtime::plan {
namespace {

// Collects the first thing that is wrong.
class Checker {
 public:
  Checker(const unsigned char* data, std::size_t size, std::uint32_t fd_count)
      : data_(data), size_(size), fd_count_(fd_count) {}

  const char* problem() const { return problem_; }

  void Fail(const char* what) {
    if (problem_ == nullptr) problem_ = what;
  }

  void CheckText(Text t) {
    if (t.offset == 0) {
      if (t.size != 0) Fail("text without offset");
      return;
    }
    // The NUL after it is part of the buffer too.
    if (t.offset >= size_ || t.size >= size_ - t.offset) return Fail("text outside of the plan");
    if (data_[t.offset + t.size] != 0) return Fail("text without terminator");
    if (std::memchr(data_ + t.offset, 0, t.size) != nullptr) return Fail("text with a NUL inside");
  }

  void CheckFd(FdIndex fd) {
    if (fd != kNoFd && fd >= fd_count_) Fail("descriptor that was not passed");
  }

  template <class T>
  bool Range(std::uint32_t offset, std::uint32_t count) {
    if (offset % 8 != 0) return Fail("unaligned structure"), false;
    if (count > kMaxItems) return Fail("list too long"), false;
    if (offset > size_ || std::size_t{count} * sizeof(T) > size_ - offset)
      return Fail("structure outside of the plan"), false;
    return true;
  }

  // nullptr: unsound or empty.
  template <class T>
  const T* Items(List list) {
    if (list.count == 0) {
      if (list.offset != 0 && (list.offset % 8 != 0 || list.offset > size_))
        Fail("empty list outside of the plan");
      return nullptr;
    }
    if (list.offset == 0) return Fail("list without offset"), nullptr;
    if (!Range<T>(list.offset, list.count)) return nullptr;
    return reinterpret_cast<const T*>(data_ + list.offset);
  }

  void CheckTexts(List list) {
    const Text* items = Items<Text>(list);
    for (std::uint32_t i = 0; items != nullptr && i < list.count; ++i) CheckText(items[i]);
  }

  void CheckCgroup(const CgroupFds& cgroup) {
    CheckFd(cgroup.v2_dir);
    CheckFd(cgroup.freezer_dir);
    CheckFd(cgroup.oom_counter);
    const FdIndex* tasks = Items<FdIndex>(cgroup.v1_tasks);
    for (std::uint32_t i = 0; tasks != nullptr && i < cgroup.v1_tasks.count; ++i) {
      if (tasks[i] == kNoFd) return Fail("cgroup without descriptor");
      CheckFd(tasks[i]);
    }
  }

  void CheckDirectory(const Directory& directory) {
    CheckFd(directory.tree);
    CheckText(directory.path);
  }

  void CheckProcess(const Process& process) {
    if (process.args.count == 0) Fail("no program to execute");
    CheckTexts(process.args);
    CheckTexts(process.env);
    CheckText(process.cwd);
    CheckFd(process.seccomp);
    CheckText(process.apparmor);
    CheckText(process.selinux);
    (void)Items<std::uint32_t>(process.groups);
    (void)Items<Rlimit>(process.rlimits);
  }

  void CheckOp(const Op& op) {
    CheckText(op.target);
    CheckText(op.type);
    CheckText(op.source);
    CheckText(op.data);
    CheckFd(op.fd);
    if (op.target.offset == 0) Fail("operation without target");
    if (op.kind == OpKind::kBind && op.fd == kNoFd) Fail("bind without descriptor");
    if (op.kind == OpKind::kMount && op.type.offset == 0) Fail("mount without type");
    if (op.kind < OpKind::kMount || op.kind > OpKind::kMakeDir) Fail("unknown operation");
    if ((op.flags & kOpCopyUp) != 0) Fail("tmpcopyup is not implemented");
  }

  void CheckPod(const PodPlan& pod) {
    CheckFd(pod.netns);
    CheckText(pod.hostname);
    CheckText(pod.domainname);
    const Setting* sysctls = Items<Setting>(pod.sysctls);
    for (std::uint32_t i = 0; sysctls != nullptr && i < pod.sysctls.count; ++i) {
      CheckText(sysctls[i].path);
      CheckText(sysctls[i].value);
    }
    (void)Items<IdMap>(pod.uid_map);
    (void)Items<IdMap>(pod.gid_map);
    if ((pod.flags & kPodUser) != 0 && (pod.uid_map.count == 0 || pod.gid_map.count == 0))
      Fail("user namespace without mappings");
    if ((pod.flags & kPodNewNet) != 0 && (pod.flags & kPodUser) == 0)
      Fail("new network namespace without a user namespace");
    CheckCgroup(pod.cgroup);
  }

  void CheckContainer(const ContainerPlan& container) {
    CheckProcess(container.process);
    CheckText(container.pid_target);
    if (container.pid > PidMode::kTarget) Fail("unknown pid namespace mode");
    if (container.pid == PidMode::kTarget && container.pid_target.offset == 0)
      Fail("no target of the pid namespace");
    const Directory* lower = Items<Directory>(container.lower);
    for (std::uint32_t i = 0; lower != nullptr && i < container.lower.count; ++i) {
      CheckDirectory(lower[i]);
      if (lower[i].tree == kNoFd) Fail("layer without descriptor");
    }
    CheckDirectory(container.upper);
    CheckDirectory(container.work);
    CheckDirectory(container.plain);
    if ((container.plain.tree != kNoFd) == (container.lower.count != 0))
      Fail("either layers or a plain root");
    if ((container.upper.tree == kNoFd) != (container.work.tree == kNoFd))
      Fail("upper and work directory go together");
    const Op* ops = Items<Op>(container.ops);
    for (std::uint32_t i = 0; ops != nullptr && i < container.ops.count; ++i) CheckOp(ops[i]);
    CheckCgroup(container.cgroup);
    CheckFd(container.exit_dir);
    CheckFd(container.log_dir);
    CheckText(container.log_path);
  }

 private:
  const unsigned char* data_;
  std::size_t size_;
  std::uint32_t fd_count_;
  const char* problem_ = nullptr;
};

}  // namespace

const char* Reader::Check(Kind kind, std::uint32_t fd_count) const {
  if (reinterpret_cast<std::uintptr_t>(data_) % 8 != 0) return "plan is not aligned";
  if (size_ < sizeof(Header) || size_ > kMaxSize) return "plan has a wrong size";
  const Header& h = header();
  if (h.magic != kMagic) return "not a plan";
  if (h.version != kVersion) return "unknown version of the plan";
  if (h.size != size_) return "plan has a wrong size";
  if (h.kind != kind) return "plan of another kind";
  Checker checker(data_, size_, fd_count);
  switch (kind) {
    case Kind::kPod:
      if (checker.Range<PodPlan>(h.body, 1)) checker.CheckPod(pod());
      break;
    case Kind::kContainer:
      if (checker.Range<ContainerPlan>(h.body, 1)) checker.CheckContainer(container());
      break;
    case Kind::kExec:
      if (checker.Range<ExecPlan>(h.body, 1)) checker.CheckProcess(exec().process);
      break;
  }
  return checker.problem();
}

}  // namespace linnet::runtime::plan
