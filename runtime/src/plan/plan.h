// The launch plan: what a keeper carries out, flat and versioned.
//
// One buffer without pointers: a Header, then structures and texts that refer to each other by
// offset. It travels in a sealed memfd, or inside the message where it fits (keeper/protocol.h).
// Descriptors are named by their index among those that came with the command (the plan's own memfd
// not counted).
//
// Shared by the daemon, which writes it (writer.h), and the keeper, which has no exceptions and
// little of the library: only plain structures here. Reader checks every offset once, in Check();
// afterwards the accessors cannot go wrong. A change of any structure below raises kVersion; a
// keeper refuses versions that it does not know.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet::runtime::plan {

inline constexpr std::uint32_t kMagic = 0x314e504c;  // "LPN1"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint32_t kMaxSize = 4U << 20;
inline constexpr std::uint32_t kMaxItems = 65536;  // in one list

enum class Kind : std::uint16_t { kPod = 1, kContainer = 2, kExec = 3 };

// `size` bytes at `offset`, followed by a NUL, none inside. {0, 0}: absent (reads as "").
struct Text {
  std::uint32_t offset = 0, size = 0;
};
// `count` elements of one type at `offset` (a multiple of 8).
struct List {
  std::uint32_t offset = 0, count = 0;
};
using FdIndex = std::uint32_t;
inline constexpr FdIndex kNoFd = 0xffffffff;

struct Header {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  Kind kind = Kind::kContainer;
  std::uint32_t size = 0;  // of the whole buffer
  std::uint32_t body = 0;  // offset of PodPlan, ContainerPlan or ExecPlan
};

struct IdMap {
  std::uint32_t container = 0, host = 0, size = 0, unused = 0;
};
struct Setting {  // a sysctl: "net/ipv4/ip_forward" (slashes), value
  Text path, value;
};
struct Rlimit {
  std::uint32_t resource = 0, unused = 0;  // RLIMIT_*
  std::uint64_t soft = 0, hard = 0;
};

// How a process gets into its cgroups: it is cloned into `v2_dir` where there is one, and writes
// itself into `v1_tasks`.
struct CgroupFds {
  FdIndex v2_dir = kNoFd;  // directory in the v2 tree (also of a hybrid layout)
  FdIndex freezer_dir =
      kNoFd;  // v1 without a v2 tree: directory in the freezer hierarchy, to kill with
  FdIndex oom_counter = kNoFd;  // readable: memory.events (v2) or memory.oom_control (v1)
  std::uint32_t unused = 0;
  List v1_tasks;  // FdIndex; `tasks` files open for writing
};

// ------------------------------------------------------------------------------------------------------------
// pod

enum PodFlags : std::uint32_t {
  kPodNewIpc = 1,  // else the host's
  kPodNewUts = 2,
  kPodHolder = 4,  // the pod shares a pid namespace: start the holder
  kPodNewNet = 8,  // with kPodUser only: make the network namespace inside the user namespace
  kPodUser = 16,   // uid_map and gid_map are set
};
struct PodPlan {
  std::uint32_t flags = 0;
  FdIndex netns = kNoFd;  // to join; kNoFd without kPodNewNet: the host's
  Text hostname;          // set where kPodNewUts
  Text domainname;
  List sysctls;                // Setting
  List uid_map, gid_map;       // IdMap
  std::uint64_t shm_size = 0;  // bytes of the pod's /dev/shm; 0: none is made
  CgroupFds cgroup;            // of the holder; absent: it stays in the keeper's
};

// --------------------------------------------------------------------------------------------------------
// process

enum ProcessFlags : std::uint32_t {
  kProcessTerminal = 1,  // a pty of the container's devpts is fds 0-2
  kProcessNoNewPrivileges = 2,
  kProcessUmask = 4,                // `umask` is set
  kProcessOomScoreAdj = 8,          // `oom_score_adj` is set (clamped to what the kernel permits)
  kProcessCapabilities = 16,        // the five sets are set; else as the keeper's
  kProcessSeccompOfContainer = 32,  // kExec: the program that the container was started with
  kProcessMakeCwd = 64,             // make a missing working directory (root:root 0755)
  kProcessConsoleSize = 128,        // rows and columns are set
};
struct Process {
  List args;  // Text; at least one
  List env;   // Text "K=V"
  Text cwd;   // absolute, as the container sees it; absent: "/"
  std::uint32_t flags = 0;
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t umask = 022;
  List groups;   // u32, supplementary
  List rlimits;  // Rlimit
  std::uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0,
                ambient = 0;  // bit n: capability n
  std::int32_t oom_score_adj = 0;
  std::uint16_t rows = 0, columns = 0;
  FdIndex seccomp = kNoFd;          // memfd with a plain array of struct sock_filter
  std::uint32_t seccomp_flags = 0;  // SECCOMP_FILTER_FLAG_*
  Text apparmor;                    // profile
  Text selinux;                     // label
};

// ------------------------------------------------------------------------------------------------------
// container

// A directory: `path` beneath the detached mount `tree` (open_tree with OPEN_TREE_CLONE); absent
// path: the tree's root. Layers of one file system share a tree: a clone of a common parent costs
// one descriptor.
struct Directory {
  FdIndex tree = kNoFd;
  std::uint32_t flags = 0;  // DirectoryFlags
  Text path;                // relative, no "..", no links are followed
};
enum DirectoryFlags : std::uint32_t {
  kDirectoryIdmap = 1
};  // of the tree: map by the pod's user namespace

