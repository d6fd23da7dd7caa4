#include "keeper_harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "gtest/gtest.h"
#include "keeper/failure.h"

namespace linnet::runtime::test {
namespace {

using plan::Op;
using plan::OpKind;

template <class T>
T Must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().message();
    std::abort();
  }
  return std::move(*result);
}
void Must(const Result<void>& result) {
  if (!result) {
    ADD_FAILURE() << result.error().message();
    std::abort();
  }
}

std::string KeeperPath() {
  const char* bin = std::getenv("LINNET_BIN_DIR");
  return std::string(bin != nullptr ? bin : "bin") + "/linnet-keeper";
}

// One executable for all, as the daemon does it.
FdRef KeeperImage() {
  static const UniqueFd image =
      Must(SealedMemfd("linnet-keeper", Must(ReadFile(KeeperPath())), MemfdUse::kExecutable));
  return image;
}

struct Hierarchy {
  std::string mount, controllers;  // "unified" for the v2 tree
};

std::vector<Hierarchy> FindHierarchies() {
  std::map<std::string, std::string>
      found;  // mountpoint → controllers; a later line covers an earlier one
  for (const std::string& line : Split(Must(ReadFile("/proc/self/mountinfo")), '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto before = SplitFields(line.substr(0, dash));
    const auto after = SplitFields(line.substr(dash + 3));
    if (after[0] == "cgroup2") found[before[4]] = "unified";
    if (after[0] != "cgroup") continue;
    std::vector<std::string> names;
    for (const std::string& option : Split(after[2], ',')) {
      if (option != "rw" && option != "ro" && option != "xattr" && option.rfind("clone", 0) != 0)
        names.push_back(option);
    }
    found[before[4]] = Join(names, ",");
  }
  std::vector<Hierarchy> out;
  for (const auto& [mount, controllers] : found) out.push_back({mount, controllers});
  return out;
}

void MakeRootFs(const std::string& path) {
  Must(MakeDirs(path + "/bin", 0755));
  Must(MakeDirs(path + "/tmp", 0777));
  Must(MakeDirs(path + "/etc", 0755));
  const std::string busybox = Must(ReadFile("/bin/busybox"));
  Must(ReplaceFile(path + "/bin/busybox", busybox, 0755));
  for (const char* applet :
       {"sh",     "cat",      "echo",  "sleep", "ls",     "id",    "true", "false",
        "ps",     "kill",     "mount", "touch", "printf", "head",  "grep", "readlink",
        "stat",   "hostname", "seq",   "yes",   "wc",     "mkdir", "ln",   "rm",
        "setsid", "tty",      "dd",    "tail",  "cut",    "tr",    "sort", "pwd",
        "umask",  "ulimit",   "test",  "stty",  "env",    "df"}) {
    EXPECT_EQ(symlink("busybox", (path + "/bin/" + applet).c_str()), 0);
  }
}

void SendPacket(FdRef socket, const void* data, std::size_t size, const std::vector<FdRef>& fds) {
  std::vector<char> control(CMSG_SPACE(sizeof(int) * keeper::kMaxFdsPerMessage));
  iovec part = {const_cast<void*>(data), size};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof fd);
    }
  }
  EXPECT_GE(sendmsg(socket.get(), &header, MSG_NOSIGNAL), 0) << strerror(errno);
}

// A fixed part with its plan: inline where it fits, else by memfd.
template <class T>
std::pair<std::string, UniqueFd> WithPlan(T message, const std::string& plan,
                                          std::size_t fd_count) {
  UniqueFd memfd;
  if (plan.size() <= keeper::kMaxMessage - sizeof(T)) {
    message.inline_size = static_cast<std::uint32_t>(plan.size());
  } else {
    memfd = Must(SealedMemfd("plan", plan, MemfdUse::kData));
    ++fd_count;
  }
  message.header.fd_count = static_cast<std::uint32_t>(fd_count);
  std::string data(reinterpret_cast<const char*>(&message), sizeof message);
  if (!memfd) data += plan;
  return {data, std::move(memfd)};
}

