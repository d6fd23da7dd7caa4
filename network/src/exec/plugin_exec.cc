#include "exec/plugin_exec.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <thread>

#include "linnet/base/file.h"
#include "linnet/base/json_view.h"
#include "linnet/base/log.h"
#include "linnet/base/spawn.h"
#include "linnet/base/text.h"

#include "cni/error.h"
#include "cni/names.h"

namespace linnet::network {
namespace {

constexpr std::size_t kMaxMessageBytes = 4096;
constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// What a plugin may need of the daemon's environment; the rest is the daemon's own business.
constexpr const char* kInherited[] = {"HOME",       "LANG",        "TZ",
                                      "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
                                      "http_proxy", "https_proxy", "no_proxy"};
constexpr auto kKillTimeout = std::chrono::seconds(5);

std::string Shortened(std::string_view text) {
  const std::string_view trimmed = Trim(text);
  if (trimmed.size() <= kMaxMessageBytes) return std::string(trimmed);
  return std::string(trimmed.substr(0, kMaxMessageBytes)) + "…";
}

// The interpreter of a script: the kernel could not open a script that is executed by a descriptor
// which closes itself.
std::optional<std::vector<std::string>> Interpreter(const std::string& path) {
  auto fd = Open(path, O_RDONLY);
  if (!fd) return std::nullopt;
  char head[256];  // NOLINT(modernize-avoid-c-arrays): the kernel's own limit
  const ssize_t n = pread(fd->get(), head, sizeof head, 0);
  if (n < 3 || head[0] != '#' || head[1] != '!') return std::nullopt;
  std::string_view line(head + 2, static_cast<std::size_t>(n) - 2);
  line = Trim(line.substr(0, line.find('\n')));
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  std::vector<std::string> out = {std::string(line.substr(0, end))};
  if (const std::string_view argument = Trim(line.substr(end)); !argument.empty())
    out.emplace_back(argument);
  if (out[0].empty()) return std::nullopt;
  return out;
}

// What libcni says in the same cases, so that texts which people search for stay the same.
Error FailureOf(const RunResult& run) {
  const int status = run.status.code;
  const std::string exit = run.status.signal != 0 ? "signal " + std::to_string(run.status.signal)
                                                  : "exit status " + std::to_string(status);
  if (auto reported = cni::ParseError(run.out)) return *std::move(reported);
  std::string message;
  if (!Trim(run.out).empty()) {
    message = "netplugin failed but error parsing its diagnostic message \"" + Shortened(run.out) +
              "\": " + exit;
  } else if (!Trim(run.err).empty()) {
    message = "netplugin failed: \"" + Shortened(run.err) + "\": " + exit;
  } else {
    message = "netplugin failed with no error message: " + exit;
  }
  return {Code::kInternal, Origin::kExitStatus, status, std::move(message)};
}

}  // namespace

PluginExec::PluginExec(ExecOptions options)
    : options_(std::move(options)), cgroups_(options_.cgroup_root) {
  cni_path_ = Join(options_.bin_dirs, ":");
  if (!options_.delegate_dir.empty())
    cni_path_ += (cni_path_.empty() ? "" : ":") + options_.delegate_dir;
  const char* path =
      std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): nobody writes to the environment
  inherited_.push_back("PATH=" +
                       std::string(path != nullptr && *path != '\0' ? path : kDefaultPath.data()));
  for (const char* name : kInherited) {
    if (const char* value = std::getenv(name))
      inherited_.push_back(std::string(name) + "=" + value);  // NOLINT(concurrency-mt-unsafe)
  }
}