enum class PidMode : std::uint16_t { kPod = 0, kContainer = 1, kNode = 2, kTarget = 3 };
enum class Propagation : std::uint16_t {  // | kRecursive as below
  kUnset = 0,
  kPrivate = 1,
  kSlave = 2,
  kShared = 3,
  kUnbindable = 4,
  kRprivate = 9,
  kRslave = 10,
  kRshared = 11,
  kRunbindable = 12,  // 8 | …: recursively
};

// Carried out in the given order, before pivot_root, each destination resolved beneath the new root
// (links are followed inside it only); what is missing on the way is made (0755, root).
enum class OpKind : std::uint16_t {
  // A new file system: type, source (a name; absent: the type), data (options of the file system,
  // comma-separated),
  // attr_set, propagation. Used for proc, sysfs, tmpfs, mqueue, devpts, …. proc and sysfs only on
  // plain directories.
  kMount = 1,
  // `fd`, a detached tree, is attached: attr_set/attr_clear on its top, rattr_set/rattr_clear on
  // all of it, propagation;
  // kOpIdmap. A file's destination is made as a file.
  kBind = 2,
  // The pod's /dev/shm, attached; attr_set. Without one in the pod (shm_size 0): a tmpfs with
  // `data`.
  kShm = 3,
  // The container's cgroups. v2 (no `data`): cgroup2 at target. v1: `data` lists the hierarchies,
  // separated by ';', each
  // its controllers as in the mount option ("cpu,cpuacct"; "name=systemd"; "unified" for the v2
  // tree of a hybrid
  // layout): a tmpfs at target, one mount each, links for the members of joined hierarchies.
  // attr_set MOUNT_ATTR_RDONLY unless it may be written.
  kCgroup = 4,
  // A device node: mode (with S_IFCHR, S_IFBLK, S_IFIFO), major, minor, uid, gid. With `fd` (a
  // detached tree of the host's
  // node): bound instead, as in a user namespace, where mknod is refused.
  kDevice = 5,
  kSymlink = 6,   // data: the link's text; one that exists with this text is fine, anything else is
                  // replaced
  kMask = 7,      // file: /dev/null over it; directory: an empty read-only tmpfs. Absent: nothing.
  kReadonly = 8,  // bound over itself read-only. Absent: nothing.
  kSysctl = 9,    // target: path with slashes, data: value; in the namespaces of the container
  kMakeDir = 10,  // mode, uid, gid (of what is made); existing: nothing
};
enum OpFlags : std::uint16_t {
  kOpIdmap = 1,   // kBind, kDevice: map by the pod's user namespace
  kOpCopyUp = 4,  // kMount of tmpfs: not implemented by version 1, refused
};
struct Op {
  OpKind kind = OpKind::kMount;
  std::uint16_t flags = 0;
  FdIndex fd = kNoFd;
  Text target, type, source, data;
  std::uint32_t attr_set = 0, attr_clear = 0;  // MOUNT_ATTR_*
  std::uint32_t rattr_set = 0, rattr_clear = 0;
  Propagation propagation = Propagation::kUnset;
  std::uint16_t unused = 0;
  std::uint32_t mode = 0, major = 0, minor = 0, uid = 0, gid = 0;
};

enum ContainerFlags : std::uint32_t {
  kContainerRootReadonly = 1,
  kContainerCgroupNamespace = 2,  // a new one (else the keeper's is seen)
  kContainerStdinOpen =
      4,  // fd 0 is a pipe whose other end the keeper holds for attach; else /dev/null
  kContainerStdinOnce = 8,
};
struct ContainerPlan {
  Process process;
  std::uint32_t flags = 0;
  PidMode pid = PidMode::kPod;
  Propagation root_propagation = Propagation::kUnset;
  Text pid_target;  // container id, with PidMode::kTarget
  // The root: an overlay of `lower` (lowest first) with `upper` and `work` (one tree, or none:
  // read-only); or `plain`.
  List lower;  // Directory
  Directory upper, work, plain;
  List ops;  // Op
  CgroupFds cgroup;
  FdIndex exit_dir = kNoFd;  // where the exit record is left
  FdIndex log_dir = kNoFd;   // kNoFd: output is dropped
  Text log_path;             // relative to log_dir, opened beneath it without following links
};

struct ExecPlan {
  Process process;
};

// ---------------------------------------------------------------------------------------------------------
// reader

// A view of a plan in memory that nobody changes (sealed memfd, own buffer). No allocation.
class Reader {
 public:
  Reader(const void* data, std::size_t size)
      : data_(static_cast<const unsigned char*>(data)), size_(size) {}

  // Everything that the accessors rely on: header, kind, each offset, alignment, terminators, and
  // that each descriptor index is below `fd_count` (or kNoFd). nullptr: sound; else what is wrong.
  const char* Check(Kind kind, std::uint32_t fd_count) const;

  const PodPlan& pod() const { return *At<PodPlan>(header().body); }
  const ContainerPlan& container() const { return *At<ContainerPlan>(header().body); }
  const ExecPlan& exec() const { return *At<ExecPlan>(header().body); }

  // NUL-terminated; "" where absent.
  const char* text(Text t) const {
    return t.offset == 0 ? "" : reinterpret_cast<const char*>(data_ + t.offset);
  }
  static bool present(Text t) { return t.offset != 0; }
  template <class T>
  const T* items(List list) const {
    return At<T>(list.offset);
  }

 private:
  const Header& header() const { return *At<Header>(0); }
  template <class T>
  const T* At(std::uint32_t offset) const {
    return reinterpret_cast<const T*>(data_ + offset);
  }

  const unsigned char* data_;
  std::size_t size_;
};

}  // namespace linnet::runtime::plan