std::vector<FdRef> FdsOf(const UniqueFd& memfd, const std::vector<FdRef>& rest) {
  std::vector<FdRef> fds;
  if (memfd) fds.push_back(memfd);
  fds.insert(fds.end(), rest.begin(), rest.end());
  return fds;
}

}  // namespace

std::string Message::failure() const {
  if (type() != keeper::Type::kFailed) return "";
  return keeper::ToError(as<keeper::Failed>()).message();
}

UniqueFd OpenTreeClone(const std::string& path, bool recursive) {
  const int fd = static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, path.c_str(),
              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)));
  EXPECT_GE(fd, 0) << path << ": " << strerror(errno);
  return UniqueFd(fd);
}

std::vector<Op> UsualOps(plan::Writer& w) {
  constexpr std::uint32_t kStrict = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  std::vector<Op> ops;
  ops.push_back({.kind = OpKind::kMount,
                 .target = w.Add("/proc"),
                 .type = w.Add("proc"),
                 .attr_set = kStrict});
  ops.push_back({.kind = OpKind::kMount,
                 .target = w.Add("/dev"),
                 .type = w.Add("tmpfs"),
                 .data = w.Add("mode=755,size=65536k"),
                 .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC});
  ops.push_back({.kind = OpKind::kMount,
                 .target = w.Add("/dev/pts"),
                 .type = w.Add("devpts"),
                 .data = w.Add("newinstance,ptmxmode=0666,mode=0620,gid=5"),
                 .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC});
  ops.push_back({.kind = OpKind::kShm, .target = w.Add("/dev/shm")});
  ops.push_back({.kind = OpKind::kMount,
                 .target = w.Add("/sys"),
                 .type = w.Add("sysfs"),
                 .attr_set = kStrict | MOUNT_ATTR_RDONLY});
  struct Node {
    const char* path;
    std::uint32_t minor;
  };
  for (const Node& node : {Node{"/dev/null", 3}, Node{"/dev/zero", 5}, Node{"/dev/full", 7},
                           Node{"/dev/random", 8}, Node{"/dev/urandom", 9}}) {
    ops.push_back({.kind = OpKind::kDevice,
                   .target = w.Add(node.path),
                   .mode = S_IFCHR | 0666,
                   .major = 1,
                   .minor = node.minor});
  }
  ops.push_back({.kind = OpKind::kDevice,
                 .target = w.Add("/dev/tty"),
                 .mode = S_IFCHR | 0666,
                 .major = 5,
                 .minor = 0});
  const std::pair<const char*, const char*> links[] = {{"/dev/fd", "/proc/self/fd"},
                                                       {"/dev/stdin", "/proc/self/fd/0"},
                                                       {"/dev/stdout", "/proc/self/fd/1"},
                                                       {"/dev/stderr", "/proc/self/fd/2"},
                                                       {"/dev/ptmx", "pts/ptmx"}};
  for (const auto& [path, text] : links)
    ops.push_back({.kind = OpKind::kSymlink, .target = w.Add(path), .data = w.Add(text)});
  return ops;
}

// -------------------------------------------------------------------------------------------------------
// cgroups

TestCgroup::TestCgroup(const std::string& name) {
  for (const Hierarchy& hierarchy : FindHierarchies()) {
    const std::string path = hierarchy.mount + "/" + name;
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) continue;
    if (hierarchy.controllers == "unified") {
      v2_ = path;
      continue;
    }
    v1_.push_back(path);
    if (hierarchy.controllers == "memory") memory_ = path;
    if (hierarchy.controllers == "freezer") freezer_ = path;
    if (hierarchy.controllers != "cpuset") continue;
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"})
      Must(WriteControlFile(path + file, Must(ReadFile(hierarchy.mount + file))));
  }
}

TestCgroup::~TestCgroup() {
  std::vector<std::string> all = v1_;
  if (!v2_.empty()) all.push_back(v2_);
  for (const std::string& path : all) {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      if (auto children = ListDir(path)) {
        for (const std::string& child : *children)
          (void)rmdir((path + "/" + child).c_str());  // files: refused
      }
      if (rmdir(path.c_str()) == 0 || errno != EBUSY) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_FALSE(Exists(path)) << "cgroup is left behind";
  }
}