Result<std::string> PluginExec::Find(std::string_view type) const {
  LN_TRY(cni::CheckPluginType(type));
  for (const std::string& dir : options_.bin_dirs) {
    const std::string path = JoinPath(dir, type);
    struct stat st {};
    if (stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    if ((st.st_mode & S_IWOTH) != 0 || (st.st_uid != 0 && st.st_uid != geteuid())) {
      return Error(Code::kPermissionDenied, "plugin " + path + " is not root's alone to write");
    }
    return path;
  }
  return NotFound("failed to find plugin \"" + std::string(type) + "\" in path [" +
                  Join(options_.bin_dirs, " ") + "]");
}

Result<std::string> PluginExec::Run(const Invocation& invocation) const {
  const std::string path = LN_TRY(Find(invocation.type));
  SpawnSpec spec;
  spec.path = path;
  spec.argv = {path};
  if (auto interpreter = Interpreter(path)) {
    spec.path = interpreter->front();
    interpreter->push_back(path);
    spec.argv = *std::move(interpreter);
  }
  spec.env = inherited_;
  spec.env.insert(spec.env.end(), options_.environment.begin(), options_.environment.end());
  spec.env.push_back("CNI_COMMAND=" + invocation.command);
  spec.env.push_back("CNI_CONTAINERID=" + invocation.container_id);
  spec.env.push_back("CNI_NETNS=" + invocation.netns_path);
  spec.env.push_back("CNI_ARGS=" + invocation.args);
  spec.env.push_back("CNI_IFNAME=" + invocation.ifname);
  spec.env.push_back("CNI_PATH=" + cni_path_);

  std::string group = invocation.group.empty() ? invocation.container_id : invocation.group;
  if (group.empty()) group = "engine";
  auto procs = cgroups_.Open(group);
  if (!procs) log::Debug("no cgroup for plugins, ignoring", {{"err", procs.error()}});
  if (procs && procs->valid()) spec.cgroup_procs.push_back(*procs);

  Deadline deadline = std::chrono::steady_clock::now() + options_.timeout;
  deadline = std::min(deadline, invocation.deadline);
  auto run = linnet::Run(spec, invocation.input, deadline);
  // ETXTBSY: the file is just being installed.
  auto pause = std::chrono::milliseconds(10);
  const Deadline patience = std::min(deadline, std::chrono::steady_clock::now() + options_.busy);
  while (!run && run.error().IsErrno(ETXTBSY) &&
         std::chrono::steady_clock::now() + pause <= patience) {
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(500));
    run = linnet::Run(spec, invocation.input, deadline);
  }
  if (!run && run.error().Is(Code::kDeadlineExceeded)) {
    auto killed = cgroups_.Kill(group, std::chrono::steady_clock::now() + kKillTimeout);
    if (!killed) return std::move(run).error().With(killed.error().message());
    return std::move(run).error();
  }
  cgroups_.Leave(group);
  if (!run) return std::move(run).error();
  if (!Trim(run->err).empty()) {
    // Above debug, unlike all else here: it is the plugin that speaks, and to the operator.
    log::Info("plugin wrote to stderr", {{"plugin", invocation.type},
                                         {"name", invocation.container_id},
                                         {"text", Shortened(run->err)}});
  }
  if (run->status.code != 0) return FailureOf(*run);
  return std::move(run->out);
}

namespace {

// The answer to VERSION: {"cniVersion":"0.2.0","supportedVersions":[…]}. The list came with 0.3.0.
Result<std::vector<std::string>> ParseVersions(std::string_view text) {
  const Json document = LN_TRY_CTX(ParseJson(text), "decode version info");
  const JsonView view(document, "$", KeyMatch::kIgnoreCase);
  const auto version = LN_TRY(view.Optional<std::string>("cniVersion", ""));
  if (version.empty()) return InvalidArgument("decode version info: missing field cniVersion");
  std::vector<std::string> versions = LN_TRY(view.Strings("supportedVersions"));
  if (!versions.empty()) return versions;
  if (version == "0.2.0") return std::vector<std::string>{"0.1.0", "0.2.0"};
  return InvalidArgument("decode version info: missing field supportedVersions");
}

}  // namespace

Result<std::vector<std::string>> PluginExec::Versions(std::string_view type,
                                                      Deadline deadline) const {
  const std::string path = LN_TRY(Find(type));
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return Error::FromErrno(errno, "stat " + path);
  const std::string identity = std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino) + ":" +
                               std::to_string(st.st_size) + ":" +
                               std::to_string(st.st_mtim.tv_sec) + "." +
                               std::to_string(st.st_mtim.tv_nsec);
  {
    MutexLock lock(mu_);
    const auto known = known_.find(path);
    if (known != known_.end() && known->second.identity == identity) return known->second.versions;
  }
  Invocation ask;
  ask.command = "VERSION";
  ask.type = type;
  // Plugins from before VERSION look at all of these before they refuse it.
  ask.netns_path = ask.ifname = "dummy";
  ask.input = R"({"cniVersion":"1.1.0"})";
  ask.group = "engine";
  ask.deadline = deadline;
  auto answer = Run(ask);
  std::vector<std::string> versions = {"0.1.0"};
  if (answer) {
    versions = LN_TRY(ParseVersions(*answer));
  } else if (answer.error().message() != "unknown CNI_COMMAND: VERSION") {
    return std::move(answer).error();
  }
  MutexLock lock(mu_);
  known_[path] = {identity, versions};
  return versions;
}

}  // namespace linnet::network
