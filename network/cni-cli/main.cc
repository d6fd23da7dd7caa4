// linnet-cni: the built-in plugins as ordinary CNI executables, for other runtimes and for foreign
// plugins that delegate. Called by a plugin's name it is that plugin; by its own name it installs
// links.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "linnet/base/file.h"
#include "linnet/base/text.h"

#include "plugin_main.h"

namespace linnet::network {
namespace {

constexpr std::size_t kMaxInputBytes = 4U << 20;

void Print(int fd, const std::string& text) {
  if (!text.empty()) (void)WriteAll(FdRef(fd), text);  // nobody is left to tell
}

int RunAs(const std::string& type, const PluginRegistry& registry) {
  std::string out;
  std::string err;
  PluginIo io;
  io.env = [](const char* name) -> std::optional<std::string> {
    const char* value =
        std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody writes to the environment
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  io.read_input = [] { return ReadAll(FdRef(STDIN_FILENO), kMaxInputBytes); };
  io.out = &out;
  io.err = &err;
  const int code = RunPlugin(type, registry, io);
  Print(STDERR_FILENO, err);
  Print(STDOUT_FILENO, out);
  return code;
}

enum class Existing { kKeep, kReplace };

Result<void> LinkTo(const std::string& target, const std::string& link, Existing existing) {
  struct stat st {};
  if (lstat(link.c_str(), &st) == 0) {
    auto old = ReadLink(link);
    if (old && *old == target) return Ok();
    const bool ours = old && Basename(*old) == "linnet-cni";
    if (!ours && existing == Existing::kKeep)
      return AlreadyExists(link + " is there already (--force replaces it)");
    LN_TRY(RemoveFile(link));
  }
  if (symlink(target.c_str(), link.c_str()) != 0) return Error::FromErrno(errno, "link " + link);
  return Ok();
}

// --copy: a copy of this program in `dir`, and links to it that hold wherever the directory is
// mounted.
Result<void> Install(const std::string& dir, bool copy, Existing existing,
                     const PluginRegistry& registry) {
  LN_TRY(MakeDirs(dir, 0755));
  std::string target = LN_TRY(RealPath("/proc/self/exe"));
  if (copy) {
    const std::string program = LN_TRY(ReadFile(target, 256U << 20));
    LN_TRY(WriteFileDurable(JoinPath(dir, "linnet-cni"), program, 0755));
    target = "linnet-cni";
  }
  for (const std::string& type : registry.Types())
    LN_TRY(LinkTo(target, JoinPath(dir, type), existing));
  return Ok();
}

std::string Usage(const PluginRegistry& registry) {
  return "usage: linnet-cni install [--copy] [--force] DIR   make DIR/<plugin> for each plugin, "
         "links to this program\n"
         "       linnet-cni list                            the plugins\n"
         "       linnet-cni PLUGIN                          act as PLUGIN, by the environment and "
         "standard input of CNI\n"
         "plugins: " +
         Join(registry.Types(), " ") + "\n";
}

int Main(const std::vector<std::string>& args) {
  const PluginRegistry registry(MakeBuiltinPlugins());
  const std::string called = args.empty() ? std::string() : Basename(args[0]);
  if (registry.Find(called) != nullptr) return RunAs(called, registry);
  if (args.size() == 2 && registry.Find(args[1]) != nullptr) return RunAs(args[1], registry);
  if (args.size() == 2 && args[1] == "list") {
    Print(STDOUT_FILENO, Join(registry.Types(), "\n") + "\n");
    return 0;
  }
  if (args.size() == 2 && (args[1] == "--help" || args[1] == "-h")) {
    Print(STDOUT_FILENO, Usage(registry));
    return 0;
  }
  if (args.size() >= 3 && args[1] == "install") {
    const bool copy = std::find(args.begin() + 2, args.end(), "--copy") != args.end();
    const bool force = std::find(args.begin() + 2, args.end(), "--force") != args.end();
    const auto known = 2 + (copy ? 1U : 0U) + (force ? 1U : 0U);
    if (args.size() == known + 1 && !args.back().starts_with("-")) {
      auto done =
          Install(args.back(), copy, force ? Existing::kReplace : Existing::kKeep, registry);
      if (done) return 0;
      Print(STDERR_FILENO, "linnet-cni: " + done.error().message() + "\n");
      return 1;
    }
  }
  Print(STDERR_FILENO, Usage(registry));
  return 2;
}

}  // namespace
}  // namespace linnet::network

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  return linnet::network::Main(std::vector<std::string>(argv, argv + argc));
}