plan::CgroupFds TestCgroup::AddTo(plan::Writer& writer, Use use) const {
  plan::CgroupFds fds;
  const bool v2 = use == Use::kAll && !v2_.empty();
  if (v2) fds.v2_dir = writer.AddFd(Must(OpenDir(v2_)));
  if (!v2 && !freezer_.empty()) fds.freezer_dir = writer.AddFd(Must(OpenDir(freezer_)));
  if (IsV2() && HasMemory())
    fds.oom_counter = writer.AddFd(Must(Open(v2_ + "/memory.events", O_RDONLY)));
  if (!memory_.empty())
    fds.oom_counter = writer.AddFd(Must(Open(memory_ + "/memory.oom_control", O_RDONLY)));
  std::vector<plan::FdIndex> tasks;
  for (const std::string& path : v1_)
    tasks.push_back(writer.AddFd(Must(Open(path + "/tasks", O_WRONLY))));
  fds.v1_tasks = writer.Items(tasks);
  return fds;
}

std::vector<int> TestCgroup::Pids() const {
  std::vector<int> pids;
  const std::string path = !v2_.empty() ? v2_ : v1_.front();
  std::vector<std::string> directories = {path};
  for (const std::string& name : Must(ListDir(path))) {
    if (name.rfind("exec-", 0) == 0) directories.push_back(path + "/" + name);
  }
  for (const std::string& directory : directories) {
    const auto text = ReadFile(directory + "/cgroup.procs");
    if (!text) continue;
    for (const std::string& field : SplitFields(*text)) pids.push_back(std::atoi(field.c_str()));
  }
  return pids;
}

void TestCgroup::LimitMemory(std::uint64_t bytes) const {
  if (memory_.empty())
    (void)WriteControlFile(v2_ + "/memory.swap.max", "0");  // a kernel without swap accounting
  Must(WriteControlFile(memory_.empty() ? v2_ + "/memory.max" : memory_ + "/memory.limit_in_bytes",
                        std::to_string(bytes)));
}

bool TestCgroup::HasFreezer() { return Exists("/sys/fs/cgroup/freezer"); }
bool TestCgroup::HasMemory() {
  return Exists("/sys/fs/cgroup/memory") ||
         ReadFile("/sys/fs/cgroup/cgroup.subtree_control").value_or("").find("memory") !=
             std::string::npos;
}
bool TestCgroup::IsV2() { return Exists("/sys/fs/cgroup/cgroup.controllers"); }

std::string TestCgroup::Hierarchies() {
  if (IsV2()) return "";
  std::vector<std::string> all;
  for (const Hierarchy& hierarchy : FindHierarchies()) all.push_back(hierarchy.controllers);
  return Join(all, ";");
}

// --------------------------------------------------------------------------------------------------------
// keeper

TestKeeper::TestKeeper(const std::vector<std::string>& arguments, bool shared_root) {
  char path[] = "/tmp/linnet-keeper-XXXXXX";
  dir_ = mkdtemp(path);
  // A mount of its own: layers of tmpfs, whatever /tmp is.
  EXPECT_EQ(mount("tmpfs", dir_.c_str(), "tmpfs", 0, "mode=711"), 0) << strerror(errno);
  EXPECT_EQ(mount(nullptr, dir_.c_str(), nullptr, MS_SHARED, nullptr), 0);
  MakeRootFs(rootfs());
  Must(MakeDirs(logs(), 0755));

  UniqueFd root;
  if (shared_root) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    UniqueFd ours(ends[0]), theirs(ends[1]);
    Process maker = Must(Spawn({.exe = KeeperImage(),
                                .argv = {"linnet-keeper", "--root"},
                                .fds = {{theirs, keeper::kConnectionFd}}}));
    theirs.Reset();
    char byte = 0;
    EXPECT_EQ(read(ours.get(), &byte, 1), 1);
    root = Must(Open("/proc/" + std::to_string(maker.pid()) + "/ns/mnt", O_RDONLY));
    ours.Reset();
    EXPECT_EQ(Must(maker.Wait(Deadline::max())).code, 0);
  }

  UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, (dir_ + "/keeper.sock").c_str(), sizeof address.sun_path - 1);
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(listener.get(), 4), 0);
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  connection_ = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  SpawnSpec spec{.exe = KeeperImage(), .argv = {"linnet-keeper", "test-pod"}, .new_session = true};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.fds = {{listener, keeper::kListenFd}, {theirs, keeper::kConnectionFd}};
  if (root) spec.fds.push_back({root, keeper::kRootNamespaceFd});
  process_ = Must(Spawn(spec));
}

TestKeeper::~TestKeeper() {
  if (!connection_.valid()) Reconnect();
  if (process_.pid() > 0) {
    keeper::ExitPod exit_pod;
    exit_pod.header.command = NextCommand();
    Send(&exit_pod, sizeof exit_pod);
    EXPECT_EQ(Answer(exit_pod.header.command).type(), keeper::Type::kDone);
    EXPECT_EQ(Must(process_.Wait(std::chrono::steady_clock::now() + std::chrono::seconds(5))).code,
              0);
  }
  cgroups_.clear();
  EXPECT_EQ(umount2(dir_.c_str(), MNT_DETACH), 0) << strerror(errno);
  EXPECT_EQ(rmdir(dir_.c_str()), 0);
}

void TestKeeper::Reconnect() {
  connection_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, (dir_ + "/keeper.sock").c_str(), sizeof address.sun_path - 1);
  EXPECT_EQ(connect(connection_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
      << strerror(errno);
  (void)Hello();
}

void TestKeeper::Send(const void* message, std::size_t size, const std::vector<FdRef>& fds) {
  sent_at_ = std::chrono::steady_clock::now();
  SendPacket(connection_, message, size, fds);
}

std::optional<Message> TestKeeper::Receive(int timeout_millis) {
  pollfd wait{.fd = connection_.get(), .events = POLLIN, .revents = 0};
  if (poll(&wait, 1, timeout_millis) <= 0) return std::nullopt;
  Message message;
  message.data.resize(keeper::kMaxMessage);
  std::vector<char> control(CMSG_SPACE(sizeof(int) * keeper::kMaxFdsPerMessage));
  iovec part = {message.data.data(), message.data.size()};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t size = recvmsg(connection_.get(), &header, MSG_CMSG_CLOEXEC);
  if (size <= 0) return std::nullopt;
  message.data.resize(static_cast<std::size_t>(size));
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  return message;
}

Message TestKeeper::Answer(std::uint64_t command, int timeout_millis) {
  for (;;) {
    auto message = Receive(timeout_millis);
    if (!message) {
      ADD_FAILURE() << "no answer from the keeper";
      Message none;
      none.data.resize(keeper::kMaxMessage);
      return none;
    }
    const auto type = static_cast<unsigned>(message->type());
    if (type < 200 && message->header().command == command) return std::move(*message);
    kept_.push_back(std::move(*message));
  }
}

std::optional<Message> TestKeeper::WaitEvent(keeper::Type type, std::uint64_t command,
                                             int timeout_millis) {
  const auto fits = [&](const Message& m) {
    return m.type() == type && (command == 0 || m.header().command == command);
  };
  for (auto it = kept_.begin(); it != kept_.end(); ++it) {
    if (!fits(*it)) continue;
    Message found = std::move(*it);
    kept_.erase(it);
    return found;
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_millis);
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                          end - std::chrono::steady_clock::now())
                          .count();
    auto message = Receive(static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (!message) return std::nullopt;
    if (fits(*message)) return message;
    kept_.push_back(std::move(*message));
  }
}

std::vector<keeper::ContainerState> TestKeeper::Hello() {
  keeper::Hello hello;
  hello.header.command = NextCommand();
  Send(&hello, sizeof hello);
  const Message answer = Answer(hello.header.command);
  EXPECT_EQ(answer.type(), keeper::Type::kHelloAnswer);
  std::vector<keeper::ContainerState> states;
  for (std::uint32_t i = 0; i < answer.as<keeper::HelloAnswer>().container_count; ++i) {
    const Message state = Answer(hello.header.command);
    EXPECT_EQ(state.type(), keeper::Type::kContainerState);
    states.push_back(state.as<keeper::ContainerState>());
  }
  return states;
}

Message TestKeeper::SetupPod(const std::function<void(plan::Writer&, plan::PodPlan&)>& change) {
  (void)Hello();
  plan::Writer writer;
  plan::PodPlan pod;
  pod.flags = plan::kPodNewIpc | plan::kPodNewUts | plan::kPodHolder;
  pod.hostname = writer.Add("test-pod");
  pod.shm_size = 1 << 20;
  if (change) change(writer, pod);
  const std::string bytes = Must(writer.Finish(pod));
  keeper::SetupPod setup;
  setup.header.command = NextCommand();
  const auto [data, memfd] = WithPlan(setup, bytes, writer.fds().size());
  Send(data.data(), data.size(), FdsOf(memfd, writer.fds()));
  return Answer(setup.header.command);
}

std::uint64_t TestKeeper::SendStart(const std::string& id, const ContainerOptions& options,
                                    std::uint64_t command) {
  const std::string directory = dir_ + "/" + id;
  Must(MakeDirs(directory + "/upper", 0755));
  Must(MakeDirs(directory + "/work", 0755));
  // A new one each time: a group that was killed once is not cloned into again (the kernel, 6.18,
  // kills who is).
  if (cgroups_.contains(id) && cgroups_[id]->Pids().empty()) cgroups_.erase(id);
  if (!cgroups_.contains(id)) cgroups_[id] = std::make_unique<TestCgroup>("keeper-test-" + id);
  plan::Writer w;
  plan::ContainerPlan c;
  c.process.args = w.Texts(options.args);
  c.process.env = w.Texts(options.env);
  c.process.cwd = w.Add(options.cwd);
  c.pid = options.pid;
  c.pid_target = w.Add(options.pid_target);
  c.flags =
      plan::kContainerCgroupNamespace | (options.read_only ? plan::kContainerRootReadonly : 0U);
  const plan::FdIndex tree = w.AddFd(OpenTreeClone(dir_));
  std::vector<plan::Directory> lower = {{.tree = tree, .path = w.Add("rootfs")}};
  c.upper = {.tree = tree, .path = w.Add(id + "/upper")};
  c.work = {.tree = tree, .path = w.Add(id + "/work")};
  std::vector<Op> ops = UsualOps(w);
  c.cgroup = cgroups_[id]->AddTo(w, options.cgroup_use);
  c.exit_dir = w.AddFd(Must(OpenDir(directory)));
  if (!options.log_path.empty()) {
    c.log_dir = w.AddFd(Must(OpenDir(logs())));
    c.log_path = w.Add(options.log_path);
  }
  c.lower = w.Items(lower);
  if (options.change) options.change(w, c, ops);
  c.ops = w.Items(ops);
  const std::string bytes = Must(w.Finish(c));
  keeper::StartContainer start;
  start.header.command = command != 0 ? command : NextCommand();
  strncpy(start.id, id.c_str(), sizeof start.id - 1);
  const auto [data, memfd] = WithPlan(start, bytes, w.fds().size());
  std::vector<FdRef> fds = FdsOf(memfd, w.fds());
  // What does not fit goes before.
  while (fds.size() > keeper::kMaxFdsPerMessage) {
    keeper::MessageHeader more{.type = keeper::Type::kMoreFds, .command = start.header.command};
    const auto middle = fds.begin() + keeper::kMaxFdsPerMessage;
    Send(&more, sizeof more, std::vector<FdRef>(fds.begin(), middle));
    fds.erase(fds.begin(), middle);
  }
  Send(data.data(), data.size(), fds);
  return start.header.command;
}

Message TestKeeper::Start(const std::string& id, const ContainerOptions& options) {
  return Answer(SendStart(id, options));
}

pid_t TestKeeper::MustStart(const std::string& id, const ContainerOptions& options) {
  const Message answer = Start(id, options);
  EXPECT_EQ(answer.type(), keeper::Type::kStarted) << answer.failure();
  return answer.type() == keeper::Type::kStarted ? answer.as<keeper::Started>().pid : -1;
}

keeper::Exit TestKeeper::WaitExit(const std::string& id, int timeout_millis) {
  for (;;) {
    const auto event = WaitEvent(keeper::Type::kContainerExited, 0, timeout_millis);
    if (!event) {
      ADD_FAILURE() << id << " did not exit";
      return {.code = -1};
    }
    if (event->as<keeper::ContainerExited>().id == id)
      return event->as<keeper::ContainerExited>().exit;
  }
}

std::string TestKeeper::Log(const std::string& path) const {
  return ReadFile(logs() + "/" + path).value_or("");
}

std::string TestKeeper::LogLines(const std::string& path) const {
  std::string out;
  for (const std::string& line : Split(Log(path), '\n')) {
    const std::size_t blank = line.find(' ');
    if (blank != std::string::npos) out += line.substr(blank + 1) + "\n";
  }
  return out;
}

TestKeeper::ExecOutcome TestKeeper::Exec(
    const std::string& id, const std::vector<std::string>& args, int timeout_millis,
    const std::function<void(plan::Writer&, plan::Process&)>& change) {
  const auto begin = std::chrono::steady_clock::now();
  plan::Writer w;
  plan::ExecPlan e;
  e.process.args = w.Texts(args);
  e.process.env = w.Texts({"PATH=/bin"});
  e.process.cwd = w.Add("/");
  if (change) change(w, e.process);
  const std::string bytes = Must(w.Finish(e));
  int out[2], err[2];
  EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
  UniqueFd out_r(out[0]), out_w(out[1]), err_r(err[0]), err_w(err[1]);
  keeper::Exec exec;
  exec.header.command = NextCommand();
  exec.flags = keeper::kExecStdout | keeper::kExecStderr | keeper::kExecKillOnDisconnect;
  exec.timeout_millis = static_cast<std::uint64_t>(timeout_millis);
  strncpy(exec.id, id.c_str(), sizeof exec.id - 1);
  const auto [data, memfd] = WithPlan(exec, bytes, w.fds().size() + 2);
  std::vector<FdRef> rest = {out_w, err_w};
  rest.insert(rest.end(), w.fds().begin(), w.fds().end());
  Send(data.data(), data.size(), FdsOf(memfd, rest));
  out_w.Reset();
  err_w.Reset();
  ExecOutcome outcome;
  const Message answer = Answer(exec.header.command);
  if (answer.type() != keeper::Type::kStarted) {
    outcome.failure = answer.failure();
    return outcome;
  }
  const auto event = WaitEvent(keeper::Type::kExecExited, exec.header.command, 10000);
  outcome.millis =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  if (!event) {
    ADD_FAILURE() << "exec did not end";
    return outcome;
  }
  outcome.code = event->as<keeper::ExecExited>().code;
  outcome.timed_out = event->as<keeper::ExecExited>().timed_out != 0;
  outcome.out = ReadAll(out_r).value_or("");
  outcome.err = ReadAll(err_r).value_or("");
  return outcome;
}

Message TestKeeper::Remove(const std::string& id) {
  keeper::RemoveContainer remove;
  remove.header.command = NextCommand();
  strncpy(remove.id, id.c_str(), sizeof remove.id - 1);
  Send(&remove, sizeof remove);
  return Answer(remove.header.command);
}

Message TestKeeper::SendSignal(const std::string& id, int signal) {
  keeper::Signal message;
  message.header.command = NextCommand();
  message.signal = signal;
  strncpy(message.id, id.c_str(), sizeof message.id - 1);
  Send(&message, sizeof message);
  return Answer(message.header.command);
}

}  // namespace linnet::runtime::test
